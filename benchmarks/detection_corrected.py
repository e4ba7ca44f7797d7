"""What TTC makes of the places that the best signals of detection.py mark: bad images before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asced_core import CorrectionSettings
from asced_core.maps import BoolMap
from benchmarks.detection_beds import recordings, seeds_of, window
from benchmarks.detection_signals import SETTINGS, SIGNALS
from benchmarks.hands import ROOT, HandSampler, Recording, correct, to_uint8
from benchmarks.judges import PRESENT, landmark_file, presence, stray_components
from benchmarks.methods import SEED
from benchmarks.quality import Figure, figure, paired_change, rate

EARLIER = 0.40  # of the run, a T_c before the usual one
CORRECTED = ("reference", "robust", "robust, surroundings left in", "robust, threshold 2.5", "robust, threshold 4")
ELSEWHERE, SOONER, WHOLE = "robust's masks elsewhere", f"robust, T_c at {EARLIER:.2f}", "the whole image"
SETTLED = "robust, T_c where the image's changes calm down"
CALM = 0.8  # of an image's strongest mean change in the window
ENDS = (0.34, 0.38, 0.42, 0.46, 0.50)  # of the run, what T_c is chosen of
RESAMPLES = 500
ANYWHERE = CorrectionSettings(max_area=1.0)  # the whole image, too
Row = dict[str, Any]


def elsewhere(masks: BoolMap, seeds: list[int]) -> BoolMap:
    """The control: the same masks at random places."""
    shifts = [np.random.default_rng((SEED, seed)).integers(8, 57, 2) for seed in seeds]
    return np.stack([np.roll(m, shift, (0, 1)) for m, shift in zip(masks, shifts, strict=True)])


def corrected(half: str, images: int) -> dict[str, Any]:
    """Bad images before and after TTC, by each of the best signals, on both beds."""
    landmarks = landmark_file(ROOT / "output" / "bench" / "models")

    def pieces(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return np.array([bool(stray_components(image)) for image in images])

    def malformed(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return presence(images, landmarks) < PRESENT

    beds = {"early": ("stray", pieces, images), "final": ("malformed", malformed, images // 2)}
    return {bed: {"label": label, "rows": _bed(bed, half, n, judge)} for bed, (label, judge, n) in beds.items()}


def _bed(bed: str, half: str, images: int, bad: Callable[[NDArray[np.uint8]], NDArray[np.bool_]]) -> dict[str, Row]:
    sampler = HandSampler(bed)
    before: list[NDArray[np.bool_]] = []
    after: dict[str, list[NDArray[np.bool_]]] = {}
    marked: dict[str, list[NDArray[np.bool_]]] = {}
    for run in recordings(sampler, seeds_of(half, images)):
        before.append(bad(to_uint8(run.images)))
        frames = window(sampler, run, SETTINGS)
        masks = {name: SIGNALS[name](frames).masks for name in CORRECTED}
        masks[ELSEWHERE] = elsewhere(masks["robust"], run.seeds)
        masks[WHOLE] = np.ones_like(masks["robust"])
        sooner = replace(SETTINGS, end_percent=EARLIER)
        masks[SOONER] = SIGNALS["robust"](window(sampler, run, sooner)).masks
        for name, mask in masks.items():
            settings = sooner if name == SOONER else SETTINGS
            outcome = correct(sampler, run, settings, ANYWHERE, lambda _, m=mask: m)  # type: ignore[misc]
            after.setdefault(name, []).append(bad(outcome.images))
            marked.setdefault(name, []).append(mask)
        pictures, mask = _when_settled(sampler, run, frames)
        after.setdefault(SETTLED, []).append(bad(pictures))
        marked.setdefault(SETTLED, []).append(mask)
    was = np.concatenate(before)
    rows = {}
    for name, parts in after.items():
        now, shown = np.concatenate(parts), np.concatenate(marked[name])
        rows[name] = {
            "before": asdict(rate(was)),
            "after": asdict(rate(now)),
            "ratio": asdict(ratio(was, now)),
            "change": asdict(paired_change(was, now)),
            "new": asdict(rate(now[~was])),
            "flagged": asdict(rate(np.asarray(shown.any((1, 2))))),
            "area": round(float(shown.mean()), 4),
        }
    return rows


def settled(frames: torch.Tensor) -> NDArray[np.int64]:
    """How many frames of [N,B,C,H,W] pass until each image's mean change has come down from its peak, [B]."""
    change = frames.diff(dim=0).abs().mean((2, 3, 4)).numpy()
    peak = change.argmax(0)
    calm = (change < CALM * change.max(0)) & (np.arange(len(change))[:, None] > peak)
    return np.where(calm.any(0), calm.argmax(0) + 2, len(frames))


def _when_settled(sampler: HandSampler, run: Recording, frames: torch.Tensor) -> tuple[NDArray[np.uint8], BoolMap]:
    """Robust with a T_c for each image, where its changes have calmed down: pictures and masks."""
    choices = [replace(SETTINGS, end_percent=end) for end in ENDS]
    lengths = [len(sampler.watched(choice)) for choice in choices]
    chosen = np.searchsorted(lengths, settled(frames)).clip(max=len(choices) - 1)
    pictures, masks = to_uint8(run.images), np.zeros((len(run.seeds), *frames.shape[-2:]), bool)
    for place in np.unique(chosen):
        found = SIGNALS["robust"](window(sampler, run, choices[place])).masks
        outcome = correct(sampler, run, choices[place], ANYWHERE, lambda _, m=found: m)  # type: ignore[misc]
        mine = chosen == place
        pictures[mine], masks[mine] = outcome.images[mine], found[mine]
    return pictures, masks


def ratio(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Figure:
    """Share of bad images after over that before, by resampling images."""
    rng = np.random.default_rng(0)
    picks = [rng.integers(len(before), size=len(before)) for _ in range(RESAMPLES)]
    drawn = [float(after[p].sum() / max(1, before[p].sum())) for p in picks]
    return figure(float(after.sum() / max(1, before.sum())), drawn)
