"""ASCED_Correction: what is done to the regions, as widgets. Every default is good without it."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..asced_core.settings import CORRECTIONS, PERTURB_IN, X0_SOURCES, CorrectionSettings
from . import sockets
from .sampling.options import DEFAULT_CORRECTION, CorrectionOptions
from .sampling.spaces import check_has_vae


class ASCED_Correction(io.ComfyNode):
    """What is done to the regions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        default = DEFAULT_CORRECTION.settings
        return io.Schema(
            node_id="ASCED_Correction",
            display_name="ASCED Correction",
            category=sockets.SETTINGS,
            description="What is done to the artifact regions: new noise on them alone, in the middle of sampling.",
            **sockets.found_by("fix artifacts", "renoise", "inpaint"),
            inputs=[
                io.Combo.Input(
                    "method",
                    options=list(CORRECTIONS),
                    default=default.method,
                    tooltip="ttc: new noise on the marked regions alone, in mid-run. replace: the same, from the "
                    "prediction before the artifact. clip: changes are held to the threshold. sargd: a guide image "
                    "takes the regions' place. none: only watch and report.",
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
                io.Combo.Input(
                    "perturb_in",
                    optional=True,
                    options=list(PERTURB_IN),
                    default=default.perturb_in,
                    tooltip="Where gamma stirs: the latent's cells, or the decoded picture (needs the vae input). "
                    "With gamma 0 both are the same.",
                ),
                io.Int.Input(
                    "feather",
                    optional=True,
                    default=default.feather,
                    min=0,
                    max=64,
                    tooltip="Pixel space: gamma fades in over so much of a region's edge, pixels of a 256-pixel image.",
                ),
                io.Float.Input(
                    "max_corrected_share",
                    optional=True,
                    default=default.max_corrected_share,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="A mask that covers a larger share of the image is not corrected: new noise everywhere "
                    "brings as many artifacts as before.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="The model's VAE, for space pixel."),
                io.Boolean.Input(
                    "keep_original",
                    optional=True,
                    default=False,
                    tooltip="Finishes the image without a correction, too, for the output original. Where something is "
                    "corrected, every step behind the correction then costs two model calls in place of one.",
                ),
            ],
            outputs=[
                sockets.Correction.Output(
                    "correction", display_name="CORRECTION", tooltip="For the ASCED sampler nodes."
                ),
            ],
        )

    @classmethod
    def execute(cls, vae: Any = None, keep_original: bool = False, **widgets: Any) -> io.NodeOutput:
        settings = CorrectionSettings(**widgets)
        if settings.acts and settings.perturb_in == "pixel" and settings.gamma > 0:
            check_has_vae(vae, "Correction in pixel space")
        return io.NodeOutput(CorrectionOptions(settings, vae, keep_original))


NODES = [ASCED_Correction]
