"""The systems of Table 1, by the names that the tables give them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from asced_core import CorrectionSettings, DetectionSettings
from asced_core.regions import BoolMap
from asced_core.rivals.pal import PALDetector
from benchmarks.hands import HandSampler, Outcome, Recording, correct, to_uint8
from benchmarks.judges import WEIGHTS

SEED = 20250611  # of the control's shifts
WATCH = CorrectionSettings(method="none")
Judge = Callable[[Tensor], BoolMap]


def supervised() -> Judge:
    """The trained detector that stands in for PAL."""
    return PALDetector.load(WEIGHTS / "supervised.pt")


def elsewhere(masks: BoolMap, seeds: list[int]) -> Judge:
    """The control: the same masks at random places, each image by its own seed."""
    moved = [
        np.roll(m, np.random.default_rng((SEED, s)).integers(8, 57, 2), (0, 1))
        for m, s in zip(masks, seeds, strict=True)
    ]
    return lambda _: np.stack(moved)


def everything(sampler: HandSampler, run: Recording) -> dict[str, Outcome]:
    """What every method makes of a recorded run."""
    detection, ttc = DetectionSettings(), CorrectionSettings()
    trained = supervised()

    def method(correction: CorrectionSettings, judge: Judge | None = None) -> Outcome:
        return correct(sampler, run, detection, correction, judge)

    original = method(WATCH)
    outcomes = {
        "original": original,
        "state replacement": method(replace(ttc, method="replace")),
        "score clipping": method(replace(ttc, method="clip")),
        "SARGD, adapted": method(replace(ttc, method="sargd"), trained),
        "supervised + TTC": method(ttc, trained),
        "ASCED": method(ttc),
        "ASCED's masks elsewhere": method(ttc, elsewhere(original.masks, run.seeds)),
        "ASCED, gamma 0.3": method(replace(ttc, gamma=0.3)),
    }
    for name in ("reference",):
        outcomes[f"ASCED {name}"] = correct(sampler, run, DetectionSettings(mode=name, base_size=256), ttc)
    assert np.array_equal(original.images, to_uint8(run.images)), "watching alone changed the images"
    return outcomes


def one_thread() -> None:
    """A worker has one core: more threads than that are slower than one."""
    torch.set_num_threads(1)
