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
GRACE_SECONDS = 4


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


def run_side_by_side(suites: list[Suite], extra: list[str]) -> list[Outcome]:
    """The outcome of each; what a suite says is printed when it has ended."""
    waiting, results = list(suites), {}
    running: dict[Suite, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < min(LANES, os.cpu_count() or 1):
                suite = waiting.pop(0)
                running[suite] = _start(suite, extra, suite.junit.with_suffix(".log"))
            for suite, child in list(running.items()):
                if child.poll() is not None:
                    del running[suite]
                    results[suite] = _outcome(child.returncode, suite)
                    log = suite.junit.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
                    print(f"\n== {suite.name}\n{log}", flush=True)
            time.sleep(0.2)
    except KeyboardInterrupt:
        for child in running.values():
            end(child)
        raise
    return [results[suite] for suite in suites]


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
