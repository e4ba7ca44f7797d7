"""What a detector is taught with: predictions of windows, with and without a fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

# of grown faults: what the region was replaced with; mixed is the mean of its own and of another image's
KINDS = ("another", "mixed", "shifted", "mirrored")
HELD_OUT = "mirrored"  # never trained on: decides when to stop


@dataclass(frozen=True)
class Material:
    """What a detector is taught with: the first, middle and last prediction of windows.

    Attributes:
        runs: float16 [N,3,C,H,W], as the model made them.
        grown: float16 [G,3,C,H,W], with a fault that the model grew.
        origin: int64 [G], from which of the runs each grew.
        kinds: int64 [G], of the faults, see KINDS.
    """

    runs: Tensor
    grown: Tensor
    origin: Tensor
    kinds: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Material]) -> Material:
        """Several parts as one."""
        starts = np.cumsum([0, *(len(part.runs) for part in parts)])
        origin = [part.origin + int(start) for part, start in zip(parts, starts, strict=False)]
        return cls(
            torch.cat([part.runs for part in parts]),
            torch.cat([part.grown for part in parts]),
            torch.cat(origin),
            torch.cat([part.kinds for part in parts]),
        )

    def finite(self) -> Material:
        """Without the runs and grown faults that hold NaN or infinity."""
        runs, grown = (part.flatten(1).isfinite().all(1) for part in (self.runs, self.grown))
        grown &= runs[self.origin]
        place = runs.cumsum(0) - 1  # where each run is then
        return Material(self.runs[runs], self.grown[grown], place[self.origin[grown]], self.kinds[grown])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in cells."""
        return self.runs.shape[3], self.runs.shape[4]

    def save(self, path: Path) -> None:
        """Writes a safetensors file; an existing file is replaced atomically."""
        temporary = path.with_name(f"{path.name}.part")
        save_file({name: getattr(self, name).contiguous() for name in _TENSORS}, temporary)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Material:
        """Reads what ``save`` wrote."""
        return cls(**load_file(path))


_TENSORS = ("runs", "grown", "origin", "kinds")
