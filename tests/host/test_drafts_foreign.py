"""Drafts with patches of other packs: what is not safe is not done, and the run says so."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from .drafts import MODES, around, computed, counted, row_by_row, same
from .models import text, tiny_unet
from .patches import Averaging, Skipping, caching_by_level, counting, drawing, on_the_network, smoothing, wrapping
from .randomness import seed_all, states

ALL = "computed to the end"


def _node(core_node, node, **widgets):
    return lambda model: core_node(node, model=model, **widgets)[0]


def _pre_cfg(model):
    model = model.clone()
    model.set_model_sampler_pre_cfg_function(lambda args: [out * 0.99 for out in args["conds_out"]])
    return model


def _cfg(model):
    model = model.clone()
    model.set_model_sampler_cfg_function(
        lambda args: args["uncond"] + (args["cond"] - args["uncond"]) * args["cond_scale"] * 0.9
    )
    return model


def _sized(run, args):
    """Knows the size of the batch, of four images or of one alone."""
    scales = {8: torch.linspace(0.9, 1, 4).repeat(2), 2: torch.linspace(0.9, 1, 4)[:1].repeat(2)}[len(args["input"])]
    return run(args["input"]) * scales.view(-1, 1, 1, 1).to(args["input"])


def _mean(run, args):
    out = run(args["input"])
    return out + 0.1 * out.mean(0, keepdim=True)


HARMLESS = {  # each makes a fresh patch
    "model_function_wrapper": lambda: wrapping(lambda run, args: run(args["input"]) * 0.99),
    "in place": lambda: wrapping(lambda run, args: run(args["input"]).mul_(1.02)),
    "size of the batch": lambda: wrapping(_sized),
    "pre-CFG": lambda: _pre_cfg,
    "post-CFG": lambda: lambda model: _post(model, lambda args: args["denoised"].clamp(-2, 2)),
    "cfg_function": lambda: _cfg,
    "smoothing": smoothing,
    "counter in an attribute": lambda: counting("attribute"),
    "counter in a closure": lambda: counting("closure"),
    "counter on the network": on_the_network,
    "own torch noise": lambda: drawing("own torch"),
}


def _post(model, function):
    model = model.clone()
    model.set_model_sampler_post_cfg_function(function)
    return model


@pytest.mark.parametrize("name", HARMLESS)
def test_a_patch_that_treats_images_one_by_one_leaves_drafts_cheap(drafted, hands, name):
    rows: Counter[int] = Counter()
    whole, _, _ = drafted(HARMLESS[name]()(row_by_row(hands.eps)), keep=4)
    model = HARMLESS[name]()(counted(row_by_row(hands.eps), rows))
    picked, report, places = drafted(model, keep=1)
    assert same(picked, whole, places)
    assert ALL not in report.summary()
    assert computed(rows) == 2 * (3 * 4 + 5 + 1)  # the added call is the check


@pytest.mark.parametrize("name", HARMLESS)
def test_one_after_another_each_draft_meets_the_patch_as_it_was_at_its_start(drafted, hands, name):
    rows: Counter[int] = Counter()
    alone, _, _ = drafted(HARMLESS[name]()(row_by_row(hands.eps)), keep=1, drafts=1)
    model = HARMLESS[name]()(counted(row_by_row(hands.eps), rows))
    picked, _, places = drafted(model, keep=4, also_finish="1", at_once="one")
    assert places == [0, 1, 2, 3]
    assert torch.equal(picked[:1], alone)
    assert computed(rows) == 2 * 4 * 8  # none is computed twice


def _in_the_network(model):
    """Holds something for each row of the batch that it was made for, where the network computes."""
    for_each = torch.linspace(0, 0.1, 8).view(-1, 1, 1)
    model = model.clone()
    model.set_model_attn1_output_patch(lambda x, extra_options: x + for_each.to(x))
    return model


@pytest.mark.parametrize("name", ["mean of the batch", "row of the batch"])
def test_a_patch_that_needs_the_whole_batch_gets_it(drafted, hands, name):
    model = row_by_row(hands.eps) if name == "mean of the batch" else tiny_unet(hands.eps)
    patch = wrapping(_mean) if name == "mean of the batch" else _in_the_network
    given = {} if name == "mean of the batch" else {"positive": text(), "negative": text(seed=1)}
    seed_all()
    whole, _, _ = drafted(patch(model), keep=4, **given)
    after = states()
    seed_all()
    picked, report, places = drafted(patch(model), **given)
    assert torch.equal(picked, whole[places])
    assert ALL in report.summary()
    assert states() == after


def _rounded(model):
    """The model in half precision: the size of the batch changes the last bits of its answers, as on a GPU."""

    def network(net, x, t, *args, **kwargs):
        out = net(x.float(), t, *args, **kwargs)
        bits = torch.randn(out.shape, generator=torch.Generator().manual_seed(len(x))).to(out)
        return out * (1 + 2**-8 * bits)

    rounded = around(model, network)
    rounded.model.diffusion_model.dtype = torch.bfloat16
    return rounded


def test_rounding_in_half_precision_is_not_taken_for_a_dependence(drafted, hands):
    plain, mean = wrapping(lambda run, args: run(args["input"])), wrapping(_mean)
    for decide_at in (0.05, 0.28, 0.6):
        assert ALL not in drafted(plain(_rounded(hands.eps)), decide_at=decide_at)[1].summary()
        assert ALL in drafted(mean(_rounded(hands.eps)), decide_at=decide_at)[1].summary()


NODES = {
    "Mahiro": {},
    "APG": {"eta": 1.0, "norm_threshold": 5.0, "momentum": 0.0},
    "APG with momentum": {"eta": 1.0, "norm_threshold": 5.0, "momentum": -0.5},
    "RescaleCFG": {"multiplier": 0.7},
    "TCFG": {},
    "EasyCache": {"reuse_threshold": 0.3, "start_percent": 0.15, "end_percent": 0.95, "verbose": False},
    "LazyCache": {"reuse_threshold": 0.3, "start_percent": 0.15, "end_percent": 0.95, "verbose": False},
}
ATTENTION = {
    "PerturbedAttentionGuidance": {"scale": 1.0},
    "SelfAttentionGuidance": {"scale": 0.1, "blur_sigma": 2.0},
    "FreeU_V2": {"b1": 1.1, "b2": 1.1, "s1": 0.9, "s2": 0.8},
}


# each with one of the modes, in turn, and with both what computes over the batch or skips calls
@pytest.mark.parametrize(
    ("mode", "name"),
    [(MODES[n % 2], name) for n, name in enumerate([*NODES, *ATTENTION])] + [("one", "Mahiro"), ("all", "EasyCache")],
)
def test_guidance_and_caches_of_comfyui(drafted, hands, core_node, mode, name):
    widgets = {**NODES, **ATTENTION}[name]
    patch = _node(core_node, name.split(" ")[0], **widgets)
    given = {} if name in NODES else {"positive": text(), "negative": text(seed=1)}
    model = hands.eps if name in NODES else tiny_unet(hands.eps)
    whole, _, _ = drafted(patch(model), keep=4, at_once=mode, **given)
    picked, report, places = drafted(patch(model), at_once=mode, **given)
    assert same(picked, whole, places)
    if name in ("Mahiro", "LazyCache") and mode == "all":
        assert ALL in report.summary()


def test_a_memory_of_the_whole_batch_is_seen_in_what_it_notes(drafted, hands):
    """Such as LazyCache's, which skips steps by a mean change: a call answers alike, and a later one does not."""
    whole, _, _ = drafted(wrapping(Averaging())(hands.eps), keep=4, at_once="all")
    picked, report, places = drafted(wrapping(Averaging())(hands.eps), at_once="all")
    assert same(picked, whole, places)
    assert ALL in report.summary()


