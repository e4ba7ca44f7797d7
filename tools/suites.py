"""How the tests are run: each suite in a pytest of its own, two of them at a time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from environment import HOST, ROOT, Environment

LANES = 2
GRACE_SECONDS = 10  # a browser test on a busy machine takes that long to end its server


@dataclass(frozen=True, eq=False)
class Suite:
    """Some tests, run in one process.

    Attributes:
        name: of the suite and of its files in .host/results.
        env: what it runs on.
        paths: test files or folders.
        core: True if it needs the checkout on its path; the others must not see it.
        options: more words for pytest.
    """

    name: str
    env: Environment
    paths: list[Path]
    core: bool = False
    options: tuple[str, ...] = ()

    @property
    def junit(self) -> Path:
        return HOST / "results" / f"{self.name}.xml"


@dataclass(frozen=True)
class Outcome:
    """Exit code of a pytest run, and how many of its tests passed, failed and were skipped."""

    code: int
    passed: int
    failed: int
    skipped: int


def end(child: subprocess.Popen[bytes]) -> None:
    """Lets a child end its own server: killed at once, it would leave a ComfyUI behind.

    Ctrl-C in a terminal has reached the child already; a signal to this process alone has not.
    """
    told = [child.terminate] if os.name == "nt" else [lambda: child.send_signal(signal.SIGINT), child.terminate]
    for tell in (*told, child.kill):
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
            return
        tell()
    child.wait()


class Lanes:
    """Runs suites, two at a time and in the order in which they were added; none outlives the ``with`` block.

    Args:
        extra: more words for pytest.
    """

    def __init__(self, extra: list[str]) -> None:
        self._extra = extra
        self._suites: list[Suite] = []
        self._waiting: list[Suite] = []
        self._running: dict[Suite, subprocess.Popen[bytes]] = {}
        self._results: dict[Suite, Outcome] = {}

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *error: object) -> None:
        for child in self._running.values():
            end(child)

    def add(self, suites: list[Suite]) -> None:
        """Starts them as soon as there is room; meanwhile the caller may go on."""
        self._suites += suites
        self._waiting += suites
        self._fill()

    def outcomes(self) -> dict[Suite, Outcome]:
        """Waits for all of them; what a suite says is printed when it has ended."""
        while self._waiting or self._running:
            self._collect()
            self._fill()
            time.sleep(0.2)
        return {suite: self._results[suite] for suite in self._suites}

    def _fill(self) -> None:
        while self._waiting and len(self._running) < min(LANES, os.cpu_count() or 1):
            suite = self._waiting.pop(0)
            self._running[suite] = _start(suite, self._extra, suite.junit.with_suffix(".log"))

    def _collect(self) -> None:
        for suite, child in list(self._running.items()):
            if child.poll() is not None:
                del self._running[suite]
                self._results[suite] = _outcome(child.returncode, suite)
                log = suite.junit.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
                print(f"\n== {suite.name}\n{log}", flush=True)


def run_alone(suite: Suite, extra: list[str]) -> Outcome:
    """A single suite, its output on the terminal."""
    child = _start(suite, extra, None)
    try:
        return _outcome(child.wait(), suite)
    except KeyboardInterrupt:
        end(child)
        raise


def _start(suite: Suite, extra: list[str], log: Path | None) -> subprocess.Popen[bytes]:
    suite.junit.parent.mkdir(exist_ok=True)
    suite.junit.unlink(missing_ok=True)
    own = ["-o", "pythonpath=."] if suite.core else []
    command = [suite.env.python, "-m", "pytest", *suite.paths, "-q", *own, *suite.options, f"--rootdir={ROOT}",
               "-c", ROOT / "pyproject.toml", f"--junitxml={suite.junit}", *extra]  # fmt: skip
    with log.open("wb") if log else contextlib.nullcontext() as out:
        return subprocess.Popen(
            [str(word) for word in command], cwd=ROOT if suite.core else suite.junit.parent,
            env=suite.env.variables(), stdout=out, stderr=subprocess.STDOUT if log else None,
        )  # fmt: skip


def _outcome(code: int, suite: Suite) -> Outcome:
    """Of a run that has ended; one that wrote no result counts as one failure."""
    if not suite.junit.is_file():
        return Outcome(code, 0, 1, 0)
    number = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for part in ElementTree.parse(suite.junit).getroot().iter("testsuite"):
        for key in number:
            number[key] += int(part.get(key, 0))
    bad = number["failures"] + number["errors"]
    return Outcome(code, number["tests"] - bad - number["skipped"], bad, number["skipped"])
