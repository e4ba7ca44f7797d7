"""The drafts of a run of which only the best were finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .outcome import NAMED, enumerated, plural
from .ranking import Ranked, best_first


@dataclass(frozen=True, eq=False)
class Drafts:
    """What became of N drafts.

    Attributes:
        step: after which they were compared, counted from 0.
        steps: of a whole run.
        kept: places of those that were finished, from 0, ascending.
        ranked: run score of each draft.
        seeds: of each draft; empty if they share the seed of the run.
        pictures: float16 [N,3,h,w], their predictions at that step, about -1 to 1; [N,0,1,1] if it has no colors.
    """

    step: int
    steps: int
    kept: tuple[int, ...]
    ranked: tuple[Ranked, ...]
    seeds: tuple[int, ...]
    pictures: NDArray[np.float16]

    @property
    def all_kept(self) -> bool:
        """True if every draft was finished."""
        return len(self.kept) == len(self.ranked)

    @property
    def ranks(self) -> list[int]:
        """Rank of each draft, 1 is the best."""
        order = best_first(self.ranked)
        return [order.index(place) + 1 for place in range(len(order))]

    def summary(self) -> str:
        """One sentence for the user, with drafts counted from 1."""
        kept = [place + 1 for place in self.kept]
        finished = "all" if self.all_kept else enumerated(kept) if len(kept) <= NAMED else str(len(kept))
        return (
            f"{plural(len(self.ranked), 'draft')} compared after step {self.step + 1} of {self.steps}; "
            f"{finished} finished."
        )

    def to_dict(self) -> dict[str, Any]:
        """Values by name, without the pictures."""
        return {
            "step": self.step,
            "steps": self.steps,
            "kept": self.kept,
            "seeds": self.seeds,
            "drafts": [{"rank": rank, **one.to_dict()} for rank, one in zip(self.ranks, self.ranked, strict=True)],
        }


def picked(batch: Sequence[Ranked], keep: int, always: Sequence[int] = ()) -> tuple[int, ...]:
    """Places of the drafts that are finished, ascending: the ``keep`` best, and those named in ``always``."""
    return tuple(sorted({*best_first(batch)[:keep], *always}))
