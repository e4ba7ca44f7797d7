"""Samplers as other packs write them: with noise, reports and noise levels of their own. Each returns a SAMPLER."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from .randomness import drawn, generator_of

Draw = Callable[[torch.Tensor, int], torch.Tensor]  # state and step to noise


def euler(draw: Draw | None = None, *, report: str = "early", keyword: bool = False, in_place: bool = False,
          told: float = 1.0, bare: bool = False, first: int = 0) -> Callable[..., torch.Tensor]:  # fmt: skip
    """Euler, with noise if ``draw`` is given.

    Args:
        draw: makes the noise of a step.
        report: ``early`` before the state is changed, ``late`` after it.
        keyword: passes sigma by keyword.
        in_place: changes the state in place.
        told: factor on the noise level that the model is told.
        bare: reports nothing but the step and the prediction.
        first: number of the first step.
    """

    def sample(model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: Any = None, callback: Any = None,
               disable: Any = None) -> torch.Tensor:  # fmt: skip
        ones = x.new_ones([x.shape[0]])
        for i in range(len(sigmas) - 1):
            sigma, following = sigmas[i], sigmas[i + 1]
            level = sigma * told * ones
            denoised = model(x, sigma=level, **extra_args) if keyword else model(x, level, **extra_args)
            info = {"x": x, "i": first + i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised}
            info = {"x": x.clone(), "i": first + i, "denoised": denoised.clone()} if bare else info
            if report == "early":
                callback(info)
            change = (x - denoised) / sigma * (following - sigma)
            x = x.add_(change) if in_place and i else x + change
            if draw is not None and following > 0:
                x = x + 0.3 * following * draw(x, i)
            if report == "late":
                callback(info)
        return x

    return sample


def heun_that_reports_late(model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: Any = None,
                           callback: Any = None, disable: Any = None) -> torch.Tensor:  # fmt: skip
    """Heun with its callback behind the second evaluation."""
    ones = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * ones, **extra_args)
        slope, dt = (x - denoised) / sigmas[i], sigmas[i + 1] - sigmas[i]
        before = x
        if sigmas[i + 1] == 0:
            x = x + slope * dt
        else:
            second = x + slope * dt
            corrected = (second - model(second, sigmas[i + 1] * ones, **extra_args)) / sigmas[i + 1]
            x = x + (slope + corrected) / 2 * dt
        callback({"x": before, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
    return x


def in_halves(model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: Any = None, callback: Any = None,
              disable: Any = None) -> torch.Tensor:  # fmt: skip
    """Euler that evaluates each image on its own, as samplers do to save memory."""
    for i in range(len(sigmas) - 1):
        parts = [model(one, sigmas[i] * one.new_ones(1), **extra_args) for one in x.split(1)]
        denoised = torch.cat(parts)
        callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
    return x


def in_halves_at_the_end(model: Any, x: torch.Tensor, sigmas: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """The same for the last steps only."""
    middle = max(1, len(sigmas) - 4)
    return in_halves(model, euler()(model, x, sigmas[:middle], **kwargs), sigmas[middle - 1 :], **kwargs)


def chained(parts: int = 2) -> Callable[..., torch.Tensor]:
    """Euler in parts that each count their steps from 0."""

    def sample(model: Any, x: torch.Tensor, sigmas: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        length = max(1, -(-(len(sigmas) - 1) // parts))
        for begin in range(0, len(sigmas) - 1, length):
            x = euler()(model, x, sigmas[begin : begin + length + 1], **kwargs)
        return x

    return sample


def restarting(at: int = 7, to: int = 4) -> Callable[..., torch.Tensor]:
    """Euler that goes back from step ``at`` of the run to step ``to`` once, and counts on."""

    def sample(model: Any, x: torch.Tensor, sigmas: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        if len(sigmas) <= at + 1:
            return euler()(model, x, sigmas, **kwargs)
        x = euler()(model, x, sigmas[: at + 1], **kwargs)
        x = x + drawn(x.shape, generator_of(5)) * (sigmas[to] ** 2 - sigmas[at] ** 2).sqrt()
        return euler(first=at)(model, x, sigmas[to:], **kwargs)

    return sample


def detailed(amount: float = 0.08, inner: str = "euler") -> Callable[..., torch.Tensor]:
    """Tells the model lower noise levels in the middle of a run; the amounts are planned from its length."""
    import comfy.k_diffusion.sampling as ks

    def sample(model: Any, x: torch.Tensor, sigmas: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        count = len(sigmas) - 1
        amounts = [amount * float(np.sin(np.pi * i / count)) for i in range(count)]
        levels = sigmas.tolist()

        def adjusted(x: torch.Tensor, sigma: torch.Tensor, **extra: Any) -> torch.Tensor:
            nearest = min(range(count), key=lambda i: abs(levels[i] - float(sigma.max())))
            return model(x, sigma * (1 - amounts[nearest]), **extra)

        adjusted.inner_model = model.inner_model  # type: ignore[attr-defined]
        return getattr(ks, f"sample_{inner}")(adjusted, x, sigmas, **kwargs)

    return sample


def passing_on(inner: str) -> Callable[..., torch.Tensor]:
    """A wrapper that takes whatever the sampler inside takes."""
    import comfy.k_diffusion.sampling as ks

    def wrap(model: Any, x: torch.Tensor, sigmas: torch.Tensor, *, inner: Any, **kwargs: Any) -> torch.Tensor:
        return inner(model, x, sigmas, **kwargs)

    return partial(wrap, inner=getattr(ks, f"sample_{inner}"))


def own_default(inner: str = "euler_ancestral") -> Callable[..., torch.Tensor]:
    """Has a parameter ``noise_sampler`` with a default of its own: Brownian noise."""
    import comfy.k_diffusion.sampling as ks

    def sample_zz(model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: Any = None, callback: Any = None,
                  disable: Any = None, noise_sampler: Any = None) -> torch.Tensor:  # fmt: skip
        if noise_sampler is None:
            low, high = sigmas[sigmas > 0].min(), sigmas.max()
            noise_sampler = ks.BrownianTreeNoiseSampler(x, low, high, seed=extra_args.get("seed"), cpu=True)
        sample = getattr(ks, f"sample_{inner}")
        return sample(model, x, sigmas, extra_args, callback, disable, noise_sampler=noise_sampler)

    return sample_zz


def seeded_once(**form: Any) -> Callable[..., torch.Tensor]:
    """Noise from a generator that is seeded with the run's seed."""

    def sample(model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: Any = None,
               **kwargs: Any) -> torch.Tensor:  # fmt: skip
        generator = generator_of(extra_args["seed"] % 2**31)
        draw = lambda x, _: drawn(x.shape, generator)  # noqa: E731
        return euler(draw, **form)(model, x, sigmas, extra_args, **kwargs)

    return sample


