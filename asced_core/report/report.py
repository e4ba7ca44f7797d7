"""What a run found, in plain values and small arrays; JSON both ways."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..detect.regions import Region
from ..maps import resize_mask
from ..settings import CorrectionSettings, DetectionSettings, to_dict
from ..trajectory import Trajectory
from .facts import ImageReport, RunFacts

FORMAT = 2


@dataclass(frozen=True, eq=False)
class Report:
    """Result of one sampling run.

    Attributes:
        images: one per image of the batch.
        masks: bool [B,H,W], the artifact regions in cells of the signal.
        ratios: float16 [B,H,W], how many times the threshold was exceeded; 0 where it was not.
        trace: float16 [B,S,h,w], mean absolute change of the prediction at the steps of ``trace_steps``.
        trace_steps: the S steps.
        frames: float16 [B,F,3,h,w], predicted clean image at the steps of ``frame_steps``, about -1 to 1.
        frame_steps: the F steps.
        difference_steps: the D steps whose prediction was compared with the one looked at before.
        thresholds: float32 [B,D], threshold of each of these differences, in the mode's units.
        abnormal: float32 [B,D], share of the cells that exceeded it, 0 to 1 (paper Fig. 7).
        sigmas: the run's noise levels.
        window: first and last watched step; last < first where nothing was watched.
        decision: step of T_c, None where there was none.
        corrected_steps: where states were changed.
        detection, correction: the settings by name.
        run: what the host measured.
        notes: what the user ought to know, in sentences.
    """

    images: tuple[ImageReport, ...]
    masks: NDArray[np.bool_]
    ratios: NDArray[np.float16]
    trace: NDArray[np.float16]
    trace_steps: tuple[int, ...]
    frames: NDArray[np.float16]
    frame_steps: tuple[int, ...]
    difference_steps: tuple[int, ...]
    thresholds: NDArray[np.float32]
    abnormal: NDArray[np.float32]
    sigmas: tuple[float, ...]
    window: tuple[int, int]
    decision: int | None
    corrected_steps: tuple[int, ...]
    detection: dict[str, Any]
    correction: dict[str, Any]
    run: RunFacts = field(default_factory=RunFacts)
    notes: tuple[str, ...] = ()

    @property
    def decision_sigma(self) -> float | None:
        """Noise level at T_c."""
        return None if self.decision is None else self.sigmas[self.decision]

    @property
    def steps(self) -> int:
        """Number of sampling steps."""
        return max(0, len(self.sigmas) - 1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the decoded images in pixels; of the signal where they are not known."""
        height, width = self.run.image_size
        return height or self.masks.shape[1], width or self.masks.shape[2]

    def mask_at(self, height: int, width: int) -> NDArray[np.float32]:
        """The masks at another size, nearest neighbour, float32 [B,height,width] of 0 and 1."""
        resized = [resize_mask(mask, height, width) for mask in self.masks]
        return np.stack(resized).astype(np.float32) if resized else np.zeros((0, height, width), np.float32)

    def image_masks(self) -> NDArray[np.float32]:
        """The masks at the size of the decoded image, float32 [B,H,W] of 0 and 1."""
        return self.mask_at(*self.size)

    def summary(self) -> str:
        """What happened, in words for the person who draws."""
        count, flagged = len(self.images), [image for image in self.images if image.flagged]
        if self.decision is None:
            return " ".join(self.notes) or "Not watched."
        if not flagged:
            text = f"Clean: no artifact found in {_count(count, 'image')}."
        else:
            regions = sum(len(image.regions) for image in flagged)
            corrected = sum(image.corrected for image in flagged)
            what = "frame" if self.run.frames > 1 else "image"
            done = f"{_count(corrected, what)} corrected" if corrected else "only watched"
            at = " and ".join(str(step + 1) for step in self.corrected_steps or (self.decision,))
            text = (
                f"{_count(regions, 'region')} in {len(flagged)} of {_count(count, what)}; "
                f"{done} at step {at} of {self.steps}."
            )
        return " ".join([text, *self.notes])

    def to_dict(self, arrays: bool = True) -> dict[str, Any]:
        """Plain values; without ``arrays`` only what a person reads."""
        plain = {
            "format": FORMAT,
            "summary": self.summary(),
            "images": [{"flagged": image.flagged, **asdict(image)} for image in self.images],
            "decision_sigma": self.decision_sigma,
            "run": asdict(self.run),
        }
        for name in _PLAIN:
            plain[name] = getattr(self, name)
        if arrays:
            plain["arrays"] = {name: _pack(getattr(self, name)) for name in _ARRAYS}
        return plain

    def to_json(self, arrays: bool = True) -> str:
        """JSON text; with ``arrays`` it reads back to an equal report."""
        return json.dumps(self.to_dict(arrays), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Reads what ``to_json`` wrote.

        Raises:
            ValueError: the text is no report, lacks its arrays, or is of another format.
        """
        try:
            plain = json.loads(text)
            if plain["format"] != FORMAT:
                raise ValueError(
                    f"This report has format {plain['format']}; this version reads {FORMAT}: run the graph again."
                )
            images = [
                ImageReport(i["index"], i["score"], tuple(_region(r) for r in i["regions"]), i["corrected"])
                for i in plain["images"]
            ]
            return cls(
                images=tuple(images),
                trace_steps=tuple(plain["trace_steps"]),
                frame_steps=tuple(plain["frame_steps"]),
                difference_steps=tuple(plain["difference_steps"]),
                corrected_steps=tuple(plain["corrected_steps"]),
                sigmas=tuple(plain["sigmas"]),
                window=(plain["window"][0], plain["window"][1]),
                decision=plain["decision"],
                detection=plain["detection"],
                correction=plain["correction"],
                run=_facts(plain["run"]),
                notes=tuple(plain["notes"]),
                **{name: _unpack(plain["arrays"][name]) for name in _ARRAYS},
            )
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"This is no ASCED report with its arrays ({error!r}): take the text that to_json(arrays=True) wrote."
            ) from error


_PLAIN = (
    "decision", "window", "corrected_steps", "sigmas", "trace_steps", "frame_steps", "difference_steps", "detection",
    "correction", "notes",
)  # fmt: skip
_ARRAYS = ("masks", "ratios", "trace", "frames", "thresholds", "abnormal")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _facts(plain: dict[str, Any]) -> RunFacts:
    values = {f.name: plain[f.name] for f in fields(RunFacts)}
    return RunFacts(**{**values, "image_size": tuple(values["image_size"])})


def _region(plain: dict[str, Any]) -> Region:
    left, top, right, bottom = plain["box"]
    return Region((left, top, right, bottom), plain["area"], plain["score"])


def _pack(array: NDArray[Any]) -> dict[str, Any]:
    data = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes())).decode()
    return {"dtype": str(array.dtype), "shape": array.shape, "zlib_base64": data}


def _unpack(packed: dict[str, Any]) -> NDArray[Any]:
    data = zlib.decompress(base64.b64decode(packed["zlib_base64"]))
    return np.frombuffer(data, packed["dtype"]).reshape(packed["shape"]).copy()


def build_report(trajectory: Trajectory, run: RunFacts, notes: tuple[str, ...] = ()) -> Report:
    """The report of a run that has ended; copies the small pictures of its trace to the host."""
    found = trajectory.detections
    images = tuple(ImageReport(i, d.score, tuple(d.regions), trajectory.corrected[i]) for i, d in enumerate(found))
    return Report(
        images=images,
        masks=np.stack([d.mask for d in found]),
        ratios=np.stack([d.ratio for d in found]).astype(np.float16),
        trace=trajectory.trace.maps().cpu().numpy(),
        trace_steps=tuple(trajectory.trace.map_steps),
        frames=trajectory.trace.frames().cpu().numpy(),
        frame_steps=tuple(trajectory.trace.frame_steps),
        difference_steps=tuple(step for seen in trajectory.observed_steps for step in seen[1:]),
        abnormal=np.stack([d.abnormal for d in found]),
        thresholds=np.stack([np.maximum(d.thresholds, d.floor) for d in found]),
        sigmas=trajectory.sigmas,
        window=(trajectory.window.first, trajectory.window.last),
        decision=trajectory.window.decision,
        corrected_steps=tuple(trajectory.corrected_steps),
        detection=to_dict(trajectory.detection),
        correction=to_dict(trajectory.correction),
        run=run,
        notes=(*trajectory.window.notes, *trajectory.notes, *notes),
    )


def empty_report(
    size: tuple[int, int, int],
    sigmas: tuple[float, ...],
    detection: DetectionSettings,
    correction: CorrectionSettings,
    run: RunFacts,
    notes: tuple[str, ...],
) -> Report:
    """Report of a run that was not watched: no regions, and the reason in its notes.

    Args:
        size: number of images, height and width of the signal in cells.
        sigmas: the run's noise levels.
        detection, correction: the settings that were asked for.
        run: what the host measured.
        notes: the reason.
    """
    batch, _height, _width = size
    return Report(
        images=tuple(ImageReport(i, 0.0, (), False) for i in range(batch)),
        masks=np.zeros(size, bool),
        ratios=np.zeros(size, np.float16),
        trace=np.zeros((batch, 0, 1, 1), np.float16),
        trace_steps=(),
        frames=np.zeros((batch, 0, 3, 1, 1), np.float16),
        frame_steps=(),
        difference_steps=(),
        thresholds=np.zeros((batch, 0), np.float32),
        abnormal=np.zeros((batch, 0), np.float32),
        sigmas=sigmas,
        window=(0, -1),
        decision=None,
        corrected_steps=(),
        detection=to_dict(detection),
        correction=to_dict(correction),
        run=run,
        notes=notes,
    )
