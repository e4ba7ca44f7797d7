"""The result of a run, in plain values and small arrays, with a summary and JSON for the user."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..detect.regions import Region
from ..detect.single_steps import MAD_TO_SIGMA
from ..maps import BoolMap, resize_mask
from ..settings import CorrectionSettings, DetectionSettings, to_dict
from .drafts import Drafts
from .outcome import confidence, plural, remarks
from .ranking import Ranked
from .run_facts import RunFacts

FORMAT = 3


@dataclass(frozen=True)
class ImageReport:
    """One image of the batch.

    Attributes:
        index: index in the batch.
        score: score of its strongest region, up to 100; 1 is exactly at the threshold, 0 means no region.
        regions: strongest first, in cells of the signal.
        corrected: True if its state was changed.
        measurable: False if its predictions from T_d on held NaN or infinity; its score then means nothing.
        looked_at: False if the run was not watched, or if the whole image was excluded.
        too_large: number of regions that were left alone because of ``max_area``.
        run_score: how well its run was going early on, relative to its batch; None if that was not read.
        draft: which of the drafts it is, from 0; None if the run had none.
    """

    index: int
    score: float
    regions: tuple[Region, ...]
    corrected: bool
    measurable: bool = True
    looked_at: bool = True
    too_large: int = 0
    run_score: Ranked | None = None
    draft: int | None = None

    @property
    def flagged(self) -> bool:
        """True if an artifact region was detected."""
        return bool(self.regions)

    @property
    def state(self) -> str:
        """``not_measurable``, ``marked``, ``not_looked_at``, ``too_large`` or ``clean``: the first that applies."""
        states = {
            "not_measurable": not self.measurable,
            "marked": self.flagged,
            "not_looked_at": not self.looked_at,
            "too_large": self.too_large > 0,
        }
        return next((name for name, applies in states.items() if applies), "clean")

    def to_dict(self) -> dict[str, Any]:
        """Values by name."""
        return {
            "flagged": self.flagged,
            **asdict(self),
            "run_score": None if self.run_score is None else self.run_score.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class Report:
    """Result of one sampling run.

    Attributes:
        images: one per image of the batch.
        labels: uint16 [B,H,W] in cells of the signal: n in the n-th region of an image, 0 elsewhere.
        ratios: float16 [B,H,W], change as a multiple of the threshold; 0 below it.
        trace: float16 [B,S,h,w], mean absolute change of the prediction at the steps in ``trace_steps``.
        trace_steps: the S steps.
        frames: float16 [B,F,3,h,w], predicted clean image at the steps in ``frame_steps``, about -1 to 1.
        frame_steps: the F steps.
        sigmas: the run's noise levels.
        window: first and last watched step; last < first if nothing was watched.
        decision: step of T_c; None if the run was not watched.
        corrected_steps: steps at which the state was changed.
        detection, correction: the settings by name.
        run: facts about the run.
        notes: what the user should know, as sentences.
        drafts: what became of the drafts, if only some images were finished; else None.
        predictions: float16 [B,3,C,H,W], the window's first, middle and last prediction; None if not kept.
    """

    images: tuple[ImageReport, ...]
    labels: NDArray[np.uint16]
    ratios: NDArray[np.float16]
    trace: NDArray[np.float16]
    trace_steps: tuple[int, ...]
    frames: NDArray[np.float16]
    frame_steps: tuple[int, ...]
    sigmas: tuple[float, ...]
    window: tuple[int, int]
    decision: int | None
    corrected_steps: tuple[int, ...]
    detection: dict[str, Any]
    correction: dict[str, Any]
    run: RunFacts = field(default_factory=RunFacts)
    notes: tuple[str, ...] = ()
    drafts: Drafts | None = None
    predictions: NDArray[np.float16] | None = None

    @property
    def masks(self) -> BoolMap:
        """Masks of the artifact regions, bool [B,H,W] in cells of the signal."""
        return self.labels > 0

    @property
    def decision_sigma(self) -> float | None:
        """Noise level sigma at T_c; None if the run was not watched."""
        return None if self.decision is None else self.sigmas[self.decision]

    @property
    def steps(self) -> int:
        """Number of sampling steps."""
        return max(0, len(self.sigmas) - 1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the decoded images in pixels; of the signal if unknown."""
        height, width = self.run.image_size
        return height or self.labels.shape[1], width or self.labels.shape[2]

    def mask_at(self, height: int, width: int) -> NDArray[np.float32]:
        """The masks at another size, float32 [B,height,width] of 0 and 1."""
        resized = [resize_mask(mask, height, width) for mask in self.masks]
        return np.stack(resized).astype(np.float32) if resized else np.zeros((0, height, width), np.float32)

    def image_masks(self) -> NDArray[np.float32]:
        """The masks at the size of the decoded image, float32 [B,H,W] of 0 and 1."""
        return self.mask_at(*self.size)

    def summary(self) -> str:
        """Text for the user: what became of the drafts, what was detected and corrected, and the notes."""
        drafts = [] if self.drafts is None else [self.drafts.summary()]
        if self.decision is None:
            return " ".join([*drafts, *self.notes]) or "Not watched."
        what = "frame" if self.run.frames > 1 else "image"
        return " ".join([*drafts, *self._found(what, self.decision), *remarks(self.images, what), *self.notes])

    def _found(self, what: str, decision: int) -> list[str]:
        """What was detected and corrected, as a sentence; none if there was nothing to look at."""
        count, flagged = len(self.images), [image for image in self.images if image.flagged]
        if not flagged:
            seen = sum(image.measurable and image.looked_at for image in self.images)
            clean = all(image.state == "clean" for image in self.images)
            start = "Clean: no artifacts found" if clean else "No region marked"
            return [f"{start} in {plural(seen, what)}."] if seen else []
        regions = sum(len(image.regions) for image in flagged)
        corrected = sum(image.corrected for image in flagged)
        done = f"{plural(corrected, what)} corrected" if corrected else "not corrected, detected"
        at = " and ".join(str(step + 1) for step in self.corrected_steps or (decision,))
        return [
            f"{plural(regions, 'region')} in {len(flagged)} of {plural(count, what)}; {done} at step {at} of "
            f"{self.steps}.",
            *confidence([region for image in flagged for region in image.regions]),
        ]

    def phase(self, step: int) -> str:
        """Name of the phase of a step (paper Sec. 3.2)."""
        first, last = self.window
        return "Profiling" if step < first else "Mutation" if step <= last else "Refinement"

    def single_steps(self, image: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How abnormal the change at each traced step was, measured on the trace, as in Fig. 7 of the paper.

        Both are NaN at a step whose changes are not finite.

        Returns:
            float32 [S] each: the threshold ``median + k * 1.4826 * MAD`` of an image's changes, in their unit, and the
            share of cells above it, 0 to 1. Only the modes ``reference`` and ``paper`` decide by them.
        """
        changes = self.trace[image].astype(np.float32)
        changes = changes.reshape(len(changes), changes[0].size if len(changes) else 1)
        changes[~np.isfinite(changes).all(axis=1)] = np.nan
        middle = np.median(changes, axis=1)
        mad = np.median(np.abs(changes - middle[:, None]), axis=1)
        threshold = middle + self.detection["mad_scale"] * MAD_TO_SIGMA * mad
        share = (changes > threshold[:, None]).mean(1, dtype=np.float32)
        return threshold, np.where(np.isnan(threshold), np.float32(np.nan), share)

    def to_dict(self) -> dict[str, Any]:
        """Values that JSON knows, by name, without the arrays; a number that is NaN or infinite is None."""
        values = {
            "format": FORMAT,
            "summary": self.summary(),
            "images": [image.to_dict() for image in self.images],
            "decision_sigma": self.decision_sigma,
            "run": asdict(self.run),
            "drafts": None if self.drafts is None else self.drafts.to_dict(),
            **{name: getattr(self, name) for name in _PLAIN},
        }
        return {name: plain(value) for name, value in values.items()}

    def to_json(self, indent: int | None = 1) -> str:
        """``to_dict`` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)


