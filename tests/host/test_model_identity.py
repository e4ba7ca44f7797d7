"""A calibration knows the checkpoint and the space that it was learned on."""

from __future__ import annotations

import copy

import pytest
import torch

from .models import as_flow, tiny_unet

ENDING = ".calibration.safetensors"


@pytest.fixture
def identity(pack):
    import comfy.model_management
    from asced.nodes.sampling.model_identity import model_identity

    comfy.model_management.unload_all_models()  # an earlier test may have left a LoRA in the weights
    return model_identity


def _copied(patcher, change):
    """A ModelPatcher with changed copies of the network's weights."""
    import comfy.model_patcher

    model = copy.copy(patcher.model)
    model._modules = dict(patcher.model._modules)
    model.diffusion_model = copy.deepcopy(patcher.model.diffusion_model)
    change(model.diffusion_model)
    return comfy.model_patcher.ModelPatcher(model, patcher.load_device, patcher.offload_device)


def _norm_of(patcher):
    return next(name for name, weight in patcher.model.diffusion_model.named_parameters() if weight.ndim == 1)


def test_each_checkpoint_has_its_own_name(hands, demo, identity):
    names = [identity(model) for model in (hands.eps, demo.model, tiny_unet(hands.eps))]
    assert len(set(names)) == 3 and all(len(name) < 40 for name in names)
    assert identity(hands.eps) == identity(hands.eps.clone()) == identity(as_flow(hands.eps))
    assert names[0].split()[0] == type(hands.eps.model).__name__


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_copy_in_another_precision_has_the_same_name(hands, identity, dtype):
    assert identity(_copied(hands.eps, lambda network: network.to(dtype))) == identity(hands.eps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_a_coarse_copy_has_a_name_too(hands, identity, dtype):
    def cast(network):
        for weight in network.parameters():
            weight.data = weight.data.to(dtype)

    name = identity(_copied(hands.eps, cast))
    assert name != identity(hands.eps) and name == identity(_copied(hands.eps, cast))


def test_weights_without_values_are_left_out(hands, identity):
    name = type(hands.eps.model).__name__
    assert identity(_copied(hands.eps, lambda network: network.to("meta"))) == name
    assert identity(_copied(hands.eps, lambda network: network._modules.clear())) == name


def test_a_lora_does_not_change_the_name(hands, identity):
    """Even one that reaches the weights that are read: ComfyUI keeps the original while it is loaded."""
    import comfy.model_management

    patched = hands.eps.clone()
    key = f"diffusion_model.{_norm_of(hands.eps)}"
    weight = patched.model.state_dict()[key]
    assert patched.add_patches({key: (torch.full_like(weight, 3.0),)}, 1.0) == [key]
    plain = identity(hands.eps)
    try:
        comfy.model_management.load_models_gpu([patched])
        assert key in patched.backup and identity(patched) == plain
    finally:
        patched.unpatch_model()
    assert identity(hands.eps) == plain


def test_networks_are_walked_as_torch_walks_them(hands):
    """The names of models in calibrations and taught detectors depend on the order."""
    from asced.nodes.sampling.module_walk import modules, vectors

    network = copy.deepcopy(hands.eps.model.diffusion_model)
    network.again, network.none = next(network.children()), None  # a shared module, and one that is missing
    network.bias_again = next(weight for weight in network.parameters() if weight.ndim == 1)
    named = [(name, id(weight)) for name, weight in network.named_parameters() if weight.ndim == 1]
    assert [(name, id(weight)) for name, weight in vectors(network)] == named
    assert set(modules(network)) == set(network.modules())
    assert len(list(modules(network))) == len(list(network.modules()))


def test_the_name_does_not_touch_the_model(hands, stock, identity):
    before = stock()
    identity(hands.eps)
    assert torch.equal(stock(), before)


# ------------------------------------------------------------------------------------------- in a calibration


def _run(run_node, host_model, given, detection):
    """The report of a run with a DETECTION; nothing is corrected."""
    return run_node(
        "ASCED_KSampler", model=host_model.model, seed=1, steps=12, cfg=2.0, sampler_name="euler", scheduler="normal",
        positive=host_model.positive, negative=host_model.negative, latent_image={"samples": given}, denoise=1.0,
        detection=detection, correction=run_node("ASCED_Correction", method="none")[0],
    )[2]  # fmt: skip


@pytest.fixture
def pixels(demo_hands):
    from types import SimpleNamespace

    return SimpleNamespace(model=demo_hands.eps, positive=demo_hands.positive, negative=demo_hands.negative)


def test_the_file_of_the_latent_demo_was_used_on_the_pixel_model(run_node, pixels, demo):
    latent = run_node("ASCED_Detection", mode="strict", threshold=3.0, calibration=f"ASCED demo hands, latent{ENDING}")[
        0
    ]
    note = "The calibration was made with another model ("
    summary = _run(run_node, pixels, torch.zeros(2, 3, 32, 32), latent).summary()
    assert note in summary and "so its threshold may not hold here." in summary
    assert note not in _run(run_node, demo, torch.zeros(2, 4, 16, 16), latent).summary()
    pixel = run_node("ASCED_Detection", mode="strict", threshold=3.0, calibration=f"ASCED demo hands{ENDING}")[0]
    assert "calibration" not in _run(run_node, pixels, torch.zeros(2, 3, 32, 32), pixel).summary()
    assert note in _run(run_node, demo, torch.zeros(2, 4, 16, 16), pixel).summary()


def test_it_was_learned_in_one_space_and_used_in_another(run_node, demo, asced_models, monkeypatch):
    """With space auto, a decoder that is installed later changes what is looked at."""
    import asced.nodes.sampling.spaces as spaces

    given, learning = torch.zeros(4, 4, 16, 16), run_node("ASCED_Detection", threshold=0.1)[0]
    learned = _run(run_node, demo, given, learning)
    assert learned.run.space == "latent"
    run_node("ASCED_Calibrate", report=learned, name="hands", start_over=False)
    looking = run_node("ASCED_Detection", threshold=3.0, calibration=f"hands{ENDING}", marked_percent=50.0)[0]
    assert "The calibration" not in _run(run_node, demo, given, looking).summary()
    monkeypatch.setattr(spaces, "AUTO_SHARE", 1e9)  # any decoder is cheap enough
    assert (
        "The calibration was made in space latent, but this run was watched in space taesd, so its threshold may not"
        in _run(run_node, demo, given, looking).summary()
    )
    other = _run(run_node, demo, given, learning)
    assert other.run.space == "taesd"
    with pytest.raises(
        ValueError, match=r"runs of another model or space \(space latent instead of taesd\): use anoth"
    ):
        run_node("ASCED_Calibrate", report=other, name="hands", start_over=False)
    with pytest.raises(ValueError, match=r"other settings than ASCED Detection \(space latent instead of rgb\)"):
        run_node("ASCED_Detection", threshold=3.0, calibration=f"hands{ENDING}", marked_percent=50.0, space="rgb")


def test_runs_of_two_checkpoints_went_into_one_file(run_node, demo, pixels, asced_models):
    learning = run_node("ASCED_Detection", threshold=0.1)[0]
    for one, given in ((pixels, torch.zeros(2, 3, 32, 32)), (demo, torch.zeros(2, 4, 16, 16))):
        report = _run(run_node, one, given, learning)
        if one is pixels:
            run_node("ASCED_Calibrate", report=report, name="hands", start_over=False)
    with pytest.raises(
        ValueError, match=r"another model or space \(model \w+ \w+ instead of \w+ \w+\): use another name"
    ):
        run_node("ASCED_Calibrate", report=report, name="hands", start_over=False)


def test_every_report_names_the_model(run_node, hands, corrected, stock, identity):
    name = identity(hands.eps)
    assert corrected()[2].run.model == corrected(steps=2)[2].run.model == name
    assert corrected(sampler="dpm_adaptive")[2].run.model == corrected(denoise=0.0)[2].run.model == name
    patched, run = run_node("ASCED_ApplyToModel", model=hands.eps)
    assert run_node("ASCED_CollectRun", samples={"samples": stock(patched)}, run=run)[2].run.model == name
