"""Trains the network of mode ``learned`` on pasted and grown faults; one kind of grown fault decides when to stop."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..detect.learned import WIDTH, FaultNet, stride_for
from ..maps import BoolMap
from .marks import visible
from .material import HELD_OUT, KINDS, Material
from .pasted import paste_faults

HELD_RUNS = 0.2  # share of the runs that are never trained on
POSITIVE = 3.0  # weight of the cells of a fault
EXAMS = 12  # over the whole course


@dataclass(frozen=True)
class Course:
    """How a detector is taught.

    Attributes:
        steps: of the optimizer.
        batch: images per step.
        pasted: share of the steps with pasted faults; the others have grown ones.
        clean: share of images without a fault among the grown ones.
        rate: of AdamW, falling to 0.
        width: see FaultNet.
        seed: of the weights and the order.
    """

    steps: int = 1200
    batch: int = 16
    pasted: float = 1 / 3
    clean: float = 0.3
    rate: float = 2e-3
    width: int = WIDTH
    seed: int = 0


class Training:
    """A course on one material; iterate over it, one optimizer step at a time.

    Args:
        material: runs and grown faults.
        course: how to teach.
        device: where to train.

    Raises:
        ValueError: there are too few runs.

    Attributes:
        step: steps done so far.
        best: weights of the best exam so far.
        exams: average precision on the held-out faults by step.
    """

    def __init__(self, material: Material, course: Course, device: torch.device) -> None:
        count = len(material.runs)
        if count < 10:
            raise ValueError(f"A detector needs 10 runs or more to learn from, got {count}.")
        self._course, self._device, self.step = course, device, 0
        self._held = count - max(2, round(HELD_RUNS * count))
        self._runs = material.runs[: self._held]
        own = material.origin < self._held
        other = KINDS.index(HELD_OUT)
        self._unit = unit_of(material)
        labels = labels_of(material, self._unit)
        train, test = own & (material.kinds != other), ~own & (material.kinds == other)
        self._grown, self._labels = material.grown[train], labels[train]
        self._clean = material.runs[self._held :]
        self._exam = torch.cat([material.grown[test], self._clean])
        none = torch.zeros(len(self._clean), *labels.shape[1:], dtype=torch.bool)
        self._answers = torch.cat([labels[test], none]).numpy()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(course.seed)  # torch.manual_seed would also reach those of GPUs
            self.network = FaultNet(material.runs.shape[2], course.width, stride_for(*material.size))
        self.network.measure(self._runs)
        self.network.to(device)
        self._optimizer = torch.optim.AdamW(self.network.parameters(), course.rate, weight_decay=1e-3)
        self._rng = np.random.default_rng(course.seed)
        self.best: dict[str, Tensor] = copy.deepcopy(self.network.state_dict())
        self.exams: dict[int, float] = {}

    def __iter__(self) -> Iterator[float]:
        """Does the remaining steps; gives the loss of each."""
        course = self._course
        while self.step < course.steps:
            for group in self._optimizer.param_groups:
                group["lr"] = course.rate * (1 - self.step / course.steps)
            frames, masks = self._batch()
            if self._rng.random() < 0.5:
                frames, masks = frames.flip(-1), masks.flip(-1)
            weight = torch.tensor(POSITIVE, device=self._device)
            loss = F.binary_cross_entropy_with_logits(self.network(frames), masks.float(), pos_weight=weight)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            self.step += 1
            if self.step % max(1, course.steps // EXAMS) == 0 or self.step == course.steps:
                self._examine()
            yield float(loss.detach())

    def _batch(self) -> tuple[Tensor, Tensor]:
        course, rng = self._course, self._rng
        if not len(self._grown) or rng.random() < course.pasted:
            frames = self._runs[rng.integers(len(self._runs), size=course.batch)].to(self._device).float()
            return paste_faults(frames, self._unit.to(self._device), rng)
        clean = round(course.clean * course.batch)
        pick = rng.integers(len(self._grown), size=course.batch - clean)
        runs = self._runs[rng.integers(len(self._runs), size=clean)]
        masks = torch.cat([self._labels[pick], torch.zeros(clean, *self._labels.shape[1:], dtype=torch.bool)])
        return torch.cat([self._grown[pick], runs]).to(self._device).float(), masks.to(self._device)

    def _examine(self) -> None:
        precision = average_precision(probabilities(self.network, self._exam), self._answers)
        if precision >= max(self.exams.values(), default=0.0):
            self.best = copy.deepcopy(self.network.state_dict())
        self.exams[self.step] = precision

    def exam(self, network: FaultNet) -> tuple[NDArray[np.float32], BoolMap, slice]:
        """What a network says of the held-out images, float32 [N,H,W]; their faults, bool; which have none."""
        return probabilities(network, self._exam), self._answers, slice(len(self._exam) - len(self._clean), None)

    def state(self) -> dict[str, Any]:
        """Everything that ``restore`` needs to go on."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "best": self.best,
            "optimizer": self._optimizer.state_dict(),
            "rng": self._rng.bit_generator.state,
            "exams": self.exams,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from what ``state`` returned, on the same material and course."""
        self.step, self.exams, self.best = state["step"], dict(state["exams"]), dict(state["best"])
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._rng.bit_generator.state = state["rng"]


def unit_of(material: Material) -> Tensor:
    """Standard deviation of each channel of the predictions at T_c, [C]."""
    return material.runs[:, -1].float().std((0, 2, 3)).clamp(min=1e-6)


def labels_of(material: Material, unit: Tensor) -> Tensor:
    """Where each grown fault can be seen, bool [G,H,W]."""
    parts = zip(material.grown.split(64), material.origin.split(64), strict=True)
    each = [visible(grown[:, -1].float() - material.runs[origin, -1].float(), unit) for grown, origin in parts]
    return torch.cat(each) if each else torch.zeros(0, *material.runs.shape[3:], dtype=torch.bool)


def probabilities(network: FaultNet, frames: Tensor) -> NDArray[np.float32]:
    """What a network says of frames [N,3,C,H,W], float32 [N,H,W]."""
    device = network.out.weight.device
    with torch.no_grad():
        parts = [network(part.to(device).float()).sigmoid().cpu() for part in frames.split(32)]
    return torch.cat(parts).numpy()


def average_precision(scores: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """Area under the precision-recall curve, 0 to 1, of any two arrays of one shape."""
    hits = truth.ravel()[np.argsort(-scores.ravel(), kind="stable")]
    found = np.cumsum(hits)
    return float((found / np.arange(1, hits.size + 1))[hits].mean()) if hits.any() else 0.0
