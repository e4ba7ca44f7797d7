"""Drafts with patches, samplers and guiders of other packs: what is not safe is not done, and the run says so."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from . import foreign
from .conftest import BLIND
from .drafts import MODES, around, computed, counted, row_by_row, same
from .models import text, tiny_unet
from .patches import Skipping, caching_by_level, counting, drawing, on_the_network, smoothing, wrapping
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
    return run(args["input"]) * scales.view(-1, 1, 1, 1)


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
    model.set_model_attn1_output_patch(lambda x, extra_options: x + for_each)
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
        bits = torch.randn(out.shape, generator=torch.Generator().manual_seed(len(x)))
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


@pytest.mark.parametrize("name", [*NODES, *ATTENTION])
@pytest.mark.parametrize("mode", MODES)
def test_guidance_and_caches_of_comfyui(drafted, hands, core_node, mode, name):
    widgets = {**NODES, **ATTENTION}[name]
    patch = _node(core_node, name.split(" ")[0], **widgets)
    given = {} if name in NODES else {"positive": text(), "negative": text(seed=1)}
    model = hands.eps if name in NODES else tiny_unet(hands.eps)
    whole, _, _ = drafted(patch(model), keep=4, at_once=mode, **given)
    picked, report, places = drafted(patch(model), at_once=mode, **given)
    assert same(picked, whole, places)
    if name == "Mahiro" and mode == "all":
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
            return lambda x, extra_options: x + grounded.repeat(len(x) // len(grounded), 1, 1)

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


SAMPLERS = {
    "plain": lambda: foreign.euler(),
    "reports late": lambda: foreign.euler(report="late"),
    "bare": lambda: foreign.euler(bare=True),
    "in place": lambda: foreign.euler(in_place=True),
    "keyword": lambda: foreign.euler(keyword=True),
    "heun, late": lambda: foreign.heun_that_reports_late,
    "in halves": lambda: foreign.in_halves,
    "in halves at the end": lambda: foreign.in_halves_at_the_end,
    "chained": lambda: foreign.chained(),
    "restarting": lambda: foreign.restarting(at=6, to=4),
    "detailed": lambda: foreign.detailed(),
    "own default": lambda: foreign.own_default(),
    "seeded once": lambda: foreign.seeded_once(),
    "seeded each step": lambda: foreign.seeded_each_step,
    "numpy": lambda: foreign.of_numpy,
    "global torch": lambda: foreign.of_globals("torch"),
    "global numpy": lambda: foreign.of_globals("numpy"),
}


@pytest.fixture
def registered(monkeypatch):
    """Adds a function to ComfyUI's samplers, as packs do."""
    import comfy.k_diffusion.sampling
    from comfy.samplers import KSampler

    def register(function, name="of_a_pack"):
        monkeypatch.setattr(comfy.k_diffusion.sampling, f"sample_{name}", function, raising=False)
        monkeypatch.setattr(KSampler, "SAMPLERS", [*KSampler.SAMPLERS, name])
        return name

    return register


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("mode", MODES)
def test_samplers_of_other_packs(drafted, hands, registered, mode, name):
    sampler = registered(SAMPLERS[name]())
    model = row_by_row(hands.eps)
    seed_all()
    whole, _, _ = drafted(model, keep=4, sampler_name=sampler, at_once=mode)
    seed_all()
    picked, report, places = drafted(model, sampler_name=sampler, at_once=mode)
    if "global numpy" in name and mode == "one":  # each run continues the numbers of the run before
        assert torch.isfinite(picked).all()
    else:
        assert torch.equal(picked, whole[places])
    one_image_at_a_time = name == "in halves" and mode == "all"
    assert len(places) == (4 if one_image_at_a_time else 2)
    if one_image_at_a_time:
        assert "All drafts were finished" in report.summary()


class _Unseeded:
    """Draws other noise in each run, from a generator that nobody can wind back."""

    def __call__(self, model, x, sigmas, extra_args=None, callback=None, disable=None):
        generator = np.random.default_rng(np.random.SeedSequence().entropy)
        draw = lambda x, _: torch.from_numpy(generator.standard_normal(x.shape)).to(x)  # noqa: E731
        return foreign.euler(draw)(model, x, sigmas, extra_args, callback, disable)


def test_a_sampler_that_never_draws_the_same_noise_is_computed_from_its_start(drafted, hands, registered):
    rows: Counter[int] = Counter()
    unseeded = _Unseeded()
    sampler = registered(lambda *args, **kwargs: unseeded(*args, **kwargs))
    picked, report, places = drafted(counted(hands.eps, rows), sampler_name=sampler, at_once="one")
    assert len(picked) == len(places) == 2
    assert torch.isfinite(picked).all()
    assert picked.abs().mean() < 3
    assert computed(rows) == 2 * (4 * 3 + 2 * 8)
    assert report.run.model_calls >= 4 * 3


