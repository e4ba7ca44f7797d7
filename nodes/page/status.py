"""The status text of a node, on the node and in the log."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io

from ...asced_core import Report
from .preferences import server

log = logging.getLogger("ASCED")
KEY = "asced_text"  # of the text in a node's UI output; web/result_text.js keeps it on the node


def told(cls: type[io.ComfyNode], text: str, *outputs: Any, shown: Any = None) -> io.NodeOutput:
    """Announces the result of a node, and returns its outputs together with the text, which stays on the node.

    Args:
        cls: the node.
        text: its result as sentences; an empty text removes an earlier one.
        outputs: values of its outputs.
        shown: what else the page shows: ComfyUI's ``ui`` object, or its dictionary.
    """
    if text:
        announce(cls.hidden.unique_id, text)
    pictures = {} if shown is None else shown if isinstance(shown, dict) else shown.as_dict()
    return io.NodeOutput(*outputs, ui={**pictures, KEY: [text]})


def why_unwatched(report: Report) -> str:
    """Why there is nothing to see in a report, for a node that shows it; empty for a run that was watched."""
    return report.summary() if report.decision is None else ""


def announce(node_id: str | None, text: str) -> None:
    """Shows a status text on the node and in the log; without a running server, only in the log."""
    log.info("%s", text)
    show(node_id, text)


def show(node_id: str | None, text: str) -> None:
    """Shows a status text on the node, in place of the last one."""
    running = server()
    if node_id and running is not None:
        running.send_progress_text(text, node_id)
