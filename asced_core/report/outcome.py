"""Sentences about images that have no result: what could not be measured, was not looked at, or was left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..detect.regions import Region

NAMED = 6  # more images than this are counted, not listed


class Outcome(Protocol):
    """What came out for one image, see Detection."""

    @property
    def measurable(self) -> bool: ...
    @property
    def looked_at(self) -> bool: ...
    @property
    def too_large(self) -> int: ...


def plural(number: int, what: str) -> str:
    """``1 region``, ``2 regions``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def listed(places: Sequence[int], what: str) -> str:
    """``image 2``, ``images 1, 3 and 6``, ``9 images``: places count from 0, the sentence from 1."""
    if len(places) > NAMED:
        return plural(len(places), what)
    return f"{what if len(places) == 1 else f'{what}s'} {enumerated([place + 1 for place in places])}"


def enumerated(numbers: Sequence[int | str]) -> str:
    """``1``, ``1 and 3``, ``1, 3 and 6``."""
    *head, last = (str(number) for number in numbers)
    return f"{', '.join(head)} and {last}" if head else last


def confidence(regions: Sequence[Region]) -> list[str]:
    """How likely the marks are right, as a sentence; none if that is unknown."""
    known = sorted(region.confidence for region in regions if region.confidence is not None)
    if not known:
        return []
    low, high = (f"{value:.0%}" for value in (known[0], known[-1]))
    return [f"Confidence {low}." if low == high else f"Confidence {low} to {high}."]


def remarks(images: Sequence[Outcome], what: str = "image") -> list[str]:
    """A sentence for each kind of image without a full result; empty if there are none.

    Args:
        images: all of a run.
        what: an image of it, in the singular.
    """
    lost = [place for place, image in enumerate(images) if not image.measurable]
    unseen = [place for place, image in enumerate(images) if image.measurable and not image.looked_at]
    large = [place for place, image in enumerate(images) if image.too_large]
    sentences = []
    if lost:
        own = "its" if len(lost) == 1 else "their"
        sentences.append(f"{_who_could(lost, images, what)} be measured: {own} values are NaN or infinite.")
    if unseen:
        were, them = ("was", "it") if len(unseen) == 1 else ("were", "them")
        every = len(unseen) == len(images)
        subject = "Nothing was" if every else f"{capitalized(listed(unseen, what))} {were} not"
        left = "" if every else f" of {them}"
        sentences.append(f"{subject} looked at: the masks only_here and protect leave nothing{left}.")
    if large:
        where = "" if len(images) == 1 else f" in {listed(large, what)}"
        number = plural(sum(images[place].too_large for place in large), "region")
        sentences.append(f"{number}{where} left alone: larger than max_area.")
    return sentences


def _who_could(places: Sequence[int], images: Sequence[Outcome], what: str) -> str:
    if len(images) == 1:
        return f"The {what} could not"
    if len(places) == len(images):
        return f"None of the {plural(len(images), what)} could"
    return f"{capitalized(listed(places, what))} could not"


def capitalized(text: str) -> str:
    """Starts with a capital letter."""
    return text[0].upper() + text[1:]
