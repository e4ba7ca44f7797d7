"""One sampling run of any host: which steps are watched, when is decided, what is handed back.

A host calls ``observe`` once a step, asks ``is_due``, and then ``decide`` and ``correct``::

    for step, sigma in enumerate(sigmas[:-1]):
        denoised = model(x, sigma)
        trajectory.observe(step, x, denoised)
        if trajectory.is_due(step) and trajectory.decide():
            x = trajectory.correct(x, denoised)
            denoised = model(x, sigma)
        x = next_state(x, denoised)
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .correction import apply_ttc, item_generator, item_noise
from .detection import Detection, read_bank
from .dynamics import ScoreBank
from .noise import NoiseLevel
from .regions import dilate
from .settings import CorrectionSettings, DetectionSettings
from .trace import Trace

INSIDE = 0.9  # of the window's first noise level; a run that starts below lacks a part of it
FEW_STEPS = 10  # shorter runs leave too few frames in the window (paper Sec. 7.1 uses 25 and more)


@dataclass(frozen=True)
class Window:
    """The steps between T_d and T_c of one schedule.

    Attributes:
        first, last: first and last step that is watched, both inclusive; first > last means none.
        decision: the step at T_c, where the correction happens, or None where the run ends before.
        notes: what the user ought to know about it, in sentences.
    """

    first: int
    last: int
    decision: int | None
    notes: tuple[str, ...]


def find_window(sigmas: Sequence[float], sigma_start: float, sigma_end: float) -> Window:
    """Chooses the window by noise level: the bank covers ``sigma_end < sigma <= sigma_start`` (T_c < t <= T_d).

    Args:
        sigmas: falling noise levels of the run's steps, with the last one that it ends on.
        sigma_start: noise level of T_d.
        sigma_end: noise level of T_c.
    """
    steps = list(sigmas[:-1])
    if any(after > before for before, after in itertools.pairwise(sigmas)):
        return Window(0, -1, None, ("Not watched: the noise levels of this run rise, so it does not denoise.",))
    watched = [i for i, s in enumerate(steps) if sigma_end < s <= sigma_start]
    after = [i for i, s in enumerate(steps) if 0 < s <= sigma_end]
    decision = after[0] if after else None
    if len(watched) < 2 or decision is None:
        where = "ends before" if decision is None else "has fewer than two steps in"
        note = (
            f"Not watched: this run of {len(steps)} step{'s' * (len(steps) != 1)} {where} the detection window "
            f"(sigma {sigma_start:.3g} to {sigma_end:.3g}); take more steps, a higher denoise or a wider window."
        )
        return Window(0, -1, None, (note,))
    notes: tuple[str, ...] = ()
    if steps[0] < INSIDE * sigma_start:
        notes = (
            f"This run starts at sigma {steps[0]:.3g}, inside the detection window that starts at {sigma_start:.3g}: "
            "what is born before is missed; a higher denoise shows more.",
        )
    if len(steps) < FEW_STEPS:
        notes += (
            f"Few steps: with {len(steps)} steps only {len(watched)} lie in the detection window, "
            f"so artifacts are easily missed; {FEW_STEPS} or more are advised.",
        )
    return Window(watched[0], watched[-1], decision, notes)


class Trajectory:
    """State of one run. Frees itself with the object; nothing is shared between runs.

    Args:
        detection: how to find artifacts.
        correction: what to do about them.
        sigmas: the host's noise levels, one per step and the last one.
        sigma_start, sigma_end: noise levels of T_d and T_c.
        levels: alpha and sigma of the state at each step.
        seed: of the run; with an item's index it seeds that image's correction.
        items: index of each image of the batch; 0, 1, … where it is None.
        to_rgb: shows a latent as colours in the report's frames, see Trace.
    """

    def __init__(
        self,
        detection: DetectionSettings,
        correction: CorrectionSettings,
        sigmas: Sequence[float],
        sigma_start: float,
        sigma_end: float,
        levels: Sequence[NoiseLevel],
        seed: int = 0,
        items: Sequence[int] | None = None,
        to_rgb: Tensor | None = None,
    ) -> None:
        self.detection, self.correction = detection, correction
        self.sigmas = tuple(float(s) for s in sigmas)
        self.window = find_window(self.sigmas, sigma_start, sigma_end)
        self._levels, self._seed, self._items = levels, seed, items
        self._bank: ScoreBank | None = None
        self._previous: Tensor | None = None
        self.trace = Trace(len(self.sigmas) - 1, to_rgb)
        self.detections: list[Detection] = []
        self.corrected: list[bool] = []

    def observe(self, step: int, x: Tensor, denoised: Tensor) -> None:
        """Takes the prediction of a step, before it is known whether the step is due for a correction.

        Args:
            step: index into the sigmas.
            x: state [B,C,H,W] that the model saw.
            denoised: predicted clean image [B,C,H,W].
        """
        self.trace.push(step, denoised)
        if self.window.first <= step <= self.window.last:
            if self._bank is None:
                self._bank = ScoreBank(self.detection, tuple(denoised.shape), denoised.device)  # type: ignore[arg-type]
            self._bank.push(denoised, x, self._levels[step])
            self._previous = denoised

    def is_due(self, step: int) -> bool:
        """True at T_c, once."""
        return step == self.window.decision and not self.detections and self._bank is not None

    def decide(self) -> bool:
        """Reads the bank: the one copy to the host. True if at least one image is to be corrected."""
        if self._bank is None:
            raise ValueError("There is nothing to decide on before the window was observed.")
        self.detections = read_bank(self._bank.result(), self.detection)
        self._bank = None
        self.corrected = [bool(d.regions) and self.correction.acts for d in self.detections]
        return any(self.corrected)

    def correct(
        self,
        x: Tensor,
        denoised: Tensor | None = None,
        noise: Tensor | None = None,
        perturbation: Tensor | None = None,
    ) -> Tensor:
        """The state at T_c with every artifact region re-noised; images without one keep every bit.

        Args:
            x: state [B,C,H,W] at T_c.
            denoised: prediction at T_c, needed unless the clean image comes from the step before.
            noise, perturbation: standard normal [B,C,H,W] to use in place of each image's own.

        Raises:
            ValueError: nothing was decided, or the prediction is missing.
        """
        step = self.window.decision
        if step is None or not self.detections:
            raise ValueError("Call decide() at T_c before correct().")
        clean = self._previous if self.correction.x0_source == "previous" else denoised
        if clean is None:
            raise ValueError("x0_source 'current' re-noises the prediction at T_c, which was not given.")
        mask = torch.from_numpy(np.stack([self._correction_mask(i) for i in range(len(x))])).to(x.device)
        items = self._items if self._items is not None else range(len(x))
        draw = [
            item_generator(self._seed, item) if on else None for item, on in zip(items, self.corrected, strict=True)
        ]
        noise = item_noise(x, draw) if noise is None else noise
        if perturbation is None and self.correction.gamma > 0:
            perturbation = item_noise(x, draw)
        return apply_ttc(x, clean, mask, self._levels[step], self.correction, noise, perturbation)

    def _correction_mask(self, image: int) -> np.ndarray:
        mask = self.detections[image].mask
        if not self.corrected[image]:
            return np.zeros_like(mask)
        return dilate(mask, round(self.correction.expand * self.detection.scale(*mask.shape)))
