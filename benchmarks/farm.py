"""Spreads many seeds over many workers with Ray. Runs can be resumed; the work of a killed worker is run again.

Each method writes one file per chunk of seeds: ``output/bench/TEST_SET/METHOD/SEED.npz``. Adding a method runs only
that method; deleting a method's folder runs it again. Runs locally by default: one node on 127.0.0.1, no dashboard.

On a cluster, run ``ray start --head --port=6379`` on one machine and ``ray start --address=HEAD:6379`` on the others,
then pass ``--address HEAD:6379`` here. If the cluster requires a token, set ``RAY_AUTH_MODE=token``. The workers
receive this folder; they need its Python packages, and for the latent test set the folder in ``ASCED_COMFYUI``.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from asced_core.batch.farm import Failed, ray_cluster, resources, spread, write
from benchmarks.hands import COMFYUI, HandSampler, record

CHUNK = 32  # images per file
ROOT = Path(__file__).resolve().parent.parent
EXCLUDED = [".git", ".venv", ".host", "output", "docs", "tests", "workflows", "web"]  # not sent to a cluster
Task = Callable[[str, list[int], list[str]], dict[str, bytes]]


def run_chunk(test_set: str, seeds: list[int], names: list[str]) -> dict[str, bytes]:
    """Runs some methods on some seeds; one compressed .npz per method."""
    from benchmarks.methods import METHODS, one_thread

    one_thread()
    sampler = HandSampler(test_set)
    run = record(sampler, seeds)
    return {name: _packed(METHODS[name](sampler, run), seeds, run.labels.numpy()) for name in names}


def _packed(outcome: Any, seeds: list[int], labels: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.savez_compressed(
        data, seeds=np.array(seeds), labels=labels, images=outcome.images, masks=outcome.masks,
        corrected=outcome.corrected, calls=outcome.calls,
    )  # fmt: skip
    return data.getvalue()


def collect(
    test_set: str, images: int, folder: Path, names: Sequence[str], address: str | None = None, task: Task = run_chunk
) -> dict[str, list[Path]]:
    """The files of all chunks, by method; existing files are kept and not run again.

    Args:
        test_set: see hands.TEST_SETS.
        images: number of seeds, counted from 0.
        folder: where the files of this test set go.
        names: of the methods.
        address: of a Ray cluster; None starts one local worker per core.
        task: runs the methods on one chunk of seeds.

    Raises:
        ValueError: the images do not fill whole chunks; a later run would expect other contents in the last file.
    """
    if images < 1 or images % CHUNK:
        raise ValueError(f"The number of images must be a multiple of {CHUNK}, got {images}.")
    starts = range(0, images, CHUNK)
    files = {(name, start): folder / _folder_of(name) / f"{start:06d}.npz" for name in names for start in starts}
    work = {start: missing for start in starts if (missing := [n for n in names if not files[n, start].is_file()])}
    if work:
        _farm(test_set, work, files, address, task)
    return {name: [files[name, start] for start in starts] for name in names}


def _folder_of(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name).strip("-").lower()


def _farm(
    test_set: str,
    missing: dict[int, list[str]],
    files: dict[tuple[str, int], Path],
    address: str | None,
    task: Task,
) -> None:
    variables = {"OMP_NUM_THREADS": "1"}
    if address and COMFYUI in os.environ:  # local workers inherit it
        variables[COMFYUI] = os.environ[COMFYUI]
    done_before = len(files) - sum(map(len, missing.values()))
    with (
        ray_cluster(address, ROOT, {"working_dir": str(ROOT), "excludes": EXCLUDED}, variables),
        tqdm(total=len(files), initial=done_before, desc=test_set, unit="file") as bar,
    ):
        parts = dict(enumerate(_parts(missing, resources("CPU"))))
        work = {key: (test_set, list(range(start, start + CHUNK)), names) for key, (start, names) in parts.items()}
        for key, outcome in spread(work, [partial(_same, task)] * min(resources("CPU"), len(work))):
            if isinstance(outcome, Failed):
                raise RuntimeError(outcome.trace or outcome.reason)
            for name, data in outcome.value.items():
                write(files[name, parts[key][0]], data)
                bar.update()


def _parts(missing: dict[int, list[str]], workers: int) -> list[tuple[int, list[str]]]:
    """Chunks with their methods. Where chunks are few, their methods are shared out so that no worker is idle."""
    parts = -(-workers // len(missing))
    return [(start, own) for start, names in missing.items() for i in range(parts) if (own := names[i::parts])]


def _same(task: Task) -> Task:
    return task


def load(files: list[Path]) -> dict[str, Any]:
    """Joins a method's chunks into arrays by name; ``calls`` stays one value per chunk."""
    parts = []
    for file in files:
        with np.load(file, allow_pickle=False) as archive:
            parts.append({name: archive[name] for name in archive.files})
    return {
        name: np.concatenate([part[name] for part in parts])
        if parts[0][name].ndim
        else np.array([part[name] for part in parts])
        for name in parts[0]
    }