def test_a_sampler_that_handles_the_errors_of_its_model_lets_a_draft_stop(drafted, hands, registered):
    def stubborn(model, x, sigmas, extra_args=None, callback=None, disable=None):
        def again(x, *args, **kwargs):
            try:
                return model(x, *args, **kwargs)
            except Exception:
                return torch.zeros_like(x)

        return foreign.euler()(again, x, sigmas, extra_args, callback, disable)

    rows: Counter[int] = Counter()
    sampler = registered(stubborn)
    model = counted(row_by_row(hands.eps), rows)
    whole, _, _ = drafted(row_by_row(hands.eps), keep=4, at_once="one", sampler_name=sampler)
    picked, _, places = drafted(model, sampler_name=sampler, at_once="one")
    assert torch.equal(picked, whole[places])
    assert computed(rows) == 2 * (4 * 3 + 2 * 5)


def _guided(run_node, core_node, guider, sampler=None, keep=2, batch=4, **more):
    import comfy.samplers

    model = guider.model_patcher
    drafts = run_node("ASCED_Drafts", keep=keep, decide_at=0.28)[0]
    return run_node(
        "ASCED_SamplerCustomAdvanced", noise=core_node("RandomNoise", noise_seed=3)[0], guider=guider,
        sampler=sampler or core_node("KSamplerSelect", sampler_name="euler")[0],
        sigmas=comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 8),
        latent_image={"samples": torch.zeros(batch, 3, 16, 16)}, drafts=drafts,
        detection=run_node("ASCED_Detection", **BLIND)[0], **more,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["CFGGuider", "BasicGuider", "DualCFGGuider", "PerpNegGuider"])
def test_guiders_of_comfyui(run_node, core_node, hands, kind):
    three = [[hands.positive[0][0], {"asced_label": torch.tensor([3])}]]
    given = {
        "CFGGuider": {"positive": hands.positive, "negative": hands.negative, "cfg": 2.0},
        "BasicGuider": {"conditioning": hands.positive},
        "DualCFGGuider": {"cond1": hands.positive, "cond2": hands.positive, "negative": hands.negative,
                          "cfg_conds": 2.0, "cfg_cond2_negative": 1.5, "style": "regular"},
        "PerpNegGuider": {"positive": hands.positive, "negative": three, "empty_conditioning": hands.negative,
                          "cfg": 2.0, "neg_scale": 1.0},
    }[kind]  # fmt: skip
    guider = core_node(kind, model=row_by_row(hands.eps), **given)[0]
    held = dict(vars(guider))
    whole = _guided(run_node, core_node, guider, keep=4)
    out = _guided(run_node, core_node, guider)
    report = out[3]
    assert torch.equal(out[0]["samples"], whole[0]["samples"][list(report.drafts.kept)])
    assert torch.equal(out[1]["samples"], whole[1]["samples"][list(report.drafts.kept)])
    assert (ALL in report.summary()) == (kind == "PerpNegGuider")
    assert vars(guider).keys() == held.keys()
    assert all(vars(guider)[name] is value for name, value in held.items())


def test_a_guider_that_ignores_the_options_of_a_call(run_node, core_node, hands):
    import comfy.samplers

    class Deaf(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options=None, seed=None):
            return super().predict_noise(x, timestep, {}, seed)

    guider = Deaf(row_by_row(hands.eps))
    guider.set_conds(hands.positive, hands.negative)
    guider.set_cfg(2.0)
    whole = _guided(run_node, core_node, guider, keep=4)
    out = _guided(run_node, core_node, guider)
    assert torch.equal(out[0]["samples"], whole[0]["samples"][list(out[3].drafts.kept)])


@pytest.mark.parametrize("kind", ["Counting", "list", "object"])
def test_a_sampler_object_of_the_graph_is_not_written_to(run_node, core_node, hands, kind):
    import comfy.samplers

    guider = core_node("CFGGuider", model=row_by_row(hands.eps), positive=hands.positive, negative=hands.negative,
                       cfg=2.0)[0]  # fmt: skip

    def sampler():
        if kind == "Counting":
            return comfy.samplers.KSAMPLER(foreign.Counting())
        import comfy.k_diffusion.sampling as ks

        source = foreign.given_source(kind, (4, 3, 16, 16))
        return comfy.samplers.KSAMPLER(ks.sample_euler_ancestral, {"noise_sampler": source})

    whole = _guided(run_node, core_node, guider, sampler(), keep=4)
    own = sampler()
    held, function = dict(vars(own)), own.sampler_function
    out = _guided(run_node, core_node, guider, own)
    assert torch.equal(out[0]["samples"], whole[0]["samples"][list(out[3].drafts.kept)])
    assert vars(own) == held
    assert own.sampler_function is function


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


def test_a_sampler_that_shows_the_batch_too_late_finishes_all_drafts(drafted, hands, registered):
    def in_halves_at_the_start(model, x, sigmas, **kwargs):
        x = foreign.in_halves(model, x, sigmas[:5], **kwargs)
        return foreign.euler(first=4)(model, x, sigmas[4:], **kwargs)

    sampler = registered(in_halves_at_the_start)
    picked, report, places = drafted(sampler_name=sampler)
    assert places == [0, 1, 2, 3]
    assert len(picked) == 4
    assert "All drafts were finished" in report.summary()
