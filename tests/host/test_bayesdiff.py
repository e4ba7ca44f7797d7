"""ASCED_BayesDiff in a real ComfyUI."""

from __future__ import annotations

import pytest
import torch

STEPS = 7


def empty():
    return torch.zeros(2, 3, 32, 32)


@pytest.fixture
def bayes(run_node, hands):
    def run(model=None, **changes):
        inputs = {
            "model": model or hands.eps, "seed": 5, "steps": STEPS, "cfg": 2.0, "scheduler": "normal",
            "positive": hands.positive, "negative": hands.negative, "latent_image": {"samples": empty()},
            "posterior": "fit on the images", "step_interval": 3, "draws": 2, "save_as": "", "vae": hands.vae,
            "images": torch.rand(4, 32, 32, 3, generator=torch.Generator().manual_seed(0)),
        }  # fmt: skip
        return run_node("ASCED_BayesDiff", **{**inputs, **changes})

    return run


def test_the_images_equal_comfyuis_euler(bayes, hands, core_node):
    """And the model is left as it was."""
    latent, heat, mask, score, scores = bayes()
    stock = core_node(
        "KSampler", model=hands.eps, seed=5, steps=STEPS, cfg=2.0, sampler_name="euler", scheduler="normal",
        positive=hands.positive, negative=hands.negative, latent_image={"samples": empty()}, denoise=1.0,
    )[0]  # fmt: skip
    torch.testing.assert_close(latent["samples"], stock["samples"], rtol=1e-4, atol=1e-4)
    assert heat.shape == (2, 32, 32, 3) and mask.shape == (2, 32, 32)
    assert float(mask.max()) == 1.0 and float(mask.min()) >= 0.0 and mask.unique().numel() > 100
    assert score > 0 and len(scores.splitlines()) == 2
    assert not any(m._forward_hooks for m in hands.eps.model.diffusion_model.modules())
    assert "sampler_post_cfg_function" not in hands.eps.model_options


@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_a_saved_posterior_gives_the_same_result_and_rejects_another_model(bayes, asced_models, demo, cfg):
    first = bayes(save_as="hands", cfg=cfg)
    (file,) = asced_models.glob("*")
    assert file.name == "hands.laplace.safetensors"
    again = bayes(posterior=file.name, images=None, vae=None, cfg=cfg)
    assert torch.equal(first[2], again[2]) and first[3] == again[3]
    with pytest.raises(ValueError, match="fit it again"):
        bayes(
            model=demo.model, posterior=file.name, positive=demo.positive, negative=demo.negative,
            latent_image={"samples": torch.zeros(1, 4, 16, 16)},
        )  # fmt: skip


def test_a_flow_model_and_a_latent_model(bayes, hands, demo):
    flow = bayes(model=hands.flow)
    assert flow[3] > 0 and torch.isfinite(flow[0]["samples"]).all()
    latent = bayes(
        model=demo.model, positive=demo.positive, negative=demo.negative, vae=demo.vae,
        latent_image={"samples": torch.zeros(2, 4, 16, 16)}, images=torch.rand(2, 64, 64, 3),
    )  # fmt: skip
    assert latent[2].shape == (2, 64, 64) and latent[3] > 0


def test_more_images_make_it_more_certain(bayes):
    images = torch.rand(12, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    assert bayes(images=images)[3] < bayes(images=images[:1])[3]


def test_outside_the_inpaint_mask_nothing_is_uncertain(bayes):
    mask = torch.zeros(1, 32, 32)
    mask[:, :16] = 1
    _, _, shown, _, _ = bayes(latent_image={"samples": torch.full((2, 3, 32, 32), 0.2), "noise_mask": mask})
    assert not shown[:, 20:].any() and shown[:, :12].any()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": None}, "connect a few dozen"),
        ({"vae": None}, "needs a VAE"),
        ({"posterior": "gone.laplace.safetensors"}, "There is no file gone"),
        ({"save_as": "../evil"}, "save_as is '../evil': enter a name"),
        ({"latent_image": {"samples": torch.zeros(1, 3, 2, 32, 32)}}, "needs image latents"),
        ({"positive": []}, "positive conditioning is empty"),
    ],
)
def test_invalid_inputs_get_one_clear_error(bayes, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        bayes(**changes)


class Encoder:
    """Stands in for the VAEs of these families, which are too large; returns latents of the right shape."""

    def __init__(self, shape):
        self.shape, self.latent_channels = shape, shape[0]

    def encode(self, image):
        return torch.randn(1, *self.shape, generator=torch.Generator().manual_seed(int(image.sum())))


@pytest.mark.parametrize("name", ["SD 1.5, eps", "SD 2, v", "SD 3, flow"])
def test_real_checkpoints_of_a_unet_and_of_a_transformer(run_node, core_node, tmp_path, name):
    """The last layer is a convolution in one, a linear layer in the other; the images still equal ComfyUI's."""
    from .families import FAMILIES, load_family

    family = FAMILIES[name]
    common = {
        "model": load_family(name, tmp_path), "seed": 1, "steps": 3, "cfg": 2.0, "scheduler": "simple",
        "positive": family.conditioning(), "negative": family.conditioning(1), "latent_image": family.empty(1),
    }  # fmt: skip
    latent, _, mask, score, _ = run_node(
        "ASCED_BayesDiff", **common, posterior="fit on the images", step_interval=2, draws=2, save_as="",
        images=torch.rand(2, 64, 64, 3), vae=Encoder(family.latent),
    )  # fmt: skip
    stock = core_node("KSampler", **common, sampler_name="euler", denoise=1.0)[0]["samples"]
    torch.testing.assert_close(latent["samples"], stock, rtol=1e-3, atol=1e-3)
    assert score > 0 and mask.isfinite().all() and mask.unique().numel() > 100
