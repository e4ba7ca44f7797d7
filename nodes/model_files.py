"""The pack's files in ComfyUI's models/asced folder, and the ones that ship with the pack."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

FOLDER = "asced"  # in ComfyUI's models folder
# Endings of the files that nodes write.
CALIBRATION, POSTERIOR, TAUGHT = ".calibration.safetensors", ".laplace.safetensors", ".taught.safetensors"

SHIPPED = Path(__file__).resolve().parents[1] / "demo" / "asced"

for _folder in (Path(folder_paths.models_dir) / FOLDER, SHIPPED):  # new files go to the first
    folder_paths.add_model_folder_path(FOLDER, str(_folder))


def files_with(*endings: str) -> list[str]:
    """Names of the files with one of these endings."""
    return [name for name in folder_paths.get_filename_list(FOLDER) if name.endswith(endings)]


def find_file(name: str) -> Path | None:
    """The path of a file, None if it does not exist."""
    path = folder_paths.get_full_path(FOLDER, name)
    return Path(path) if path else None


def changed(name: str) -> float:
    """Modification time of a file, 0 if it does not exist; ComfyUI runs a node again when this changes."""
    path = find_file(name)
    return os.path.getmtime(path) if path else 0.0


def new_file(widget: str, name: str, ending: str) -> Path:
    """The path for a file with this name and ending.

    Args:
        widget: name of the widget that holds the name, for the error message.
        name: with or without the ending.
        ending: of the file.

    Raises:
        ValueError: the name is empty or leads out of the folder.
    """
    name = name.strip().removesuffix(ending)
    if not name or name in (".", "..") or Path(name).name != name or "\\" in name:
        raise ValueError(
            f"{widget} is {name!r}: enter a name without folders, such as my_checkpoint. It is saved in "
            f"models/{FOLDER}."
        )
    folder = Path(folder_paths.get_folder_paths(FOLDER)[0])
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}{ending}"
