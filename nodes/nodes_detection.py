"""ASCED_Detection: how and where to look, as widgets. Without this node, the defaults apply."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..asced_core.baselines.pal import PALDetector
from ..asced_core.report.calibration import Calibration, Origin
from ..asced_core.settings import MODES, SPACES, DetectionSettings
from ..asced_core.teach import Taught
from . import presets, remarks, sockets
from .model_files import CALIBRATION, FOLDER, TAUGHT, changed, files_with, find_file
from .page import status
from .sampling.options import DEFAULT_DETECTION, DetectionOptions
from .sampling.spaces import check_has_vae

BY_THRESHOLD = "none"
UNTAUGHT = "none"
MARKED_PERCENT = 20.0


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
            **sockets.found_by("find artifacts", "threshold", "sensitivity", "deformed", "bad hands", "glitch"),
            inputs=[
                io.Combo.Input(
                    "preset",
                    optional=True,
                    options=[*presets.DETECTION, presets.CUSTOM],
                    default=presets.FEW,
                    tooltip="How much is marked, or what for: it decides mode, threshold, the region sizes and "
                    "smooth_frames. few marks: about one image in three, with our models. more marks: two in three. "
                    "many marks: nearly all. portraits: larger faults only. whole scenes: smaller ones too. video: "
                    "smooth over time. custom: the settings below count.",
                ),
                *sockets.folded(
                    io.Combo.Input(
                        "mode",
                        optional=True,
                        options=list(MODES),
                        default=default.mode,
                        tooltip="strict: few marks, recommended. robust: many marks, most of them false alarms; "
                        "helps weak models. reference: as in the original authors' code. paper: the formula as "
                        "printed, which marks nearly everything; for study only.",
                    ),
                    io.Float.Input(
                        "threshold",
                        optional=True,
                        default=default.mad_scale,
                        min=0.0,
                        max=20.0,
                        step=0.1,
                        tooltip="How much a change must stand out to be marked; in modes strict and robust, it must "
                        "also last. Higher finds less; lower finds more, including false alarms. In the paper: k.",
                    ),
                    io.Int.Input(
                        "min_area",
                        optional=True,
                        default=int(default.min_area),
                        min=0,
                        max=65536,
                        tooltip="Ignores regions with a smaller area, in pixels of a 256-pixel image.",
                    ),
                    io.Int.Input(
                        "max_area",
                        optional=True,
                        default=int(default.max_area),
                        min=1,
                        max=65536,
                        tooltip="Ignores regions with a larger area, in pixels of a 256-pixel image (65536 is the "
                        "whole image).",
                    ),
                    io.Int.Input(
                        "min_width",
                        optional=True,
                        default=default.min_width,
                        min=0,
                        max=128,
                        tooltip="Ignores thinner regions: a square with this side must fit inside, in pixels of a "
                        "256-pixel image.",
                    ),
                    io.Int.Input(
                        "expand",
                        optional=True,
                        default=default.expand,
                        min=0,
                        max=64,
                        tooltip="Grows the found mask by this much on every side, in pixels of a 256-pixel image.",
                    ),
                    io.Float.Input(
                        "start_percent",
                        optional=True,
                        default=default.start_percent,
                        min=0.0,
                        max=1.0,
                        step=0.01,
                        tooltip="Where watching starts, by noise level: 0 is pure noise, 1 is the finished image. In "
                        "the paper: T_d.",
                    ),
                    io.Float.Input(
                        "end_percent",
                        optional=True,
                        default=default.end_percent,
                        min=0.0,
                        max=1.0,
                        step=0.01,
                        tooltip="Where watching ends and the correction happens. The later, the fewer steps are left "
                        "to fix the region. In the paper: T_c.",
                    ),
                    io.Combo.Input(
                        "space",
                        optional=True,
                        options=list(SPACES),
                        default=default.space,
                        tooltip="What the detector looks at. latent: the latent itself, at no cost. rgb: its preview "
                        "colors, at no cost, but marks a lot. taesd: the small preview decoder, if installed. vae: "
                        "the full VAE, slow. auto: taesd if it costs under 2% of a step, otherwise latent.",
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
                    default=MARKED_PERCENT,
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
                *sockets.folded(
                    io.Boolean.Input(
                        "keep_predictions",
                        optional=True,
                        default=False,
                        tooltip="Keeps what ASCED Teach learns from in the REPORT.",
                    ),
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
            **sockets.keeps_result_text(),
        )

    @classmethod
    def execute(
        cls,
        preset: str = presets.CUSTOM,
        threshold: float = DEFAULT_DETECTION.settings.mad_scale,
        vae: Any = None,
        only_here: torch.Tensor | None = None,
        protect: torch.Tensor | None = None,
        detector: PALDetector | None = None,
        calibration: str = BY_THRESHOLD,
        marked_percent: float = MARKED_PERCENT,
        taught: str = UNTAUGHT,
        keep_predictions: bool = False,
        **widgets: Any,
    ) -> io.NodeOutput:
        widgets["mad_scale"] = threshold
        settings = DetectionSettings(**presets.detection_values(preset, widgets))
        texts = [remarks.overruled(preset, widgets, settings, DEFAULT_DETECTION.settings)]
        learned_on, network = Origin(), None
        if taught != UNTAUGHT:
            _check_alone(detector, calibration)
            network = _taught(taught)
            texts = [network.facts.summary(), *texts, remarks.taught_detector(preset, settings)]
            settings = network.applied(settings, marked_percent / 100)
        elif calibration != BY_THRESHOLD:
            learned, given = _learned(calibration), settings.mad_scale
            settings, learned_on = learned.applied(settings, marked_percent / 100), learned.origin
            texts.insert(0, f"Threshold {settings.mad_scale:.2f} to mark {marked_percent:g}% of the images.")
            if preset == presets.CUSTOM and given != DEFAULT_DETECTION.settings.mad_scale:
                texts.append(remarks.without_effect("a calibration", ["threshold"]))
        else:
            texts.insert(0, remarks.in_short(settings) if detector is None else "The connected detector decides.")
            if settings.mode == "paper" and settings.mad_scale != DEFAULT_DETECTION.settings.mad_scale:
                texts.append(remarks.without_effect("mode paper", ["threshold"]))
            if marked_percent != MARKED_PERCENT:
                texts.append(remarks.without_effect("neither a calibration nor a taught detector", ["marked_percent"]))
        if settings.space == "vae":
            check_has_vae(vae, "Detection in space vae")
        elif vae is not None and detector is None:
            texts.append(remarks.without_effect(f"space {settings.space}", ["vae"]))
        if detector is not None:
            check_has_vae(vae, "The connected detector")
            texts.append(remarks.given_detector(preset, settings))
        options = DetectionOptions(settings, vae, detector, only_here, protect, learned_on, network, keep_predictions)
        return status.told(cls, " ".join(filter(None, texts)), options)

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


def _learned(name: str) -> Calibration:
    file = find_file(name)
    if file is None:
        raise ValueError(
            f"There is no file {name} in models/{FOLDER}: choose another one, or {BY_THRESHOLD} to use threshold."
        )
    return Calibration.load(file)


NODES = [ASCED_Detection]
