"""Detection and correction in every space, on the latent demo: its own autoencoder, tiny decoder and colours."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch

from .models import with_artifact

SPACES = ("latent", "rgb", "taesd", "vae")
SIZES = {"latent": 16, "rgb": 16, "taesd": 128, "vae": 64}
STRICT = {
    "mode": "robust", "threshold": 8.0, "min_area": 1800, "max_area": 12000, "min_width": 44, "expand": 0,
    "start_percent": 0.2, "end_percent": 0.5,
}  # fmt: skip
PLAIN = {"method": "ttc", "gamma": 0.0, "strength": 1.0, "expand": 5, "x0_source": "current"}


@pytest.fixture(scope="module")
def demo(run_node):
    with torch.inference_mode():
        model, vae, positive, negative = run_node("ASCED_DemoModel", digit="each in turn", space="latent")
    return types.SimpleNamespace(model=model, vae=vae, positive=positive, negative=negative)


@pytest.fixture
def sample(demo, run_node, host):
    """ASCED_KSampler on the latent demo, or the host's KSampler for detection None."""

    def run(model=None, detection=(), correction=(), batch=2, height=16, width=16, seed=3, latent=None, **more):
        given = latent or {"samples": torch.zeros(batch, 4, height, width)}
        options = {"steps": 12, "cfg": 2.0, "sampler_name": "ddim", "scheduler": "normal", "denoise": 1.0} | more
        common = {"positive": demo.positive, "negative": demo.negative}
        model = model or demo.model
        if detection is None:
            denoise = options.pop("denoise")
            return host.common_ksampler(model, seed, *options.values(), *common.values(), given, denoise=denoise)[0]
        chosen = {
            "detection": run_node("ASCED_Detection", **{**STRICT, **dict(detection)})[0],
            "correction": run_node("ASCED_Correction", **{**PLAIN, **dict(correction)})[0],
        }
        return run_node("ASCED_KSampler", model=model, seed=seed, latent_image=given, **options, **common, **chosen)

    return run


@pytest.fixture
def loud(demo):
    return with_artifact(demo.model, strength=2.5, size=0.25, alike=True)


@pytest.mark.parametrize("space", SPACES)
def test_every_space_sees_the_artifact_and_corrects_it_alone(sample, demo, loud, space):
    stock = sample(loud, None)["samples"]
    latent, mask, report = sample(loud, {"space": space, "vae": demo.vae})
    assert report.run.space == space and report.masks.shape == (2, SIZES[space], SIZES[space])
    assert [image.corrected for image in report.images] == [True, False], report.summary()
    assert report.run.extra_model_calls == 1
    assert torch.equal(latent["samples"][1], stock[1]) and not torch.equal(latent["samples"][0], stock[0])
    assert mask.shape == (2, 64, 64)  # the size of the decoded image, whatever was looked at
    rows, columns = np.argwhere(mask[0].numpy()).mean(0)
    assert abs(rows - (5 * 4 + 8)) < 6 and abs(columns - rows) < 6  # the planted square


@pytest.mark.parametrize("space", SPACES)
def test_watching_in_any_space_changes_no_bit(sample, demo, loud, space):
    stock = sample(loud, None)["samples"]
    state = torch.get_rng_state()
    watched = sample(loud, {"space": space, "vae": demo.vae}, {"method": "none"})
    assert watched[2].images[0].flagged and torch.equal(watched[0]["samples"], stock)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("space", ["latent", "pixel"])
def test_outside_of_the_mask_the_latents_keep_every_bit_at_t_c(sample, demo, loud, monkeypatch, space):
    """The state before and after the correction, of the real run with the real autoencoder."""
    import asced.asced_core.trajectory as core

    states = []
    original = core.apply_ttc

    def seen(x, clean, mask, *args):
        out = original(x, clean, mask, *args)
        states.append((x.clone(), mask.clone(), out.clone()))
        return out

    monkeypatch.setattr(core, "apply_ttc", seen)
    sample(loud, {}, {"gamma": 0.5, "space": space, "vae": demo.vae})
    ((before, mask, after),) = states
    assert mask[0].any() and not mask[0].all() and not mask[1].any()
    changed = (before != after).any(1)
    assert torch.equal(changed, mask)


def test_pixel_space_without_gamma_is_latent_space_bit_by_bit(sample, demo, loud):
    pixel = sample(loud, {}, {"space": "pixel", "vae": demo.vae})[0]["samples"]
    assert torch.equal(pixel, sample(loud)[0]["samples"])
    stirred = sample(loud, {}, {"space": "pixel", "vae": demo.vae, "gamma": 0.5})[0]["samples"]
    assert stirred.isfinite().all() and not torch.equal(stirred, pixel)


