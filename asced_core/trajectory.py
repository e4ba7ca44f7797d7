"""One sampling run of any host: which steps are watched, when is decided, what is handed back.

A host calls ``observe`` once a step, asks ``is_due``, and then ``decide`` and ``correct``::

    for step, sigma in enumerate(sigmas[:-1]):
        denoised = model(x, sigma)
        trajectory.observe(step, x, denoised)
        if trajectory.is_due(step) and trajectory.decide():
            x = trajectory.correct(x, denoised)
            denoised = model(x, sigma)
            trajectory.observe(step, x, denoised)
        x = next_state(x, denoised)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .baselines.steering import Steering, make_steering
from .correct.pixel_space import PixelCodec, perturb_in_pixels
from .correct.renoising import apply_ttc, item_generator, item_noise
from .detect.detection import Detection, judged_detection, merge_rounds, read_bank
from .detect.single_steps import ScoreBank
from .detect.space import Signal
from .maps import BoolMap, as_images, dilate, feather, frames_of, resize_mask, touched_cells
from .noise import NoiseLevel
from .report.trace import Trace
from .settings import CorrectionSettings, DetectionSettings
from .window import find_window

Judge = Callable[[Tensor], BoolMap]


class Trajectory:
    """State of one run. Frees itself with the object; nothing is shared between runs.

    Videos [B,C,T,H,W] are watched frame by frame and corrected as a whole: image ``b * T + t`` is frame t of b.

    Args:
        detection: how to find artifacts.
        correction: what to do about them.
        sigmas: the host's noise levels, one per step and the last one.
        sigma_start, sigma_end: noise levels of T_d and T_c.
        levels: alpha and sigma of the state at each step.
        seed: of the run; with an item's index it seeds that image's correction.
        items: index of each item of the batch; 0, 1, … where it is None.
        to_rgb: shows a latent as colours in the report's frames, see Trace.
        signal: what the detector looks at.
        codec: decodes and encodes, needed for a correction in pixel space.
        forbidden: bool [1,H,W] or one per image, at any size: where nothing may be found or changed.
        sigma_last: noise level of T_c's upper limit, for several rounds.
        judge: finds the artifacts of predictions [N,C,H,W] in another way, bool [N,H',W']; None: by the dynamics.

    Attributes:
        bank: the changes since the window began; None while none is open.
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
        signal: Signal | None = None,
        codec: PixelCodec | None = None,
        forbidden: BoolMap | None = None,
        sigma_last: float | None = None,
        judge: Judge | None = None,
    ) -> None:
        self.detection, self.correction = detection, correction
        self.sigmas = tuple(float(s) for s in sigmas)
        rounds = correction.rounds if correction.acts else 1
        self.window = find_window(self.sigmas, sigma_start, sigma_end, sigma_last, rounds)
        self.signal = signal or Signal()
        self.trace = Trace(len(self.sigmas) - 1, to_rgb)
        self.notes: list[str] = []
        self.corrected: list[bool] = []  # per image, by any round
        self.acting: list[bool] = []  # per item of the batch, by the last decision
        self.corrected_steps: list[int] = []
        self.observed_steps: list[list[int]] = []
        self._levels, self._seed, self._items = levels, seed, items
        self._codec, self._forbidden = codec, forbidden
        self._judge = judge
        self._steering: Steering | None = None
        self.bank: ScoreBank | None = None
        self._first: Tensor | None = None
        self._previous: Tensor | None = None
        self._seen: tuple[int, Tensor, Tensor] | None = None
        self._rounds: list[list[Detection]] = []
        self._masks: list[BoolMap] = []
        self._cells: BoolMap = np.zeros((0, 0, 0), bool)
        self._generators: dict[int, torch.Generator] = {}
        self._due = list(self.window.decisions)
        self._from = self.window.first

    @property
    def detections(self) -> list[Detection]:
        """What was found in each image, all rounds together; empty before the first decision."""
        return [merge_rounds(rounds) for rounds in zip(*self._rounds, strict=True)]

    def observe(self, step: int, x: Tensor, denoised: Tensor) -> None:
        """Takes the prediction of a step, before it is known whether the step is due for a correction.

        Args:
            step: index into the sigmas.
            x: state [B,C,H,W] or [B,C,T,H,W] that the model saw.
            denoised: predicted clean image of the same shape.
        """
        self.trace.push(step, as_images(denoised))
        if not self._due:
            return
        self._seen = (step, x, denoised)
        if self._from <= step < self._due[0]:
            self._push(step, x, denoised)

    def _push(self, step: int, x: Tensor, denoised: Tensor) -> None:
        self._previous = denoised
        if self._first is None and self.correction.method == "replace":
            self._first = denoised
        # with the window's last step in, the bank covers all of it
        if (step - self._from) % self.detection.every and step != self._due[0] - 1:
            return
        signal = self.signal(denoised)
        if self.bank is None:
            frames = frames_of(tuple(denoised.shape))
            shape: tuple[int, int, int, int] = tuple(signal.shape)  # type: ignore[assignment]
            self.bank = ScoreBank(self.detection, shape, signal.device, frames)
            self.observed_steps.append([])
        self.bank.push(signal, as_images(x), self._levels[step])
        self.observed_steps[-1].append(step)

    def steer(self, step: int, denoised: Tensor) -> Tensor:
        """The prediction that the sampler is to go on with; the given one for methods that do not steer.

        Args:
            step: index into the sigmas.
            denoised: predicted clean image [B,C,H,W] or [B,C,T,H,W]. ``observe`` takes this one, not the answer.
        """
        if not self.correction.steers or not self._due or not self.window.first <= step <= self.window.last:
            return denoised
        images = as_images(denoised)
        if self._steering is None:
            self._steering = self._make_steering(images)
        steered = self._steering(step, images)
        return steered if denoised.ndim == 4 else steered.unflatten(0, (len(denoised), -1)).movedim(1, 2)

    def _make_steering(self, images: Tensor) -> Steering:
        forbidden = self._forbidden_at(*images.shape[-2:])
        never = None if forbidden is None else torch.from_numpy(forbidden).to(images.device)
        detector = None if self._judge is None else self._judged_state
        return make_steering(self.correction.method, self.detection, images, never, detector)

    def _judged_state(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self._judged_cells(images, *images.shape[-2:])).to(images.device)

    def _judged_cells(self, images: Tensor, height: int, width: int) -> BoolMap:
        assert self._judge is not None
        return np.stack([touched_cells(mask, height, width) for mask in self._judge(images)])

    def _judged(self, found: list[Detection]) -> list[Detection]:
        """The judge's masks in place of the dynamics', in cells of the signal; its regions are taken as they are."""
        assert self._seen is not None
        height, width = found[0].mask.shape
        masks = self._judged_cells(as_images(self._seen[2]), height, width)
        forbidden = self._forbidden_at(height, width)
        masks = masks if forbidden is None else masks & ~forbidden
        return [judged_detection(d, mask, self.detection) for d, mask in zip(found, masks, strict=True)]

    def is_due(self, step: int) -> bool:
        """True at T_c, and at every further round's decision; once each."""
        return bool(self._due) and step == self._due[0] and self.bank is not None and self.bank.differences > 0

    def decide(self) -> bool:
        """Reads the bank: the one copy to the host. True if at least one image is to be corrected.

        Raises:
            ValueError: nothing was observed.
        """
        if self.bank is None or self._seen is None:
            raise ValueError("There is nothing to decide on before the window was observed.")
        size = self.bank.shape[-2:]
        found = read_bank(self.bank.result(), self.detection, self._forbidden_at(*size))
        if self._judge is not None:
            found = self._judged(found)
        self._rounds.append(found)
        self.bank, self._from = None, self._due.pop(0)
        x = self._seen[1]
        self._masks = [self._fine_mask(i, d) for i, d in enumerate(found)]
        self._cells = self._touched(*x.shape[-2:])
        acting = [bool(cells.any()) for cells in self._cells]
        steered = [False] * len(acting) if self._steering is None else self._steering.touched.tolist()
        self.corrected = [any(flags) for flags in zip(self.corrected or steered, acting, strict=True)]
        self.acting = [any(frames) for frames in np.reshape(acting, (len(x), -1))]
        unseen = sum(on and not d.regions for on, d in zip(steered, found, strict=True))
        if unseen:
            self.notes.append(f"{unseen} image(s) changed at single steps, though the whole window shows no region.")
        if any(acting) or any(steered):
            self.corrected_steps.append(self._from)
        if self._due and not any(acting):  # a corrected round is followed by its new prediction, which comes by itself
            self._push(*self._seen)
        return any(acting)

    def _touched(self, height: int, width: int) -> BoolMap:
        """The cells of the state that hold any part of the masks and nothing that is forbidden, [N,height,width]."""
        touched = np.stack([touched_cells(mask, height, width) for mask in self._masks])
        forbidden = self._forbidden_at(height, width)
        return touched if forbidden is None else touched & ~forbidden

    def _fine_mask(self, image: int, found: Detection) -> BoolMap:
        """What is to be corrected of an image, in cells of the signal; nothing if it is too much."""
        nothing = np.zeros_like(found.mask)
        if not found.regions or not self.correction.acts:
            return nothing
        mask = dilate(found.mask, round(self.correction.expand * self.detection.scale(*found.mask.shape)))
        forbidden = self._forbidden_at(*mask.shape)
        if forbidden is not None:
            mask = mask & ~forbidden[image % len(forbidden)]
        if mask.mean() > self.correction.max_area:
            self.notes.append(
                f"Image {image} is not corrected: its mask covers {mask.mean():.0%} of it, more than max_area "
                f"({self.correction.max_area:.0%}), and new noise everywhere would keep the artifact rate."
            )
            return nothing
        return mask

    def _forbidden_at(self, height: int, width: int) -> BoolMap | None:
        if self._forbidden is None:
            return None
        return np.stack([touched_cells(mask, height, width) for mask in self._forbidden])

    def correct(
        self,
        x: Tensor,
        denoised: Tensor | None = None,
        noise: Tensor | None = None,
        perturbation: Tensor | None = None,
    ) -> Tensor:
        """The state at T_c with every artifact region re-noised; images without one keep every bit.

        Args:
            x: state [B,C,H,W] or [B,C,T,H,W] at T_c.
            denoised: prediction at T_c, needed unless the clean image comes from the step before.
            noise, perturbation: standard normal, shaped as x, to use in place of each image's own.

        Raises:
            ValueError: nothing was decided, the prediction is missing, or pixel space has no codec.
        """
        if not self._rounds:
            raise ValueError("Call decide() at T_c before correct().")
        source = "first" if self.correction.method == "replace" else self.correction.x0_source
        clean = {"first": self._first, "previous": self._previous, "current": denoised}[source]
        if clean is None:
            raise ValueError("x0_source 'current' re-noises the prediction at T_c, which was not given.")
        level = self._levels[self._from]
        mask = torch.from_numpy(self._cells).to(x.device).view(len(x), *x.shape[2:])
        draw = [self._generator(i) if on else None for i, on in enumerate(self.acting)]
        noise = item_noise(x, draw) if noise is None else noise
        correction = self.correction
        if correction.method == "replace":
            correction = replace(correction, gamma=0.0)
        if correction.gamma > 0 and correction.space == "pixel":
            clean = self._perturbed(clean, [i for i, on in enumerate(self.acting) if on])
            correction = replace(correction, gamma=0.0)  # it is in the clean image already
        elif correction.gamma > 0 and perturbation is None:
            perturbation = item_noise(x, draw)
        return apply_ttc(x, clean, mask, level, correction, noise, perturbation)

    def _generator(self, item: int) -> torch.Generator:
        """An item's own source of noise; a further round goes on with it."""
        if item not in self._generators:
            index = item if self._items is None else self._items[item]
            self._generators[item] = item_generator(self._seed, index)
        return self._generators[item]

    def _perturbed(self, clean: Tensor, images: list[int]) -> Tensor:
        """The clean images with gamma's perturbation drawn on the pictures of some of them."""
        if self._codec is None:
            raise ValueError("A correction in pixel space needs a codec that decodes and encodes.")
        picture = self._codec.decode(clean[images])
        height, width = picture.shape[-2:]
        soft = self.correction.feather * self.detection.scale(height, width)
        weight = np.stack([feather(resize_mask(self._masks[i], height, width), soft) for i in images])
        xi = item_noise(picture, [self._generator(i) for i in images])
        perturbation = self.correction.gamma * xi * torch.from_numpy(weight)[:, None].to(xi.device)
        out = clean.clone()
        out[images] = perturb_in_pixels(clean[images], picture, perturbation, self._codec)
        return out
