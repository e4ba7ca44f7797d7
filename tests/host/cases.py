"""The rows of the compatibility tables: what an artist may have in a graph. See compatibility.py."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from .compatibility import Case, Kit, NotInThisVersion, Patch
from .families import FAMILIES, Family, is_known, load_family
from .models import ONSET, as_flow, as_target, text, tiny_controlnet, tiny_unet, with_artifact

SIZES = {"one image": {"batch": 1}, "five images": {"batch": 5}, "odd size 31x45": {"height": 31, "width": 45}}
VERY_LOUD = 300.0  # predictions of random weights are large
LOUD = 10.0  # some samplers and schedulers are not made for flow models: stock images are noisy, too
ANY_ORDER = ("before", "after")
OVER_THE_BATCH = "It computes over the whole batch: an image depends on the others, with ASCED or without."
REMEMBERS = "It remembers its last call, and sees the one that the correction adds."
COUPLING = {"Mahiro": OVER_THE_BATCH, "APG with momentum": REMEMBERS, "EasyCache": REMEMBERS, "LazyCache": REMEMBERS}


def samplers() -> Iterator[Case]:
    """Every ComfyUI sampler, on an eps and on a flow model; at CFG 1, which the CFG++ ones are made for."""
    import comfy.samplers

    for name in comfy.samplers.KSampler.SAMPLERS:
        for form in ("eps", "flow"):

            def sample(kit: Kit, asced: Patch, name: str = name, form: str = form) -> Any:
                model = with_artifact(getattr(kit.hands, form), strength=LOUD)
                steps = {"dpm_fast": 60}.get(name, 12)  # a third of these become steps
                return kit.sample(asced(model), sampler_name=name, cfg=1.0, steps=steps)

            yield Case("samplers", f"{name}, {form}", sample)


def schedulers() -> Iterator[Case]:
    """Every ComfyUI scheduler."""
    import comfy.samplers

    for name in comfy.samplers.KSampler.SCHEDULERS:
        for form in ("eps", "flow"):

            def sample(kit: Kit, asced: Patch, name: str = name, form: str = form) -> Any:
                model = getattr(kit.hands, form)
                model = with_artifact(model, strength=LOUD, onset=_last_watched(model, name, 20))
                return kit.sample(asced(model), scheduler=name, steps=20)

            yield Case("schedulers", f"{name}, {form}", sample)


def _last_watched(model: Any, scheduler: str, steps: int) -> float:
    """Percent of the window's last step, 0 to 1: on a dense schedule ONSET may lie before the middle step."""
    import comfy.samplers
    from asced.asced_core.noise import percent_at

    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, steps)
    watched = sigmas[(sigmas > sampling.percent_to_sigma(0.5)) & (sigmas <= sampling.percent_to_sigma(0.2))]
    return (
        percent_at(lambda p: float(sampling.percent_to_sigma(p)), float(watched[-1])) - 1e-3 if len(watched) else ONSET
    )


def models() -> Iterator[Case]:
    """Prediction types, ModelSampling patches, few-step models."""
    forms: dict[str, Callable[[Kit], Any]] = {
        "eps": lambda kit: kit.hands.eps,
        "flow": lambda kit: kit.hands.flow,
        **{name: partial(_target, target=name) for name in ("v", "x0", "edm")},
        "eps, ModelSamplingDiscrete zsnr": lambda kit: kit.core(
            "ModelSamplingDiscrete", model=kit.hands.eps, sampling="eps", zsnr=True
        )[0],
        "flow, ModelSamplingSD3 shift 3": lambda kit: kit.core(
            "ModelSamplingSD3", model=as_flow(kit.hands.eps), shift=3.0
        )[0],
        "flow, ModelSamplingFlux": lambda kit: kit.core(
            "ModelSamplingFlux", model=as_flow(kit.hands.eps), max_shift=1.15, base_shift=0.5, width=256, height=256
        )[0],
    }  # fmt: skip
    for name, make in forms.items():
        yield Case("models", name, lambda kit, asced, make=make: kit.sample(asced(with_artifact(make(kit))), steps=16))
    for name, family in FAMILIES.items():

        def load(kit: Kit, asced: Patch, name: str = name, family: Family = family) -> Any:
            if not is_known(family):
                raise NotInThisVersion(family.config)
            model = with_artifact(load_family(name, kit.folder), strength=VERY_LOUD)
            prompts = {"positive": family.conditioning(), "negative": family.conditioning(1)}
            return kit.sample(asced(model), latent=family.empty(2), scheduler="simple", **prompts)

        yield Case("models", f"{name}, checkpoint {family.config}", load)
    for steps in (4, 8):

        def few(kit: Kit, asced: Patch, steps: int = steps) -> Any:
            model = kit.core("ModelSamplingDiscrete", model=kit.hands.eps, sampling="lcm", zsnr=False)[0]
            return kit.sample(
                asced(with_artifact(model)), sampler_name="lcm", scheduler="sgm_uniform", steps=steps, cfg=1.0
            )

        yield Case("models", f"LCM, {steps} steps", few)


