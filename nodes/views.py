"""ASCED_Overlay and ASCED_Dynamics: pictures of what a run found."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from ..asced_core import Report
from ..asced_core.masks import shaped_masks, spread_over_frames
from ..asced_core.overlay import draw_overlay
from ..asced_core.plots import plot_dynamics
from . import types

CATEGORY = "ASCED/view"


def report_input() -> Any:
    return types.Report.Input("report", tooltip="From an ASCED sampler node or ASCED Collect Run.")


def image_input(tooltip: str, optional: bool = False) -> Any:
    return io.Image.Input("image", optional=optional, tooltip=tooltip)


def to_pictures(image: torch.Tensor) -> np.ndarray:
    """The host's IMAGE [B,H,W,C], 0 to 1, as RGB uint8."""
    return (image[..., :3].clamp(0, 1) * 255).round().byte().cpu().numpy()


def masks_for(report: Report, image: torch.Tensor | None, **shape: Any) -> np.ndarray:
    """Masks [B,H,W] at the size of ``image`` [B,H,W,C], or of the decoded image without one."""
    if image is None:
        return shaped_masks(report, *report.size, **shape)
    count, latent_frames = len(report.images), report.run.frames
    if len(image) == count:
        return shaped_masks(report, image.shape[1], image.shape[2], **shape)
    videos = count // latent_frames
    if latent_frames == 1 or len(image) % videos:
        raise ValueError(
            f"This report is about {count} image(s) but {len(image)} came in: "
            "connect the images decoded from the same sampler."
        )
    masks = shaped_masks(report, image.shape[1], image.shape[2], **shape)
    return spread_over_frames(masks, latent_frames, len(image) // videos)


class ASCED_Overlay(io.ComfyNode):
    """Draws the artifact regions into the images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_Overlay",
            display_name="ASCED Overlay",
            category=CATEGORY,
            description="The images with their artifact regions tinted, outlined and labelled with their scores.",
            inputs=[
                report_input(),
                image_input("The decoded images, best the uncorrected ones, where the artifacts are still to be seen."),
                io.Float.Input(
                    "opacity", default=0.45, min=0.0, max=1.0, step=0.05, tooltip="Of the tint; 0 leaves the outline."
                ),
            ],
            outputs=[
                io.Image.Output("overlay", display_name="IMAGE", tooltip="Images below 256 pixels come enlarged."),
                types.mask_output(),
            ],
        )

    @classmethod
    def execute(cls, report: Report, image: torch.Tensor, opacity: float) -> io.NodeOutput:
        masks = masks_for(report, image)
        # the decoded frames of a video go without labels: each stands for several
        found = report.images if len(image) == len(report.images) else [None] * len(image)
        drawn = [
            draw_overlay(picture, mask > 0, () if one is None else one.regions, report.masks.shape[1:], opacity)
            for picture, mask, one in zip(to_pictures(image), masks, found, strict=True)
        ]
        return io.NodeOutput(torch.from_numpy(np.stack(drawn)).float() / 255, torch.from_numpy(masks))


class ASCED_Dynamics(io.ComfyNode):
    """Film strips and curves of a run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_Dynamics",
            display_name="ASCED Dynamics",
            category=CATEGORY,
            description="How the prediction changed over the steps: film strips, acceleration curves and abnormal "
            "changes, as in the paper's Fig. 1, 4 and 7.",
            inputs=[
                report_input(),
                io.Int.Input(
                    "index",
                    default=-1,
                    min=-1,
                    max=4096,
                    tooltip="Which image of the batch, from 0; -1 takes the one with the highest score.",
                ),
            ],
            outputs=[io.Image.Output("plot", display_name="IMAGE", tooltip="The figure.")],
        )

    @classmethod
    def execute(cls, report: Report, index: int) -> io.NodeOutput:
        if index < 0:
            index = int(np.argmax([image.score for image in report.images]))
        return io.NodeOutput(torch.from_numpy(plot_dynamics(report, index)[None]).float() / 255)


NODES = [ASCED_Overlay, ASCED_Dynamics]
