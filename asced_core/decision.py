"""The decision at T_c: the regions of each image, and the cells of the state to correct.

The forbidden map is applied only here: nothing is detected there, and no region or correction grows into it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .detect.detection import Detection, find_in, to_cpu
from .detect.evidence import Evidence
from .maps import BoolMap, dilate, touched_cells
from .report.outcome import capitalized, listed
from .settings import CorrectionSettings, DetectionSettings


@dataclass(frozen=True, eq=False)
class Decision:
    """What was detected in a run, and what will be corrected.

    Attributes:
        step: index of T_c.
        detections: one per image (per frame of a video).
        masks: bool [N,H,W], the part of each image to correct, in cells of the signal.
        cells: bool [N,h,w], the cells of the state that contain any part of it.
        notes: what the user should know, as sentences.
    """

    step: int
    detections: tuple[Detection, ...]
    masks: BoolMap
    cells: BoolMap
    notes: tuple[str, ...] = ()

    @property
    def corrected(self) -> list[bool]:
        """For each image, whether it will be corrected."""
        return [bool(cells.any()) for cells in self.cells]

    @property
    def acts(self) -> bool:
        """True if any image will be corrected."""
        return bool(self.cells.any())

    def left_alone(self) -> Decision:
        """The same detections, with nothing to correct."""
        return replace(self, masks=np.zeros_like(self.masks), cells=np.zeros_like(self.cells))

    def acting(self, items: int) -> list[bool]:
        """For each item of the batch (an image, or a video with all its frames), whether it will be corrected."""
        return [bool(frames.any()) for frames in self.cells.reshape(items, -1)]

    def places(self, x: Tensor) -> Tensor:
        """Which items of a batch will be corrected, bool [B,1,1,…] on the device of the state [B,…]."""
        return torch.tensor(self.acting(len(x)), device=x.device).view(-1, *[1] * (x.ndim - 1))


def decide(
    step: int,
    evidence: Evidence,
    detection: DetectionSettings,
    correction: CorrectionSettings,
    state_size: tuple[int, int],
    forbidden: BoolMap | None = None,
) -> Decision:
    """Turns the detector's evidence into a decision; this is the only copy from the device.

    Args:
        step: index of T_c.
        evidence: the detector's result.
        detection: region filters.
        correction: how regions are corrected; the masks stay empty if it does not re-noise.
        state_size: height and width of the state in cells.
        forbidden: bool [1,H,W] or [N,H,W] at any size: nothing is detected or changed there.
    """
    ratio, thresholds, finite = to_cpu(evidence)
    clear = _clearing(forbidden)
    allowed = clear(np.ones(ratio.shape, bool))
    found = [
        find_in(r, t, detection, bool(measurable), bool(cells.any()), evidence.certainty)
        for r, t, measurable, cells in zip(clear(ratio), thresholds, finite, allowed, strict=True)
    ]
    labels = clear(np.stack([d.labels for d in found]))  # again, because expand may have grown regions into it
    detections = tuple(replace(d, labels=own) for d, own in zip(found, labels, strict=True))
    size = labels.shape[1:]
    grow = round(correction.expand * detection.scale(*size))
    grown = [dilate(d.mask, grow) if d.regions and correction.acts else np.zeros(size, bool) for d in detections]
    masks = clear(np.stack(grown))
    shares = masks.mean((1, 2))
    too_wide = shares > correction.max_corrected_share
    masks[too_wide] = False
    cells = clear(np.stack([touched_cells(mask, *state_size) for mask in masks]))
    notes = _on_too_wide(shares, too_wide, correction.max_corrected_share) if too_wide.any() else ()
    return Decision(step, detections, masks, cells, notes)


def _on_too_wide(shares: NDArray[np.float64], too_wide: NDArray[np.bool_], limit: float) -> tuple[str]:
    """A note on the images whose masks cover more than ``max_corrected_share``."""
    places = np.flatnonzero(too_wide).tolist()
    low, high = shares[too_wide].min(), shares[too_wide].max()
    one = len(places) == 1
    covers = f"its mask covers {low:.0%}" if one else f"their masks cover {low:.0%} to {high:.0%}"
    return (
        f"{capitalized(listed(places, 'image'))} {'is' if one else 'are'} not corrected: {covers} of the image, more "
        f"than max_corrected_share ({limit:.0%}); re-noising that much does not lower the artifact rate.",
    )


def _clearing(forbidden: BoolMap | None) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """A function that returns maps [N,H,W] of any size with the forbidden cells set to zero."""

    def clear(maps: NDArray[Any]) -> NDArray[Any]:
        if forbidden is None:
            return maps
        cells = np.stack([touched_cells(mask, *maps.shape[1:]) for mask in forbidden])
        return np.where(cells, maps.dtype.type(0), maps)

    return clear
