"""Which predictions of a run are watched, in which space, and by which detector."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..maps import as_images, finite_images, frames_of
from ..settings import LEARNED, DetectionSettings
from ..window import Schedule, Window
from .detection import make_detector
from .evidence import Detector, Evidence
from .given import FindMasks, GivenMasks
from .learned import Learned
from .space import Space


class Watcher:
    """Passes the predictions of one run's window to a detector.

    Args:
        settings: how artifacts are detected.
        space: what the detector looks at; None is the latent itself.
        find: another detector, used in place of the score dynamics; it gets the predictions themselves.
        learned: a taught detector, for mode ``learned``.

    Attributes:
        detector: None before the first watched prediction.

    Raises:
        ValueError: the space does not match the settings.
    """

    def __init__(
        self,
        settings: DetectionSettings,
        space: Space | None = None,
        find: FindMasks | None = None,
        learned: Learned | None = None,
    ) -> None:
        self.settings, self.space = settings, space or Space()
        if settings.space not in ("auto", self.space.name):
            raise ValueError(
                f"The settings use space {settings.space}, but the Space passed in is {self.space.name}: "
                "pass a matching Space, or set space to auto."
            )
        self._find, self._learned = find, learned
        self._finite: Tensor | None = None  # bool [B]: signals without NaN or infinity so far
        self.detector: Detector | None = None

    @property
    def ready(self) -> bool:
        """True once there is enough to decide on."""
        return self.detector is not None and self.detector.ready

    @property
    def ready_early(self) -> bool:
        """True once there is enough to decide on without the prediction at T_c."""
        return self.ready and self._find is None

    def observe(self, step: int, x: Tensor, denoised: Tensor, schedule: Schedule) -> None:
        """Adds a prediction [B,C,H,W] or [B,C,T,H,W] and its state, if the step is watched."""
        if not self._looks_at(step, schedule.window):
            return
        signal = as_images(denoised) if self._find is not None else self.space(denoised)
        frames = frames_of(tuple(denoised.shape))
        if self.detector is None:
            self.detector = self._make(signal, frames, schedule)
        self.detector.push(signal, as_images(x), schedule.levels[step])
        finite = finite_images(signal)
        if self.settings.smooth_frames > 0:  # then one frame reaches all frames of its video
            finite = finite.view(-1, frames).all(1).repeat_interleave(frames)
        self._finite = finite if self._finite is None else self._finite & finite

    def _looks_at(self, step: int, window: Window) -> bool:
        if step == window.decision and (self._find is not None or self.settings.mode == LEARNED):
            return True  # these work on the prediction at T_c itself
        if step not in window:
            return False
        # always include the last step, so that the detector covers the whole window
        return (step - window.first) % self.settings.step_interval == 0 or step == window.last

    def _make(self, signal: Tensor, frames: int, schedule: Schedule) -> Detector:
        batch, channels, height, width = signal.shape
        shape = (batch, channels, height, width)
        if self._find is not None:
            return GivenMasks(self.settings, shape, self._find)
        watched = [step for step in range(schedule.steps) if self._looks_at(step, schedule.window)]
        early = sum(step != schedule.window.decision for step in watched)  # if the decision does not wait for T_c
        return make_detector(self.settings, shape, signal.device, frames, self._learned, {early, len(watched)})

    def result(self, finite: Tensor | None = None) -> Evidence:
        """The detector's evidence so far, on the device.

        Args:
            finite: bool [B], which images have only finite predictions; None adds nothing to what was seen here.

        Raises:
            ValueError: nothing was observed, or too little.
        """
        if self.detector is None:
            raise ValueError("There is nothing to decide yet: observe the steps of the window first.")
        both = self._finite if finite is None or self._finite is None else self._finite & finite
        return replace(self.detector.result(), finite=both)

    def marks(self, image: int) -> Tensor | None:
        """The cells of one image above the threshold so far, bool [H,W] on the device, before the size filters.

        None if there is no result yet, or if the detector is too costly to run at every step.
        """
        if self.detector is None or not self.detector.ready:
            return None
        return self.detector.so_far(image)

    def close(self) -> None:
        """Frees the detector's memory."""
        self.detector = None
