"""The eyes of a run: which predictions are looked at, in which space, by which detector."""

from __future__ import annotations

from torch import Tensor

from ..maps import as_images, frames_of
from ..settings import DetectionSettings
from ..window import Schedule, Window
from .detection import make_detector
from .evidence import Detector
from .given import FindMasks, GivenMasks
from .space import Space


class Watcher:
    """Shows the predictions of one run's window to a detector.

    Args:
        settings: how to find artifacts.
        space: what the detector looks at.
        find: another detector, which takes the dynamics' place and looks at the state's own cells.

    Attributes:
        detector: None before the first prediction of the window.

    Raises:
        ValueError: the settings ask for another space than the given one.
    """

    def __init__(self, settings: DetectionSettings, space: Space | None = None, find: FindMasks | None = None) -> None:
        self.settings, self.space = settings, space or Space()
        if settings.space not in ("auto", self.space.name):
            raise ValueError(
                f"The settings ask to look in space {settings.space}, but the space given is {self.space.name}: "
                "give a Space of that name, or choose space auto."
            )
        self._find = find
        self.detector: Detector | None = None

    @property
    def ready(self) -> bool:
        """True as soon as there is something to decide on."""
        return self.detector is not None and self.detector.ready

    def observe(self, step: int, x: Tensor, denoised: Tensor, schedule: Schedule) -> None:
        """Takes a prediction [B,C,H,W] or [B,C,T,H,W] and its state, if the step lies in the window."""
        if not self._looks_at(step, schedule.window):
            return
        signal = as_images(denoised) if self._find is not None else self.space(denoised)
        if self.detector is None:
            self.detector = self._make(signal, frames_of(tuple(denoised.shape)))
        self.detector.push(signal, as_images(x), schedule.levels[step])

    def _looks_at(self, step: int, window: Window) -> bool:
        if self._find is not None and step == window.decision:
            return True  # another detector looks at the prediction of T_c itself
        if step not in window:
            return False
        # with the window's last step included, the detector sees all of it
        return (step - window.first) % self.settings.step_interval == 0 or step == window.last

    def _make(self, signal: Tensor, frames: int) -> Detector:
        batch, channels, height, width = signal.shape
        shape = (batch, channels, height, width)
        if self._find is not None:
            return GivenMasks(self.settings, shape, self._find)
        return make_detector(self.settings, shape, signal.device, frames)

    def marks(self, image: int) -> Tensor | None:
        """The cells of one image that exceed the threshold so far, bool [H,W] on the device; None if that is not known.

        Before the filters of size. A detector that costs too much at every step is not asked.
        """
        if self.detector is None or not self.detector.ready or self.detector.costly:
            return None
        return self.detector.result().ratio[image] > 0

    def close(self) -> None:
        """Frees what the detector keeps."""
        self.detector = None