def _target(kit: Kit, target: str) -> Any:
    return as_target(kit.hands.eps, kit.core, target)


def graphs() -> Iterator[Case]:
    """Sampler nodes, guiders, sizes, masks, conditioning."""
    yield Case("graphs", "KSampler", lambda kit, asced: kit.sample(asced(with_artifact(kit.hands.eps))))
    for name, size in SIZES.items():
        yield Case(
            "graphs",
            name,
            lambda kit, asced, size=size: kit.sample(asced(with_artifact(kit.hands.eps)), latent=kit.latent(**size)),
        )
    yield Case(
        "graphs",
        "latents with noise indices",
        lambda kit, asced: kit.sample(
            asced(with_artifact(kit.hands.eps)), latent={**kit.latent(2), "batch_index": [4, 7]}
        ),
    )
    for denoise in (0.9, 0.7, 0.4):
        yield Case("graphs", f"img2img, denoise {denoise}", partial(_image, denoise=denoise))
    yield Case("graphs", "inpaint, hard mask", partial(_image, denoise=1.0, mask="hard"))
    yield Case("graphs", "inpaint, DifferentialDiffusion", partial(_image, denoise=1.0, mask="soft"))
    yield Case("graphs", "KSampler (Advanced), whole", partial(_advanced, start=0, end=10000))
    yield Case("graphs", "KSampler (Advanced), first part, leftover noise", partial(_advanced, start=0, end=10))
    yield Case("graphs", "KSampler (Advanced), last part", partial(_advanced, start=9, end=10000))
    yield Case("graphs", "SamplerCustom", _custom)
    for guider in ("CFGGuider", "BasicGuider", "DualCFGGuider", "PerpNegGuider"):
        coupling = OVER_THE_BATCH if guider == "PerpNegGuider" else ""
        yield Case("graphs", f"SamplerCustomAdvanced, {guider}", partial(_guided, guider=guider), coupling)
    yield Case("graphs", "two prompts, one with an area", partial(_conditioned, change=_area))
    yield Case("graphs", "two prompts, one with a mask", partial(_conditioned, change=_cond_mask))
    yield Case("graphs", "two prompts, one per part of the run", partial(_conditioned, change=_timesteps))
    yield Case("graphs", "context windows", _windows)
    yield Case(
        "graphs",
        "ASCED applied twice",
        lambda kit, asced: kit.sample(asced(asced(with_artifact(kit.hands.eps)))),
    )
    yield Case("graphs", "ControlNet", _controlled)
    yield Case("graphs", "weight patches (LoRA)", _lora)
    yield Case("graphs", "weight patches by hooks", _hooks)


def _image(kit: Kit, asced: Patch, denoise: float, mask: str = "") -> Any:
    model = with_artifact(kit.hands.eps, onset=max(ONSET, 1 - 0.75 * denoise))  # in its later half
    latent = {"samples": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(4)) / 3}
    if mask:
        latent["noise_mask"] = torch.ones(1, 32, 32)
        latent["noise_mask"][..., 24:] = 0 if mask == "hard" else 0.5
    if mask == "soft":
        model = kit.core("DifferentialDiffusion", model=model)[0]
    return kit.sample(asced(model), latent=latent, denoise=denoise, steps=16)


def _advanced(kit: Kit, asced: Patch, start: int, end: int) -> Any:
    latent = kit.latent() if start == 0 else {"samples": torch.ones(2, 3, 32, 32)}
    leftover = "enable" if end < 12 else "disable"
    model = with_artifact(kit.hands.eps, onset=max(ONSET, start / 12 + 0.06))
    return kit.core(
        "KSamplerAdvanced", model=asced(model), noise_seed=3, steps=12, cfg=2.0,
        sampler_name="euler", scheduler="normal", positive=kit.positive, negative=kit.negative, latent_image=latent,
        add_noise="enable" if start == 0 else "disable", start_at_step=start, end_at_step=end,
        return_with_leftover_noise=leftover,
    )[0]["samples"]  # fmt: skip