def seeded_each_step(model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: Any = None,
                     **kwargs: Any) -> torch.Tensor:  # fmt: skip
    """A generator for each step."""
    seed = extra_args["seed"] % 2**31

    def draw(x: torch.Tensor, step: int) -> torch.Tensor:
        return drawn(x.shape, generator_of(seed + step))

    return euler(draw)(model, x, sigmas, extra_args, **kwargs)


def of_numpy(model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: Any = None, **kwargs: Any) -> torch.Tensor:
    """Noise from numpy."""
    generator = np.random.default_rng(extra_args["seed"])
    draw = lambda x, _: torch.from_numpy(generator.standard_normal(x.shape)).to(x)  # noqa: E731
    return euler(draw)(model, x, sigmas, extra_args, **kwargs)


def of_globals(kind: str) -> Callable[..., torch.Tensor]:
    """Noise from a global generator: ``torch``, ``in place`` or ``numpy``."""
    draw: dict[str, Draw] = {
        "torch": lambda x, _: torch.randn_like(x),
        "in place": lambda x, _: torch.empty_like(x).normal_(),
        "numpy": lambda x, _: torch.from_numpy(np.random.standard_normal(tuple(x.shape))).to(x),  # noqa: NPY002
    }
    return euler(draw[kind])


class Counting:
    """A sampler that is an object and counts its calls: each run of it draws other noise."""

    def __init__(self) -> None:
        self.generator = generator_of(11)
        self.steps = 0

    def __call__(self, model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: Any = None, callback: Any = None,
                 disable: Any = None) -> torch.Tensor:  # fmt: skip
        def draw(x: torch.Tensor, _: int) -> torch.Tensor:
            self.steps += 1
            return drawn(x.shape, self.generator) * (1 + self.steps % 3)

        return euler(draw)(model, x, sigmas, extra_args, callback, disable)


def given_source(kind: str, shape: tuple[int, ...]) -> Any:
    """A noise source for ``noise_sampler``: ``function``, ``list`` or ``object``, each with a state of its own."""
    generator = generator_of(7)
    if kind == "function":
        return lambda *_: drawn(shape, generator)
    noises = drawn((200, *shape), generator)

    class Source:
        def __init__(self) -> None:
            self.drawn = 0

        def __call__(self, sigma: Any, following: Any) -> torch.Tensor:
            self.drawn += 1
            return noises[self.drawn]

    source = Source()
    return source if kind == "object" else (lambda sigma, following: source(sigma, following))
