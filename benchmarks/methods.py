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


SWEEPS: dict[str, list[dict[str, float | str | int]]] = {
    "end_percent": [{"end_percent": p} for p in (0.30, 0.36, 0.42, 0.46, 0.54, 0.60)],
    "gamma": [{"gamma": g} for g in (0.1, 0.3, 1.0)],
    "mad_scale": [{"mad_scale": k} for k in (1.0, 2.0, 4.0, 6.0)],
    "start_percent": [{"start_percent": p} for p in (0.10, 0.16, 0.26, 0.32)],
    "x0_source": [{"x0_source": "previous"}],
    "rounds": [{"rounds": 2}],
}
DEFAULTS = "defaults"


def setting_name(setting: dict[str, float | str | int]) -> str:
    """As the tables name it."""
    return ", ".join(f"{name} {value}" for name, value in setting.items())


def sweeps(sampler: HandSampler, run: Recording) -> dict[str, Outcome]:
    """ASCED with one setting changed at a time."""
    detection, ttc = DetectionSettings(), CorrectionSettings()
    outcomes = {
        "original": correct(sampler, run, detection, WATCH),
        DEFAULTS: correct(sampler, run, detection, ttc),
    }
    for settings in SWEEPS.values():
        for setting in settings:
            looks = {n: v for n, v in setting.items() if hasattr(detection, n)}
            acts = {n: v for n, v in setting.items() if n not in looks}
            changed = replace(detection, **looks), replace(ttc, **acts)  # type: ignore[arg-type]
            outcomes[setting_name(setting)] = correct(sampler, run, *changed)
    return outcomes


def one_thread() -> None:
    """A worker has one core: more threads than that are slower than one."""
    torch.set_num_threads(1)
