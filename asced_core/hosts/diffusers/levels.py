"""What a scheduler says of itself: its noise levels, what its model predicts, and where the window lies."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ...noise import PREDICTIONS, DiscreteSchedule, FlowSchedule, NoiseLevel

SMALLEST = 2.0**-24  # in place of an alpha_bar of 0 (zero terminal SNR), as in diffusers
STEP_NEEDS = {"model_output", "timestep", "sample"}


class UnwatchableError(Exception):
    """A run cannot be watched; the text is one sentence for the user."""


@dataclass(frozen=True)
class Levels:
    """What is known of a schedule before the run.

    Attributes:
        levels: noise level of the state at each timestep, and of the final state.
        times: the timesteps.
        prediction: what the model predicts, see clean_image.
        training: the model's noise schedule.
    """

    levels: tuple[NoiseLevel, ...]
    times: tuple[float, ...]
    prediction: str
    training: DiscreteSchedule | FlowSchedule


def read_levels(scheduler: Any, asked: Mapping[str, Any]) -> Levels:
    """Reads a scheduler that has its timesteps and has not stepped yet.

    Args:
        scheduler: a copy; its begin index is changed.
        asked: the arguments of ``set_timesteps``.

    Raises:
        UnwatchableError: its states are not a mix of image and noise at one level a step, or it does not say which.
    """
    name, config = type(scheduler).__name__, getattr(scheduler, "config", {})
    if getattr(scheduler, "order", 1) != 1 or config.get("skip_prk_steps") is False:
        raise UnwatchableError(f"Not watched: {name} calls the model more than once a step.")
    if not inspect.signature(scheduler.step).parameters.keys() >= STEP_NEEDS:
        raise UnwatchableError(
            f"Not watched: the steps of {name} take other arguments than model output, timestep, sample."
        )
    flow = hasattr(scheduler, "scale_noise") or config.get("prediction_type") == "flow_prediction"
    prediction = "flow" if flow else config.get("prediction_type")
    if prediction not in PREDICTIONS or hasattr(scheduler, "precondition_outputs"):
        raise UnwatchableError(
            f"Not watched: {name} does not say what its model predicts in a form that is known here."
        )
    if not flow and not hasattr(scheduler, "alphas_cumprod"):
        raise UnwatchableError(f"Not watched: {name} has no training noise schedule, which says where to look.")
    try:
        times = tuple(float(t) for t in scheduler.timesteps.tolist())
        levels = [_level(scheduler, place) for place in range(len(times))]
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise UnwatchableError(f"Not watched: {name} does not tell its noise levels ({error}).") from error
    training: DiscreteSchedule | FlowSchedule
    if flow:
        training = FlowSchedule(_shift(scheduler, asked))
    else:
        bars = scheduler.alphas_cumprod.double().clamp(SMALLEST, 1 - SMALLEST)
        training = DiscreteSchedule.from_alphas_cumprod(bars.tolist())
    return Levels((*levels, NoiseLevel(1.0, 0.0)), times, prediction, training)


def _level(scheduler: Any, place: int) -> NoiseLevel:
    """The level at one place of the schedule, asked of the scheduler's own way to make a noisy state."""
    probe, t = copy.copy(scheduler), scheduler.timesteps[place : place + 1]
    if hasattr(probe, "set_begin_index"):
        probe.set_begin_index(place)  # timesteps may be rounded to the same number; places are not
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    if hasattr(probe, "scale_noise"):
        return NoiseLevel(float(probe.scale_noise(one, t, zero)), float(probe.scale_noise(zero, t, one)))
    return NoiseLevel(float(probe.add_noise(one, zero, t)), float(probe.add_noise(zero, one, t)))


def _shift(scheduler: Any, asked: Mapping[str, Any]) -> float:
    """The shift of a flow scheduler; with dynamic shifting, mu says it."""
    config, mu = scheduler.config, asked.get("mu")
    if config.get("use_dynamic_shifting") and mu is not None:
        return math.exp(mu) if config.get("time_shift_type", "exponential") == "exponential" else float(mu)
    shift = getattr(scheduler, "shift", None) or config.get("flow_shift") or config.get("shift")
    return float(shift) if isinstance(shift, int | float) else 1.0