@pytest.mark.parametrize(("height", "width", "batch"), [(16, 48, 3), (48, 16, 1), (13, 21, 2), (40, 40, 1)])
def test_masks_have_the_size_of_the_image_at_any_shape(sample, demo, loud, height, width, batch):
    for space in SPACES:
        latent, mask, _ = sample(
            loud, {"space": space, "vae": demo.vae}, batch=batch, height=height, width=width, steps=10
        )
        decoded = demo.vae.decode(latent["samples"])
        assert mask.shape == decoded.shape[:3] == (batch, 4 * height, 4 * width), space


def test_auto_is_the_same_choice_every_time(sample, demo):
    reports = [sample(demo.model, {"space": "auto"})[2] for _ in range(2)]
    assert {r.run.space for r in reports} <= {"latent", "rgb", "taesd"} and reports[0].run.space == reports[1].run.space


def test_auto_takes_the_tiny_decoder_where_it_costs_next_to_nothing(sample, demo, monkeypatch):
    """The cost of the model is a mock: one that is large enough for that does not fit here."""
    import asced.nodes.spaces as spaces

    assert sample(demo.model, {"space": "auto"})[2].run.space != "taesd"
    monkeypatch.setattr(spaces, "_model_cost", lambda model: 1e15)
    assert sample(demo.model, {"space": "auto"})[2].run.space == "taesd"


def test_the_diffusion_model_is_brought_back_after_the_vae(sample, demo, loud, monkeypatch):
    """On a small card the VAE pushes the model out; here there is no card, so it is asked for by name."""
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


def test_the_host_tiles_where_memory_is_short(sample, demo, loud, monkeypatch):
    """Out of memory once a decode: the host's own fallback to tiles serves us, too."""
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


def test_a_vae_that_does_not_fit_gets_one_sentence_before_anything_is_sampled(sample, demo, hands, run_node):
    for where in ({"space": "vae"},):
        with pytest.raises(ValueError, match=r"^Detection in space vae needs a VAE: connect .*\.$"):
            sample(demo.model, where)
        with pytest.raises(ValueError, match=r"VAE for latents with 3 channels, but this model's have 4: .*\.$"):
            sample(demo.model, {**where, "vae": hands.vae})
    with pytest.raises(ValueError, match=r"^Correction in pixel space needs a VAE"):
        sample(demo.model, {}, {"space": "pixel", "gamma": 0.2})
    with pytest.raises(ValueError, match="3 channels"):
        sample(demo.model, {}, {"space": "pixel", "gamma": 0.2, "vae": hands.vae})
    with pytest.raises(ValueError, match="Mode paper watches the model's own state"):
        sample(demo.model, {"mode": "paper", "space": "rgb"})
    assert sample(demo.model)[0]["samples"].isfinite().all()  # and the next run is well


def test_a_space_that_the_model_has_not_leaves_the_image_and_says_so(sample, demo, loud, monkeypatch):
    stock = sample(loud, None)["samples"]
    latent_format = demo.model.get_model_object("latent_format")
    monkeypatch.setattr(latent_format, "taesd_decoder_name", "not_installed")
    monkeypatch.setattr(latent_format, "latent_rgb_factors", None)
    for space, words in (("taesd", "models/vae_approx/not_installed"), ("rgb", "no known colours")):
        latent, mask, report = sample(loud, {"space": space})
        assert report.summary().startswith("Not watched") and words in report.summary()
        assert torch.equal(latent["samples"], stock) and not mask.any()
    assert sample(loud, {"space": "auto"})[2].run.space == "latent"


