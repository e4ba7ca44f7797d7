"""What picking.py compares: signals of recorded runs, and ways to choose one draft of several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from asced_core import DetectionSettings
from asced_core.detect.lasting import LastingChange
from asced_core.detect.run_score import READ_AT, agreement, sharpness, step_at
from asced_core.detect.smoothing import GaussianSmoother
from asced_core.report.ranking import relative
from benchmarks.detection_signals import by_detector
from benchmarks.picking_runs import Runs, sampler_of
from benchmarks.ranking import Values

DETECTION = DetectionSettings()
STEPS = 25
READ = step_at(STEPS, READ_AT)  # step index at which drafts end, unless a table says otherwise: after 7 model calls
BATCH = 64
BLUR = 3.0  # cells of 64
Chooser = Callable[[NDArray[np.int64]], Values]  # groups of drafts [G,N] to how bad each looks [G,N]


@dataclass(frozen=True)
class Parts:
    """The parts of the run score of all drafts, [N] each; higher is better."""

    sharpness: Values
    agreement: Values

    @classmethod
    def of(cls, now: Tensor, earlier: Tensor, unlabeled: Tensor, guidance: float = 1.0) -> Parts:
        """Of predictions [N,C,H,W]: at the end of the drafts, halfway through them, and at the end without a label.

        Sharpness is that of the prediction with the label, before guidance.
        """
        now, earlier, unlabeled = now.float(), earlier.float(), unlabeled.float()
        labeled = unlabeled + (now - unlabeled) / guidance
        pulled = agreement(now - unlabeled, now - earlier)
        return cls(sharpness(labeled).double().numpy(), pulled.double().numpy())

    def choosers(self) -> dict[str, Chooser]:
        """By ``sharpness``, by ``agreement``, and by the ``score`` of both."""
        return {
            "sharpness": by_value(-self.sharpness),
            "agreement": by_value(-self.agreement),
            "score": lambda groups: -np.stack([relative(self.sharpness[g], self.agreement[g]) for g in groups]),
        }


def parts_of(runs: Runs, read: int) -> Parts:
    """The parts of drafts that end at a step."""
    return Parts.of(runs.predictions[read], runs.predictions[read // 2], runs.unlabeled[read])


def by_value(values: Values) -> Chooser:
    """A chooser by a value per draft, high is bad."""
    return lambda groups: values[groups]


def at_random(groups: NDArray[np.int64]) -> Values:
    """Keeps the first draft; groups are drawn at random."""
    return np.broadcast_to(np.arange(groups.shape[1], dtype=float), groups.shape)


def coarse_sharpness(denoised: Tensor) -> Values:
    """Minus the root mean square of the differences between squares of 2x2 cells, [N]."""
    coarse = F.avg_pool2d(denoised.float(), 2)
    squares = [coarse.diff(dim=axis).square().flatten(1).mean(1) for axis in (2, 3)]
    return -torch.stack(squares).mean(0).sqrt().double().numpy()


def changes(runs: Runs, read: int) -> dict[str, Values]:
    """Signals of the lasting change from T_d to a step; the marked area is that of mode ``robust``."""
    first = sampler_of(runs.bed).watched(DETECTION)[0]
    steps = [step for step in runs.predictions if min(first, read - 1) <= step <= read]
    find, out = by_detector(DETECTION), {"marked area": [], "raw change": [], "blurred change": []}  # type: ignore[var-annotated]
    for start in range(0, len(runs.labels), BATCH):
        frames = torch.stack([runs.predictions[step][start : start + BATCH].float() for step in steps])
        shape = frames.shape[1:]
        detector = LastingChange(DETECTION, tuple(shape), frames.device)  # type: ignore[arg-type]
        for frame in frames:
            detector.push(frame)
        blur = GaussianSmoother(tuple(shape[2:]), BLUR * shape[-1] / 64, None, frames.device)  # type: ignore[arg-type]
        moved = blur(frames[-1] - frames[0]).square().mean(1).sqrt()
        out["marked area"].append(find(frames).masks.mean((1, 2)))
        out["raw change"].append(detector.share().mean((1, 2)).numpy())
        out["blurred change"].append(moved.mean((1, 2)).numpy())
    return {name: np.concatenate(values).astype(np.float64) for name, values in out.items()}


def choosers(runs: Runs, read: int = READ) -> dict[str, Chooser]:
    """Every signal of a draft that ends at a step."""
    return {
        **{name: by_value(values) for name, values in changes(runs, read).items()},
        "coarse sharpness": by_value(coarse_sharpness(runs.predictions[read])),
        **parts_of(runs, read).choosers(),
    }
