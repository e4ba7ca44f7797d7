"""What a detector was taught, as one small file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..detect.certainty import Certainty
from ..detect.learned import FaultNet, Learned
from ..report.calibration import threshold_for
from ..report.outcome import plural
from ..report.run_facts import RunFacts
from ..settings import DetectionSettings

FORMAT = "asced taught detector 1"
FACTS, CERTAINTY, MARKS, NETWORK = "facts", "certainty", "first_marks", "network."  # keys in the file
NEAR = 1.5  # the same for the guidance scale; twice as much doubled the share of marked images of the hand models
SIMILAR = 1.6  # how many times larger or smaller than the taught images others may be without a note


@dataclass(frozen=True)
class TaughtFacts:
    """What a detector was taught with.

    Attributes:
        model: what identifies the checkpoint, see RunFacts; empty if unknown.
        channels: of its latents.
        size: height and width of the latents in cells.
        runs, pictures: number of the checkpoint's own runs, and of pictures that are as they should be.
        steps: of the optimizer, up to the one that was kept.
        precision: average precision on held-out faults of a kind that was never trained on, 0 to 1.
        chance: the same of a guess: the share of cells that belong to those faults.
        date: of the teaching, YYYY-MM-DD.
        version: of this package.
        lesson: digest of everything that it depends on; empty if unknown.
        cfg: guidance scale of the runs; 0 if unknown.
    """

    model: str = ""
    channels: int = 4
    size: tuple[int, int] = (0, 0)
    runs: int = 0
    pictures: int = 0
    steps: int = 0
    precision: float = 0.0
    chance: float = 0.0
    date: str = ""
    version: str = ""
    lesson: str = ""
    cfg: float = 0.0

    def summary(self) -> str:
        """What the user should know, as sentences."""
        sources = [plural(n, what) for n, what in ((self.runs, "run"), (self.pictures, "picture")) if n]
        height, width = self.size
        of, cfg = (f" of {self.model}" if self.model else ""), (f", CFG {self.cfg:g}" if self.cfg else "")
        return (
            f"Taught from {' and '.join(sources)}{of} at {width}x{height} latent cells{cfg}, "
            f"{self.date}, ASCED {self.version}. Average precision on faults of a kind it never saw: "
            f"{self.precision:.2f} (a guess: {self.chance:.2f})."
        )


@dataclass(frozen=True, eq=False)
class Taught:
    """A taught detector.

    Attributes:
        network: on the CPU, in float32.
        facts: what it was taught with.
        marks: float32 [N], for each held-out run the probability at which its first region appears.
        certainty: how likely a mark is right, by mean probability; None if too few marks are known.
    """

    network: FaultNet
    facts: TaughtFacts
    marks: NDArray[np.float32]
    certainty: Certainty | None = None

    @property
    def learned(self) -> Learned:
        """What the detector of mode ``learned`` needs."""
        return Learned(self.network, self.certainty)

    def applied(self, settings: DetectionSettings, share: float) -> DetectionSettings:
        """The settings, with mode ``learned`` and the threshold that marks this share of the checkpoint's images.

        Args:
            settings: as chosen.
            share: 0 to 1, both exclusive.

        Raises:
            ValueError: there are too few held-out runs for this share, or the settings look at another space.
        """
        if settings.space not in ("auto", "latent"):
            raise ValueError(
                f"A taught detector looks at the latent itself: set space to auto or latent, not {settings.space}."
            )
        count = len(self.marks)
        if share * (count + 1) < 1 - 1e-9:
            raise ValueError(
                f"The detector knows {plural(count, 'held-out run')}, which is too few for {100 * share:g}%: teach "
                f"with more runs, or set marked_percent to {math.ceil(1000 / (count + 1)) / 10:g} or more."
            )
        least = threshold_for(self.marks, share)
        return replace(settings, mode="learned", min_probability=least, space="latent")

    def notes(self, run: RunFacts, size: tuple[int, int]) -> tuple[str, ...]:
        """What the user of a run should know if the detector was taught for something else.

        Args:
            run: facts about the run.
            size: height and width of its latents in cells.
        """
        notes: tuple[str, ...] = ()
        if self.facts.model and run.model and self.facts.model != run.model:
            notes += (
                f"The detector was taught on another model ({self.facts.model}; this is {run.model}), so it may miss "
                "or invent artifacts here: teach one on this model.",
            )
        own, other = (float(np.sqrt(max(1, s[0] * s[1]))) for s in (self.facts.size, size))
        if not 1 / SIMILAR <= other / own <= SIMILAR:
            notes += (
                f"The detector was taught at {self.facts.size[1]}x{self.facts.size[0]} latent cells, but this run has "
                f"{size[1]}x{size[0]}, so it may miss artifacts of other sizes: teach one at this size.",
            )
        if self.facts.cfg and run.cfg and not 1 / NEAR <= run.cfg / self.facts.cfg <= NEAR:
            notes += (
                f"The detector was taught at CFG {self.facts.cfg:g}, but this run has CFG {run.cfg:g}, so it may mark "
                "more or fewer images than marked_percent says: teach one at this CFG.",
            )
        return notes

    def obstacle(self, channels: int) -> str:
        """Why the detector cannot look at latents with this many channels; empty if it can."""
        if channels == self.facts.channels:
            return ""
        return (
            f"the taught detector was made for latents with {self.facts.channels} channels, but this model's latents "
            f"have {channels}: choose a file that was taught on this model"
        )

    def save(self, path: Path) -> None:
        """Writes a safetensors file, weights in float16; an existing file is replaced atomically."""
        tensors = {f"{NETWORK}{name}": value.half().contiguous() for name, value in self.network.state_dict().items()}
        tensors[MARKS] = torch.from_numpy(self.marks)
        certainty = None if self.certainty is None else asdict(self.certainty)
        metadata = {
            "format": FORMAT,
            FACTS: json.dumps(asdict(self.facts), sort_keys=True, allow_nan=False),
            CERTAINTY: json.dumps(certainty, sort_keys=True, allow_nan=False),
        }
        temporary = path.with_name(f"{path.name}.part")
        save_file(tensors, temporary, metadata)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Taught:
        """Reads what ``save`` wrote.

        Raises:
            ValueError: the file cannot be read as a taught detector.
        """
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError("it has another format")
                names = [name for name in file.keys() if name.startswith(NETWORK)]  # noqa: SIM118 - it is no dict
                state = {name.removeprefix(NETWORK): file.get_tensor(name) for name in names}
                marks = file.get_tensor(MARKS).numpy()
            facts: dict[str, Any] = json.loads(metadata[FACTS])
            facts["size"] = tuple(facts["size"])
            known = json.loads(metadata[CERTAINTY])
            certainty = known and Certainty(tuple(known["strengths"]), tuple(known["shares"]), known["unit"])
            return cls(FaultNet.of(state), TaughtFacts(**facts), marks, certainty)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path.name} is not a taught detector ({error}): make one with ASCED Teach.") from error
