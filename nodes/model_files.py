"""Files of the pack in the host's folder models/asced, and those that ship with it."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

FOLDER = "asced"  # of the host's models
CALIBRATION, POSTERIOR = ".calibration.safetensors", ".laplace.safetensors"  # endings of files made by nodes

SHIPPED = Path(__file__).resolve().parents[1] / "demo" / "asced"

for _folder in (Path(folder_paths.models_dir) / FOLDER, SHIPPED):  # new files go into the first
    folder_paths.add_model_folder_path(FOLDER, str(_folder))


def files_with(*endings: str) -> list[str]:
    """Names of the files that end so."""
    return [name for name in folder_paths.get_filename_list(FOLDER) if name.endswith(endings)]


def find_file(name: str) -> Path | None:
    """Where a file is, None if there is none."""
    path = folder_paths.get_full_path(FOLDER, name)
    return Path(path) if path else None


def changed(name: str) -> float:
    """When a file was written, 0 if there is none: the host runs a node again when this has changed."""
    path = find_file(name)
    return os.path.getmtime(path) if path else 0.0


def new_file(widget: str, name: str, ending: str) -> Path:
    """Where a file with this name and ending goes.

    Args:
        widget: that holds the name, for the error's words.
        name: with or without the ending.
        ending: of the file.

    Raises:
        ValueError: the name is empty or leads out of the folder.
    """
    name = name.strip().removesuffix(ending)
    if not name or name in (".", "..") or Path(name).name != name or "\\" in name:
        raise ValueError(
            f"{widget} is {name!r}: give a name without folders, such as my_checkpoint; it is kept in models/{FOLDER}."
        )
    folder = Path(folder_paths.get_folder_paths(FOLDER)[0])
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}{ending}"