@pytest.mark.parametrize(
    "shape", [(64, 64), (1, 64, 64), (2, 64, 64), (16, 16), (2, 16, 16), (1, 1, 64, 64), (128, 128)]
)
def test_protect_and_only_here_take_masks_of_every_accepted_shape(sample, loud, shape):
    left = torch.zeros(shape)
    left[..., : shape[-1] * 7 // 16] = 1  # the artifact lies in columns 5 to 9 of 16
    stock = sample(loud, None)["samples"]
    for name, kept in (("protect", np.s_[..., :7]), ("only_here", np.s_[..., 7:])):
        latent, _, report = sample(loud, {name: left, "min_width": 8, "min_area": 300}, steps=12)
        assert report.images[0].corrected, name
        state = report.masks[0][:, kept[-1]]
        assert not state.any(), name
        assert not torch.equal(latent["samples"], stock)


def test_both_masks_together_at_two_sizes(sample, loud):
    """Only the upper half of one image, but for its left part: what is left holds a part of the artifact."""
    only, protect = torch.zeros(2, 16, 16), torch.zeros(64, 64)
    only[0, :8] = 1
    protect[:, :27] = 1  # ends inside of cell 6
    report = sample(loud, {"only_here": only, "protect": protect, "min_width": 8, "min_area": 300})[2]
    assert [image.corrected for image in report.images] == [True, False]
    assert not report.masks[0][8:].any() and not report.masks[0][:, :7].any()


def test_all_of_it_protected_is_bit_identical_to_stock(sample, loud):
    latent, mask, report = sample(loud, {"protect": torch.ones(64, 64)})
    assert torch.equal(latent["samples"], sample(loud, None)["samples"])
    assert not mask.any() and report.summary().startswith("Clean")


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.ones(3, 64, 64), "3 masks but the run has 2 images"),
        (torch.ones(64, 256), "same proportions"),
        (torch.ones(64), r"\[H,W\] or \[B,H,W\]"),
        (torch.ones(0, 64, 64), r"\[H,W\] or \[B,H,W\]"),
    ],
)
def test_a_mask_that_does_not_fit_gets_one_sentence(sample, loud, mask, words):
    for name in ("protect", "only_here"):
        with pytest.raises(ValueError, match=words) as error:
            sample(loud, {name: mask})
        assert name in str(error.value) and "\n" not in str(error.value)


def test_every_round_costs_one_call_and_keeps_what_is_clean(sample, loud):
    stock = sample(loud, None, steps=25)["samples"]
    latent, _, report = sample(loud, {}, {"rounds": 2, "last_percent": 0.7}, steps=25)
    assert report.run.extra_model_calls == len(report.corrected_steps) >= 1
    kept = [i for i, image in enumerate(report.images) if not image.corrected]
    assert torch.equal(latent["samples"][kept], stock[kept]) and report.images[0].corrected
    assert report.corrected_steps[0] == report.decision


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_ancestral", "heun", "uni_pc"])
def test_a_second_artifact_is_corrected_in_the_second_round(sample, demo, sampler):
    """One square appears in image 0 inside the window, another one in image 1 behind T_c."""
    model = with_artifact(demo.model, strength=2.5, size=0.25, alike=True)
    model = with_artifact(model, images=(1,), strength=2.5, size=0.25, alike=True, onset=0.6)
    options = {"steps": 25, "sampler_name": sampler, "batch": 3}
    stock = sample(model, None, **options)["samples"]
    latent, _, report = sample(model, {}, {"rounds": 2, "last_percent": 0.75}, **options)
    assert [image.corrected for image in report.images] == [True, True, False]
    assert len(report.corrected_steps) == 2 and report.run.extra_model_calls == 2
    assert torch.equal(latent["samples"][2], stock[2])
    assert "at step " in report.summary() and " and " in report.summary()
    assert latent["samples"].isfinite().all()


def test_a_video_is_watched_frame_by_frame(pack, host, run_node, tmp_path):
    """Wan 2.1 through the host's own loader, random weights: 9 latent frames, the square in some of them."""
    from .families import FAMILIES, load_family

    family = FAMILIES["Wan 2.1 video, flow"]
    model = with_artifact(load_family("Wan 2.1 video, flow", tmp_path), images=(1,), strength=12.0)
    latent = {"samples": torch.zeros(2, 16, 9, 16, 16)}
    common = (5, 12, 2.0, "euler", "simple", family.conditioning(), family.conditioning(1), latent)
    stock = host.common_ksampler(model, *common)[0]["samples"]
    names = ("seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image")
    for smooth in (0.0, 1.0):
        detection = run_node("ASCED_Detection", **STRICT, smooth_frames=smooth)[0]
        out, mask, report = run_node(
            "ASCED_KSampler", model=model, denoise=1.0, detection=detection, **dict(zip(names, common, strict=True))
        )
        assert report.run.frames == 9 and len(report.images) == 18 and mask.shape == (18, 128, 128)
        assert [image.corrected for image in report.images] == [False] * 9 + [True] * 9
        assert torch.equal(out["samples"][0], stock[0]) and not torch.equal(out["samples"][1], stock[1])
        decoded = torch.zeros(
            2 * 33, 128, 128, 3
        )  # as its VAE would give it: four frames to a latent one, but for the first
        shown = run_node("ASCED_MaskPreview", report=report, image=decoded)[1]
        assert shown.shape == (66, 128, 128) and not shown[:33].any() and shown[33:].flatten(1).any(1).all()
        assert run_node("ASCED_Overlay", report=report, image=decoded, opacity=0.4)[0].shape[0] == 66