def _custom(kit: Kit, asced: Patch) -> Any:
    model = with_artifact(kit.hands.eps)
    return kit.core(
        "SamplerCustom", model=asced(model), add_noise=True, noise_seed=3, cfg=2.0, positive=kit.positive,
        negative=kit.negative, sampler=kit.core("KSamplerSelect", sampler_name="dpmpp_2m")[0],
        sigmas=kit.sigmas(model), latent_image=kit.latent(),
    )[0]["samples"]  # fmt: skip


def _guided(kit: Kit, asced: Patch, guider: str) -> Any:
    model = with_artifact(kit.hands.eps)
    given = {
        "CFGGuider": {"positive": kit.positive, "negative": kit.negative, "cfg": 2.0},
        "BasicGuider": {"conditioning": kit.positive},
        "DualCFGGuider": {
            "cond1": kit.positive, "cond2": kit.positive, "negative": kit.negative, "cfg_conds": 2.0,
            "cfg_cond2_negative": 1.5, "style": "regular",
        },
        "PerpNegGuider": {
            "positive": kit.positive, "negative": kit.positive, "empty_conditioning": kit.negative, "cfg": 2.0,
            "neg_scale": 1.0,
        },
    }[guider]  # fmt: skip
    return kit.core(
        "SamplerCustomAdvanced", noise=kit.noise(), guider=kit.core(guider, model=asced(model), **given)[0],
        sampler=kit.core("KSamplerSelect", sampler_name="euler")[0], sigmas=kit.sigmas(model),
        latent_image=kit.latent(),
    )[0]["samples"]  # fmt: skip


def _conditioned(kit: Kit, asced: Patch, change: Callable[[Kit], Any]) -> Any:
    return kit.sample(asced(with_artifact(kit.hands.eps)), positive=[*kit.positive, *change(kit)])


def _area(kit: Kit) -> Any:
    return kit.core("ConditioningSetArea", conditioning=kit.positive, width=128, height=128, x=64, y=64, strength=1.0)[
        0
    ]


def _cond_mask(kit: Kit) -> Any:
    mask = torch.zeros(1, 32, 32)
    mask[:, :16] = 1
    return kit.core("ConditioningSetMask", conditioning=kit.positive, mask=mask, strength=1.0, set_cond_area="default")[
        0
    ]


def _timesteps(kit: Kit) -> Any:
    return kit.core("ConditioningSetTimestepRange", conditioning=kit.positive, start=0.0, end=0.4)[0]


def _windows(kit: Kit, asced: Patch) -> Any:
    """Two overlapping windows over the height of one image; ComfyUI's context windows take no larger batch."""
    node = "ContextWindowsManual"
    widgets = {"context_length": 24, "context_overlap": 16, "context_schedule": "standard_static", "context_stride": 1,
               "closed_loop": False, "fuse_method": "pyramid", "dim": 2, "freenoise": False}  # fmt: skip
    taken = inspect.signature(kit.host.NODE_CLASS_MAPPINGS[node].execute).parameters  # newer ComfyUI versions take more
    model = _node(kit, kit.hands.eps, node, {name: value for name, value in widgets.items() if name in taken})
    return kit.sample(asced(with_artifact(model)), latent=kit.latent(1))


def _controlled(kit: Kit, asced: Patch) -> Any:
    model = tiny_unet(kit.hands.eps)
    hint = torch.rand(1, 256, 256, 3, generator=torch.Generator().manual_seed(5))
    positive, negative = kit.core(
        "ControlNetApplyAdvanced", positive=text(), negative=text(seed=1), control_net=tiny_controlnet(model),
        image=hint, strength=0.5, start_percent=0.0, end_percent=0.8,
    )  # fmt: skip
    return kit.sample(asced(with_artifact(model, strength=VERY_LOUD)), positive=positive, negative=negative)


def _lora(kit: Kit, asced: Patch) -> Any:
    model = with_artifact(kit.hands.eps)
    model.add_patches(_weights(model), 0.5)
    return kit.sample(asced(model))


