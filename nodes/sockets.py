"""Socket types and categories of the pack, and the outputs that several nodes share."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

SAMPLING = "ASCED"
SETTINGS = "ASCED/settings"
VIEW = "ASCED/view"
COMPARE = "ASCED/compare"
SELECT = "ASCED/select"
BASELINES = "ASCED/baselines"

Detection = io.Custom("ASCED_DETECTION")
Correction = io.Custom("ASCED_CORRECTION")
Detector = io.Custom("ASCED_DETECTOR")
Run = io.Custom("ASCED_RUN")
Report = io.Custom("ASCED_REPORT")


def found_by(*words: str) -> dict[str, list[str]]:
    """Words by which the page's search finds a node, besides its name; nothing in hosts whose schema has no such."""
    return {"search_aliases": list(words)} if "search_aliases" in io.Schema.__dataclass_fields__ else {}


def report_output() -> Any:
    """The REPORT socket, worded once."""
    return Report.Output("report", display_name="REPORT", tooltip="What was found: for the ASCED views.")


def mask_output() -> Any:
    """The MASK socket of a run, worded once."""
    return io.Mask.Output(
        "mask", display_name="MASK", tooltip="The artifact regions at image size, one mask per image; 1 = artifact."
    )


def run_outputs() -> list[Any]:
    """MASK and REPORT of a run, and the LATENT of the run without a correction."""
    original = io.Latent.Output(
        "original",
        display_name="original",
        tooltip="The latent without a correction, if keep_original is on in ASCED Correction; or else the same LATENT.",
    )
    return [mask_output(), report_output(), original]
