"""One sampling run: which steps are watched, when the decision is made, what is handed back.

The caller shows it every step::

    schedule = Schedule.of(levels, settings, percent_to_sigma)
    trajectory = Trajectory(schedule, Watcher(settings), Corrector(seed=seed))
    for step, level in enumerate(schedule.levels[:-1]):
        denoised = model(x, level)
        trajectory.observe(step, x, denoised)
        if trajectory.is_due(step) and (decision := trajectory.decide()).acts:
            x = trajectory.correct(decision, x, denoised)
            denoised = model(x, level)
            trajectory.observe(step, x, denoised)
        x = next_state(x, denoised)
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from .correct.corrector import Corrector
from .decision import Decision, decide
from .detect.detection import Detection
from .detect.watcher import Watcher
from .maps import BoolMap, as_images
from .report.report import ImageReport, Report, RunFacts
from .report.trace import Trace
from .settings import to_dict
from .window import Schedule


class Trajectory:
    """State of one run. Frees itself with the object; nothing is shared between runs.

    Videos [B,C,T,H,W] are watched frame by frame and corrected as a whole: image ``b * T + t`` is frame t of b.

    Args:
        schedule: what is known before the run.
        watcher: the eyes.
        corrector: the hands.
        forbidden: bool [1,H,W] or one per image, at any size: where nothing may be found or changed.
        trace: keeps the small pictures of the report; None makes one that shows RGB states only.

    Attributes:
        decision: what was decided at T_c; None before it.
    """

    def __init__(
        self,
        schedule: Schedule,
        watcher: Watcher,
        corrector: Corrector | None = None,
        forbidden: BoolMap | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.schedule, self.watcher, self.corrector = schedule, watcher, corrector or Corrector()
        self.trace = trace or Trace(schedule.steps)
        self.decision: Decision | None = None
        self._forbidden = forbidden
        self._state_size = (0, 0)

    @property
    def detections(self) -> tuple[Detection, ...]:
        """What was found in each image; empty before the decision."""
        return () if self.decision is None else self.decision.detections

    def observe(self, step: int, x: Tensor, denoised: Tensor) -> None:
        """Takes the prediction of a step, before it is known whether the step is due for a correction.

        Args:
            step: index into the levels.
            x: state [B,C,H,W] or [B,C,T,H,W] that the model saw.
            denoised: predicted clean image of the same shape.
        """
        self.trace.push(step, as_images(denoised))
        if self.decision is not None:
            return
        self._state_size = (x.shape[-2], x.shape[-1])
        self.watcher.observe(step, x, denoised, self.schedule)
        if step in self.schedule.window:
            self.corrector.remember(denoised)

    def is_due(self, step: int) -> bool:
        """True at T_c, once."""
        return self.decision is None and step == self.schedule.window.decision and self.watcher.ready

    def decide(self) -> Decision:
        """Reads what the detector found: the one copy from the device.

        Raises:
            ValueError: nothing was observed.
        """
        step, detector = self.schedule.window.decision, self.watcher.detector
        if step is None or detector is None:
            raise ValueError("There is nothing to decide on before the window was observed.")
        settings = self.corrector.settings
        self.decision = decide(step, detector.result(), detector.settings, settings, self._state_size, self._forbidden)
        self.watcher.close()
        return self.decision

    def correct(
        self,
        decision: Decision,
        x: Tensor,
        denoised: Tensor | None = None,
        noise: Tensor | None = None,
        perturbation: Tensor | None = None,
    ) -> Tensor:
        """The state at T_c with every artifact region re-noised, see Corrector.correct."""
        level = self.schedule.levels[decision.step]
        return self.corrector.correct(decision, x, level, self.watcher.settings, denoised, noise, perturbation)

    def report(self, run: RunFacts, notes: tuple[str, ...] = ()) -> Report:
        """The report of the run when it has ended; copies the small pictures of its trace to the CPU.

        Args:
            run: how it was run.
            notes: of the caller; they come after the run's own.

        Raises:
            ValueError: nothing was decided.
        """
        window, decision = self.schedule.window, self.decision
        if decision is None:
            raise ValueError("This run was not decided, so there is nothing to report: see unwatched_report.")
        corrected = decision.corrected
        return Report(
            images=tuple(
                ImageReport(i, d.score, tuple(d.regions), corrected[i]) for i, d in enumerate(decision.detections)
            ),
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
            notes=(*window.notes, *decision.notes, *notes),
        )
