"""Inputs in a form that ComfyUI's own nodes take: gray images, index tensors, gradients, an unused negative."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from .models import with_artifact


@pytest.fixture
def found(hands, corrected, settings):
    """A run of two images, the first of which has an artifact."""
    samples, _, report = corrected(with_artifact(hands.eps), settings=settings)
    return SimpleNamespace(samples=samples, report=report, images=hands.vae.decode(samples))


def _execute(pack, node_id, **inputs):
    cls = pack[node_id]
    cls.hidden = SimpleNamespace(unique_id="1", prompt=None, extra_pnginfo=None)
    return cls.execute(**inputs)


@pytest.fixture
def everywhere(pack, found, tmp_path):
    """Every node that takes an IMAGE, on the same images; the pictures that come out."""
    import folder_paths

    class Network(torch.nn.Module):
        def forward(self, x):
            return (x[0, 0] > 0).long()

    torch.jit.script(Network()).save(str(tmp_path / "net.pt"))

    def run(image, monkeypatch):
        monkeypatch.setattr("asced.nodes.nodes_baselines.find_file", lambda _: tmp_path / "net.pt")
        asked = []
        ask = lambda judge, picture, question: asked.append(picture) or (False, "no")  # noqa: E731
        monkeypatch.setattr("asced.nodes.nodes_baselines.Judge.ask", ask)
        saved = _execute(pack, "ASCED_SaveReport", image=image, report=found.report, filename_prefix="form").ui[
            "images"
        ]
        files = [f"{folder_paths.get_output_directory()}/{one['filename']}" for one in saved]
        preview = _execute(pack, "ASCED_MaskPreview", report=found.report, image=image)
        _execute(pack, "ASCED_VLMVerdict", image=image, endpoint="http://127.0.0.1:1/v1", model="m", paper_question=5,
                 custom_question="", timeout=1.0)  # fmt: skip
        return [
            _execute(pack, "ASCED_Overlay", report=found.report, image=image, opacity=0.5).args[0],
            _execute(pack, "ASCED_Compare", before=image, after=image, report=found.report).args[0],
            _execute(pack, "ASCED_PALDetector", file="net.pt", image=image).args[1],
            preview.args[0],
            torch.from_numpy(np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])),
            torch.from_numpy(np.stack(asked)),
        ]

    return run


@pytest.mark.parametrize("channels", [1, 2])
def test_a_gray_image_stopped_the_view(found, everywhere, monkeypatch, channels):
    """[B,H,W,1], as Mask to Image of some packs makes it, and gray with alpha."""
    gray = found.images.mean(-1, keepdim=True)
    alpha = torch.rand(*gray.shape[:3], channels - 1, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(
        everywhere(torch.cat([gray, alpha], -1), monkeypatch), everywhere(gray.repeat(1, 1, 1, 3), monkeypatch),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(2, 32, 32, 5), (32, 32, 3), (2, 32, 32, 0)])
def test_another_form_gets_one_sentence(found, pack, shape):
    for node, inputs in (
        ("ASCED_Overlay", {"report": found.report, "image": torch.zeros(shape), "opacity": 0.5}),
        ("ASCED_Compare", {"before": torch.zeros(shape), "after": torch.zeros(shape)}),
        ("ASCED_SaveReport", {"report": found.report, "image": torch.zeros(shape), "filename_prefix": "x"}),
    ):
        with pytest.raises(ValueError) as error:
            _execute(pack, node, **inputs)
        assert "\n" not in str(error.value) and ("connect an IMAGE [B,H,W,C]" in str(error.value) or len(shape) == 3)


def test_an_image_with_alpha_keeps_it_in_the_file(found, pack):
    import folder_paths

    alpha = torch.cat([found.images, found.images[..., :1]], -1)
    saved = _execute(pack, "ASCED_SaveReport", image=alpha, report=found.report, filename_prefix="alpha").ui["images"]
    with Image.open(f"{folder_paths.get_output_directory()}/{saved[0]['filename']}") as picture:
        assert picture.mode == "RGBA"


# ------------------------------------------------------------------------------------------------ batch_index


@pytest.mark.parametrize(
    "index", [torch.tensor([4, 7]), np.array([4, 7]), (4, 7), [torch.tensor(4), torch.tensor(7)]],
    ids=["tensor", "numpy", "tuple", "list of tensors"],
)  # fmt: skip
def test_noise_indices_as_a_tensor_stopped_the_sampler(hands, corrected, stock, latent, settings, run_node, index):
    model = with_artifact(hands.eps)
    plain = corrected(model, latent=latent(2, batch_index=[4, 7]), settings=settings)
    given = latent(2, batch_index=index)
    samples, _, report = corrected(model, latent=given, settings=settings)
    assert torch.equal(samples, plain[0]) and report.images[0].corrected
    assert torch.equal(samples[1], stock(model, latent=given)[1])
    best = run_node("ASCED_BestOfBatch", samples={"samples": samples, "batch_index": index}, report=report, count=1)[0]
    assert best["batch_index"] == [7]


def test_one_noise_index_without_a_dimension(hands, corrected, latent, settings, run_node):
    samples, _, report = corrected(with_artifact(hands.eps), latent=latent(1, batch_index=[4]), settings=settings)
    given = {"samples": samples, "batch_index": torch.tensor(4)}
    assert run_node("ASCED_Gate", samples=given, report=report, drop_worst_percent=0.0)[0]["batch_index"] == [4]


# -------------------------------------------------------------------------------------------- gradients, cfg 1


def test_outside_of_inference_mode_a_gradient_stopped_the_sampler(core_node, run_node, detection):
    import comfy.k_diffusion.sampling as k_sampling
    import comfy.samplers

    def sample_open(model, x, sigmas, extra_args=None, callback=None, disable=None):
        with torch.enable_grad():  # as a sampler without no_grad
            return k_sampling.sample_euler.__wrapped__(model, x, sigmas, extra_args, callback, disable)

    with torch.inference_mode(False), torch.enable_grad():
        model, _, positive, negative = run_node("ASCED_DemoModel", digit="each in turn")
        model.model.diffusion_model.requires_grad_(True)
        guider = comfy.samplers.CFGGuider(with_artifact(model))
        guider.set_conds(positive, negative)
        sampler = comfy.samplers.KSAMPLER(sample_open)
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 12)
        (noise,) = core_node("RandomNoise", noise_seed=3)
        given = {"samples": torch.zeros(2, 3, 32, 32)}
        out, _, mask, report, _ = run_node(
            "ASCED_SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas,
            latent_image=given, detection=detection(),
        )  # fmt: skip
        assert out["samples"].requires_grad and report.images[0].corrected and mask.any()
        image = torch.rand(2, 32, 32, 3, requires_grad=True)
        assert run_node("ASCED_Overlay", report=report, image=image, opacity=0.5)[0].isfinite().all()
        assert run_node("ASCED_Compare", before=image, after=image)[0].isfinite().all()


def test_an_empty_negative_stopped_the_sampler_at_cfg_1(hands, host, latent, run_node):
    """ComfyUI does not use it there."""
    given = {"steps": 12, "sampler_name": "euler", "scheduler": "normal", "positive": hands.positive, "negative": []}
    (expected,) = host.common_ksampler(
        hands.eps, 3, 12, 1.0, "euler", "normal", hands.positive, hands.negative, latent(2), denoise=1.0
    )
    blind = run_node("ASCED_Detection", threshold=20.0)[0]
    for node, more in (
        ("ASCED_KSampler", {"seed": 3, "denoise": 1.0}),
        ("ASCED_KSamplerAdvanced", {"noise_seed": 3, "add_noise": "enable", "start_at_step": 0, "end_at_step": 10000,
                                    "return_with_leftover_noise": "disable"}),
    ):  # fmt: skip
        options = {**given, **more, "model": hands.eps, "latent_image": latent(2), "detection": blind}
        assert torch.equal(run_node(node, cfg=1.0, **options)[0]["samples"], expected["samples"])
        with pytest.raises(ValueError, match="The negative conditioning is empty: connect a CLIP Text Encode"):
            run_node(node, cfg=2.0, **options)
        with pytest.raises(ValueError, match="The positive conditioning is empty"):
            run_node(node, cfg=1.0, **{**options, "positive": []})


def test_bayesdiff_takes_an_empty_negative_at_cfg_1(hands, latent, run_node):
    given = {
        "model": hands.eps, "seed": 3, "steps": 4, "cfg": 1.0, "scheduler": "normal", "positive": hands.positive,
        "latent_image": latent(1), "posterior": "fit on the images", "step_interval": 2, "draws": 2, "save_as": "",
        "images": torch.rand(2, 32, 32, 1, generator=torch.Generator().manual_seed(0)), "vae": hands.vae,
    }  # fmt: skip
    empty, full = (run_node("ASCED_BayesDiff", negative=one, **given) for one in ([], hands.negative))
    assert torch.equal(empty[0]["samples"], full[0]["samples"]) and torch.equal(empty[2], full[2])
