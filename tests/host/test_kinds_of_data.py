"""What a latent holds is asked of the model: sound is not corrected as a picture, and a MASK has the image's size."""

from __future__ import annotations

import pytest
import torch

SIZES = {
    "SD15": 64, "SDXL": 64, "SD3": 64, "Flux": 64, "HunyuanVideo": 64, "Wan21": 64, "Mochi": 64, "Cosmos1CV8x8x8": 64,
    "LTXV": 256, "Wan22": 128, "HunyuanImage21": 256, "SC_Prior": 336, "SC_B": 32, "SD_X4": 32, "ChromaRadiance": 8,
    "Flux2": 128, "HunyuanVideo15": 128,
}  # fmt: skip


def _as_format(model, name):
    """A model whose latents are of a format of ComfyUI, and whose network predicts its input, with a square in it."""
    import comfy.latent_formats

    kind = getattr(comfy.latent_formats, name, None)
    if kind is None:
        return None  # this version does not have it
    clone = model.clone()
    clone.add_object_patch("latent_format", kind())

    def network(run, args):
        x = args["input"]
        out = x - x.mean()
        if float(args["timestep"].flatten()[0]) < 600:
            out[..., 2:7, 2:7] += 3
        return out

    clone.set_model_unet_function_wrapper(network)
    return clone


def _latent(model, side):
    kind = model.get_model_object("latent_format")
    video = [3] if kind.latent_dimensions == 3 else []
    return {"samples": torch.zeros(1, kind.latent_channels, *video, side, side)}


@pytest.mark.parametrize("name", SIZES)
def test_the_mask_had_another_size_than_the_image(hands, corrected, name):
    model = _as_format(hands.eps, name)
    if model is None:
        assert name in ("Flux2", "HunyuanImage21", "HunyuanVideo15", "ChromaRadiance")  # newer than the oldest version
        return
    mask, report = corrected(model, latent=_latent(model, 8), cfg=1.0)[1:]
    assert mask.shape[1:] == (SIZES[name], SIZES[name]) == report.size


@pytest.mark.parametrize("name", ["ACEAudio", "StableAudio1", "Hunyuan3Dv2"])
@pytest.mark.parametrize("shape", [(1, 16, 300), (1, 300), (2, 16, 16, 16)])
def test_my_music_was_corrected_as_a_picture(hands, stock, corrected, detection, name, shape):
    model = _as_format(hands.eps, name)
    channels = model.get_model_object("latent_format").latent_channels
    latent = {"samples": torch.zeros(shape[0], channels, *shape[1:]), "type": "audio"}
    looking = {"detection": detection(threshold=0.5, min_area=4, min_width=0)}
    out, mask, report = corrected(model, latent=latent, cfg=1.0, settings=looking)
    assert torch.equal(out, stock(model, latent=latent, cfg=1.0))
    summary = report.summary()
    assert summary.startswith("Not watched: ") and ("audio" in summary.lower() or "3D" in summary)
    assert mask.shape == (shape[0], 1, 1) and not mask.any()


def test_a_format_of_another_pack_that_only_has_a_known_name_counts_as_unknown(pack):
    import comfy.latent_formats
    from asced.nodes.sampling.spaces import pixels_per_cell

    class LTXV(comfy.latent_formats.LatentFormat):
        pass

    class Own(comfy.latent_formats.LatentFormat):
        spacial_downscale_ratio = 12

    assert pixels_per_cell(LTXV()) == 8
    assert pixels_per_cell(Own()) == 12
    assert pixels_per_cell(type("Tuned", (comfy.latent_formats.LTXV,), {})()) == 32
