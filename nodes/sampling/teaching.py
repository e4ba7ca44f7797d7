"""Teaches a detector: makes the material batch by batch, trains, and keeps what was done in case it is interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.utils
import torch

from ...asced_core.report.outcome import plural
from ...asced_core.teach import Course, Material, Taught, TaughtFacts, Training, certified
from ...asced_core.teach.notebook import Notebook
from ..page import status
from .lesson import Lesson

BYTES_PER_CELL = 5000  # of a training step with the default width, measured in cells of all images of the batch
SAVE_EVERY = 30.0  # seconds of training
SHOW_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class Homework:
    """What is learned from.

    Attributes:
        runs: of the model.
        pictures: their number.
        encode: gives a picture by its place, as clean states [1,C,H,W].
        report: predictions of earlier runs, or None.
        steps: of the training.
    """

    runs: int
    pictures: int
    encode: Callable[[int], torch.Tensor]
    report: Material | None
    steps: int


def teach(lesson: Lesson, homework: Homework, notebook: Notebook, facts: TaughtFacts, node_id: str | None) -> Taught:
    """The taught detector.

    Args:
        lesson: runs the model.
        homework: what is learned from.
        notebook: opened; what it holds is not done again.
        facts: what is known before.
        node_id: shows the progress.

    Raises:
        ValueError: there is too little to learn from.
    """
    progress = _Progress(node_id, homework.runs + homework.pictures + homework.steps)
    if homework.report is not None and not notebook.has("report", 0):
        notebook.add("report", 0, homework.report)
    batch = len(lesson.latent)
    progress.begin("Picture", homework.pictures)
    for number, first, count in _batches(homework.pictures, batch):
        if not notebook.has("pictures", number):
            comfy.model_management.throw_exception_if_processing_interrupted()
            clean = torch.cat([homework.encode(place) for place in range(first, first + count)])
            notebook.add("pictures", number, lesson.show(number, clean))
            progress.did(count)
        progress.at(first + count)
    progress.begin("Run", homework.runs)
    for number, first, count in _batches(homework.runs, batch):
        if not notebook.has("runs", number):
            comfy.model_management.throw_exception_if_processing_interrupted()
            notebook.add("runs", number, lesson.grow(number, count))
            progress.did(count)
        progress.at(first + count)
    progress.begin("Training step", homework.steps)
    device = comfy.model_management.get_torch_device()
    # nodes are executed in inference mode, whose tensors cannot be trained with
    with torch.inference_mode(False), torch.enable_grad():
        taught = _trained(notebook, Course(steps=homework.steps, seed=lesson.seed), facts, device, progress)
    comfy.model_management.soft_empty_cache()
    return taught


def _batches(total: int, batch: int) -> Iterator[tuple[int, int, int]]:
    """Number, first place and size of each batch."""
    for number in range(math.ceil(total / batch)):
        yield number, number * batch, min(batch, total - number * batch)


def _trained(
    notebook: Notebook, course: Course, facts: TaughtFacts, device: torch.device, progress: _Progress
) -> Taught:
    material = notebook.material()
    height, width = material.size
    comfy.model_management.free_memory(BYTES_PER_CELL * height * width * course.batch, device)
    training = Training(material, course, device)
    if (state := notebook.training(device)) is not None:
        training.restore(state)
    progress.at(training.step)
    saved = time.monotonic()
    try:
        for _ in training:
            progress.did(1)
            progress.at(training.step)
            if time.monotonic() - saved > SAVE_EVERY:
                notebook.keep(training.state())
                saved = time.monotonic()
            comfy.model_management.throw_exception_if_processing_interrupted()
    except comfy.model_management.InterruptProcessingException:
        notebook.keep(training.state())
        raise
    return certified(training, facts)


class _Progress:
    """ComfyUI's progress bar over everything, and a status text with the time left of the present part."""

    def __init__(self, node_id: str | None, total: int) -> None:
        self._node_id, self._bar = node_id, comfy.utils.ProgressBar(total)
        self._before, self._total, self._what = 0, 0, ""
        self._done, self._started, self._shown = 0, 0.0, -math.inf

    def begin(self, what: str, total: int) -> None:
        """The next part begins.

        Args:
            what: is counted.
            total: of it.
        """
        self._before += self._total
        self._what, self._total = what, total
        self._done, self._started, self._shown = 0, time.monotonic(), -math.inf

    def did(self, count: int) -> None:
        """So many were done now, and not before an interruption."""
        self._done += count

    def at(self, place: int) -> None:
        """So many of this part are done by now."""
        self._bar.update_absolute(self._before + place)
        now = time.monotonic()
        if now - self._shown < SHOW_EVERY and place < self._total:
            return
        self._shown = now
        left = (now - self._started) / self._done * (self._total - place) if self._done else 0.0
        text = f"{self._what} {place} of {self._total}"
        status.show(self._node_id, f"{text}, {_time(left)} left." if left else f"{text}.")


def _time(seconds: float) -> str:
    """Such as ``40 seconds`` or ``3 minutes``."""
    return plural(math.ceil(seconds), "second") if seconds < 90 else plural(round(seconds / 60), "minute")


def from_report(predictions: Any) -> Material:
    """Material without faults from the kept predictions of a report, float16 [B,3,C,H,W]; only finite ones."""
    with torch.inference_mode(False):
        runs, none = torch.from_numpy(predictions), torch.zeros(0, dtype=torch.int64)
        return Material(runs, runs[:0], none, none.clone()).finite()
