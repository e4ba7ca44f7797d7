"""What replaces the artifact regions of a run, and with which noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..decision import Decision
from ..maps import feather, resize_mask
from ..noise import NoiseLevel, Predict
from ..settings import CorrectionSettings, DetectionSettings
from ..window import Schedule
from .pixel_space import PixelCodec, perturb_in_pixels
from .redoing import redo
from .renoising import apply_ttc, item_generator, item_noise


class Corrector:
    """Corrects the state of one run.

    Args:
        settings: how regions are corrected; None uses the defaults.
        seed: the run's seed, or one for each item of the batch; together with an item's number it seeds its noise.
        items: a number for each item of the batch, such as its index or its noise key; None means 0, 1, …
        codec: decodes and encodes; required for a perturbation in pixel space.

    Attributes:
        settings: as given; method ttc once ``fall_back`` was called.
        notes: what the user should know about a correction, as sentences.
    """

    def __init__(
        self,
        settings: CorrectionSettings | None = None,
        seed: int | Sequence[int] = 0,
        items: Sequence[int] | None = None,
        codec: PixelCodec | None = None,
    ) -> None:
        self.settings = settings or CorrectionSettings()
        self._seed, self._items, self._codec = seed, items, codec
        self.notes: tuple[str, ...] = ()
        self._first: Tensor | None = None
        self._previous: Tensor | None = None
        self._states: dict[int, Tensor] = {}  # by step

    @property
    def redoes(self) -> bool:
        """True if the regions are sampled again from T_d on."""
        return self.settings.acts and self.settings.method == "redo"

    def remember(self, step: int, x: Tensor, denoised: Tensor) -> None:
        """Keeps what the correction may need later of a step of the window: its prediction, and for redo its state.

        Args:
            step: index into the levels.
            x: state [B,C,H,W] or [B,C,T,H,W].
            denoised: predicted clean image, same shape.
        """
        if self.settings.method in ("redo", "replace") and self._first is None:
            self._first = denoised
        if self.settings.x0_source == "previous":
            self._previous = denoised
        if self.redoes:
            self._states[step] = x.clone()  # a loop may write its next state into the same tensor

    def forget(self) -> None:
        """Frees what was kept: nothing will be corrected any more."""
        self._first = self._previous = None
        self._states.clear()

    def fall_back(self, reason: str) -> None:
        """Corrects by ttc instead of redo, and notes the reason (the end of a sentence)."""
        self.settings = replace(self.settings, method="ttc")
        self.notes += (f"Corrected by ttc instead of redo: {reason}.",)
        self.forget()

    def correct(
        self,
        decision: Decision,
        x: Tensor,
        schedule: Schedule,
        detection: DetectionSettings,
        denoised: Tensor | None = None,
        noise: Tensor | None = None,
        perturbation: Tensor | None = None,
        predict: Predict | None = None,
    ) -> Tensor:
        """The state with every artifact region corrected; images without one stay bit-for-bit identical.

        Args:
            decision: the run's decision.
            x: state [B,C,H,W] or [B,C,T,H,W] at T_c.
            schedule: noise levels and window of the run.
            detection: provides the scale of the sizes.
            denoised: prediction at T_c; required unless the clean image comes from an earlier step.
            noise, perturbation: standard normal, same shape as ``x``; None draws each item's own.
            predict: the model at a step of the window; required for redo, and not called by the other methods. It is
                called with the whole batch; what it returns for images that are not corrected is not used.

        Raises:
            ValueError: the prediction or the model is missing, or pixel space has no codec.
        """
        if self.redoes:
            if predict is None:
                raise ValueError("Method redo samples the regions again from T_d on: pass the model as predict.")
            if any(step not in self._states for step in range(schedule.window.first, decision.step)):
                self.fall_back("not every step between T_d and T_c was observed")
        begin = schedule.window.first if self.redoes else decision.step
        start = self._states[begin] if self.redoes else x
        mask = torch.from_numpy(decision.cells).to(x.device).view(len(x), *x.shape[2:])
        level = schedule.levels[begin]
        renoised = self._renoised(start, mask, level, decision, detection, denoised, noise, perturbation)
        if not self.redoes or predict is None:
            return renoised
        recorded = [*(self._states[step] for step in range(begin + 1, decision.step)), x]
        self.forget()
        return redo(renoised, recorded, mask, schedule.levels[begin:], predict, begin)

    def _renoised(
        self,
        x: Tensor,
        mask: Tensor,
        level: NoiseLevel,
        decision: Decision,
        detection: DetectionSettings,
        denoised: Tensor | None,
        noise: Tensor | None,
        perturbation: Tensor | None,
    ) -> Tensor:
        """The state at a noise level with the regions re-noised; see ``correct``."""
        settings = self.settings
        source = "first" if settings.method in ("redo", "replace") else settings.x0_source
        clean = {"first": self._first, "previous": self._previous, "current": denoised}[source]
        if clean is None:
            raise ValueError("x0_source 'current' re-noises the prediction at T_c: pass it as denoised.")
        acting = decision.acting(len(x))
        draw = [self._generator(i) if on else None for i, on in enumerate(acting)]
        noise = item_noise(x, draw) if noise is None else noise
        if settings.method == "replace":
            settings = replace(settings, gamma=0.0)
        if settings.gamma > 0 and settings.perturb_in == "pixel":
            places = [i for i, on in enumerate(acting) if on]
            clean = self._perturbed(clean, decision, places, draw, detection)
            settings = replace(settings, gamma=0.0)  # already part of the clean image
        elif settings.gamma > 0 and perturbation is None:
            perturbation = item_noise(x, draw)
        return apply_ttc(x, clean, mask, level, settings, noise, perturbation)

    def _generator(self, item: int) -> torch.Generator:
        """The noise generator of one item."""
        seed = self._seed if isinstance(self._seed, int) else self._seed[item]
        return item_generator(seed, item if self._items is None else self._items[item])

    def _perturbed(
        self,
        clean: Tensor,
        decision: Decision,
        places: list[int],
        draw: list[torch.Generator | None],
        detection: DetectionSettings,
    ) -> Tensor:
        """The clean images [B,C,H,W], with the decoded images at some batch indices perturbed by gamma."""
        if self._codec is None:
            raise ValueError("A correction in pixel space needs a codec: pass one that decodes and encodes.")
        picture = self._codec.decode(clean[places])
        height, width = picture.shape[-2:]
        soft = self.settings.feather * detection.scale(height, width)
        weight = np.stack([feather(resize_mask(decision.masks[i], height, width), soft) for i in places])
        xi = item_noise(picture, [draw[i] for i in places])
        perturbation = self.settings.gamma * xi * torch.from_numpy(weight)[:, None].to(xi.device)
        out = clean.clone()
        out[places] = perturb_in_pixels(clean[places], picture, perturbation, self._codec)
        return out
