"""Many seeds over many workers, by Ray: resumable, each chunk of seeds a file; a killed worker's chunk is run again.

Local by default: one node on 127.0.0.1, no dashboard. ``--address`` names a running cluster; nothing else changes.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

CHUNK = 32  # images
RETRIES = 5
ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = [".git", ".venv", ".host", "output", "docs", "tests", "workflows", "web"]  # of what a cluster is sent


def run_chunk(bed: str, seeds: list[int], sweep: bool = False) -> bytes:
    """Every method, or every setting of the sweeps, on these seeds, as a compressed .npz."""
    from benchmarks.hands import HandSampler, record
    from benchmarks.methods import everything, one_thread, sweeps

    one_thread()
    sampler = HandSampler(bed)
    run = record(sampler, seeds)
    arrays: dict[str, Any] = {
        "seeds": np.array(seeds),
        "labels": run.labels.numpy(),
        "model_seconds": run.seconds / (len(seeds) * len(sampler.timesteps)),
    }
    for name, outcome in (sweeps if sweep else everything)(sampler, run).items():
        arrays[f"{name}/images"] = outcome.images
        arrays[f"{name}/masks"] = np.packbits(outcome.masks, axis=-1)
        arrays[f"{name}/corrected"] = outcome.corrected
        arrays[f"{name}/calls"] = outcome.calls
        arrays[f"{name}/seconds"] = outcome.seconds
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    return data.getvalue()


def collect(
    bed: str, images: int, folder: Path, address: str | None = None, task: Callable[[str, list[int]], bytes] = run_chunk
) -> list[Path]:
    """The files of all chunks; those that are there are not run again.

    Args:
        bed: see hands.BEDS.
        images: number of seeds, from 0.
        folder: where the files are.
        address: of a Ray cluster; None starts one worker a core here.
        task: what is run on each chunk of seeds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {start: folder / f"{start:06d}.npz" for start in range(0, images, CHUNK)}
    missing = [start for start, file in files.items() if not file.is_file()]
    if missing:
        _farm(bed, missing, images, files, address, task)
    return list(files.values())


def _farm(
    bed: str,
    missing: list[int],
    images: int,
    files: dict[int, Path],
    address: str | None,
    task: Callable[[str, list[int]], bytes],
) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not address:  # Ray's word for: this machine alone, by 127.0.0.1; read at its import
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    variables = {"OMP_NUM_THREADS": "1"}
    if address:
        ray.init(address=address, runtime_env={"working_dir": str(ROOT), "excludes": LEFT_OUT, "env_vars": variables})
    else:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        ray.init(
            include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False,
            runtime_env={"env_vars": {**variables, "PYTHONPATH": path}},
        )  # fmt: skip
    try:

        def work(bed: str, seeds: list[int]) -> bytes:  # Ray takes functions alone, and task may be a partial
            return task(bed, seeds)

        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(work)
        waiting = {remote.remote(bed, list(range(s, min(s + CHUNK, images)))): s for s in missing}
        with tqdm(total=len(files), initial=len(files) - len(missing), desc=bed, unit="chunk") as bar:
            while waiting:
                for done in ray.wait(list(waiting))[0]:
                    _write(files[waiting.pop(done)], ray.get(done))
                    bar.update()
    finally:
        ray.shutdown()


def _write(file: Path, data: bytes) -> None:
    """At once: an interrupted run leaves no half file behind."""
    part = file.with_suffix(f".{time.time_ns()}.part")
    part.write_bytes(data)
    part.replace(file)


def load(files: list[Path]) -> dict[str, Any]:
    """All chunks as one: arrays by name, scalars as arrays over chunks."""
    parts = []
    for file in files:
        with np.load(file, allow_pickle=False) as archive:
            parts.append({name: archive[name] for name in archive.files})
    out: dict[str, Any] = {}
    for name in parts[0]:
        values = [part[name] for part in parts]
        out[name] = np.concatenate(values) if values[0].ndim else np.array(values)
        if name.endswith("/masks"):
            out[name] = np.unpackbits(out[name], axis=-1).astype(bool)
    return out
