"""Video with audio: ComfyUI packs such latents flat during sampling."""

from __future__ import annotations

import logging

import pytest
import torch


class _FlatNet(torch.nn.Module):
    """A mock that takes packed latents: the ComfyUI versions tested here have no model of audio and video."""

    def __init__(self, **_):
        super().__init__()
        self.dtype = torch.float32

    def forward(self, x, timesteps, **_):
        return torch.tanh(x) * 0.9


@pytest.fixture
def audio_and_video(hands):
    """A ModelPatcher for nested latents, and such a latent: video [B,4,2,8,8] with audio [B,2,20]."""
    nested = pytest.importorskip("comfy.nested_tensor", reason="this ComfyUI has no nested latents")
    import comfy.latent_formats
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models_base

    class Config(comfy.supported_models_base.BASE):
        unet_config = {"in_channels": 4}  # noqa: RUF012 - as in ComfyUI
        unet_extra_config = {}  # noqa: RUF012
        latent_format = comfy.latent_formats.LatentFormat
        memory_usage_factor = 1.0

    base = comfy.model_base.BaseModel(Config({"in_channels": 4}), unet_model=_FlatNet)
    model = comfy.model_patcher.ModelPatcher(base, hands.eps.load_device, hands.eps.offload_device)
    return model, {"samples": nested.NestedTensor([torch.zeros(1, 4, 2, 8, 8), torch.zeros(1, 2, 20)])}


def test_nested_audio_and_video_latents_pass_through_with_one_warning(audio_and_video, host, hands, run_node, caplog):
    """These latents broke patches elsewhere (RES4LYF#234)."""
    model, latent = audio_and_video
    widgets = (3, 12, 1.0, "euler", "normal", hands.positive, hands.negative, latent)
    (stock,) = host.common_ksampler(model, *widgets)
    names = ("seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image")
    with caplog.at_level(logging.WARNING):
        out, mask, report, *_ = run_node(
            "ASCED_KSampler", model=model, denoise=1.0, **dict(zip(names, widgets, strict=True))
        )
    for ours, theirs in zip(out["samples"].unbind(), stock["samples"].unbind(), strict=True):
        assert torch.equal(ours, theirs)
    assert "packed" in report.summary() and not mask.any()
    assert [record.getMessage() for record in caplog.records if record.name == "ASCED"] == [report.summary()]


def test_the_report_of_a_nested_run_is_found_again(audio_and_video, host, hands, run_node):
    model, latent = audio_and_video
    patched, run = run_node("ASCED_ApplyToModel", model=model)
    (sampled,) = host.common_ksampler(patched, 3, 12, 1.0, "euler", "normal", hands.positive, hands.negative, latent)
    given_back, _, report, *_ = run_node("ASCED_CollectRun", samples=sampled, run=run)
    assert given_back is sampled and report.summary().startswith("Not watched")
