"""ASCED_Overlay and ASCED_Dynamics: pictures of what a run found."""

from __future__ import annotations

import numpy as np
import torch
from comfy_api.latest import io

from ..asced_core import Report
from ..asced_core.draw.overlay import COLORS, STYLES, draw_overlay
from ..asced_core.draw.plots import plot_dynamics, why_no_dynamics
from ..asced_core.report.masks import ratios_at
from . import sockets
from .images import masks_for, to_pictures
from .inputs import image_input, report_input
from .page import status


class ASCED_Overlay(io.ComfyNode):
    """Draws the artifact regions onto the images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_Overlay",
            display_name="ASCED Overlay",
            category=sockets.VIEW,
            description="Draws the artifact regions onto the images: tinted, outlined and labeled with their scores, "
            "or as a heat map of how far the threshold was exceeded.",
            **sockets.found_by("heatmap", "show artifacts", "draw mask on image"),
            inputs=[
                report_input(),
                image_input("The decoded images, ideally the uncorrected ones, where the artifacts are still visible."),
                io.Float.Input(
                    "opacity",
                    default=0.45,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Opacity of the tint or heat map. 0 leaves only the outline.",
                ),
                io.Combo.Input(
                    "style",
                    optional=True,
                    options=list(STYLES),
                    default=STYLES[0],
                    tooltip="tint: filled and outlined. outline: only the outline. heat: the change as a multiple of "
                    "the threshold, over a gray image. side by side: the image next to its tinted copy.",
                ),
                io.Combo.Input(
                    "color",
                    optional=True,
                    options=list(COLORS),
                    default=next(iter(COLORS)),
                    tooltip="Color of the tint and outline. All of them work for color-blind viewers.",
                ),
                io.Boolean.Input(
                    "show_scores",
                    optional=True,
                    default=True,
                    tooltip="Writes the score next to each region. A score of 1 is exactly at the threshold.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "overlay",
                    display_name="IMAGE",
                    tooltip="The drawn images. Those smaller than 256 pixels are enlarged.",
                ),
                sockets.mask_output(),
            ],
            hidden=[io.Hidden.unique_id],
            **sockets.keeps_result_text(),
        )

    @classmethod
    def execute(
        cls,
        report: Report,
        image: torch.Tensor,
        opacity: float,
        style: str = STYLES[0],
        color: str = next(iter(COLORS)),
        show_scores: bool = True,
    ) -> io.NodeOutput:
        masks = masks_for(report, image)
        pictures = to_pictures(image)
        ratios = (
            ratios_at(report, masks.shape[1], masks.shape[2], len(masks)) if style == "heat" else [None] * len(masks)
        )
        # no labels on the decoded frames of a video: the regions of one latent frame cover several of them
        found = report.images if show_scores and len(image) == len(report.images) else [None] * len(image)
        drawn = [
            draw_overlay(
                picture,
                mask > 0,
                () if one is None else one.regions,
                report.labels.shape[1:],
                opacity,
                style,
                COLORS[color],
                ratio,
            )
            for picture, mask, one, ratio in zip(pictures, masks, found, ratios, strict=True)
        ]
        overlay = torch.from_numpy(np.stack(drawn)).float() / 255
        return status.told(cls, status.why_unwatched(report), overlay, torch.from_numpy(masks))


class ASCED_Dynamics(io.ComfyNode):
    """Film strips and curves of a run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_Dynamics",
            display_name="ASCED Dynamics",
            category=sockets.VIEW,
            description="How the prediction changed over the steps: film strips, acceleration curves and abnormal "
            "changes, as in the paper's Fig. 1, 4 and 7.",
            **sockets.found_by("step by step", "curves", "plot"),
            inputs=[
                report_input(),
                io.Int.Input(
                    "index",
                    default=-1,
                    min=-1,
                    max=4096,
                    tooltip="Which image of the batch to plot, counted from 1. 0 or -1 plots the one with the highest "
                    "score.",
                ),
            ],
            outputs=[io.Image.Output("plot", display_name="IMAGE", tooltip="The plot as an image.")],
            hidden=[io.Hidden.unique_id],
            **sockets.keeps_result_text(),
        )

    @classmethod
    def execute(cls, report: Report, index: int) -> io.NodeOutput:
        place = index - 1 if index > 0 else int(np.argmax([image.score for image in report.images]))
        plot = torch.from_numpy(plot_dynamics(report, place)[None]).float() / 255
        return status.told(cls, why_no_dynamics(report), plot)


NODES = [ASCED_Overlay, ASCED_Dynamics]
