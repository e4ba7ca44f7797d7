"""One sampling run: which steps are watched, when the decision is made, what is returned to the sampler.

The caller passes in every step::

    trajectory = Trajectory.begin(levels, training, seed=seed)
    for step, level in enumerate(levels[:-1]):
        denoised = model(x, level)
        trajectory.observe(step, x, denoised)
        if trajectory.is_due(step) and (decision := trajectory.decide()).acts:
            x = trajectory.correct(decision, x, denoised)
            denoised = model(x, level)
            trajectory.observe(step, x, denoised)
        x = next_state(x, denoised)
        if trajectory.is_due_early(step) and (decision := trajectory.decide()).acts:  # x0_source previous
            x = trajectory.correct(decision, x)  # already the state at T_c: no model call is added
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .correct.corrector import Corrector
from .decision import Decision, decide
from .detect.detection import Detection
from .detect.memory import WindowMemory
from .detect.run_score import ScoreReader
from .detect.watcher import Watcher
from .maps import BoolMap, as_images, finite_images
from .noise import DiscreteSchedule, FlowSchedule, NoiseLevel, Predict
from .report.ranking import ranked
from .report.report import ImageReport, Report, unwatched_report
from .report.run_facts import RunFacts
from .report.run_trace import Trace
from .settings import LEARNED, CorrectionSettings, DetectionSettings, to_dict
from .window import Schedule


class Trajectory:
    """State of one run; it is freed with the object, and nothing is shared between runs.

    Videos [B,C,T,H,W] are watched frame by frame and corrected as a whole: image ``b * T + t`` is frame t of video b.

    Args:
        schedule: noise levels and window of the run.
        watcher: passes predictions to the detector.
        corrector: changes the state at T_c; None uses the default settings.
        forbidden: bool [1,H,W] or one per image, at any size: nothing is detected or changed there.
        trace: collects the report's thumbnails; None creates one that can show RGB states only.
        score: reads the run score; None reads it at the default share of the steps.
        keep_predictions: the report keeps the window's first, middle and last prediction, to learn from.

    Attributes:
        decision: the decision at T_c; None until then.
    """

    def __init__(
        self,
        schedule: Schedule,
        watcher: Watcher,
        corrector: Corrector | None = None,
        forbidden: BoolMap | None = None,
        trace: Trace | None = None,
        score: ScoreReader | None = None,
        keep_predictions: bool = False,
    ) -> None:
        self.schedule, self.watcher, self.corrector = schedule, watcher, corrector or Corrector()
        self.trace = trace or Trace(schedule.steps)
        self.score = score or ScoreReader(schedule.steps)
        self.decision: Decision | None = None
        self._forbidden = forbidden
        self._state_size = (0, 0)
        self._images_seen = 0
        self._finite: Tensor | None = None  # bool [N] on the device: no NaN or infinity from T_d on
        self._memory = WindowMemory(asked={sum(map(self._keeps, range(schedule.steps)))}) if keep_predictions else None
        self._kept: Tensor | None = None  # float16 [N,3,C,H,W] on the device, from the decision on

    @classmethod
    def begin(
        cls,
        levels: Sequence[NoiseLevel],
        training: DiscreteSchedule | FlowSchedule,
        detection: DetectionSettings | None = None,
        correction: CorrectionSettings | None = None,
        seed: int | Sequence[int] = 0,
        items: Sequence[int] | None = None,
    ) -> Trajectory:
        """A run that is watched in its own states and corrected, in any scale of noise.

        Args:
            levels: noise level of each step, and of the final state.
            training: the model's noise schedule, which says where the window lies.
            detection, correction: None uses the default settings.
            seed, items: see Corrector.

        Raises:
            ValueError: there are fewer than two levels, or the settings need more than this (a taught detector, a
                decoder): build the parts by themselves then.
        """
        detection = detection or DetectionSettings()
        if detection.mode == LEARNED:
            raise ValueError("Mode learned needs a taught detector: pass Watcher(settings, learned=...) to Trajectory.")
        schedule = Schedule.from_levels(levels, training, detection)
        return cls(schedule, Watcher(detection), Corrector(correction, seed, items))

    @property
    def detections(self) -> tuple[Detection, ...]:
        """What was detected in each image; empty before the decision."""
        return () if self.decision is None else self.decision.detections

    def observe(self, step: int, x: Tensor, denoised: Tensor, prompted: Tensor | None = None) -> None:
        """Records the prediction of a step; call it before ``is_due``.

        Args:
            step: index into the levels.
            x: the model's input state [B,C,H,W] or [B,C,T,H,W].
            denoised: predicted clean image, same shape.
            prompted: the prediction with the prompt alone, before guidance, same shape; for the run score, if known.

        Raises:
            ValueError: there is no such step, or state and prediction differ in shape.
        """
        if not 0 <= step < self.schedule.steps:
            raise ValueError(f"This run has steps 0 to {self.schedule.steps - 1}, got step {step}.")
        if x.shape != denoised.shape:
            raise ValueError(f"State {tuple(x.shape)} and prediction {tuple(denoised.shape)} must have the same shape.")
        x, denoised = x.detach(), denoised.detach()
        images = as_images(denoised)
        self._images_seen = len(images)
        self.trace.push(step, images)
        self.score.observe(step, images, None if prompted is None else as_images(prompted))
        if step >= self.schedule.window.first:
            finite = finite_images(images)
            self._finite = finite if self._finite is None else self._finite & finite
        if self.decision is not None:
            return
        self._state_size = (x.shape[-2], x.shape[-1])
        self.watcher.observe(step, x, denoised, self.schedule)
        if self._memory is not None and self._keeps(step):
            self._memory.push(images)
        if step in self.schedule.window:
            self.corrector.remember(step, x, denoised)

    def _keeps(self, step: int) -> bool:
        """Whether the prediction is one of those that a report may keep."""
        return step in self.schedule.window or step == self.schedule.window.decision

    def is_due(self, step: int) -> bool:
        """True once, at T_c."""
        return self.decision is None and step == self.schedule.window.decision and self.watcher.ready

    def is_due_early(self, step: int) -> bool:
        """True once, after the last step before T_c, if the correction needs nothing of T_c itself.

        That is so with ``x0_source="previous"``. The decision can then be made on what is known, and ``correct`` takes
        the state that follows this step: the model sees the corrected state at T_c, and no call is added.
        """
        decision, settings = self.schedule.window.decision, self.corrector.settings
        ahead = settings.acts and settings.method == "ttc" and settings.x0_source == "previous"
        return (
            ahead
            and self.decision is None
            and self._memory is None
            and decision == step + 1
            and self.watcher.ready_early
        )

    def decide(self) -> Decision:
        """Reads the detector's result; this is the only copy from the device.

        Raises:
            ValueError: no step of the window was observed.
        """
        step, detector = self.schedule.window.decision, self.watcher.detector
        if step is None or detector is None:
            raise ValueError("There is nothing to decide yet: observe the steps of the window first.")
        evidence, settings = self.watcher.result(self._finite), self.corrector.settings
        self.decision = decide(step, evidence, detector.settings, settings, self._state_size, self._forbidden)
        self.watcher.close()
        if not self.decision.acts:
            self.corrector.forget()
        if self._memory is not None:
            self._kept, self._memory = torch.stack(self._memory.three(), 1).half(), None
        return self.decision

    def exclude(self, images: Sequence[bool]) -> None:
        """From now on, nothing is found or corrected in the images (or frames of videos) that are True."""
        whole = np.asarray(images, bool)[:, None, None]
        self._forbidden = whole if self._forbidden is None else self._forbidden | whole

    def leave_alone(self) -> None:
        """Takes back the correction: what was detected is still reported."""
        if self.decision is not None:
            self.decision = self.decision.left_alone()
        self.corrector.forget()

    def correct(
        self,
        decision: Decision,
        x: Tensor,
        denoised: Tensor | None = None,
        noise: Tensor | None = None,
        perturbation: Tensor | None = None,
        predict: Predict | None = None,
    ) -> Tensor:
        """The state at T_c with every artifact region corrected; see Corrector.correct."""
        settings = self.watcher.settings
        return self.corrector.correct(decision, x, self.schedule, settings, denoised, noise, perturbation, predict)

    def report(self, run: RunFacts, notes: tuple[str, ...] = ()) -> Report:
        """The report of the finished run; copies the trace to the CPU.

        Args:
            run: facts about the run.
            notes: the caller's notes; they follow the run's own, and say why a run was not watched.

        Raises:
            ValueError: no step was observed.
        """
        window, decision = self.schedule.window, self.decision
        if decision is None:
            return self._unwatched(run, notes)
        report = Report(
            images=self._images(decision),
            labels=np.stack([d.labels for d in decision.detections]),
            ratios=np.stack([d.ratio for d in decision.detections]).astype(np.float16),
            trace=self.trace.maps().cpu().numpy(),
            trace_steps=tuple(self.trace.map_steps),
            frames=self.trace.frames().cpu().numpy(),
            frame_steps=tuple(self.trace.frame_steps),
            sigmas=self.schedule.sigmas,
            window=(window.first, window.last),
            decision=decision.step,
            corrected_steps=(decision.step,) if decision.acts else (),
            detection=to_dict(self.watcher.settings),
            correction=to_dict(self.corrector.settings),
            run=run,
            notes=(*window.notes, *decision.notes, *(self.corrector.notes if decision.acts else ()), *notes),
            predictions=None if self._kept is None else self._kept.cpu().numpy(),
        )
        return self.scored(report)

    def _unwatched(self, run: RunFacts, notes: tuple[str, ...]) -> Report:
        if self._images_seen == 0:
            raise ValueError("This run has shown no step, so there is nothing to report: observe its steps first.")
        size = (self._images_seen, *self._state_size)
        notes = (*self.schedule.window.notes, *notes)
        watcher, corrector = self.watcher.settings, self.corrector.settings
        return self.scored(unwatched_report(size, self.schedule.sigmas, watcher, corrector, run, notes))

    def scored(self, report: Report) -> Report:
        """A report of this run with the run score of each image, if it was read."""
        if not self.score.known:
            return report
        frames = report.run.frames
        each = ranked(self.score.scores(frames))
        images = (replace(image, run_score=each[place // frames]) for place, image in enumerate(report.images))
        return replace(report, images=tuple(images))

    def _images(self, decision: Decision) -> tuple[ImageReport, ...]:
        """What was detected in each image; one that is no longer finite after T_c is not measurable either."""
        finite = [True] * len(decision.detections) if self._finite is None else self._finite.tolist()
        each = zip(decision.detections, decision.corrected, finite, strict=True)
        return tuple(
            ImageReport(i, d.score, tuple(d.regions), corrected, d.measurable and known, d.looked_at, d.too_large)
            for i, (d, corrected, known) in enumerate(each)
        )
