"""The recorded runs of picking.py: what a score may look at, and what became of the images."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asced_core import CorrectionSettings, DetectionSettings
from benchmarks.detection_sets import ClothesSampler
from benchmarks.farm import load
from benchmarks.hands import ROOT, HandSampler, Recording, correct, record, to_uint8
from benchmarks.judges import PRESENT, WEIGHTS, describe, landmark_file, presence, stray_components
from benchmarks.methods import one_thread
from benchmarks.picking_clothes import REAL, describe_clothes
from benchmarks.ranking import Flags
from demo.hand_unet import NULL_CLASS

MODELS = ROOT / "output" / "bench" / "models"
FIRST = {"choosing": 60000, "reporting": 80000}  # first seed of each half; no other benchmark uses these seeds
OUTCOMES = {
    "early": ("wrong", "stray"),
    "final": ("malformed", "wrong"),
    "latent": ("malformed", "wrong"),
    "clothes": ("wrong",),
}
CORRECTED = ("early", "final", "latent")  # whose reporting runs are also corrected
READS = (4, 5, 6, 8, 12, 15, 24)  # step indices at which a draft may end; call 7 of 25 is index 6
KEPT = (*range(2, 14), 15, 24)  # steps whose predictions are kept: READS, the middle of each draft, the window


@dataclass(frozen=True)
class Runs:
    """Recorded runs of a test set, and the verdicts on their images.

    Attributes:
        labels: int [N].
        predictions, unlabeled: by step, [N,C,H,W], with the label and without.
        verdicts: bool [N] by outcome, True is bad.
        features: [N,D] of the images.
        real: [M,D] of photographs.
        files: the other arrays that were recorded.
    """

    bed: str
    labels: NDArray[np.int64]
    predictions: dict[int, Tensor]
    unlabeled: dict[int, Tensor]
    verdicts: dict[str, Flags]
    features: NDArray[np.float64]
    real: NDArray[np.float64]
    files: dict[str, Any]


@cache
def sampler_of(bed: str) -> HandSampler:
    """The sampler of a test set; ``clothes`` is one of them here."""
    return ClothesSampler() if bed == "clothes" else HandSampler(bed)


def packed(**arrays: Any) -> bytes:
    """Arrays as the bytes of an .npz file."""
    data = io.BytesIO()
    np.savez(data, **arrays)
    return data.getvalue()


@torch.inference_mode()
def record_halves(bed: str, places: list[int], halves: list[str]) -> dict[str, bytes]:
    """A task of the farm: records the runs at some places of the halves, one file per half."""
    return {
        half: record_runs(bed, [FIRST[half] + p for p in places], half == "reporting" and bed in CORRECTED)
        for half in halves
    }


@torch.inference_mode()
def record_runs(bed: str, seeds: list[int], corrected: bool = False) -> bytes:
    """Records the runs of some seeds, and if asked the images that ASCED makes of them with its defaults."""
    one_thread()
    torch.set_flush_denormal(True)
    sampler = sampler_of(bed)
    run = record(sampler, seeds)
    extra: dict[str, Any] = {}
    if corrected:
        outcome = correct(sampler, run, DetectionSettings(), CorrectionSettings())
        extra = {"corrected": outcome.images, "corrected_calls": np.full(len(seeds), outcome.calls / len(seeds))}
    return packed(
        seeds=np.array(seeds),
        labels=run.labels.numpy(),
        images=to_uint8(run.images),
        predictions=torch.stack([run.predictions[step] for step in KEPT], 1).half().numpy(),
        unlabeled=_unlabeled(sampler, run).half().numpy(),
        **extra,
    )


def _unlabeled(sampler: HandSampler, run: Recording) -> Tensor:
    """The predictions without a label at READS, [B,steps,C,H,W]; each costs a model call."""
    null = torch.full_like(run.labels, NULL_CLASS)
    return torch.stack([sampler.denoise(run.states[step], step, null) for step in READS], 1)


def load_runs(bed: str, files: list[Path]) -> Runs:
    """Joins recorded chunks and judges their images."""
    data = load(files)
    predictions, unlabeled = (torch.from_numpy(data.pop(name)) for name in ("predictions", "unlabeled"))
    verdicts, features = judge(bed, data["images"], data["labels"])
    return Runs(
        bed=bed,
        labels=data["labels"],
        predictions={step: predictions[:, i] for i, step in enumerate(KEPT)},
        unlabeled={step: unlabeled[:, i] for i, step in enumerate(READS)},
        verdicts=verdicts,
        features=features,
        real=real_features(bed),
        files=data,
    )


def judge(
    bed: str, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> tuple[dict[str, Flags], NDArray[np.float64]]:
    """Verdicts on images, by outcome, and their features; the outcomes are those of the test set."""
    features, found = (describe_clothes if bed == "clothes" else describe)(images)
    judges = {
        "wrong": lambda: found != labels,
        "malformed": lambda: presence(images, landmark_file(MODELS)) < PRESENT,
        "stray": lambda: np.array([bool(stray_components(image)) for image in images]),
    }
    return {outcome: judges[outcome]() for outcome in OUTCOMES[bed]}, features.astype(np.float64)


def real_features(bed: str) -> NDArray[np.float64]:
    """Features [M,D] of the photographs that a test set imitates."""
    file = REAL if bed == "clothes" else WEIGHTS / "real.npz"
    return np.load(file, allow_pickle=False)["features"].astype(np.float64)
