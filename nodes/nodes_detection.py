"""ASCED_Detection: how and where to look, as widgets. Without this node, the defaults apply."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..asced_core.baselines.pal import PALDetector
from ..asced_core.report.calibration import Calibration, Origin
from ..asced_core.report.outcome import enumerated
from ..asced_core.settings import BASE_SIZE, MODES, SPACES, DetectionSettings
from ..asced_core.teach import Taught
from . import sockets
from .model_files import CALIBRATION, FOLDER, TAUGHT, changed, files_with, find_file
from .page import status
from .sampling.options import DEFAULT_DETECTION, DetectionOptions
from .sampling.spaces import check_has_vae

BY_THRESHOLD = "none"
UNTAUGHT = "none"


class ASCED_Detection(io.ComfyNode):
    """Settings of the detection."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        default = DEFAULT_DETECTION.settings
        return io.Schema(
            node_id="ASCED_Detection",
            display_name="ASCED Detection",
            category=sockets.SETTINGS,
            description="Sets how artifacts are found. All sizes are in pixels of a 256-pixel image and scale with "
            "yours.",
            **sockets.found_by("find artifacts", "threshold", "sensitivity"),
            inputs=[
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=default.mode,
                    tooltip="strict: few marks, recommended. robust: many marks, most of them false alarms; helps weak "
                    "models. reference: as in the original authors' code. paper: the formula as "
                    "printed, which marks nearly everything; for study only.",
                ),
                io.Float.Input(
                    "threshold",
                    default=default.mad_scale,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    tooltip="How much a change must stand out to be marked; in mode robust, it must also last. Higher "
                    "finds less; lower finds more, including false alarms.",
                ),
                io.Int.Input(
                    "min_area",
                    default=int(default.min_area),
                    min=0,
                    max=65536,
                    tooltip="Ignores regions with a smaller area, in pixels of a 256-pixel image.",
                ),
                io.Int.Input(
                    "max_area",
                    default=int(default.max_area),
                    min=1,
                    max=65536,
                    tooltip="Ignores regions with a larger area, in pixels of a 256-pixel image (65536 is the whole "
                    "image).",
                ),
                io.Int.Input(
                    "min_width",
                    default=default.min_width,
                    min=0,
                    max=128,
                    tooltip="Ignores thinner regions: a square with this side must fit inside, in pixels of a "
                    "256-pixel image.",
                ),
                io.Int.Input(
                    "expand",
                    default=default.expand,
                    min=0,
                    max=64,
                    tooltip="Grows the found mask by this much on every side, in pixels of a 256-pixel image.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=default.start_percent,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Where watching starts, by noise level: 0 is pure noise, 1 is the finished image.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=default.end_percent,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Where watching ends and the correction happens. The later, the fewer steps are left to "
                    "fix the region.",
                ),
                io.Combo.Input(
                    "space",
                    optional=True,
                    options=list(SPACES),
                    default=default.space,
                    tooltip="What the detector looks at. latent: the latent itself, at no cost. rgb: its preview "
                    "colors, at no cost, but marks a lot. taesd: the small preview decoder, if installed. vae: the "
                    "full VAE, slow. auto: taesd if it costs under 2% of a step, otherwise latent.",
                ),
                io.Int.Input(
                    "step_interval",
                    optional=True,
                    default=default.step_interval,
                    min=1,
                    max=100,
                    tooltip="Looks only at every n-th step of the window. 2 or 3 makes space vae reasonably fast.",
                ),
                io.Float.Input(
                    "smooth_frames",
                    optional=True,
                    default=default.smooth_frames,
                    min=0.0,
                    max=16.0,
                    step=0.25,
                    tooltip="Videos: smooths the changes over this many latent frames. 0 looks at each frame "
                    "separately.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="The model's VAE, for space vae or a connected detector."),
                io.Mask.Input(
                    "only_here",
                    optional=True,
                    tooltip="Looks and corrects only inside this mask, which has the size of the image or of its "
                    "latent.",
                ),
                io.Mask.Input(
                    "protect", optional=True, tooltip="Nothing inside this mask is ever marked or corrected."
                ),
                sockets.Detector.Input(
                    "detector",
                    optional=True,
                    tooltip="Another detector, from ASCED PAL Detector, that finds the artifacts in the decoded "
                    "image. Needs the vae input.",
                ),
                io.Combo.Input(
                    "calibration",
                    optional=True,
                    options=[BY_THRESHOLD, *files_with(CALIBRATION)],
                    default=BY_THRESHOLD,
                    tooltip="What ASCED Calibrate learned about this checkpoint. marked_percent then replaces "
                    "threshold. none: threshold is used.",
                ),
                io.Float.Input(
                    "marked_percent",
                    optional=True,
                    default=20.0,
                    min=0.1,
                    max=99.0,
                    step=0.5,
                    tooltip="With a calibration or a taught file: percentage of this checkpoint's images that should "
                    "get a mark. Lower marks fewer.",
                ),
                io.Combo.Input(
                    "taught",
                    optional=True,
                    options=[UNTAUGHT, *files_with(TAUGHT)],
                    default=UNTAUGHT,
                    tooltip="A detector that ASCED Teach taught on this checkpoint. It takes the place of mode; "
                    "marked_percent replaces threshold. none: mode is used.",
                ),
                io.Boolean.Input(
                    "keep_predictions",
                    optional=True,
                    default=False,
                    tooltip="Keeps what ASCED Teach learns from in the REPORT.",
                ),
            ],
            outputs=[
                sockets.Detection.Output(
                    "detection",
                    display_name="DETECTION",
                    tooltip="Connect to an ASCED sampler or ASCED Apply to Model.",
                )
            ],
            hidden=[io.Hidden.unique_id],
            **sockets.keeps_words(),
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
        taught: str = UNTAUGHT,
        keep_predictions: bool = False,
        **widgets: Any,
    ) -> io.NodeOutput:
        settings = DetectionSettings(**{"space": "auto", "mad_scale": threshold, "base_size": BASE_SIZE, **widgets})
        learned_on, network, words = Origin(), None, ""
        if taught != UNTAUGHT:
            _check_alone(detector, calibration)
        if calibration != BY_THRESHOLD:
            learned = _learned(calibration)
            settings, learned_on = learned.applied(settings, marked_percent / 100), learned.origin
            words = f"Threshold {settings.mad_scale:.2f} to mark {marked_percent:g}% of the images."
        if taught != UNTAUGHT:
            network, unused = _taught(taught), _without_effect(settings)
            settings = network.applied(settings, marked_percent / 100)
            words = " ".join((network.facts.summary(), *unused))
        if settings.space == "vae":
            check_has_vae(vae, "Detection in space vae")
        if detector is not None:
            check_has_vae(vae, "The connected detector")
        options = DetectionOptions(settings, vae, detector, only_here, protect, learned_on, network, keep_predictions)
        return status.told(cls, words, options)

    @classmethod
    def fingerprint_inputs(cls, calibration: str = BY_THRESHOLD, taught: str = UNTAUGHT, **_: Any) -> float:
        return changed(calibration) + changed(taught)


