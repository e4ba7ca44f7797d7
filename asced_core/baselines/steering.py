"""Corrections that change the window's predictions before the sampler uses them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..detect.given import FindMasks, mask_cells
from ..maps import BoolMap, as_images, as_videos, touched_cells
from ..report.outcome import plural
from ..report.report import Report
from ..settings import DetectionSettings
from ..window import Window
from .clipping import ScoreClipping
from .sargd import AdaptedSARGD, abnormal_regions


class Steering:
    """Method ``clip`` or ``sargd`` for one run. The trajectory only watches such a run.

    Args:
        method: see CorrectionSettings.
        settings: how artifacts are detected.
        window: the steps that are steered.
        forbidden: bool [1,H,W] or one per image, at any size: nothing is changed there.
        find: another detector for SARGD; None uses ASCED's own.
    """

    def __init__(
        self,
        method: str,
        settings: DetectionSettings,
        window: Window,
        forbidden: BoolMap | None = None,
        find: FindMasks | None = None,
    ) -> None:
        self._method, self._settings, self._window = method, settings, window
        self._forbidden, self._find = forbidden, find
        self._rule: ScoreClipping | AdaptedSARGD | None = None

    def __call__(self, step: int, denoised: Tensor) -> Tensor:
        """The prediction [B,C,H,W] or [B,C,T,H,W] for the sampler; unchanged outside the window.

        Args:
            step: index of the step.
            denoised: the model's prediction. The trajectory observes this one, not the returned one.
        """
        if self._window.decision is None or step not in self._window:
            return denoised
        images = as_images(denoised)
        if self._rule is None:
            self._rule = self._make(images)
        steered = self._rule(step, images)
        return steered if denoised.ndim == 4 else as_videos(steered, denoised.shape[2])

    def _make(self, images: Tensor) -> ScoreClipping | AdaptedSARGD:
        batch, channels, height, width = images.shape
        never = None
        if self._forbidden is not None:
            cells = np.stack([touched_cells(mask, height, width) for mask in self._forbidden])
            never = torch.from_numpy(cells).to(images.device)
        if self._method == "clip":
            return ScoreClipping(self._settings, (batch, channels, height, width), images.device, never)
        given = self._find
        find = abnormal_regions(self._settings) if given is None else lambda x: mask_cells(given, x)
        return AdaptedSARGD(find, batch, images.device, never)

    def finish(self, report: Report) -> Report:
        """The run's report, with the changed images marked as corrected."""
        if self._rule is None or report.decision is None or not (touched := self._rule.touched.tolist()).count(True):
            return report
        unseen = sum(on and not image.flagged for on, image in zip(touched, report.images, strict=True))
        notes = report.notes
        if unseen:
            changed = f"{plural(unseen, 'image')} changed at single steps"
            notes = (*notes, f"{changed}, although no region was found over the whole window.")
        return replace(
            report,
            images=tuple(replace(image, corrected=on) for on, image in zip(touched, report.images, strict=True)),
            corrected_steps=(report.decision,),
            notes=notes,
        )
