"""For k-diffusion samplers: a second run in step with the first, the watched model, the noise tape."""

from .noise_tape import NoiseTape
from .second_run import SecondRun
from .stopwatch import Stopwatch
from .watched_model import SAME_SIGMA, WatchedModel

__all__ = ["SAME_SIGMA", "NoiseTape", "SecondRun", "Stopwatch", "WatchedModel"]
