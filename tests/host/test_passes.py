"""More than one image in one pass: videos, second passes, tiled upscaling."""

from __future__ import annotations

import pytest
import torch

from .conftest import STRICT
from .models import with_artifact


def test_a_video_is_watched_frame_by_frame(pack, host, run_node, tmp_path):
    """Wan 2.1 through ComfyUI's own loader, random weights: 9 latent frames, the square in some of them."""
    from .families import FAMILIES, load_family

    family = FAMILIES["Wan 2.1 video, flow"]
    model = with_artifact(load_family("Wan 2.1 video, flow", tmp_path), images=(1,), strength=12.0)
    latent = {"samples": torch.zeros(2, 16, 9, 16, 16)}
    common = (5, 12, 2.0, "euler", "simple", family.conditioning(), family.conditioning(1), latent)
    stock = host.common_ksampler(model, *common)[0]["samples"]
    names = ("seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image")
    for smooth in (0.0, 1.0):
        detection = run_node("ASCED_Detection", **STRICT, smooth_frames=smooth)[0]
        out, mask, report, *_ = run_node(
            "ASCED_KSampler", model=model, denoise=1.0, detection=detection, **dict(zip(names, common, strict=True))
        )
        assert report.run.frames == 9 and len(report.images) == 18 and mask.shape == (18, 128, 128)
        assert [image.corrected for image in report.images] == [False] * 9 + [True] * 9
        assert torch.equal(out["samples"][0], stock[0]) and not torch.equal(out["samples"][1], stock[1])
        decoded = torch.zeros(
            2 * 33, 128, 128, 3
        )  # as its VAE would return it: four frames per latent frame, except the first
        shown = run_node("ASCED_MaskPreview", report=report, image=decoded)[1]
        assert shown.shape == (66, 128, 128) and not shown[:33].any() and shown[33:].flatten(1).any(1).all()
        assert run_node("ASCED_Overlay", report=report, image=decoded, opacity=0.4)[0].shape[0] == 66


def test_a_tiled_upscale_gets_one_stitched_report(sample, demo, loud, run_node, host):
    """Four tiles, four runs of one patched model, merged as a tiled upscaler does."""
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


def test_hires_fix_watches_each_pass_in_its_own_window(sample, demo, core_node):
    first, _, low = sample(demo.model, {"threshold": 2.25}, steps=16)
    (bigger,) = core_node("LatentUpscaleBy", samples=first, upscale_method="bislerp", scale_by=1.5)
    second, mask, high = sample(demo.model, {"threshold": 2.25}, steps=16, denoise=0.5, latent=bigger)
    assert low.decision_sigma > high.decision_sigma and low.notes == () and len(high.notes) == 1
    assert second["samples"].shape[-1] == 24 and mask.shape[-1] == 96
    assert high.window[1] > high.window[0]
