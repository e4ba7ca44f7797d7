"""What replaces the artifact regions of a run, and with which noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..decision import Decision
from ..maps import feather, resize_mask
from ..noise import NoiseLevel
from ..settings import CorrectionSettings, DetectionSettings
from .pixel_space import PixelCodec, perturb_in_pixels
from .renoising import apply_ttc, item_generator, item_noise


class Corrector:
    """Corrects the state of one run.

    Args:
        settings: how regions are corrected; None uses the defaults.
        seed: the run's seed, or one for each item of the batch; together with an item's number it seeds its noise.
        items: a number for each item of the batch, such as its index or its noise key; None means 0, 1, …
        codec: decodes and encodes; required for a perturbation in pixel space.
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
        self._first: Tensor | None = None
        self._previous: Tensor | None = None

    def remember(self, denoised: Tensor) -> None:
        """Keeps a prediction of the window if the correction may need it later."""
        if self.settings.method == "replace" and self._first is None:
            self._first = denoised
        if self.settings.x0_source == "previous":
            self._previous = denoised

    def correct(
        self,
        decision: Decision,
        x: Tensor,
        level: NoiseLevel,
        detection: DetectionSettings,
        denoised: Tensor | None = None,
        noise: Tensor | None = None,
        perturbation: Tensor | None = None,
    ) -> Tensor:
        """The state with every artifact region re-noised; images without one stay bit-for-bit identical.

        Args:
            decision: the run's decision.
            x: state [B,C,H,W] or [B,C,T,H,W] at T_c.
            level: noise level of ``x``.
            detection: provides the scale of the sizes.
            denoised: prediction at T_c; required unless the clean image comes from an earlier step.
            noise, perturbation: standard normal, same shape as ``x``; None draws each item's own.

        Raises:
            ValueError: the prediction is missing, or pixel space has no codec.
        """
        settings = self.settings
        source = "first" if settings.method == "replace" else settings.x0_source
        clean = {"first": self._first, "previous": self._previous, "current": denoised}[source]
        if clean is None:
            raise ValueError("x0_source 'current' re-noises the prediction at T_c: pass it as denoised.")
        acting = decision.acting(len(x))
        mask = torch.from_numpy(decision.cells).to(x.device).view(len(x), *x.shape[2:])
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
