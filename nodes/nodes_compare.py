"""ASCED_Compare: shows two versions of the same images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from ..asced_core import Report
from ..asced_core.draw.comparison import before_and_after
from ..asced_core.draw.outlines import outline_path
from . import sockets
from .images import masks_for, preview, to_pictures, to_rgb
from .inputs import report_input
from .page import status


class ASCED_Compare(io.ComfyNode):
    """Before and after, side by side."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_Compare",
            display_name="ASCED Compare",
            category=sockets.COMPARE,
            description="Compares two versions of the same images: with a slider on the node, and as a side-by-side "
            "image for other nodes.",
            **sockets.found_by("before after", "slider", "side by side", "difference"),
            inputs=[
                io.Image.Input(
                    "before",
                    tooltip="The images before correction, such as the decoded original output of an ASCED sampler.",
                ),
                io.Image.Input("after", tooltip="The corrected images, in the same number and size."),
                report_input(optional=True),
            ],
            outputs=[
                io.Image.Output(
                    "comparison",
                    display_name="IMAGE",
                    tooltip="Before on the left, after on the right. With a report, the regions are outlined in both.",
                )
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, before: torch.Tensor, after: torch.Tensor, report: Report | None = None) -> io.NodeOutput:
        if before.shape[:3] != after.shape[:3]:
            raise ValueError(
                f"before has {_described(before)}, but after has {_described(after)}: connect images of the same "
                "number and size."
            )
        masks: Any = [None] * len(before) if report is None else masks_for(report, before) > 0
        stills = [before_and_after(*pair) for pair in zip(to_pictures(before), to_pictures(after), masks, strict=True)]
        still = torch.from_numpy(np.stack(stills)).float() / 255
        shown = preview(still, cls).as_dict()
        changed = [not torch.equal(one, other) for one, other in zip(before, after, strict=True)]
        slider = {
            "before": _saved(before, cls),
            "after": _saved(after, cls),
            "outlines": ["" if mask is None else outline_path(mask, *mask.shape) for mask in masks],
            "first": changed.index(True) if any(changed) else 0,  # the first image with a difference, from 0
        }
        shown["asced_compare"] = [slider]
        words = "" if report is None else status.why_unwatched(report)
        return status.told(cls, words, still, shown=shown)


def _described(images: torch.Tensor) -> str:
    count, height, width = images.shape[:3]
    return f"{count} image{'s' * (count != 1)} of {width}×{height}"


def _saved(images: torch.Tensor, cls: type[io.ComfyNode]) -> list[dict[str, str]]:
    """Saves the images in ComfyUI's temp folder; returns the references by which the page loads them."""
    return list(preview(to_rgb(images), cls).as_dict()["images"])


NODES = [ASCED_Compare]
