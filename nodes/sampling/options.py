"""What the DETECTION and CORRECTION sockets carry: the settings, and the ComfyUI objects that go with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ...asced_core import Space
from ...asced_core.baselines.pal import PALDetector
from ...asced_core.detect.run_score import READ_AT
from ...asced_core.maps import BoolMap, resize_mask
from ...asced_core.report.calibration import Origin
from ...asced_core.report.run_facts import RunFacts
from ...asced_core.settings import BASE_SIZE, CorrectionSettings, DetectionSettings
from ...asced_core.teach import Taught
from .one_draft import OneDraft

CROPPED = 8  # pixels by which a decoded image may be smaller than the loaded one


@dataclass(frozen=True, eq=False)
class DetectionOptions:
    """How and where to look.

    Attributes:
        settings: numbers and names.
        vae: ComfyUI's VAE, for space vae and for a detector.
        detector: finds the artifacts in the decoded images, in place of the dynamics.
        only_here, protect: ComfyUI's MASK [H,W] or [B,H,W]: look and act only here; never touch this. An empty one
            may have any proportions: ComfyUI's Load Image makes one of 64x64 for an image without alpha.
        learned_on: where the calibration holds that the threshold came from.
        taught: a taught detector, for mode ``learned``.
        keep_predictions: the report keeps predictions to learn from, see Report.
        remarks: what the user of a run should know about these settings, as sentences.
    """

    settings: DetectionSettings = field(
        default_factory=lambda: DetectionSettings(mode="strict", space="auto", base_size=BASE_SIZE)
    )
    vae: Any = None
    detector: PALDetector | None = None
    only_here: torch.Tensor | None = None
    protect: torch.Tensor | None = None
    learned_on: Origin = field(default_factory=Origin)
    taught: Taught | None = None
    keep_predictions: bool = False
    remarks: tuple[str, ...] = ()

    def notes(self, run: RunFacts, size: tuple[int, int]) -> tuple[str, ...]:
        """What the user of a run should know, such as that the threshold was learned on something else.

        Args:
            run: facts about the run.
            size: height and width of its latents in cells.
        """
        notes = (*self.remarks, *self.learned_on.notes(run))
        return notes if self.taught is None else (*notes, *self.taught.notes(run, size))

    def of_one(self, place: int, count: int) -> DetectionOptions:
        """The same for one image or video of a batch of ``count``: of masks for each, or for each frame, its own."""
        only_here, protect = (_of_one(mask, place, count) for mask in (self.only_here, self.protect))
        return replace(self, only_here=only_here, protect=protect)

    def forbidden(self, images: int, height: int, width: int) -> BoolMap | None:
        """Where nothing may be found or changed, bool [1,H',W'] or [images,H',W']; None if there is no limit.

        Args:
            images: number of images, or of all frames of videos.
            height, width: of the decoded image, or any size with its proportions.

        Raises:
            ValueError: a mask does not fit the run.
        """
        maps = []
        for name, mask, keep in (("only_here", self.only_here, False), ("protect", self.protect, True)):
            if mask is not None:
                maps.append((_checked(name, mask, images, height, width) >= 0.5) == keep)
        if not maps:
            return None
        if len(maps) == 1 or maps[0].shape == maps[1].shape:
            return np.logical_or.reduce(maps)
        # masks of different size or number: both at the finer size
        size = tuple(max(m.shape[axis] for m in maps) for axis in range(3))
        return np.logical_or.reduce([_spread(m, size) for m in maps])


@dataclass(frozen=True, eq=False)
class CorrectionOptions:
    """What to do.

    Attributes:
        settings: numbers and names.
        vae: ComfyUI's VAE, for a correction in pixel space.
        keep_original: also finishes the run without a correction.
    """

    settings: CorrectionSettings = field(default_factory=CorrectionSettings)
    vae: Any = None
    keep_original: bool = False


@dataclass(frozen=True)
class DraftOptions:
    """How many images of a batch are finished.

    Attributes:
        keep: number of images that are finished, 1 or more.
        decide_at: share of the steps after which they are picked, 0 to 1.
        always: places of images that are finished in any case, from 0.
        seeds: seed of each image; empty if they share the seed of the run.
        draft: the run is this draft alone: it is recorded, or finished if it was; None is a run with the whole batch.
        space: what the runs of these drafts look at, once one of them has loaded its decoder.
    """

    keep: int
    decide_at: float = READ_AT
    always: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    draft: OneDraft | None = None
    space: list[Space] = field(default_factory=list)


DEFAULT_DETECTION = DetectionOptions()
DEFAULT_CORRECTION = CorrectionOptions()
DEFAULT_DRAFTS = DraftOptions(keep=1)


def _of_one(mask: torch.Tensor | None, place: int, count: int) -> torch.Tensor | None:
    if mask is None or mask.ndim < 3 or len(mask) == 1 or len(mask) % count:
        return mask
    return mask.unflatten(0, (count, -1))[place]


def _checked(name: str, mask: torch.Tensor, images: int, height: int, width: int) -> np.ndarray:
    given = tuple(mask.shape)
    flat = mask.reshape(-1, *given[-2:]) if mask.ndim >= 2 else mask
    if mask.ndim < 2 or 0 in given:
        raise ValueError(f"The {name} mask has shape {given}: connect a MASK of shape [H,W] or [B,H,W].")
    if len(flat) not in (1, images):
        raise ValueError(
            f"The {name} input has {len(flat)} masks, but the run has {images} images: connect one for all or one each."
        )
    values: np.ndarray = flat.detach().float().cpu().numpy()
    if abs(given[-1] * height / given[-2] - width) >= CROPPED and (values >= 0.5).any():
        raise ValueError(
            f"The {name} mask is {given[-1]}×{given[-2]}, but the image is {width}×{height}: "
            "connect a mask with the same proportions, at the size of the image or of its latent."
        )
    return values


def _spread(mask: BoolMap, size: tuple[int, ...]) -> BoolMap:
    spread = np.stack([resize_mask(m, size[1], size[2]) for m in mask])
    return np.broadcast_to(spread, size)
