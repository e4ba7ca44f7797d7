"""The methods of Table 1 and the settings of the sweeps, by their names in the tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from asced_core import CorrectionSettings, DetectionSettings
from asced_core.baselines.pal import PALDetector
from asced_core.detect.given import FindMasks
from asced_core.maps import BoolMap
from asced_core.teach import Taught
from benchmarks.hands import HandSampler, Outcome, Recording, correct
from benchmarks.judges import WEIGHTS
from benchmarks.teach_files import taught_file
from benchmarks.uncertainty import abnormal_cells, uncertainty_at

SEED = 20250611  # of the shifts in the control
WATCH = CorrectionSettings(method="none")
TTC, REDO = CorrectionSettings(), CorrectionSettings(method="redo")
PREVIOUS = replace(TTC, x0_source="previous")  # decides before the model call of T_c, and adds none
DETECTION, STRICT = DetectionSettings(), DetectionSettings(mode="strict")
FEW, MANY = 0.33, 0.67  # share of images that a taught detector marks
# the authors' detector, with its sizes scaled from 256 pixels
REFERENCE = DetectionSettings(mode="reference", base_size=256)
Method = Callable[[HandSampler, Recording], Outcome]


def ours(correction: CorrectionSettings, detection: DetectionSettings = DETECTION) -> Method:
    """ASCED with the given settings."""
    return lambda sampler, run: correct(sampler, run, detection, correction)


def supervised(sampler: HandSampler) -> FindMasks:
    """The trained detector that stands in for PAL, applied to the decoded predictions."""
    trained = PALDetector.load(WEIGHTS / "supervised.pt")
    return lambda denoised: trained(sampler.decode(denoised))


def by_supervised(correction: CorrectionSettings) -> Method:
    """A correction of what the trained detector finds."""
    return lambda sampler, run: correct(sampler, run, DETECTION, correction, supervised(sampler))


def by_uncertainty(sampler: HandSampler, run: Recording) -> Outcome:
    """TTC where BayesDiff is uncertain."""

    def find(_: Tensor) -> BoolMap:
        return abnormal_cells(uncertainty_at(sampler, run, sampler.watched(DETECTION)[-1] + 1), DETECTION)

    return correct(sampler, run, DETECTION, TTC, find)


def taught(correction: CorrectionSettings, share: float, pictures: bool = False) -> Method:
    """What a taught detector finds at the threshold that marks this share of the images."""

    def method(sampler: HandSampler, run: Recording) -> Outcome:
        detector = Taught.load(taught_file(sampler.test_set, pictures))
        return correct(sampler, run, detector.applied(DETECTION, share), correction, learned=detector.learned)

    return method


def elsewhere(find: Method, correction: CorrectionSettings = TTC) -> Method:
    """The control: a method's masks shifted to random places, with one seed per image."""

    def method(sampler: HandSampler, run: Recording) -> Outcome:
        masks = find(sampler, run).masks
        side = masks.shape[-1]
        moved = [
            np.roll(mask, np.random.default_rng((SEED, seed)).integers(side // 8, side - side // 8 + 1, 2), (0, 1))
            for mask, seed in zip(masks, run.seeds, strict=True)
        ]
        return correct(sampler, run, DETECTION, correction, lambda _: np.stack(moved))

    return method


ORIGINAL, DEFAULTS = "original", "defaults"
TABLE: dict[str, Method] = {
    ORIGINAL: ours(WATCH),
    "state replacement": ours(replace(TTC, method="replace"), REFERENCE),
    "score clipping": ours(replace(TTC, method="clip"), REFERENCE),
    "BayesDiff + TTC": by_uncertainty,
    "SARGD, adapted": by_supervised(replace(TTC, method="sargd")),
    "supervised + TTC": by_supervised(TTC),
    "ASCED reference": ours(TTC, REFERENCE),
    "ASCED strict": ours(TTC, STRICT),
    "ASCED robust": ours(TTC),
    "ASCED robust, no added call": ours(PREVIOUS),
    "robust's masks elsewhere": elsewhere(ours(WATCH)),
    "taught, few": taught(TTC, FEW),
    "taught, few, redo": taught(REDO, FEW),
    "taught, many": taught(TTC, MANY),
    "taught, many, no added call": taught(PREVIOUS, MANY),
    "taught, many, redo": taught(REDO, MANY),
    "taught, many, redo elsewhere": elsewhere(taught(WATCH, MANY), REDO),
    "taught by pictures, many": taught(TTC, MANY, pictures=True),
    "taught by pictures, many, redo": taught(REDO, MANY, pictures=True),
}


def rows_of(test_set: str) -> dict[str, Method]:
    """The rows of a test set's table: all but those of detectors that were not taught for it."""
    shown = taught_file(test_set, pictures=True).is_file()
    return {name: method for name, method in TABLE.items() if shown or not name.startswith("taught by pictures")}


SWEEPS: dict[str, list[dict[str, float | str | int]]] = {
    "end_percent": [{"end_percent": p} for p in (0.36, 0.42, 0.46, 0.54, 0.60)],
    "gamma": [{"gamma": g} for g in (0.1, 0.3, 1.0)],
    "mad_scale": [{"mad_scale": k} for k in (2.0, 2.5, 3.5, 4.0, 5.0)],
    "start_percent": [{"start_percent": p} for p in (0.10, 0.26, 0.32)],
    "x0_source": [{"x0_source": "previous"}],
}


def setting_name(setting: dict[str, float | str | int]) -> str:
    """Its row name in the tables."""
    return ", ".join(f"{name} {value}" for name, value in setting.items())


def _changed(setting: dict[str, float | str | int]) -> Method:
    detection = {name: value for name, value in setting.items() if hasattr(DETECTION, name)}
    correction = {name: value for name, value in setting.items() if name not in detection}
    return ours(replace(TTC, **correction), replace(DETECTION, **detection))  # type: ignore[arg-type]


SETTINGS: dict[str, Method] = {
    ORIGINAL: ours(WATCH),
    DEFAULTS: ours(TTC),
    **{setting_name(setting): _changed(setting) for settings in SWEEPS.values() for setting in settings},
}
METHODS = {**SETTINGS, **TABLE}


def one_thread() -> None:
    """A worker has one core, where extra threads only slow it down."""
    torch.set_num_threads(1)
