"""Patches of a MODEL as other packs have them: they draw, count, or answer from a cache."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .randomness import drawn, generator_of

COUNT = 0  # of `counting in a global`


def wrapping(wrap: Callable[[Callable[..., torch.Tensor], dict[str, Any]], torch.Tensor]) -> Callable[[Any], Any]:
    """A patch that wraps each model call; ``wrap`` gets the call and its arguments."""

    def patch(model: Any) -> Any:
        def unet(run: Any, args: dict[str, Any]) -> torch.Tensor:
            return wrap(lambda x: run(x, args["timestep"], **args["c"]), args)

        clone = model.clone()
        clone.set_model_unet_function_wrapper(unet)
        return clone

    return patch


def drawing(kind: str) -> Callable[[Any], Any]:
    """Adds noise to the input, from a global generator or one of its own."""
    own, of_numpy, of_python = generator_of(2), np.random.default_rng(2), random.Random(2)
    draws: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "torch": torch.randn_like,
        "numpy": lambda x: torch.from_numpy(np.random.standard_normal(tuple(x.shape))).to(x),  # noqa: NPY002
        "python": lambda x: torch.full_like(x, random.random()),
        "own torch": lambda x: drawn(x.shape, own),
        "own numpy": lambda x: torch.from_numpy(of_numpy.standard_normal(tuple(x.shape))).to(x),
        "own python": lambda x: torch.full_like(x, of_python.random()),
    }
    return wrapping(lambda run, args: run(args["input"] + 0.05 * draws[kind](args["input"])))


class Counter:
    """Counts its calls in an attribute, and acts on every third."""

    calls = 0  # of all counters

    def __init__(self, where: str) -> None:
        self.count, self.slots, self.tensor, self.where = 0, {"n": 0}, torch.zeros(1), where

    def __call__(self, run: Callable[..., torch.Tensor], args: dict[str, Any]) -> torch.Tensor:
        global COUNT
        self.count += 1
        self.slots["n"] += 1
        self.tensor += 1
        COUNT += 1
        type(self).calls += 1
        n = {"attribute": self.count, "dict": self.slots["n"], "tensor": int(self.tensor), "global": COUNT,
             "class": type(self).calls}[self.where]  # fmt: skip
        return run(args["input"]) * (1.05 if n % 3 == 0 else 1.0)


def counting(where: str) -> Callable[[Any], Any]:
    """Counts its calls in an ``attribute``, a ``dict``, a ``tensor``, a ``global``, the ``class`` or a ``closure``."""
    if where != "closure":
        return wrapping(Counter(where))
    count = 0

    def wrap(run: Callable[..., torch.Tensor], args: dict[str, Any]) -> torch.Tensor:
        nonlocal count
        count += 1
        return run(args["input"]) * (1.05 if count % 3 == 0 else 1.0)

    return wrapping(wrap)


def caching_by_level() -> Callable[[Any], Any]:
    """Answers the second call of a time step with the prediction of the first."""
    cache: dict[tuple[float, ...], torch.Tensor] = {}

    def wrap(run: Callable[..., torch.Tensor], args: dict[str, Any]) -> torch.Tensor:
        key = (float(args["timestep"].flatten()[0]), *map(float, args["cond_or_uncond"]), len(args["input"]))
        if key not in cache:
            cache[key] = run(args["input"])
        return cache[key]

    def patch(model: Any) -> Any:
        cache.clear()
        return wrapping(wrap)(model)

    return patch


class Skipping:
    """Skips a call if its input differs little from the last one that was computed, like the usual caches."""

    def __init__(self, threshold: float = 0.12) -> None:
        self.threshold = threshold
        self.last: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, run: Callable[..., torch.Tensor], args: dict[str, Any]) -> torch.Tensor:
        x, key = args["input"], (tuple(args["cond_or_uncond"]), args["input"].shape)
        if key in self.last:
            before, change = self.last[key]
            if float((x - before).abs().mean() / before.abs().mean()) < self.threshold:
                return x + change
        out = run(x)
        self.last[key] = (x, out - x)
        return out


class Averaging:
    """Scales its answers by a mean over all images of the calls before: a single answer does not show it."""

    def __init__(self) -> None:
        self.mean = 0.0

    def __call__(self, run: Callable[..., torch.Tensor], args: dict[str, Any]) -> torch.Tensor:
        out = run(args["input"]) * (1 + 0.1 * np.tanh(self.mean))
        self.mean = 0.5 * self.mean + float(out.mean())
        return out


def smoothing() -> Callable[[Any], Any]:
    """Mixes each prediction with the one before it, in a post-CFG function."""

    def patch(model: Any) -> Any:
        kept: list[torch.Tensor] = []

        def after(args: dict[str, Any]) -> torch.Tensor:
            denoised = args["denoised"]
            if kept and kept[-1].shape == denoised.shape:
                denoised = 0.8 * denoised + 0.2 * kept[-1]
            kept.append(denoised)
            return denoised

        clone = model.clone()
        clone.set_model_sampler_post_cfg_function(after)
        return clone

    return patch


def on_the_network() -> Callable[[Any], Any]:
    """Remembers on the network itself, and counts there."""

    def patch(model: Any) -> Any:
        network = model.model.diffusion_model
        network.patched_calls = 0

        def wrap(run: Callable[..., torch.Tensor], args: dict[str, Any]) -> torch.Tensor:
            network.patched_calls += 1
            return run(args["input"]) * (1.05 if network.patched_calls % 4 == 0 else 1.0)

        return wrapping(wrap)(model)

    return patch
