"""ASCED_Calibrate: learns what is normal for a checkpoint from its runs."""

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
            description="Learns from runs of your checkpoint what percentage of its images each threshold marks. You "
            "can then set that percentage in ASCED Detection instead of a threshold. Each run adds its images to a "
            f"file in models/{FOLDER}.",
            **sockets.found_by("false alarm rate", "sensitivity", "learn a model"),
            inputs=[
                sockets.Report.Input(
                    "report",
                    tooltip=f"REPORT of a run with preset custom and threshold {LOWEST} in ASCED Detection, and with "
                    "preset report only in ASCED Correction.",
                ),
                io.String.Input(
                    "name", default="my_checkpoint", tooltip=f"Name of the file in models/{FOLDER}, without folders."
                ),
                io.Boolean.Input(
                    "start_over",
                    default=False,
                    tooltip="Discards the runs already in the file. Needed for runs with different detection settings.",
                ),
            ],
            outputs=[
                io.Int.Output("images", display_name="images", tooltip="Number of images in the calibration."),
                io.String.Output(
                    "summary",
                    display_name="summary",
                    tooltip="Some thresholds and the percentage of images each marks.",
                ),
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
        summary = learned.summary()
        return status.told(cls, f"{file.name}: {summary}", len(learned.marks), summary)


NODES = [ASCED_Calibrate]
