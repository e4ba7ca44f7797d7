"""Bad images before and after TTC of the regions that the best signals of detection.py mark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asced_core import CorrectionSettings
from asced_core.maps import BoolMap
from benchmarks.detection_sets import recordings, seeds_of, window
from benchmarks.detection_signals import SETTINGS, SIGNALS
from benchmarks.hands import ROOT, HandSampler, Recording, correct, to_uint8
from benchmarks.judges import PRESENT, landmark_file, presence, stray_components
from benchmarks.methods import SEED
from benchmarks.quality import Figure, figure, paired_change, rate

EARLIER = 0.40  # share of the run, a T_c before the default
CORRECTED = ("reference", "robust", "robust, surroundings left in", "robust, threshold 2.5", "robust, threshold 4")
ELSEWHERE, SOONER, WHOLE = "robust's masks elsewhere", f"robust, T_c at {EARLIER:.2f}", "the whole image"
SETTLED = "robust, T_c where the image's changes calm down"
CALM = 0.8  # share of an image's strongest mean change in the window
ENDS = (0.34, 0.38, 0.42, 0.46, 0.50)  # share of the run, the candidates for T_c
RESAMPLES = 500
ANYWHERE = CorrectionSettings(max_corrected_share=1.0)  # even the whole image
Row = dict[str, Any]


def elsewhere(masks: BoolMap, seeds: list[int]) -> BoolMap:
    """The control: the same masks shifted to random places."""
    shifts = [np.random.default_rng((SEED, seed)).integers(8, 57, 2) for seed in seeds]
    return np.stack([np.roll(m, shift, (0, 1)) for m, shift in zip(masks, shifts, strict=True)])


def corrected(half: str, images: int) -> dict[str, Any]:
    """Bad images before and after TTC by each of the best signals, on both test sets."""
    landmarks = landmark_file(ROOT / "output" / "bench" / "models")

    def pieces(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return np.array([bool(stray_components(image)) for image in images])

    def malformed(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return presence(images, landmarks) < PRESENT

    sets = {"early": ("stray", pieces, images), "final": ("malformed", malformed, images // 2)}
    return {name: {"label": label, "rows": _test_set(name, half, n, bad)} for name, (label, bad, n) in sets.items()}


def _test_set(
    name: str, half: str, images: int, bad: Callable[[NDArray[np.uint8]], NDArray[np.bool_]]
) -> dict[str, Row]:
    sampler = HandSampler(name)
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
        settled_images, mask = _when_settled(sampler, run, frames)
        after.setdefault(SETTLED, []).append(bad(settled_images))
        marked.setdefault(SETTLED, []).append(mask)
    was = np.concatenate(before)
    rows = {}
    for name, parts in after.items():
        now, masked = np.concatenate(parts), np.concatenate(marked[name])
        rows[name] = {
            "before": asdict(rate(was)),
            "after": asdict(rate(now)),
            "ratio": asdict(ratio(was, now)),
            "change": asdict(paired_change(was, now)),
            "new": asdict(rate(now[~was])),
            "flagged": asdict(rate(np.asarray(masked.any((1, 2))))),
            "area": round(float(masked.mean()), 4),
        }
    return rows


def settled(frames: torch.Tensor) -> NDArray[np.int64]:
    """Number of frames of [N,B,C,H,W] until each image's mean change has dropped from its peak, [B]."""
    change = frames.diff(dim=0).abs().mean((2, 3, 4)).numpy()
    peak = change.argmax(0)
    calm = (change < CALM * change.max(0)) & (np.arange(len(change))[:, None] > peak)
    return np.where(calm.any(0), calm.argmax(0) + 2, len(frames))


def _when_settled(sampler: HandSampler, run: Recording, frames: torch.Tensor) -> tuple[NDArray[np.uint8], BoolMap]:
    """Mode ``robust`` with one T_c per image, where its changes have calmed down: images and masks."""
    candidates = [replace(SETTINGS, end_percent=end) for end in ENDS]
    lengths = [len(sampler.watched(candidate)) for candidate in candidates]
    chosen = np.searchsorted(lengths, settled(frames)).clip(max=len(candidates) - 1)
    images, masks = to_uint8(run.images), np.zeros((len(run.seeds), *frames.shape[-2:]), bool)
    for place in np.unique(chosen):
        found = SIGNALS["robust"](window(sampler, run, candidates[place])).masks
        outcome = correct(sampler, run, candidates[place], ANYWHERE, lambda _, m=found: m)  # type: ignore[misc]
        mine = chosen == place
        images[mine], masks[mine] = outcome.images[mine], found[mine]
    return images, masks


def ratio(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Figure:
    """Share of bad images after, divided by the share before; the bootstrap resamples images."""
    rng = np.random.default_rng(0)
    picks = [rng.integers(len(before), size=len(before)) for _ in range(RESAMPLES)]
    drawn = [float(after[p].sum() / max(1, before[p].sum())) for p in picks]
    return figure(float(after.sum() / max(1, before.sum())), drawn)
