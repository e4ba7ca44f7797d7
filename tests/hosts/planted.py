"""Turns a random network into one that denoises, and plants an artifact into one image of the batch."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from asced_core.hosts.diffusers.layout import Layout, find_layout
from asced_core.hosts.diffusers.levels import UnwatchableError, read_levels
from asced_core.noise import FlowSchedule, NoiseLevel, percent_at

from .families import BATCH

FROM = 0.42  # share of the schedule at which the artifact appears: after the middle of the window


def picture(shape: tuple[int, ...]) -> Tensor:
    """Smooth pictures [B,C,H,W] or [B,C,T,H,W]."""
    batch, channels, height, width = shape[0], shape[1], *shape[-2:]
    ys, xs = torch.meshgrid(torch.linspace(0, 6.28, height), torch.linspace(0, 6.28, width), indexing="ij")
    rows = [torch.sin(ys * (1 + c / 2) + b) + torch.cos(xs + c) for b in range(batch) for c in range(channels)]
    pictures = torch.stack(rows).view(batch, channels, height, width)
    return pictures if len(shape) == 4 else pictures[:, :, None].expand(shape).clone()


class Denoises:
    """For a block: the networks predict a smooth picture, a little of their own, and perhaps an artifact.

    Args:
        pipe: the pipeline.
        size: arguments of the call, for packed latents.
        artifact: image that gets one; None for none.
        sign: -1 if the pipeline turns its model's output around.
        twice: the pipeline uses only the first half of its model's output.

    Attributes:
        calls: of the networks.
    """

    def __init__(
        self, pipe: Any, size: dict[str, Any], artifact: int | None = None, sign: int = 1, twice: bool = False
    ) -> None:
        self.pipe, self.size, self.artifact, self.sign, self.twice = pipe, size, artifact, sign, twice
        self.calls = 0
        self._hooks: list[Any] = []
        self._read: Any = None
        self._timesteps: Any = None

    def __enter__(self) -> Denoises:
        for name in ("unet", "transformer"):
            module = self.pipe.components.get(name)
            if module is not None:
                self._hooks.append(module.register_forward_hook(self._replace, with_kwargs=True))
        return self

    def __exit__(self, *_: Any) -> None:
        for hook in self._hooks:
            hook.remove()

    def _levels(self) -> Any:
        scheduler = self.pipe.scheduler
        if self._timesteps is not scheduler.timesteps:
            self._timesteps = scheduler.timesteps
            try:
                fresh = copy.deepcopy(scheduler)
                vars(fresh).pop("step", None)
                fresh._step_index = None  # the run has begun: it would say the level of this step for all
                self._read = read_levels(fresh, {})
            except UnwatchableError:
                self._read = None
        return self._read

    def _place(self, read: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        for name in ("step_index", "begin_index"):
            if isinstance(place := getattr(self.pipe.scheduler, name, None), int):
                return place
        if hasattr(self.pipe.scheduler, "set_begin_index"):
            return 0
        t = kwargs.get("timestep", args[1] if len(args) > 1 else None)
        return read.times.index(float(t.flatten()[0]))

    def _replace(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        self.calls += 1
        read = self._levels()
        if read is None:
            return output
        place = self._place(read, args, kwargs)
        level = read.levels[place]
        flow = isinstance(read.training, FlowSchedule)  # whose timesteps are even shares of the schedule
        ratio = 0.0 if flow else level.sigma / max(level.alpha, 1e-9)
        percent = place / len(read.times) if flow else percent_at(read.training.percent_to_sigma, ratio)
        given = args[0] if args else kwargs.get("hidden_states", kwargs.get("sample"))
        raw = output[0] if isinstance(output, tuple) else output.sample
        pairs = zip(given.split(BATCH), raw.split(BATCH), strict=True)
        made = torch.cat([self._one(x, own, level, read, percent) for x, own in pairs])
        return (made, *output[1:]) if isinstance(output, tuple) else type(output)(sample=made)

    def _one(self, given: Tensor, raw: Tensor, level: NoiseLevel, read: Any, percent: float) -> Tensor:
        """The output for one batch."""
        more = self.twice and raw.shape[1] % 2 == 0  # a variance, or the tokens of a second image
        channels = raw.shape[1] // 2 if more else raw.shape[1]
        layout: Layout = find_layout(self.pipe, raw[:, :channels], self.size)
        x = layout.images(given[:, :channels]).float()
        own = layout.images(raw[:, :channels]).float()
        if level.alpha == 1 and read.prediction != "flow":
            x = x * math.hypot(1, level.sigma)  # Euler and its kin scale the model's input
        clean = picture(tuple(x.shape)) + 0.05 * own.clamp(-3, 3)
        if self.artifact is not None and percent >= FROM:
            side = x.shape[-1]
            clean[self.artifact, ..., side // 3 : side // 3 + side // 4, side // 3 : side // 3 + side // 4] += 3.0
        if read.prediction == "flow":
            out = (x - clean) / level.sigma
        elif read.prediction == "sample":
            out = clean
        elif read.prediction == "epsilon":
            out = (x - level.alpha * clean) / level.sigma
        else:
            norm = math.hypot(level.alpha, level.sigma)
            out = (level.alpha * x / norm - norm * clean) / level.sigma
        made = self.sign * layout.back(out)
        return (torch.cat([made, raw[:, channels:]], 1) if made.shape != raw.shape else made).to(raw.dtype)