def test_a_tile_loop_gives_one_stitched_report(sample, demo, loud, run_node, host):
    """Four tiles, four runs by one patched model, put together as a tile upscaler does."""
    detection = run_node("ASCED_Detection", **STRICT)[0]
    model, run = run_node("ASCED_ApplyToModel", model=loud, detection=detection)
    whole = torch.zeros(1, 128, 120, 3)
    corners = [(0, 0), (0, 56), (64, 0), (64, 56)]
    for seed, (top, left) in enumerate(corners):
        tile = sample(model, None, batch=1, seed=seed)
        whole[:, top : top + 64, left : left + 64] = demo.vae.decode(tile["samples"])
    mask, report = run_node("ASCED_StitchRuns", image=whole, run=run, vae=demo.vae)
    assert mask.shape == (1, 128, 120) and "4 tiles" in report.summary()
    assert len(report.images) == 1 and len(report.images[0].regions) == 4 and report.images[0].corrected
    places = sorted((r.box[1] // 64, r.box[0] // 56) for r in report.images[0].regions)
    assert places == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert run_node("ASCED_Overlay", report=report, image=whole, opacity=0.4)[1].shape == (1, 128, 120)
    with pytest.raises(ValueError, match="None of the 4 tiles of this RUN is part of this IMAGE"):
        run_node("ASCED_StitchRuns", image=torch.rand(1, 128, 120, 3), run=run, vae=demo.vae)


def test_hires_fix_watches_each_pass_in_its_own_window(sample, demo, run_node, core_node):
    first, _, low = sample(demo.model, {"threshold": 3.0}, steps=16)
    (bigger,) = core_node("LatentUpscaleBy", samples=first, upscale_method="bislerp", scale_by=1.5)
    second, mask, high = sample(demo.model, {"threshold": 3.0}, steps=16, denoise=0.5, latent=bigger)
    assert low.decision_sigma > high.decision_sigma and low.notes == () and len(high.notes) == 1
    assert second["samples"].shape[-1] == 24 and mask.shape[-1] == 96
    assert high.window[1] > high.window[0]


def test_the_mask_serves_as_noise_mask_and_in_the_hosts_mask_nodes(sample, demo, loud, run_node, core_node):
    latent, _, report = sample(loud, {})
    image = demo.vae.decode(latent["samples"])
    picture, mask = run_node("ASCED_MaskPreview", report=report, image=image, grow=3, feather=4, min_score=0.0)
    assert mask.shape == (2, 64, 64) and picture.shape == (2, 64, 64, 3)
    assert 0 < mask.max() <= 1 and ((mask > 0) & (mask < 1)).any()
    (masked,) = core_node("SetLatentNoiseMask", samples=latent, mask=mask)
    redone = sample(demo.model, None, latent=masked, denoise=0.6)["samples"]
    still = torch.nn.functional.max_pool2d(mask, 4) == 0
    still = torch.nn.functional.max_pool2d((~still).float(), 3, 1, 1) == 0  # the host smooths the mask's edge
    moved = (redone - latent["samples"]).abs().amax(1)
    assert moved[still].max() < 1e-4 and moved[0].max() > 0.05 and moved[1].max() < 1e-4
    for node, inputs in (
        ("GrowMask", {"mask": mask, "expand": 2, "tapered_corners": True}),
        ("InvertMask", {"mask": mask}),
        ("MaskToImage", {"mask": mask}),
        (
            "ImageCompositeMasked",
            {"destination": image, "source": 1 - image, "x": 0, "y": 0, "resize_source": False, "mask": mask},
        ),
    ):
        assert core_node(node, **inputs)[0].isfinite().all()
    (filled,) = core_node("VAEEncodeForInpaint", vae=demo.vae, pixels=image, mask=mask, grow_mask_by=6)
    assert filled["noise_mask"].shape[-2:] == (64, 64)


def test_weak_regions_can_be_left_out_of_the_mask(sample, demo, loud, run_node):
    _, _, report = sample(loud, {"threshold": 2.0, "min_area": 50, "min_width": 0}, {"method": "none"}, steps=20)
    scores = sorted({r.score for image in report.images for r in image.regions})
    assert len(scores) > 1
    whole = run_node("ASCED_MaskPreview", report=report)[1]
    strong = run_node("ASCED_MaskPreview", report=report, min_score=scores[-1])[1]
    assert whole.sum() > strong.sum() > 0
    assert not (strong > whole).any()
    assert not run_node("ASCED_MaskPreview", report=report, min_score=100.0)[1].any()
