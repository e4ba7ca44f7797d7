"""ASCED_Calibrate: learns what is usual for a checkpoint from runs of it."""

from __future__ import annotations

from comfy_api.latest import io

from ..asced_core import Report
from ..asced_core.report.calibration import LOWEST, Calibration
from . import sockets
from .model_files import CALIBRATION, FOLDER, new_file
from .page import status


class ASCED_Calibrate(io.ComfyNode):
    """Adds the images of a run to a calibration."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_Calibrate",
            display_name="ASCED Calibrate",
            category=sockets.SETTINGS,
            description="Learns from runs of your checkpoint at which threshold how many of its images get a mark, so "
            "that ASCED Detection can be asked for a share of marked images. Each run adds its images to a file in "
            f"models/{FOLDER}.",
            **sockets.found_by("false alarm rate", "sensitivity", "learn a model"),
            inputs=[
                sockets.Report.Input(
                    "report",
                    tooltip=f"Of a run with threshold {LOWEST} in ASCED Detection and method none in ASCED Correction.",
                ),
                io.String.Input(
                    "name", default="my_checkpoint", tooltip=f"Name of the file in models/{FOLDER}, without folders."
                ),
                io.Boolean.Input(
                    "start_over",
                    default=False,
                    tooltip="Forgets the runs that the file holds; for a run with other settings, too.",
                ),
            ],
            outputs=[
                io.Int.Output("images", display_name="images", tooltip="Number of images that were learned from."),
                io.String.Output("summary", display_name="summary", tooltip="Thresholds and their shares, in words."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, report: Report, name: str, start_over: bool) -> io.NodeOutput:
        file = new_file("name", name, CALIBRATION)
        learned = Calibration.of(report)
        if file.is_file() and not start_over:
            learned = Calibration.load(file) + learned
        learned.save(file)
        status.announce(cls.hidden.unique_id, f"{file.name}: {learned.summary()}")
        return io.NodeOutput(len(learned.marks), learned.summary())


NODES = [ASCED_Calibrate]