_PLAIN = (
    "decision", "window", "corrected_steps", "sigmas", "trace_steps", "frame_steps", "detection", "correction", "notes",
)  # fmt: skip


def plain(value: Any) -> Any:
    """Tuples, lists, dictionaries and numbers as JSON has them; a number that is NaN or infinite is None."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def without_trace(images: int) -> dict[str, Any]:
    """The trace fields of a Report without a trace."""
    return {
        "trace": np.zeros((images, 0, 1, 1), np.float16),
        "trace_steps": (),
        "frames": np.zeros((images, 0, 3, 1, 1), np.float16),
        "frame_steps": (),
    }


def unwatched_report(
    size: tuple[int, int, int],
    sigmas: tuple[float, ...],
    detection: DetectionSettings,
    correction: CorrectionSettings,
    run: RunFacts,
    notes: tuple[str, ...],
) -> Report:
    """The report of a run that was not watched: no regions, and the reason in its notes.

    Args:
        size: number of images, height and width of the signal in cells.
        sigmas: the run's noise levels.
        detection, correction: the requested settings.
        run: facts about the run.
        notes: the reason.
    """
    batch, _height, _width = size
    return Report(
        images=tuple(ImageReport(i, 0.0, (), False, looked_at=False) for i in range(batch)),
        labels=np.zeros(size, np.uint16),
        ratios=np.zeros(size, np.float16),
        **without_trace(batch),
        sigmas=sigmas,
        window=(0, -1),
        decision=None,
        corrected_steps=(),
        detection=to_dict(detection),
        correction=to_dict(correction),
        run=run,
        notes=notes,
    )
