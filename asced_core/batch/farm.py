"""Spreads work over Ray workers; what a killed worker was doing is done again by another one.

Runs on this machine by default: one node on 127.0.0.1, no dashboard.
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

RETRIES = 5  # of a piece of work whose worker was killed, and of a worker that is killed while it gets ready
LONGEST = 400  # characters of a sentence
Task = Callable[..., Any]
Setup = Callable[[], Task]
Key = TypeVar("Key", bound=Hashable)


class WorkerLostError(Exception):
    """The worker can do no more work, and the others take over; the text is the reason, as a sentence."""


@dataclass(frozen=True)
class Done:
    """What the task returned."""

    value: Any


@dataclass(frozen=True)
class Failed:
    """The task raised an exception: the reason as a sentence, and the traceback."""

    reason: str
    trace: str = ""


@dataclass(frozen=True)
class Lost:
    """The worker is no longer there; the reason, as a sentence."""

    reason: str


@contextlib.contextmanager
def ray_cluster(
    address: str | None,
    folder: Path,
    sent: Mapping[str, Any],
    variables: Mapping[str, str] | None = None,
    cores: int | None = None,
) -> Iterator[None]:
    """A Ray cluster for the duration of the block.

    Args:
        address: of a running cluster; None starts one on this machine alone.
        folder: what local workers import from, as well.
        sent: what a running cluster receives, as in Ray's ``runtime_env``.
        variables: of the workers' environment.
        cores: of the local cluster; None counts them.

    Raises:
        ConnectionError: there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not address:  # keeps Ray on 127.0.0.1; read when Ray is imported
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    own = dict(variables or {})
    if address:
        try:
            ray.init(address=address, runtime_env={**sent, "env_vars": own})
        except ConnectionError as error:
            raise ConnectionError(
                f"Could not join a Ray cluster at {address}. Start one with `ray start --head`, or set "
                "RAY_AUTH_MODE=token if the cluster requires a token."
            ) from error
    else:
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        ray.init(  # without "local", Ray would join any cluster that runs on this machine
            address="local", include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False,
            num_cpus=cores, runtime_env={"env_vars": {**own, "PYTHONPATH": path}},
        )  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()


def resources(kind: str) -> int:
    """How much of a resource the cluster has: ``CPU`` or ``GPU``."""
    import ray

    return int(ray.cluster_resources().get(kind, 0))


def spread(
    work: Mapping[Key, tuple[Any, ...]],
    setups: Sequence[Setup],
    cpus: int = 1,
    gpus: float = 0,
    on_lost: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[Key, Done | Failed]]:
    """Does pieces of work inside ``ray_cluster``, and yields their outcomes as they come.

    Args:
        work: the arguments of the task, by a key.
        setups: one for each worker, called once in its process; returns the task.
        cpus, gpus: that a worker occupies.
        on_lost: called with the reason when a worker is gone for good and others are left.

    Raises:
        WorkerLostError: no worker is left; the text is the last one's reason.
    """
    crew = _Crew(setups, cpus, gpus)
    queue, losses = deque(work), Counter[Key]()
    while queue or crew.at_work:
        while queue and crew.idle:
            key = queue.popleft()
            crew.give(key, work[key])
        key, outcome = crew.wait()
        if crew.lost and crew.at_hand:
            on_lost(crew.lost.pop())
        if key is None:
            continue
        if isinstance(outcome, Lost):
            losses[key] += 1
            if losses[key] <= RETRIES:
                queue.append(key)
                continue
            outcome = Failed(f"Given up after {losses[key]} workers: {outcome.reason}")
        yield key, outcome


class _Worker:
    """One process."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._task: Task | None = None

    def get_ready(self) -> Done | Lost:
        try:
            self._task = self._setup()
        except Exception as error:
            return Lost(sentence(error))
        return Done(None)

    def do(self, arguments: tuple[Any, ...]) -> Done | Failed | Lost:
        assert self._task is not None
        try:
            return Done(self._task(*arguments))
        except WorkerLostError as error:
            return Lost(str(error))
        except Exception as error:
            return Failed(sentence(error), traceback.format_exc())


class _Crew:
    """The workers: who is idle, and who does what. A killed one is replaced."""

    def __init__(self, setups: Sequence[Setup], cpus: int, gpus: float) -> None:
        import ray

        self._ray, self._setups = ray, setups
        self._remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(_Worker)
        self._killed = Counter[int]()  # times in a row that a worker did not get ready
        self._calls: dict[Any, tuple[int, Any, Any]] = {}  # place of the worker, its handle, key or None
        self.lost: list[str] = []  # why workers are gone for good
        self.idle: list[tuple[int, Any]] = []
        for place in range(len(setups)):
            self._hire(place)

    @property
    def at_hand(self) -> bool:
        """True if a worker is left."""
        return bool(self._calls or self.idle)

    @property
    def at_work(self) -> bool:
        """True if a piece of work is being done."""
        return any(key is not None for _, _, key in self._calls.values())

    def give(self, key: Any, arguments: tuple[Any, ...]) -> None:
        """Gives an idle worker something to do."""
        place, worker = self.idle.pop()
        self._calls[worker.do.remote(arguments)] = place, worker, key

    def wait(self) -> tuple[Any, Any]:
        """The next outcome, with the key of the work; the key is None if a worker got ready, or did not.

        Raises:
            WorkerLostError: there is nobody to wait for.
        """
        if not self._calls:
            raise WorkerLostError(self.lost[-1])
        call = self._ray.wait(list(self._calls))[0][0]
        place, worker, key = self._calls.pop(call)
        try:
            outcome = self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:  # such as a result that cannot be sent
            outcome = Failed(sentence(error), str(error))
        except self._ray.exceptions.RayError:
            self._replace(place, in_work=key is not None)
            return key, Lost("its process was killed.")
        if isinstance(outcome, Lost):
            self.lost.append(outcome.reason)
        else:
            self._killed[place] = 0
            self.idle.append((place, worker))
        return key, outcome

    def _hire(self, place: int) -> None:
        worker = self._remote.remote(self._setups[place])
        get_ready: Any = worker.get_ready
        self._calls[get_ready.remote()] = place, worker, None

    def _replace(self, place: int, in_work: bool) -> None:
        self._killed[place] += not in_work
        if self._killed[place] <= RETRIES:
            self._hire(place)
        else:
            self.lost.append("The worker processes are killed while they get ready; is there enough memory?")


def sentence(error: BaseException) -> str:
    """An exception as one sentence; the kind of exception is named unless the text is a sentence by itself."""
    text = " ".join(str(error).split())
    text = text if text.endswith(".") and text[:1].isupper() else f"{type(error).__name__}: {text}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def write(file: Path, data: bytes) -> None:
    """Writes to a temporary file and renames it, so an interrupted run leaves no partial file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{time.time_ns()}.part")
    part.write_bytes(data)
    part.replace(file)