def test_a_cache_by_noise_level(drafted, hands):
    whole, _, _ = drafted(caching_by_level()(hands.eps), keep=4)
    for mode in MODES:
        picked, _, places = drafted(caching_by_level()(hands.eps), at_once=mode)
        assert mode == "one" or same(picked, whole, places)
        assert torch.isfinite(picked).all()


def test_a_cache_that_skips_calls(drafted, hands):
    for mode in MODES:
        whole, _, _ = drafted(wrapping(Skipping(0.3))(hands.eps), keep=4, at_once=mode)
        picked, _, places = drafted(wrapping(Skipping(0.3))(hands.eps), at_once=mode)
        assert mode == "all" or len(picked) == 2
        assert mode == "one" or same(picked, whole, places)


def test_model_sampling_and_weights_of_other_nodes(drafted, hands, core_node):
    from .cases import _weights

    lora = hands.eps.clone()
    lora.add_patches(_weights(hands.eps), 0.5)
    zsnr = core_node("ModelSamplingDiscrete", model=hands.eps, sampling="eps", zsnr=True)[0]
    for model in (lora, zsnr):
        whole, _, _ = drafted(model, keep=4)
        for mode in MODES:
            picked, report, places = drafted(model, at_once=mode)
            assert same(picked, whole, places)
            assert ALL not in report.summary()


