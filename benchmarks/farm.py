"""Many seeds over many workers, by Ray: resumable; a killed worker's work is run again.

What a method makes of a chunk of seeds is a file: ``output/bench/BED/METHOD/SEED.npz``. A new method costs its own work
alone; deleting a method's folder measures it anew. Local by default: one node on 127.0.0.1, no dashboard.

On a cluster: ``ray start --head --port=6379`` on one machine, ``ray start --address=HEAD:6379`` on the others, and
``--address HEAD:6379`` here, with ``RAY_AUTH_MODE=token`` in front where Ray says that the cluster wants a token. This
folder is sent along; its Python packages must be there, and for the latent bed the folder in ``ASCED_COMFYUI``.
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

CHUNK = 32  # images
RETRIES = 5
ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = [".git", ".venv", ".host", "output", "docs", "tests", "workflows", "web"]  # of what a cluster is sent
Task = Callable[[str, list[int], list[str]], dict[str, bytes]]


def run_chunk(bed: str, seeds: list[int], names: list[str]) -> dict[str, bytes]:
    """These methods on these seeds, each as a compressed .npz."""
    from benchmarks.methods import METHODS, one_thread

    one_thread()
    sampler = HandSampler(bed)
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
    bed: str, images: int, folder: Path, names: Sequence[str], address: str | None = None, task: Task = run_chunk
) -> dict[str, list[Path]]:
    """The files of all chunks, by method; those that are there are not run again.

    Args:
        bed: see hands.BEDS.
        images: number of seeds, from 0.
        folder: of this bed.
        names: of the methods.
        address: of a Ray cluster; None starts one worker a core here.
        task: what is run on each chunk of seeds.

    Raises:
        ValueError: the images do not fill their chunks: a file would be another one the next time.
    """
    if images < 1 or images % CHUNK:
        raise ValueError(f"The number of images must be a multiple of {CHUNK}, got {images}.")
    starts = range(0, images, CHUNK)
    files = {(name, start): folder / _folder_of(name) / f"{start:06d}.npz" for name in names for start in starts}
    work = {start: missing for start in starts if (missing := [n for n in names if not files[n, start].is_file()])}
    if work:
        _farm(bed, work, files, address, task)
    return {name: [files[name, start] for start in starts] for name in names}


def _folder_of(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name).strip("-").lower()


def _farm(
    bed: str,
    missing: dict[int, list[str]],
    files: dict[tuple[str, int], Path],
    address: str | None,
    task: Task,
) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not address:  # Ray's word for: this machine alone, by 127.0.0.1; read at its import
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    variables = {"OMP_NUM_THREADS": "1"}
    if address:
        if COMFYUI in os.environ:  # the workers of this machine inherit it
            variables[COMFYUI] = os.environ[COMFYUI]
        sent = {"working_dir": str(ROOT), "excludes": LEFT_OUT, "env_vars": variables}
        try:
            ray.init(address=address, runtime_env=sent)
        except ConnectionError as error:
            raise ConnectionError(
                f"No Ray cluster lets us in at {address}: start one by `ray start --head`, or set RAY_AUTH_MODE=token "
                "if it wants a token."
            ) from error
    else:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        ray.init(  # "local": or else Ray would join a cluster that runs on this machine
            address="local", include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False,
            runtime_env={"env_vars": {**variables, "PYTHONPATH": path}},
        )  # fmt: skip
    try:
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(task)
        waiting = {remote.remote(bed, list(range(s, s + CHUNK)), names): s for s, names in missing.items()}
        done_before = len(files) - sum(map(len, missing.values()))
        with tqdm(total=len(files), initial=done_before, desc=bed, unit="file") as bar:
            while waiting:
                for done in ray.wait(list(waiting))[0]:
                    start = waiting.pop(done)
                    for name, data in ray.get(done).items():
                        _write(files[name, start], data)
                        bar.update()
    finally:
        ray.shutdown()


def _write(file: Path, data: bytes) -> None:
    """At once: an interrupted run leaves no half file behind."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{time.time_ns()}.part")
    part.write_bytes(data)
    part.replace(file)


def load(files: list[Path]) -> dict[str, Any]:
    """All chunks of a method as one: arrays by name; ``calls`` by chunk."""
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
