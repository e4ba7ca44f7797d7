"""The status text of a node, on the node and in the log."""

from __future__ import annotations

import logging

import torch

from ...asced_core import Report
from .preferences import server

log = logging.getLogger("ASCED")


def announce(node_id: str | None, text: str) -> None:
    """Shows a status text on the node and in the log; without a running server, only in the log."""
    log.info("%s", text)
    show(node_id, text)


def show(node_id: str | None, text: str) -> None:
    """Shows a status text on the node, in place of the last one."""
    running = server()
    if node_id and running is not None:
        running.send_progress_text(text, node_id)


def announce_report(node_id: str | None, report: Report) -> tuple[torch.Tensor, Report]:
    """Shows what a run found; returns the values of the MASK and REPORT outputs."""
    announce(node_id, report.summary())
    return torch.from_numpy(report.image_masks()), report
