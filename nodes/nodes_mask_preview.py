"""ASCED_MaskPreview: the mask of a run, shaped for downstream nodes, and the data of its panel in the browser."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..asced_core import Report
from ..asced_core.draw.outlines import outline_path
from ..asced_core.draw.timeline import change_strip, last_frame, thumbnail, timeline
from ..asced_core.report.masks import parse_excluded, region_names
from . import sockets
from .images import masks_for, preview, to_pictures, to_rgb
from .inputs import image_input, report_input
from .page import status

ALL_EDITABLE = 8  # images; writing the full-size files of a larger batch takes too long


class ASCED_MaskPreview(io.ComfyNode):
    """Shows the artifact mask on the node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_MaskPreview",
            display_name="ASCED Mask Preview",
            category=sockets.VIEW,
            description="Shows the artifact regions in white on black, reports what was found, and shapes the mask for "
            "inpainting.",
            **sockets.found_by(
                "show mask", "edit mask", "mask editor", "segs", "grow mask", "feather mask", "inpaint mask", "detailer"
            ),
            inputs=[
                report_input(),
                image_input(
                    "The decoded images; the mask takes their size. Without them, it takes the size the latent "
                    "decodes to.",
                    True,
                ),
                io.Int.Input(
                    "grow_px",
                    optional=True,
                    default=0,
                    min=0,
                    max=512,
                    tooltip="Grows the mask by this many pixels of your image.",
                ),
                io.Int.Input(
                    "feather_px",
                    optional=True,
                    default=0,
                    min=0,
                    max=512,
                    tooltip="Around the grown mask, the edge fades out over this many pixels of your image.",
                ),
                io.Float.Input(
                    "min_score",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Excludes regions with a lower score from the mask. A score of 1 is exactly at the "
                    "threshold.",
                ),
                io.String.Input(
                    "exclude",
                    optional=True,
                    default="",
                    tooltip="Regions to exclude from the mask, as image:region, for example 1:2, 2:1. Images and "
                    "regions count from 1. Clicking a region in the panel adds it here.",
                ),
            ],
            outputs=[
                io.Image.Output("mask_image", display_name="IMAGE", tooltip="The masks as images, white on black."),
                sockets.mask_output(),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        report: Report,
        image: torch.Tensor | None = None,
        grow_px: int = 0,
        feather_px: int = 0,
        min_score: float = 0.0,
        exclude: str = "",
    ) -> io.NodeOutput:
        out = parse_excluded(exclude)
        shape = {"grow": grow_px, "soft": feather_px, "min_score": min_score, "excluded": out}
        mask = torch.from_numpy(masks_for(report, image, **shape))
        missing = ", ".join(f"{i + 1}:{n}" for i, n in sorted(out - region_names(report)))
        lost = f" There is no region {missing} to exclude." if missing else ""
        shown = preview(mask, cls, ui.PreviewMask).as_dict()
        shown["asced_report"] = [report.to_json(indent=None)]
        settings = {"grow_px": grow_px, "feather_px": feather_px, "min_score": min_score, "exclude": exclude}
        shown["asced_panel"] = [{**panel(cls, report, image, mask), "settings": settings}]
        mask_image = mask[..., None].expand(-1, -1, -1, 3).contiguous()
        return status.told(cls, report.summary() + lost, mask_image, mask, shown=shown)


def panel(cls: type[io.ComfyNode], report: Report, image: torch.Tensor | None, mask: torch.Tensor) -> dict[str, Any]:
    """Data for the panel in the browser: plain values, and references to pictures in ComfyUI's temp folder.

    The ``picture`` of an image is the decoded image, or its last predicted frame; ``strip`` shows the change at every
    traced step, side by side; ``editable`` is the decoded image at its full size with its mask [B,H,W] as inverted
    alpha, as Load Image reads it; in a large batch, only marked images have one. All may be None. Boxes are left, top,
    right and bottom as shares of the image; outlines are SVG paths in pixels of the masks, whose height and width are
    ``size``. The timelines hold a value for each of the ``trace_steps``. ``index`` counts from 0.
    """
    count, (height, width), size = len(report.images), report.labels.shape[1:], tuple(mask.shape[1:])
    editable: dict[int, Any] = defaultdict(lambda: None)
    strips = _saved(cls, [change_strip(report, i) for i in range(count)] if report.trace_steps else [])
    if image is not None and len(image) == count:
        pictures = _saved(cls, [thumbnail(picture) for picture in to_pictures(image)])
        wanted = [i for i, found in enumerate(report.images) if found.flagged or count <= ALL_EDITABLE]
        if wanted:
            pixels = torch.cat([to_rgb(image[wanted]).cpu(), 1 - mask[wanted, ..., None]], dim=-1)
            editable.update(zip(wanted, preview(pixels, cls).values, strict=True))
    else:
        pictures = _saved(cls, [last_frame(report, i) for i in range(count)] if report.frame_steps else [])
    images = [
        {
            "index": found.index,
            "score": found.score,
            "state": found.state,
            "corrected": found.corrected,
            "picture": pictures[place],
            "strip": strips[place],
            "editable": editable[place],
            "timeline": timeline(report, place),
            "regions": [
                {
                    "box": [round(edge / size, 4) for edge, size in zip(r.box, (width, height) * 2, strict=True)],
                    "score": round(r.score, 4),
                    "confidence": r.confidence,
                    "outline": outline_path(report.labels[place] == number, *size),
                }
                for number, r in enumerate(found.regions, start=1)
            ],
        }
        for place, found in enumerate(report.images)
    ]
    return {
        "steps": report.steps,
        "trace_steps": list(report.trace_steps),
        "phases": [report.phase(step) for step in report.trace_steps],
        "window": list(report.window),
        "decision": report.decision,
        "corrected_steps": list(report.corrected_steps),
        "aspect": report.size[1] / report.size[0],
        "size": list(size),
        "images": images,
    }


def _saved(cls: type[io.ComfyNode], pictures: list[np.ndarray]) -> dict[int, Any]:
    """Saves pictures, RGB uint8 of one size; returns references to them by index, None for a missing one."""
    saved: dict[int, Any] = defaultdict(lambda: None)
    if pictures:
        saved.update(enumerate(preview(torch.from_numpy(np.stack(pictures)).float() / 255, cls).values))
    return saved


NODES = [ASCED_MaskPreview]
