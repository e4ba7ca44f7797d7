"""Socket types and categories of the pack, and outputs that several nodes share."""

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
Drafts = io.Custom("ASCED_DRAFTS")
Detector = io.Custom("ASCED_DETECTOR")
Run = io.Custom("ASCED_RUN")
Report = io.Custom("ASCED_REPORT")


# what people type who have a picture with a fault
FAULTS = (
    "artifact", "glitch", "distortion", "deformed", "mutation", "bad hands", "extra finger", "bad anatomy", "bad face",
    "fix", "repair", "refine", "detailer", "inpaint",
)  # fmt: skip


def found_by(*terms: str) -> dict[str, list[str]]:
    """Search terms for a node, besides its name; none in ComfyUI versions whose schema has no such field."""
    return {"search_aliases": list(terms)} if "search_aliases" in io.Schema.__dataclass_fields__ else {}


def keeps_result_text() -> dict[str, bool]:
    """For a node whose result text stays on it: newer versions of ComfyUI send it again to a page that is reloaded."""
    name = "has_intermediate_output"
    return {name: True} if name in io.Schema.__dataclass_fields__ else {}


def folded(*inputs: Any) -> list[Any]:
    """Inputs that few people change: newer pages fold them away. Older ComfyUI versions show all inputs."""
    for one in inputs:
        if hasattr(one, "advanced"):
            one.advanced = True
    return list(inputs)


def report_output() -> Any:
    """The REPORT output of a run."""
    return Report.Output("report", display_name="REPORT", tooltip="What was found, for the other ASCED nodes.")


def mask_output() -> Any:
    """The MASK output of a run."""
    return io.Mask.Output(
        "mask", display_name="MASK", tooltip="Artifact regions at image size, one mask per image. 1 marks an artifact."
    )


def run_outputs() -> list[Any]:
    """MASK and REPORT of a run, and its uncorrected LATENT."""
    original = io.Latent.Output(
        "original",
        display_name="original",
        tooltip="The uncorrected latent if keep_original is on in ASCED Correction, otherwise the same LATENT.",
    )
    return [mask_output(), report_output(), original]