def _taught(name: str) -> Taught:
    file = find_file(name)
    if file is None:
        raise ValueError(
            f"There is no file {name} in models/{FOLDER}: choose another one, or {UNTAUGHT} to use mode and threshold."
        )
    with torch.inference_mode(False):  # it may also sample outside of inference mode
        return Taught.load(file)


def _check_alone(detector: PALDetector | None, calibration: str) -> None:
    if detector is not None:
        raise ValueError(
            f"A detector is connected, and a taught one is chosen: disconnect detector, or set taught to {UNTAUGHT}."
        )
    if calibration != BY_THRESHOLD:
        raise ValueError(
            "Both calibration and taught are set, but a taught detector knows the share of its own marks: set "
            f"calibration to {BY_THRESHOLD}."
        )


def _without_effect(settings: DetectionSettings) -> list[str]:
    """Sentences about settings that a taught detector does not use, or was not taught with."""
    default, sentences = DEFAULT_DETECTION.settings, []
    names = {"mode": "mode", "mad_scale": "threshold", "smooth_frames": "smooth_frames"}
    unused = [shown for name, shown in names.items() if getattr(settings, name) != getattr(default, name)]
    if unused:
        has = "has" if len(unused) == 1 else "have"
        sentences.append(f"With a taught detector, {enumerated(unused)} {has} no effect.")
    begin, end = default.start_percent, default.end_percent
    if (settings.start_percent, settings.end_percent) != (begin, end):
        sentences.append(
            f"It was taught to look from start_percent {begin:g} to end_percent {end:g}, so with other values it may "
            "miss artifacts."
        )
    return sentences


def _learned(name: str) -> Calibration:
    file = find_file(name)
    if file is None:
        raise ValueError(
            f"There is no file {name} in models/{FOLDER}: choose another one, or {BY_THRESHOLD} to use threshold."
        )
    return Calibration.load(file)


NODES = [ASCED_Detection]
