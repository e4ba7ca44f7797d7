"""Socket types of the pack, and its word to the user."""

from __future__ import annotations

import logging
from typing import Any

import torch
from comfy_api.latest import io

from .. import asced_core
from .view_settings import server

CATEGORY = "ASCED"
SETTINGS = "ASCED/settings"
log = logging.getLogger("ASCED")

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


def tell(node_id: str | None, text: str) -> None:
    """Shows a sentence on the node, and in the log; without a running server only in the log."""
    log.info("%s", text)
    show(node_id, text)


def show(node_id: str | None, text: str) -> None:
    """Shows a sentence on the node, in place of the last one."""
    running = server()
    if node_id and running is not None:
        running.send_progress_text(text, node_id)


def told(node_id: str | None, report: asced_core.Report) -> tuple[torch.Tensor, asced_core.Report]:
    """Tells what a run found; gives the values of the MASK and REPORT sockets."""
    tell(node_id, report.summary())
    return torch.from_numpy(report.image_masks()), report
