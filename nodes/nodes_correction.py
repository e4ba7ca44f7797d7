"""ASCED_Correction: what is done to the regions, as widgets. Without this node, the defaults apply."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..asced_core.settings import CORRECTIONS, PERTURB_IN, X0_SOURCES, CorrectionSettings
from . import presets, remarks, sockets
from .page import status
from .sampling.options import DEFAULT_CORRECTION, CorrectionOptions
from .sampling.spaces import check_has_vae


class ASCED_Correction(io.ComfyNode):
    """Settings of the correction."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        default = DEFAULT_CORRECTION.settings
        return io.Schema(
            node_id="ASCED_Correction",
            display_name="ASCED Correction",
            category=sockets.SETTINGS,
            description="Sets how artifacts are corrected. By default, only the marked regions are re-noised, partway "
            "through sampling.",
            **sockets.found_by("fix artifacts", "repair", "refine", "renoise", "inpaint"),
            inputs=[
                io.Combo.Input(
                    "preset",
                    optional=True,
                    options=[*presets.CORRECTION, presets.CUSTOM],
                    default=presets.USUAL,
                    tooltip="What is done to the marked regions: it decides method, gamma, strength, expand and "
                    "x0_source. usual: re-noises them once. stronger: samples them again from the first watched step "
                    "on, for one more model call per watched step. report only: changes nothing. custom: the settings "
                    "below count.",
                ),
                *sockets.folded(
                    io.Combo.Input(
                        "method",
                        optional=True,
                        options=list(CORRECTIONS),
                        default=default.method,
                        tooltip="ttc: re-noises only the marked regions. redo: samples them again from the first "
                        "watched step on, which costs one more model call per watched step. replace: as ttc, but "
                        "re-noises a prediction made before the artifact. clip: limits each change to the threshold. "
                        "sargd: puts a guide image in place of the regions. none: only watches and reports.",
                    ),
                    io.Float.Input(
                        "gamma",
                        optional=True,
                        default=default.gamma,
                        min=0.0,
                        max=1.0,
                        step=0.05,
                        tooltip="ttc: also perturbs the content of the regions. 0 keeps their rough shape; higher "
                        "changes more.",
                    ),
                    io.Float.Input(
                        "strength",
                        optional=True,
                        default=default.strength,
                        min=0.0,
                        max=1.0,
                        step=0.05,
                        tooltip="Share of the regions' noise that is replaced. 1 replaces all of it, 0 does nothing.",
                    ),
                    io.Int.Input(
                        "expand",
                        optional=True,
                        default=default.expand,
                        min=0,
                        max=64,
                        tooltip="Grows the corrected area beyond the found mask on every side, in pixels of a "
                        "256-pixel image.",
                    ),
                    io.Combo.Input(
                        "x0_source",
                        optional=True,
                        options=list(X0_SOURCES),
                        default=default.x0_source,
                        tooltip="What is re-noised: the image predicted at the current step or at the previous one.",
                    ),
                    io.Combo.Input(
                        "perturb_in",
                        optional=True,
                        options=list(PERTURB_IN),
                        default=default.perturb_in,
                        tooltip="What gamma perturbs: the latent, or the decoded image (needs the vae input). With "
                        "gamma 0 there is no difference.",
                    ),
                    io.Int.Input(
                        "feather",
                        optional=True,
                        default=default.feather,
                        min=0,
                        max=64,
                        tooltip="perturb_in pixel: gamma fades in over this width from a region's edge, in pixels of "
                        "a 256-pixel image.",
                    ),
                    io.Float.Input(
                        "max_corrected_share",
                        optional=True,
                        default=default.max_corrected_share,
                        min=0.0,
                        max=1.0,
                        step=0.05,
                        tooltip="An image is not corrected if the mask covers more than this share of it: re-noising "
                        "everything would bring as many artifacts as before.",
                    ),
                ),
                io.Vae.Input("vae", optional=True, tooltip="The model's VAE, for perturb_in pixel."),
                io.Boolean.Input(
                    "keep_original",
                    optional=True,
                    default=False,
                    tooltip="Also finishes the image without a correction, for the original output. If something is "
                    "corrected, every step after that costs two model calls instead of one.",
                ),
            ],
            outputs=[
                sockets.Correction.Output(
                    "correction",
                    display_name="CORRECTION",
                    tooltip="Connect to an ASCED sampler or ASCED Apply to Model.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            **sockets.keeps_result_text(),
        )

    @classmethod
    def execute(
        cls, preset: str = presets.CUSTOM, vae: Any = None, keep_original: bool = False, **widgets: Any
    ) -> io.NodeOutput:
        settings = CorrectionSettings(**presets.correction_values(preset, widgets))
        in_pixels = settings.acts and settings.perturb_in == "pixel" and settings.gamma > 0
        texts = [
            remarks.in_short(settings),
            remarks.overruled(preset, widgets, settings, DEFAULT_CORRECTION.settings),
            remarks.correction_method(settings),
        ]
        if in_pixels:
            check_has_vae(vae, "perturb_in pixel")
        elif vae is not None:
            texts.append("vae has no effect: only gamma with perturb_in pixel uses it.")
        return status.told(cls, " ".join(filter(None, texts)), CorrectionOptions(settings, vae, keep_original))


NODES = [ASCED_Correction]
