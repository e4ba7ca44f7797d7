"""ASCED_Detection and ASCED_Correction: the settings as widgets. Every default is good without them."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..asced_core.settings import BASE_SIZE, CORRECTIONS, MODES, X0_SOURCES, CorrectionSettings, DetectionSettings
from . import types

CATEGORY = "ASCED/settings"
DEFAULT_DETECTION = DetectionSettings(base_size=BASE_SIZE)
DEFAULT_CORRECTION = CorrectionSettings()


class ASCED_Detection(io.ComfyNode):
    """Where and how the detector looks."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        default = DEFAULT_DETECTION
        return io.Schema(
            node_id="ASCED_Detection",
            display_name="ASCED Detection",
            category=CATEGORY,
            description="How artifacts are found. All sizes are in pixels of a 256-pixel image and scale with yours.",
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
                    tooltip="How far a change must stand out from the usual one. Lower finds more, false alarms too.",
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
            ],
            outputs=[
                types.Detection.Output("detection", display_name="DETECTION", tooltip="For the ASCED sampler nodes.")
            ],
        )

    @classmethod
    def execute(cls, threshold: float, **widgets: Any) -> io.NodeOutput:
        return io.NodeOutput(DetectionSettings(mad_scale=threshold, base_size=BASE_SIZE, **widgets))


class ASCED_Correction(io.ComfyNode):
    """What is done to the regions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        default = DEFAULT_CORRECTION
        return io.Schema(
            node_id="ASCED_Correction",
            display_name="ASCED Correction",
            category=CATEGORY,
            description="What is done to the artifact regions: new noise on them alone, in the middle of sampling.",
            inputs=[
                io.Combo.Input(
                    "method",
                    options=list(CORRECTIONS),
                    default=default.method,
                    tooltip="ttc: new noise on the marked regions alone, in mid-run. none: only watch and report.",
                ),
                io.Float.Input(
                    "gamma",
                    default=default.gamma,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Stirs up the content of the regions, too: 0 keeps their rough shape, higher changes more.",
                ),
                io.Float.Input(
                    "strength",
                    default=default.strength,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Share of the regions' noise that is replaced; 0 does nothing at all.",
                ),
                io.Int.Input(
                    "expand",
                    default=default.expand,
                    min=0,
                    max=64,
                    tooltip="The corrected area grows by this around the found mask: pixels of a 256-pixel image.",
                ),
                io.Combo.Input(
                    "x0_source",
                    options=list(X0_SOURCES),
                    default=default.x0_source,
                    tooltip="What the regions start anew from: the image predicted at this step or before.",
                ),
            ],
            outputs=[
                types.Correction.Output("correction", display_name="CORRECTION", tooltip="For the ASCED sampler nodes.")
            ],
        )

    @classmethod
    def execute(cls, **widgets: Any) -> io.NodeOutput:
        return io.NodeOutput(CorrectionSettings(**widgets))


NODES = [ASCED_Detection, ASCED_Correction]
