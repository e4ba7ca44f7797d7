"""A report's masks, ready to use: at any size, grown, with soft edges, without weak or excluded regions."""

from __future__ import annotations

import re
from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray

from ..maps import BoolMap, feather, resize_mask
from .report import Report


def parse_excluded(text: str) -> frozenset[tuple[int, int]]:
    """Parses regions given as ``image:region``, separated by commas or spaces.

    Args:
        text: such as ``1:2, 2:1``; images and the regions of an image count from 1, strongest first.

    Returns:
        (image, region) pairs, with images counted from 0 and regions from 1.

    Raises:
        ValueError: an entry does not have this form.
    """
    entries = text.replace(",", " ").split()
    names = [re.fullmatch(r"([1-9]\d{0,8}):([1-9]\d{0,8})", entry) for entry in entries]
    for entry, name in zip(entries, names, strict=True):
        if name is None:
            raise ValueError(
                f"exclude contains {entry!r}, but expects image:region, such as 1:2, 2:1; images and regions count "
                "from 1."
            )
    return frozenset((int(name[1]) - 1, int(name[2])) for name in names if name is not None)


def region_names(report: Report) -> frozenset[tuple[int, int]]:
    """All regions of a report as (image, region) pairs, like ``parse_excluded``."""
    return frozenset((place, n + 1) for place, image in enumerate(report.images) for n in range(len(image.regions)))


def shaped_masks(
    report: Report,
    height: int,
    width: int,
    grow: int = 0,
    soft: int = 0,
    min_score: float = 0.0,
    excluded: Collection[tuple[int, int]] = (),
) -> NDArray[np.float32]:
    """The artifact masks of a run, float32 [B,height,width], 0 to 1.

    Args:
        report: the run's report.
        height, width: size of the masks in pixels.
        grow: dilation radius in these pixels, 0 or more; a disc, so corners are rounded.
        soft: width of the fade-out around that, in these pixels, 0 or more.
        min_score: leaves out regions with a lower score.
        excluded: leaves out these regions; see ``parse_excluded``.
    """
    out = np.zeros((len(report.labels), height, width), np.float32)
    for place, image in enumerate(report.images):
        kept = _kept(report, place, min_score, excluded)
        if not kept.any():
            continue
        mask = resize_mask(kept, height, width)
        if grow > 0:
            disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1))
            mask = cv2.dilate(mask.astype(np.uint8), disc).astype(bool)
        out[image.index] = 1 - feather(~mask, soft)
    return out


def _kept(report: Report, place: int, min_score: float, excluded: Collection[tuple[int, int]]) -> BoolMap:
    """Bool [H,W] mask of the regions with a sufficient score that are not excluded."""
    regions = enumerate(report.images[place].regions, start=1)
    keep = [n for n, region in regions if region.score >= min_score and (place, n) not in excluded]
    return np.isin(report.labels[place], keep)


def ratios_at(report: Report, height: int, width: int, count: int) -> NDArray[np.float32]:
    """The report's ratios at another size, nearest neighbor; float32 [count,height,width].

    Args:
        report: the run's report.
        height, width: in pixels.
        count: number of images in the report, or of decoded frames of its videos.
    """
    ratios = [
        cv2.resize(ratio.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        for ratio in report.ratios
    ]
    stacked = np.stack(ratios)
    if count == len(stacked):
        return stacked
    frames = report.run.frames
    return spread_over_frames(stacked, frames, count // (len(stacked) // frames))


def spread_over_frames(masks: NDArray[np.float32], latent_frames: int, frames: int) -> NDArray[np.float32]:
    """Maps of the latent frames of videos [B*T,H,W], repeated for their decoded frames [B*frames,H,W].

    The first latent frame holds one frame, and each of the others the same number (causal video autoencoders). If the
    counts do not fit that, the frames are divided evenly.

    Args:
        masks: one per latent frame.
        latent_frames: T of each video.
        frames: decoded frames of each video.
    """
    videos = masks.reshape(-1, latent_frames, *masks.shape[1:])
    if latent_frames > 1 and (frames - 1) % (latent_frames - 1) == 0:
        source = -(-np.arange(frames) * (latent_frames - 1) // (frames - 1))
    else:
        source = np.arange(frames) * latent_frames // frames
    return videos[:, source].reshape(-1, *masks.shape[1:])
