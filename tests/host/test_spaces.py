"""Detection and correction in every space, on the latent demo: its own autoencoder, tiny decoder and colors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

SPACES = ("latent", "rgb", "taesd", "vae")
SIZES = {"latent": 16, "rgb": 16, "taesd": 128, "vae": 64}


@pytest.mark.parametrize("space", SPACES)
def test_every_space_finds_the_artifact_and_corrects_only_it(sample, demo, loud, space):
    stock = sample(loud, None)["samples"]
    latent, mask, report = sample(loud, {"space": space, "vae": demo.vae})
    assert report.run.space == space and report.masks.shape == (2, SIZES[space], SIZES[space])
    assert [image.corrected for image in report.images] == [True, False], report.summary()
    assert report.run.extra_model_calls == 1
    assert torch.equal(latent["samples"][1], stock[1]) and not torch.equal(latent["samples"][0], stock[0])
    assert mask.shape == (2, 64, 64)  # the size of the decoded image in every space
    rows, columns = np.argwhere(mask[0].numpy()).mean(0)
    assert abs(rows - (5 * 4 + 8)) < 6 and abs(columns - rows) < 6  # the planted square


@pytest.mark.parametrize("space", SPACES)
def test_watching_in_any_space_is_bit_identical_to_stock(sample, demo, loud, space):
    stock = sample(loud, None)["samples"]
    state = torch.get_rng_state()
    watched = sample(loud, {"space": space, "vae": demo.vae}, {"method": "none"})
    assert watched[2].images[0].flagged and torch.equal(watched[0]["samples"], stock)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("space", ["latent", "pixel"])
def test_outside_the_mask_latents_are_bit_identical_at_t_c(sample, demo, loud, monkeypatch, space):
    """The state before and after the correction, in a real run with the real autoencoder."""
    from asced.asced_core.correct import corrector as core

    states = []
    original = core.apply_ttc

    def seen(x, clean, mask, *args):
        out = original(x, clean, mask, *args)
        states.append((x.clone(), mask.clone(), out.clone()))
        return out

    monkeypatch.setattr(core, "apply_ttc", seen)
    sample(loud, {}, {"gamma": 0.5, "perturb_in": space, "vae": demo.vae})
    ((before, mask, after),) = states
    assert mask[0].any() and not mask[0].all() and not mask[1].any()
    changed = (before != after).any(1)
    assert torch.equal(changed, mask)


def test_pixel_space_without_gamma_is_bit_identical_to_latent_space(sample, demo, loud):
    pixel = sample(loud, {}, {"perturb_in": "pixel", "vae": demo.vae})[0]["samples"]
    assert torch.equal(pixel, sample(loud)[0]["samples"])
    perturbed = sample(loud, {}, {"perturb_in": "pixel", "vae": demo.vae, "gamma": 0.5})[0]["samples"]
    assert perturbed.isfinite().all() and not torch.equal(perturbed, pixel)


@pytest.mark.parametrize(("height", "width", "batch"), [(16, 48, 3), (48, 16, 1), (13, 21, 2), (40, 40, 1)])
def test_masks_have_the_size_of_the_image_at_any_shape(sample, demo, loud, height, width, batch):
    for space in SPACES:
        latent, mask, _ = sample(
            loud, {"space": space, "vae": demo.vae}, batch=batch, height=height, width=width, steps=10
        )
        decoded = demo.vae.decode(latent["samples"])
        assert mask.shape == decoded.shape[:3] == (batch, 4 * height, 4 * width), space


def test_auto_picks_the_same_space_every_time(sample, demo):
    reports = [sample(demo.model, {"space": "auto"})[2] for _ in range(2)]
    assert {r.run.space for r in reports} <= {"latent", "rgb", "taesd"} and reports[0].run.space == reports[1].run.space


def test_auto_picks_the_tiny_decoder_if_it_costs_next_to_nothing(sample, demo, monkeypatch):
    """The cost of the model is mocked: a model that is large enough does not fit here."""
    import asced.nodes.sampling.spaces as spaces

    assert sample(demo.model, {"space": "auto"})[2].run.space != "taesd"
    monkeypatch.setattr(spaces, "_model_cost", lambda model: 1e15)
    assert sample(demo.model, {"space": "auto"})[2].run.space == "taesd"


def test_the_diffusion_model_is_reloaded_after_the_vae(sample, demo, loud, monkeypatch):
    """On a small card the VAE displaces the model; there is no card here, so the load calls are recorded."""
    import comfy.model_management as management

    loaded = []
    original = management.load_models_gpu
    monkeypatch.setattr(
        management, "load_models_gpu", lambda models, *a, **k: loaded.append(models) or original(models, *a, **k)
    )
    sample(loud, {"space": "vae", "vae": demo.vae})
    order = ["vae" if demo.vae.patcher in models else "model" for models in loaded]
    first = order.index("vae")
    assert order[first:] == ["vae", "model"] * (len(order[first:]) // 2)


def test_comfyui_tiles_when_memory_is_short(sample, demo, loud, monkeypatch):
    """Out of memory once per decode: ComfyUI's own fallback to tiles works here as well."""
    import comfy.model_management as management

    plain = sample(loud, {"space": "vae", "vae": demo.vae})
    tiled, original = [], demo.vae.decode_tiled_
    real = demo.vae.first_stage_model.decode

    def short(z, **options):
        if not tiled or tiled[-1] == "done":
            tiled.append("asked")
            raise management.OOM_EXCEPTION("no memory")
        return real(z, **options)

    def tiles(*args, **kwargs):
        tiled.append("tiling")
        out = original(*args, **kwargs)
        tiled.append("done")
        return out

    monkeypatch.setattr(demo.vae.first_stage_model, "decode", short)
    monkeypatch.setattr(demo.vae, "decode_tiled_", tiles)
    report = sample(loud, {"space": "vae", "vae": demo.vae})[2]
    assert "tiling" in tiled and report.images[0].corrected
    assert report.images[0].regions[0].box == plain[2].images[0].regions[0].box


