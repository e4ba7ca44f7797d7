"""What a teaching has done so far, in a folder of its own, so that it goes on after an interruption."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from .material import Material

SOURCES = ("report", "pictures", "runs")  # in this order they are learned from: the last runs are held out
DIGESTS = ("prompts", "report", "pictures")  # settings whose values say nothing to a reader
SETTINGS, TRAINING = "settings.json", "training.pt"
DIGITS = 16


class Notebook:
    """Parts of the material, and the state of the training.

    Args:
        folder: of this teaching alone.
        settings: everything that the result depends on, in plain values by name.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder, self._settings = folder, settings

    @property
    def begun(self) -> bool:
        """True if there is something to go on with."""
        return (self._folder / SETTINGS).is_file()

    @property
    def digest(self) -> str:
        """Identifies the settings."""
        text = json.dumps(self._settings, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]

    def open(self, name: str, start_over: bool = False) -> None:
        """Creates the folder, or goes on with what it holds.

        Args:
            name: of the teaching, for the error message.
            start_over: throws away what the folder holds.

        Raises:
            ValueError: it was begun with other settings.
        """
        if start_over:
            self.remove()
        if self.begun:
            before = json.loads((self._folder / SETTINGS).read_text(encoding="utf-8"))
            if different := _differences(before, self._settings):
                raise ValueError(
                    f"{name} was begun with other settings ({', '.join(different)}): use another name, or turn on "
                    "start_over."
                )
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f"{SETTINGS}.part"
        temporary.write_text(json.dumps(self._settings, indent=1, allow_nan=False), encoding="utf-8")
        temporary.replace(self._folder / SETTINGS)

    def has(self, source: str, number: int) -> bool:
        """True if this part is there."""
        return self._part(source, number).is_file()

    def add(self, source: str, number: int, material: Material) -> None:
        """Keeps a part.

        Args:
            source: one of SOURCES.
            number: of the part, from 0.
            material: the part.
        """
        material.save(self._part(source, number))

    def material(self) -> Material:
        """All parts as one, without what is not finite; those of the report first, the model's own runs last.

        Raises:
            ValueError: there is none.
        """
        files = [file for source in SOURCES for file in sorted(self._folder.glob(f"{source}-*.safetensors"))]
        if not files:
            raise ValueError("There is nothing to learn from: set runs to 10 or more, or connect pictures or a report.")
        return Material.joined([Material.load(file) for file in files]).finite()

    def keep(self, training: dict[str, Any]) -> None:
        """Keeps the state of the training, see Training.state."""
        temporary = self._folder / f"{TRAINING}.part"
        torch.save(training, temporary)
        temporary.replace(self._folder / TRAINING)

    def training(self, device: torch.device) -> dict[str, Any] | None:
        """The state of the training; None if it has not begun."""
        file = self._folder / TRAINING
        return torch.load(file, map_location=device, weights_only=True) if file.is_file() else None

    def remove(self) -> None:
        """Deletes the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _part(self, source: str, number: int) -> Path:
        return self._folder / f"{source}-{number:05}.safetensors"


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs, such as ``steps 20 instead of 25``."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"other {n}" if n in DIGESTS else f"{n} {before.get(n)} instead of {now.get(n)}" for n in names]
