"""ASCED_DemoModel: the embedded hand models, so that every node runs without a download."""

from __future__ import annotations

from comfy_api.latest import io

from ..demo.hand_unet import CLASSES, NULL_CLASS
from . import sockets
from .hand_models import conditioning, load_latent_model, load_pixel_model

VARIANTS = ("pixel", "latent")
IN_TURN = "each in turn"


class ASCED_DemoModel(io.ComfyNode):
    """Hands that show a digit, 64 x 64 pixels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_DemoModel",
            display_name="ASCED Demo Model",
            category=sockets.SAMPLING,
            description="Small built-in models that draw hands showing a digit, 64x64 pixels; nothing to download. Use "
            "a cfg of about 2 and an Empty Latent Image of 512x512 for variant pixel, 128x128 for variant latent.",
            **sockets.found_by("hands", "test model", "no download"),
            inputs=[
                io.Combo.Input(
                    "digit",
                    options=[IN_TURN, *(str(d) for d in range(CLASSES))],
                    default=IN_TURN,
                    tooltip=f"The digit that the hand shows. {IN_TURN}: the images of a batch show 0 to 9 in order.",
                ),
                io.Combo.Input(
                    "variant",
                    optional=True,
                    options=list(VARIANTS),
                    default=VARIANTS[0],
                    tooltip="What the model denoises. pixel: the image itself (Empty Latent Image 512x512). latent: a "
                    "latent with a quarter of its side, like SD (Empty Latent Image 128x128).",
                ),
            ],
            outputs=[
                io.Model.Output("model", display_name="MODEL", tooltip="For ASCED KSampler or any other sampler node."),
                io.Vae.Output("vae", display_name="VAE", tooltip="For VAE Decode."),
                io.Conditioning.Output("positive", display_name="positive", tooltip="Conditioning for the digit."),
                io.Conditioning.Output(
                    "negative", display_name="negative", tooltip="Conditioning without a digit, for guidance."
                ),
            ],
        )

    @classmethod
    def execute(cls, digit: str, variant: str = VARIANTS[0]) -> io.NodeOutput:
        labels = list(range(CLASSES)) if digit == IN_TURN else [int(digit)]
        model, vae = load_latent_model() if variant == "latent" else load_pixel_model()
        return io.NodeOutput(model, vae, conditioning(labels), conditioning([NULL_CLASS]))


NODES = [ASCED_DemoModel]
