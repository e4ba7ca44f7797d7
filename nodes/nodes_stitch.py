"""ASCED_StitchRuns: the runs of a tiled upscaler as one mask and one report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from comfy_api.latest import io

from ..asced_core.report.stitching import Tile, stitch
from . import sockets
from .images import found_in, to_pictures
from .page import status
from .sampling.run_log import RunLog


class ASCED_StitchRuns(io.ComfyNode):
    """One report from many runs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_StitchRuns",
            display_name="ASCED Stitch Runs",
            category=sockets.SAMPLING,
            description="For upscalers that sample tile by tile with one patched MODEL: merges the masks of all tiles. "
            "Each tile is located in the image by its content.",
            **sockets.found_by("tile upscale", "tiled mask"),
            inputs=[
                io.Image.Input("image", tooltip="The finished image, directly from the tiled upscaler."),
                sockets.Run.Input(
                    "run", tooltip="RUN from the ASCED Apply to Model that patched the upscaler's MODEL."
                ),
                io.Vae.Input("vae", tooltip="The VAE that the upscaler uses to decode its tiles."),
            ],
            outputs=[sockets.mask_output(), sockets.report_output()],
            hidden=[io.Hidden.unique_id],
            **sockets.keeps_result_text(),
        )

    @classmethod
    def execute(cls, image: torch.Tensor, run: RunLog, vae: Any) -> io.NodeOutput:
        if len(image) != 1:
            raise ValueError(
                f"Stitching takes one image at a time, but {len(image)} are connected: select one from the batch."
            )

        def tiles() -> Iterator[Tile]:
            for latent, report in run.newest_first():
                for place, picture in enumerate(to_pictures(vae.decode(latent))):
                    yield Tile(picture, report, place)

        report = stitch(to_pictures(image)[0], tiles())
        return status.told(cls, report.summary(), *found_in(report))


NODES = [ASCED_StitchRuns]
