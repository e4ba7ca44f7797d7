"""For k-diffusion samplers: a second run in step with the first, the watched model, noise that both share."""

from .calls import Answer, Call
from .noise_tape import NoiseTape, Replay
from .rehearsal import obstacle_to_entry
from .second_run import Asked, SecondRun
from .side_effects import GlobalGenerators, SideEffects, World
from .steps import Steps
from .stopwatch import Stopwatch
from .watched_model import SAME_SIGMA, WatchedModel

__all__ = [
    "SAME_SIGMA", "Answer", "Asked", "Call", "GlobalGenerators", "NoiseTape", "Replay", "SecondRun", "SideEffects",
    "Steps", "Stopwatch", "WatchedModel", "World", "obstacle_to_entry",
]  # fmt: skip
