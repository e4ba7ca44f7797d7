"""ASCED_Detection: how and where it looks, as widgets. Every default is good without it."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..asced_core.baselines.pal import PALDetector
from ..asced_core.report.calibration import Calibration
from ..asced_core.settings import BASE_SIZE, MODES, SPACES, DetectionSettings
from . import sockets
from .model_files import CALIBRATION, FOLDER, changed, files_with, find_file
from .page import status
from .sampling.options import DEFAULT_DETECTION, DetectionOptions
from .sampling.spaces import check_has_vae

BY_THRESHOLD = "none"


class ASCED_Detection(io.ComfyNode):
    """Where and how the detector looks."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        default = DEFAULT_DETECTION.settings
        return io.Schema(
            node_id="ASCED_Detection",
            display_name="ASCED Detection",
            category=sockets.SETTINGS,
            description="How artifacts are found. All sizes are in pixels of a 256-pixel image and scale with yours.",
            **sockets.found_by("find artifacts", "threshold", "sensitivity"),
            inputs=[
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=default.mode,
                    tooltip="robust: for use. reference: as in the method's own code. paper: its formula as printed, "
                    "which marks nearly everything and is for study only.",
                ),
                io.Float.Input(
                    "threshold",
                    default=default.mad_scale,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    tooltip="How far a change must stand out; in robust, one that lasts. Higher finds less, lower "
                    "finds more, false alarms too.",
                ),
                io.Int.Input(
                    "min_area",
                    default=int(default.min_area),
                    min=0,
                    max=65536,
                    tooltip="Smaller regions are ignored: area in pixels of a 256-pixel image.",
                ),
                io.Int.Input(
                    "max_area",
                    default=int(default.max_area),
                    min=1,
                    max=65536,
                    tooltip="Larger regions are ignored: area in pixels of a 256-pixel image (65536 is all of it).",
                ),
                io.Int.Input(
                    "min_width",
                    default=default.min_width,
                    min=0,
                    max=128,
                    tooltip="Thinner regions are ignored: a square of this side must fit in, 256-pixel image.",
                ),
                io.Int.Input(
                    "expand",
                    default=default.expand,
                    min=0,
                    max=64,
                    tooltip="The found mask grows by this on every side: pixels of a 256-pixel image.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=default.start_percent,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Watching starts here, by noise level: 0 is pure noise, 1 the finished image.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=default.end_percent,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Watching ends here and the correction happens; later, too few steps are left to mend it.",
                ),
                io.Combo.Input(
                    "space",
                    optional=True,
                    options=list(SPACES),
                    default=default.space,
                    tooltip="What is looked at. latent: the model's own cells, free. rgb: their colours, free, marks "
                    "much. taesd: the small preview decoder, if installed. vae: the whole VAE, slow. auto: taesd where "
                    "it costs under 2 % of a step, or latent.",
                ),
                io.Int.Input(
                    "step_interval",
                    optional=True,
                    default=default.step_interval,
                    min=1,
                    max=100,
                    tooltip="Looks at every n-th step of the window only; 2 or 3 makes space vae bearable.",
                ),
                io.Float.Input(
                    "smooth_frames",
                    optional=True,
                    default=default.smooth_frames,
                    min=0.0,
                    max=16.0,
                    step=0.25,
                    tooltip="Videos: smooths the changes over so many latent frames; 0 takes each frame alone.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="The model's VAE, for space vae and for a detector."),
                io.Mask.Input(
                    "only_here",
                    optional=True,
                    tooltip="Looks and corrects inside this mask alone; at the size of the image or of its latent.",
                ),
                io.Mask.Input("protect", optional=True, tooltip="Nothing inside this mask is ever marked or changed."),
                sockets.Detector.Input(
                    "detector",
                    optional=True,
                    tooltip="Finds the artifacts in the decoded picture in place of the dynamics; needs the vae input.",
                ),
                io.Combo.Input(
                    "calibration",
                    optional=True,
                    options=[BY_THRESHOLD, *files_with(CALIBRATION)],
                    default=BY_THRESHOLD,
                    tooltip="What ASCED Calibrate learned of this checkpoint; marked_percent then takes threshold's "
                    "place. none: threshold counts.",
                ),
                io.Float.Input(
                    "marked_percent",
                    optional=True,
                    default=20.0,
                    min=0.1,
                    max=99.0,
                    step=0.5,
                    tooltip="With a calibration: so many percent of the checkpoint's images get a mark; lower finds "
                    "less.",
                ),
            ],
            outputs=[
                sockets.Detection.Output("detection", display_name="DETECTION", tooltip="For the ASCED sampler nodes.")
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        threshold: float,
        vae: Any = None,
        only_here: torch.Tensor | None = None,
        protect: torch.Tensor | None = None,
        detector: PALDetector | None = None,
        calibration: str = BY_THRESHOLD,
        marked_percent: float = 20.0,
        **widgets: Any,
    ) -> io.NodeOutput:
        settings = DetectionSettings(**{"space": "auto", "mad_scale": threshold, "base_size": BASE_SIZE, **widgets})
        if calibration != BY_THRESHOLD:
            settings = _learned(calibration).applied(settings, marked_percent / 100)
            status.announce(
                cls.hidden.unique_id, f"Threshold {settings.mad_scale:.2f} for {marked_percent:g} % of the images."
            )
        if settings.space == "vae":
            check_has_vae(vae, "Detection in space vae")
        if detector is not None:
            check_has_vae(vae, "A detector from a file")
        return io.NodeOutput(DetectionOptions(settings, vae, detector, only_here, protect))

    @classmethod
    def fingerprint_inputs(cls, calibration: str = BY_THRESHOLD, **_: Any) -> float:
        return changed(calibration)


def _learned(name: str) -> Calibration:
    file = find_file(name)
    if file is None:
        raise ValueError(
            f"There is no file {name} in models/{FOLDER}: choose another, or {BY_THRESHOLD} to go by threshold."
        )
    return Calibration.load(file)


NODES = [ASCED_Detection]