def _hooks(kit: Kit, asced: Patch) -> Any:
    import comfy.hooks

    hooks = comfy.hooks.HookGroup()
    hook = comfy.hooks.WeightHook(strength_model=0.5)
    hooks.add(hook)
    hook.weights, hook.need_weight_init = _weights(kit.hands.eps), False
    positive = comfy.hooks.set_hooks_for_conditioning(kit.positive, hooks)
    return kit.sample(asced(with_artifact(kit.hands.eps)), positive=positive)


def _weights(model: Any) -> dict[str, Any]:
    """A change of the largest weight, as from a LoRA file."""
    name, weight = max(model.model.state_dict().items(), key=lambda item: item[1].numel())
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)) * 0.002
    return {name: ("diff", (noise,))}


def patches() -> Iterator[Case]:
    """Guidance and caching patches of ComfyUI, and ones as other packs write them, in both orders."""
    nodes: dict[str, dict[str, Any]] = {
        "APG": {"eta": 1.0, "norm_threshold": 5.0, "momentum": 0.0},
        "RescaleCFG": {"multiplier": 0.7},
        "TCFG": {},
        "CFGZeroStar": {},
        "Mahiro": {},
        "EasyCache": {"reuse_threshold": 0.05, "start_percent": 0.15, "end_percent": 0.95, "verbose": False},
        "LazyCache": {"reuse_threshold": 0.05, "start_percent": 0.15, "end_percent": 0.95, "verbose": False},
    }
    attention: dict[str, dict[str, Any]] = {  # on ComfyUI's own UNet with random weights
        "PerturbedAttentionGuidance": {"scale": 1.0},
        "SelfAttentionGuidance": {"scale": 0.1, "blur_sigma": 2.0},
        "FreeU_V2": {"b1": 1.1, "b2": 1.1, "s1": 0.9, "s2": 0.8},
        "HyperTile": {"tile_size": 256, "swap_size": 2, "max_depth": 0, "scale_depth": False},
    }
    others: dict[str, Callable[[Kit, Any], Any]] = {
        **{node: partial(_node, node=node, widgets=widgets) for node, widgets in nodes.items()},
        "APG with momentum": partial(_node, node="APG", widgets={"eta": 1.0, "norm_threshold": 5.0, "momentum": -0.5}),
        "a model_function_wrapper": _function_wrapper,
        "a post-CFG function": _post_cfg,
        "a pre-CFG function": _pre_cfg,
        "a cfg_function": _cfg_function,
    }  # fmt: skip
    for name, other in others.items():
        for order in ANY_ORDER:

            def sample(kit: Kit, asced: Patch, other: Callable = other, order: str = order) -> Any:
                return _patched(kit, asced, other, order)

            yield Case("patches", f"{name}, {order} ASCED", sample, COUPLING.get(name, ""))
    for node, widgets in attention.items():
        for order in ANY_ORDER:

            def sample(kit: Kit, asced: Patch, node: str = node, widgets: dict = widgets, order: str = order) -> Any:
                model, other = tiny_unet(kit.hands.eps), partial(_node, node=node, widgets=widgets)
                return _patched(kit, asced, other, order, model, positive=text(), negative=text(seed=1))

            yield Case("patches", f"{node}, {order} ASCED", sample)


def _patched(kit: Kit, asced: Patch, other: Callable, order: str, model: Any = None, **change: Any) -> Any:
    model = with_artifact(model, strength=VERY_LOUD) if model else with_artifact(kit.hands.eps, strength=2.0)
    return kit.sample(asced(other(kit, model)) if order == "before" else other(kit, asced(model)), **change)


def _node(kit: Kit, model: Any, node: str, widgets: dict[str, Any]) -> Any:
    return kit.core(node, model=model, **widgets)[0]


def _function_wrapper(kit: Kit, model: Any) -> Any:
    model = model.clone()
    model.set_model_unet_function_wrapper(lambda run, args: run(args["input"], args["timestep"], **args["c"]) * 0.999)
    return model


def _post_cfg(kit: Kit, model: Any) -> Any:
    model = model.clone()
    model.set_model_sampler_post_cfg_function(lambda args: args["denoised"].clamp(-2, 2))
    return model


def _pre_cfg(kit: Kit, model: Any) -> Any:
    model = model.clone()
    model.set_model_sampler_pre_cfg_function(lambda args: [out * 0.99 for out in args["conds_out"]])
    return model


def _cfg_function(kit: Kit, model: Any) -> Any:
    model = model.clone()
    model.set_model_sampler_cfg_function(
        lambda args: args["uncond"] + (args["cond"] - args["uncond"]) * args["cond_scale"] * 0.9
    )
    return model