def test_weights_by_hooks(drafted, hands):
    import comfy.hooks

    from .cases import _weights

    hooks, hook = comfy.hooks.HookGroup(), comfy.hooks.WeightHook(strength_model=0.5)
    hooks.add(hook)
    hook.weights, hook.need_weight_init = _weights(hands.eps), False
    positive = comfy.hooks.set_hooks_for_conditioning(hands.positive, hooks)
    whole, _, _ = drafted(keep=4, positive=positive)
    assert not same(whole, drafted(keep=4)[0])
    for mode in MODES:
        picked, _, places = drafted(positive=positive, at_once=mode)
        assert same(picked, whole, places)


def test_text_boxes_that_are_made_for_the_size_of_the_batch(drafted, hands):
    """GLIGEN: ComfyUI repeats the boxes for the whole batch, ahead of the network."""
    import comfy.model_patcher

    class Boxes(torch.nn.Module):
        def set_position(self, shape, boxes, device):
            grounded = torch.linspace(0, 0.1, shape[0]).view(-1, 1, 1)
            return lambda x, extra_options: x + grounded.repeat(len(x) // len(grounded), 1, 1).to(x)

    device = torch.device("cpu")
    boxes = comfy.model_patcher.ModelPatcher(Boxes(), device, device)
    positive = [[text()[0][0], {"gligen": ("position", boxes, [])}]]
    given = {"positive": positive, "negative": text(seed=1)}
    whole, _, _ = drafted(tiny_unet(hands.eps), keep=4, **given)
    picked, report, places = drafted(tiny_unet(hands.eps), **given)
    assert same(picked, whole, places)
    assert ALL in report.summary()


def test_as_many_noise_levels_as_rows(drafted, hands):
    """The levels of the run are no rows of the batch, however many they are."""
    levels: Counter[tuple[int, ...]] = Counter()

    def network(net, x, *args, transformer_options, **kwargs):
        levels[tuple(transformer_options["sample_sigmas"].shape)] += 1
        return net(x, *args, transformer_options=transformer_options, **kwargs)

    drafted(around(hands.eps, network), steps=7, drafts=4)  # 8 levels; 8 rows with both prompts
    assert set(levels) == {(8,)}


def test_context_windows_one_image_at_a_time(drafted, hands, core_node, host):
    """Two overlapping windows over the height of an image; ComfyUI's context windows take no larger batch."""
    import inspect

    node = "ContextWindowsManual"
    widgets = {"context_length": 12, "context_overlap": 8, "context_schedule": "standard_static", "context_stride": 1,
               "closed_loop": False, "fuse_method": "pyramid", "dim": 2, "freenoise": False}  # fmt: skip
    taken = inspect.signature(host.NODE_CLASS_MAPPINGS[node].execute).parameters  # newer ComfyUI versions take more
    patch = _node(core_node, node, **{name: value for name, value in widgets.items() if name in taken})
    whole, _, _ = drafted(patch(hands.eps), keep=4, at_once="one")
    assert not same(whole, drafted(keep=4, at_once="one")[0])
    picked, _, places = drafted(patch(hands.eps), at_once="one")
    assert torch.equal(picked, whole[places])
