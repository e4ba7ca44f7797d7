"""``python -m asced_core.batch``: see --help and docs/batch.md."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .farm import Failed, Setup
    from .jobs import Job
    from .options import Plan

PACKAGES = {"ray": "ray", "tqdm": "tqdm", "PIL": "pillow"}  # of the extra `batch`, by the name of their module
PACKAGE = Path(__file__).resolve().parent.parent
INTERRUPTED = 130


def main(words: list[str] | None = None) -> int:
    """Runs a batch; returns 0 if all images are there, 1 if some failed, 130 after Ctrl-C."""
    if missing := [name for module, name in PACKAGES.items() if not _is_installed(module)]:
        print(f"asced batch: A batch needs more packages: `pip install {' '.join(missing)}`.", file=sys.stderr)
        return 1
    from .options import parsed

    plan = parsed(words)
    asked_to_stop = threading.Event()

    def stop(*_: Any) -> None:
        asked_to_stop.set()  # a KeyboardInterrupt alone is lost if it is raised inside a callback of Ray
        raise KeyboardInterrupt

    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, stop)
    try:
        return _run(plan, asked_to_stop)
    except ValueError as error:
        print(f"asced batch: {error}", file=sys.stderr)
        return 1


def _run(plan: Plan, asked_to_stop: threading.Event) -> int:
    from tqdm import tqdm

    from .farm import Failed, WorkerLostError, ray_cluster, spread
    from .folder import Folder

    folder = Folder(plan.out, plan.settings)
    work = {job: (job,) for job in plan.jobs if not folder.is_done(job)}
    failures: dict[Job, Failed] = {}
    stopped, code = "", 0
    if work:
        try:
            with (
                ray_cluster(plan.address, PACKAGE.parent, {"py_modules": [str(PACKAGE)]}, cores=_cores(plan)),
                tqdm(total=len(plan.jobs), initial=len(plan.jobs) - len(work), unit="job") as bar,
            ):
                for job, outcome in spread(work, *_crew(plan, len(work)), on_lost=partial(bar.write, file=sys.stderr)):
                    if isinstance(outcome, Failed):
                        failures[job] = outcome
                    else:
                        folder.save(job, outcome.value)
                    bar.set_postfix(failed=len(failures))
                    bar.update()
                    if asked_to_stop.is_set():
                        raise KeyboardInterrupt
        except (WorkerLostError, ConnectionError) as error:
            stopped, code = str(error), 1
        except KeyboardInterrupt:
            stopped, code = "Interrupted.", INTERRUPTED
    print(f"{folder.finish(plan.jobs, failures)}; see {plan.out / 'index.jsonl'}")
    for line in _reasons(failures.items()):
        print(line, file=sys.stderr)
    if stopped:
        print(f"asced batch: {stopped} Run the same command again to make what is missing.", file=sys.stderr)
    return code or bool(failures)


def _is_installed(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None  # else it is a mere folder of that name


def _cores(plan: Plan) -> int | None:
    """Of the local cluster: more than there are if the user asks for more workers."""
    return max(os.cpu_count() or 1, plan.workers) if plan.workers else None


def _crew(plan: Plan, jobs: int) -> tuple[list[Setup], int, float]:
    """The workers' setups, and how many cores and GPUs each of them occupies.

    Raises:
        ValueError: the cluster has fewer GPUs than a worker needs.
    """
    from .farm import resources

    if plan.by_server:
        return plan.setups, 0, 0
    gpus = resources("GPU")
    each = plan.gpus if plan.gpus is not None else float(min(1, gpus))
    if each > gpus:
        raise ValueError(f"--gpus-per-worker is {each:g}, but Ray sees {gpus}: name fewer, or 0 to run on the CPU.")
    workers = min(plan.workers or (int(gpus / each) if each else 1), jobs)
    cores = 1 if plan.address or each else max(1, resources("CPU") // workers)
    return plan.setups * workers, cores, each


def _reasons(failures: Iterable[tuple[Job, Failed]]) -> list[str]:
    """Each reason once, with the jobs that failed for it."""
    names: dict[str, list[str]] = {}
    for job, failed in failures:
        names.setdefault(failed.reason, []).append(job.name)
    return [
        f"failed: {', '.join(of[:3])}{f' and {len(of) - 3} more' if len(of) > 3 else ''}: {reason}"
        for reason, of in names.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
