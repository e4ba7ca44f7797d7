"""From a score bank to the artifact regions of each image; ``detect`` does it for given frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..maps import BoolMap, dilate
from ..settings import BASE_SIZE, DetectionSettings
from .regions import Region, find_regions
from .single_steps import BankResult, ScoreBank


@dataclass(frozen=True, eq=False)
class Detection:
    """What was found in one image.

    Attributes:
        mask: bool [H,W], the kept regions, grown by the settings' ``expand``.
        raw_mask: bool [H,W], every cell that exceeded its threshold, before the filters.
        ratio: float32 [H,W], how many times the threshold was exceeded, 0 to 100.
        regions: the kept regions, strongest first.
        medians, mads, thresholds: float32 [differences], in the units of the mode's signal.
        abnormal: float32 [differences], share of the cells that exceeded the threshold, 0 to 1.
        floor: lower bound of the thresholds in force, same units.
    """

    mask: BoolMap
    raw_mask: BoolMap
    ratio: NDArray[np.float32]
    regions: list[Region]
    medians: NDArray[np.float32]
    mads: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    abnormal: NDArray[np.float32]
    floor: float

    @property
    def score(self) -> float:
        """Score of the strongest region, 0 where there is none."""
        return max((region.score for region in self.regions), default=0.0)


def pack_bank(result: BankResult) -> Tensor:
    """All of a bank's result on the host as one float32 vector, by one copy."""
    return torch.cat([result.ratio.flatten(), result.steps.flatten(), result.floor]).cpu()


def read_bank(result: BankResult, settings: DetectionSettings, forbidden: BoolMap | None = None) -> list[Detection]:
    """The detections of a batch; costs one copy from the device to the host, whatever the batch.

    Args:
        result: of the bank.
        settings: filters of the regions.
        forbidden: bool [B,H,W] or [1,H,W] in cells of the signal: where nothing may be found.
    """
    ratios, steps, floors = np.split(pack_bank(result).numpy(), np.cumsum([result.ratio.numel(), result.steps.numel()]))
    ratios, steps = ratios.reshape(result.ratio.shape), steps.reshape(result.steps.shape)
    if forbidden is not None:
        ratios = np.where(forbidden, np.float32(0), ratios)
    return [_detection(ratios[i], steps[:, :, i], float(floors[i]), settings) for i in range(len(ratios))]


def regions_of_last_change(bank: ScoreBank) -> Tensor:
    """The regions of the bank's last change alone, bool [B,H,W] on its device; costs a copy to the host."""
    batch, _, height, width = bank.shape
    if bank.exceeded is None:
        return torch.zeros(batch, height, width, dtype=torch.bool, device=bank.limit.device)
    found = [find_regions(raw, raw.astype(np.float32), bank.settings)[0] for raw in bank.exceeded.cpu().numpy()]
    return torch.from_numpy(np.stack(found)).to(bank.limit.device)


def judged_detection(found: Detection, mask: BoolMap, settings: DetectionSettings) -> Detection:
    """A detection with another detector's mask, bool [H,W], in place of its own; no region is too small or too large.

    Scores are 1: the other detector says where, not how much.
    """
    ratio = mask.astype(np.float32)
    kept, regions = find_regions(mask, ratio, without_filters(settings, mask.size))
    return replace(found, mask=kept, raw_mask=mask, ratio=ratio, regions=regions)


def without_filters(settings: DetectionSettings, cells: int) -> DetectionSettings:
    """No region of so many cells is too small, too large or too thin."""
    return replace(settings, min_area=0, max_area=2.0 * BASE_SIZE**2 * cells, min_width=0)


def merge_rounds(rounds: Sequence[Detection]) -> Detection:
    """What was found in one image over several rounds: all masks and regions, the steps one after the other."""
    if len(rounds) == 1:
        return rounds[0]
    return Detection(
        mask=np.logical_or.reduce([r.mask for r in rounds]),
        raw_mask=np.logical_or.reduce([r.raw_mask for r in rounds]),
        ratio=np.maximum.reduce([r.ratio for r in rounds]),
        regions=sorted((region for r in rounds for region in r.regions), key=lambda region: -region.score),
        medians=np.concatenate([r.medians for r in rounds]),
        mads=np.concatenate([r.mads for r in rounds]),
        thresholds=np.concatenate([np.maximum(r.thresholds, r.floor) for r in rounds]),
        abnormal=np.concatenate([r.abnormal for r in rounds]),
        floor=0.0,  # each round's own is in its thresholds
    )


def _detection(
    ratio: NDArray[np.float32], steps: NDArray[np.float32], floor: float, settings: DetectionSettings
) -> Detection:
    raw = ratio > 0
    mask, regions = find_regions(raw, ratio, settings)
    mask = dilate(mask, round(settings.expand * settings.scale(*mask.shape)))
    medians, mads, thresholds, abnormal = steps
    return Detection(mask, raw, ratio, regions, medians, mads, thresholds, abnormal, floor)


def detect(frames: NDArray[np.uint8] | Tensor, settings: DetectionSettings | None = None) -> Detection:
    """Finds the artifact regions of one image from its predicted clean images over time.

    Args:
        frames: in the order of sampling; uint8 [N,H,W] or [N,H,W,C] (array or tensor), or float [N,C,H,W] with
            values in [-1, 1]. In mode ``paper`` floats are the weighted scores ``w(t) * s_t`` themselves.
        settings: see DetectionSettings.

    Raises:
        ValueError: there are fewer than two frames, their shape is another one, or uint8 frames are given to
            ``paper``, which cannot know their noise.

    Example:
        >>> frames = np.zeros((3, 64, 64, 3), np.uint8)
        >>> bool(detect(frames, DetectionSettings(mode="reference")).mask.any())
        False
    """
    settings = settings or DetectionSettings()
    data = torch.as_tensor(frames)
    levels = data.dtype == torch.uint8
    if levels and data.ndim == 3:
        data = data[..., None]
    if data.ndim != 4 or len(data) < 2 or 0 in data.shape:
        raise ValueError(
            f"Frames must be at least two of uint8 [N,H,W] or [N,H,W,C], or float [N,C,H,W]; "
            f"got {tuple(torch.as_tensor(frames).shape)}."
        )
    if levels and settings.mode == "paper":
        raise ValueError("Mode paper needs the weighted scores as floats [N,C,H,W]; uint8 frames do not hold them.")
    if levels:
        data = data.movedim(-1, 1).float()
        data = data if settings.mode == "reference" else data / 127.5 - 1
    bank = ScoreBank(settings, (1, *data.shape[1:]), data.device)
    for frame in data.split(1):
        if levels or settings.mode == "paper":
            bank.push_value(frame.float())
        else:
            bank.push(frame)
    return read_bank(bank.result(), settings)[0]