def test_a_wrong_vae_gets_one_clear_error_before_anything_is_sampled(sample, demo, hands):
    for where in ({"space": "vae"},):
        with pytest.raises(ValueError, match=r"^Detection in space vae needs a VAE: connect .*\.$"):
            sample(demo.model, where)
        with pytest.raises(
            ValueError, match=r"VAE for latents with 3 channels, but this model's latents have 4: .*\.$"
        ):
            sample(demo.model, {**where, "vae": hands.vae})
    with pytest.raises(ValueError, match=r"^perturb_in pixel needs a VAE"):
        sample(demo.model, {}, {"perturb_in": "pixel", "gamma": 0.2})
    with pytest.raises(ValueError, match="3 channels"):
        sample(demo.model, {}, {"perturb_in": "pixel", "gamma": 0.2, "vae": hands.vae})
    with pytest.raises(ValueError, match="Mode paper watches the model's own state"):
        sample(demo.model, {"mode": "paper", "space": "rgb"})
    assert sample(demo.model)[0]["samples"].isfinite().all()  # and the next run works


def test_a_space_that_the_model_lacks_leaves_the_image_and_says_so(sample, demo, loud, monkeypatch):
    stock = sample(loud, None)["samples"]
    latent_format = demo.model.get_model_object("latent_format")
    monkeypatch.setattr(latent_format, "taesd_decoder_name", "not_installed")
    monkeypatch.setattr(latent_format, "latent_rgb_factors", None)
    for space, reason in (("taesd", "models/vae_approx/not_installed"), ("rgb", "no preview colors")):
        latent, mask, report = sample(loud, {"space": space})
        assert report.summary().startswith("Not watched") and reason in report.summary()
        assert torch.equal(latent["samples"], stock) and not mask.any()
    assert sample(loud, {"space": "auto"})[2].run.space == "latent"
