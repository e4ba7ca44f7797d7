"""ASCED_SaveReport: saves images with what was found in them."""

from __future__ import annotations

import json
from pathlib import Path

import folder_paths
import torch
from comfy.cli_args import args
from comfy_api.latest import io
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..asced_core import Report
from ..asced_core.report.selection import part_of
from . import sockets
from .images import frames_each, with_colors
from .inputs import report_input
from .page import status

CHUNK = "asced"  # key of the text in a PNG
COMPRESSION = 4  # as in ComfyUI's Save Image


class ASCED_SaveReport(io.ComfyNode):
    """Saves images and their report."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_SaveReport",
            display_name="ASCED Save Report",
            category=sockets.SELECT,
            description="Saves images as Save Image does, with each image's report in the PNG metadata and in a JSON "
            "file next to it.",
            **sockets.found_by("save image", "metadata", "export"),
            inputs=[
                io.Image.Input("image", tooltip="The images to save."),
                report_input(),
                io.String.Input(
                    "filename_prefix",
                    default="ASCED",
                    tooltip="Filename prefix. Subfolders and placeholders such as %date:yyyy-MM-dd% work as in Save "
                    "Image.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image: torch.Tensor, report: Report, filename_prefix: str) -> io.NodeOutput:
        each = frames_each(report, image)
        pictures = (with_colors(image) * 255).clamp(0, 255).byte().cpu().numpy()  # rounded down, as in ComfyUI
        height, width = pictures.shape[1:3]
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), width, height
        )
        saved = []
        for place, picture in enumerate(pictures):
            own = part_of(report, [place // each])
            stem = f"{name.replace('%batch_num%', str(place))}_{counter + place:05}_"
            path = Path(folder) / f"{stem}.png"
            Image.fromarray(picture).save(path, pnginfo=cls._texts(own), compress_level=COMPRESSION)
            if place % each == 0:  # a video has one file for all its frames
                path.with_suffix(".json").write_text(own.to_json(), encoding="utf-8")
            saved.append({"filename": path.name, "subfolder": subfolder, "type": "output"})
        return status.told(cls, report.summary(), shown={"images": saved})

    @classmethod
    def _texts(cls, report: Report) -> PngInfo | None:
        """The PNG metadata: as in Save Image, plus the report; None with --disable-metadata."""
        if args.disable_metadata:
            return None
        texts = PngInfo()
        if cls.hidden.prompt is not None:
            texts.add_text("prompt", json.dumps(cls.hidden.prompt))
        for key, value in (cls.hidden.extra_pnginfo or {}).items():
            texts.add_text(key, json.dumps(value))
        texts.add_text(CHUNK, report.to_json(indent=None))
        return texts


NODES = [ASCED_SaveReport]
