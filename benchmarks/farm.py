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
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.hands import COMFYUI, HandSampler, record

CHUNK = 32  # images per file
RETRIES = 5
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
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not address:  # keeps Ray on 127.0.0.1; read when Ray is imported
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    variables = {"OMP_NUM_THREADS": "1"}
    if address:
        if COMFYUI in os.environ:  # local workers inherit it
            variables[COMFYUI] = os.environ[COMFYUI]
        sent = {"working_dir": str(ROOT), "excludes": EXCLUDED, "env_vars": variables}
        try:
            ray.init(address=address, runtime_env=sent)
        except ConnectionError as error:
            raise ConnectionError(
                f"Could not join a Ray cluster at {address}. Start one with `ray start --head`, or set "
                "RAY_AUTH_MODE=token if the cluster requires a token."
            ) from error
    else:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        ray.init(  # without "local", Ray would join any cluster that runs on this machine
            address="local", include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False,
            runtime_env={"env_vars": {**variables, "PYTHONPATH": path}},
        )  # fmt: skip
    try:
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(task)
        waiting = {remote.remote(test_set, list(range(s, s + CHUNK)), names): s for s, names in missing.items()}
        done_before = len(files) - sum(map(len, missing.values()))
        with tqdm(total=len(files), initial=done_before, desc=test_set, unit="file") as bar:
            while waiting:
                for done in ray.wait(list(waiting))[0]:
                    start = waiting.pop(done)
                    for name, data in ray.get(done).items():
                        _write(files[name, start], data)
                        bar.update()
    finally:
        ray.shutdown()


def _write(file: Path, data: bytes) -> None:
    """Writes to a temporary file and renames it, so an interrupted run leaves no partial file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{time.time_ns()}.part")
    part.write_bytes(data)
    part.replace(file)


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
