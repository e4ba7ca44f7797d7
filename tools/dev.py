"""The project's commands, with their own set-up: ``python tools/dev.py COMMAND``, see --help.

What stands behind ``--`` goes on to pytest (test), to ComfyUI (serve) or to the benchmark.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from environment import COMFYUI_WHEELS, HOST, OLDER_VERSION, ROOT, VENV, Environment, SetupError, prepare, prepare_bench
from matrix import write_tables
from server import link_folder

SUITES = ("host", "core", "web")  # the longest one first
OLDER = "older"  # host tests on the older version of ComfyUI
LANES = 2
ON_OLDER = ("test_sampling.py", "test_sampler_nodes.py", "test_compatibility.py")  # of tests/host
MODULES = ("dev", "matrix", "demo", "graphs", "browser", "thumbnails", "screenshots", "locales", "calibrations",
           "registry_images")  # fmt: skip
TOOLS = [word for name in MODULES for word in ("-m", name)]  # for mypy
COMMANDS = [
    "demo", "test", "matrix", "spaces", "bench", "bench-quick", "bench-detection", "screenshots", "serve", "setup",
    "lint", "format", "clean",
]  # fmt: skip
BENCHMARKS = {"bench": ["all"], "bench-quick": ["all", "--quick"], "bench-detection": ["detection"]}
DEVELOPMENT = ("test", "matrix", "screenshots", "lint", "format")  # need the packages of the developers
NEED_CLONE = ("test", "matrix", "spaces", "lint", *BENCHMARKS)  # .gitattributes keeps their files out of archives
GRACE_SECONDS = 4
INTERRUPTED = 130
ACCELERATOR = "import sys, torch; sys.exit(not getattr(torch, 'accelerator', torch.cuda).is_available())"


def _call(env: Environment, *command: str | Path, cwd: Path = ROOT) -> int:
    child = subprocess.Popen([str(env.python), *map(str, command)], cwd=cwd, env=env.variables())
    try:
        return child.wait()
    except KeyboardInterrupt:
        _end(child)
        raise


def _end(child: subprocess.Popen[bytes]) -> None:
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


def lint(env: Environment) -> int:
    """Ruff and the type checker."""
    packages = HOST / "packages"
    packages.mkdir(exist_ok=True)
    link = packages / "asced"  # the nodes import relatively: they are checked as the package that a host loads
    link_folder(link, ROOT)
    config: list[str | Path] = ["--config-file", ROOT / "pyproject.toml", "--cache-dir", HOST / "mypy"]
    checks = [
        _call(env, "-m", "ruff", "check", "."),
        _call(env, "-m", "ruff", "format", "--check", "."),
        _call(
            env, "-m", "mypy", *config, "-p", "asced.asced_core", "-p", "asced.nodes", "-p", "asced.demo", cwd=packages
        ),
        _call(env, "-m", "mypy", *config, *TOOLS, cwd=ROOT / "tools"),
        _call(env, "-m", "mypy", *config, "-p", "benchmarks", cwd=ROOT),
    ]
    return max(checks)


def test(env: Environment, extra: list[str], chosen: list[str]) -> int:
    """Lint, then each suite in a pytest of its own: core must not see a host, host must not see the checkout.

    Two of them at a time: each keeps to one core, because contended threads are far slower on tiny models.
    Chosen suites run without the linters.
    """
    if not chosen or "core" in chosen:
        prepare_bench(env.python)
    failed = not chosen and lint(env) != 0
    totals, words = [0, 0, 0], []
    host = ROOT / "tests" / "host"
    suites: list[Suite] = [(suite, env, [ROOT / "tests" / suite]) for suite in SUITES if suite in (chosen or SUITES)]
    if OLDER in chosen or not (chosen or env.own_comfyui):
        older = prepare(True, OLDER_VERSION)
        suites.append((f"host on {OLDER_VERSION}", older, [host / name for name in ON_OLDER]))
    for suite, (code, counts) in zip([name for name, *_ in suites], _side_by_side(suites, extra), strict=True):
        failed |= code not in (0, 5) or (code == 5 and not extra)
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        words.append(f"{suite}: {counts[0]} passed, {counts[1]} failed, {counts[2]} skipped")
    print("\n" + " · ".join(words))
    if failed and not totals[1]:
        print("Failed outside of the tests: see above.")
    print(f"{totals[0]} passed, {totals[1]} failed, {totals[2]} skipped")
    return 1 if failed else 0


Suite = tuple[str, Environment, list[Path]]


def _side_by_side(suites: list[Suite], extra: list[str]) -> list[tuple[int, list[int]]]:
    """Exit code and counts of each; what a suite says is printed when it has ended."""
    waiting, results = list(suites), {}
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < min(LANES, os.cpu_count() or 1):
                name, env, paths = waiting.pop(0)
                running[name] = _start_pytest(env, name, paths, extra, HOST / "results" / f"{name}.log")
            for name, child in list(running.items()):
                if child.poll() is not None:
                    del running[name]
                    results[name] = child.returncode, _counts(_junit(name))
                    log = (HOST / "results" / f"{name}.log").read_text(encoding="utf-8", errors="replace")
                    print(f"\n== {name}\n{log}", flush=True)
            time.sleep(0.2)
    except KeyboardInterrupt:
        for child in running.values():
            _end(child)
        raise
    return [results[name] for name, *_ in suites]


def _pytest(env: Environment, name: str, paths: list[Path], extra: list[str]) -> tuple[int, list[int]]:
    """A pytest run of its own; exit code and counts."""
    child = _start_pytest(env, name, paths, extra, None)
    try:
        return child.wait(), _counts(_junit(name))
    except KeyboardInterrupt:
        _end(child)
        raise


def _junit(name: str) -> Path:
    return HOST / "results" / f"{name}.xml"


def _start_pytest(
    env: Environment, name: str, paths: list[Path], extra: list[str], log: Path | None
) -> subprocess.Popen[bytes]:
    _junit(name).parent.mkdir(exist_ok=True)
    _junit(name).unlink(missing_ok=True)
    core = name == "core"  # the others must not see the checkout
    own: list[str | Path] = ["-o", "pythonpath=."] if core else []
    if core and not extra:
        own += ["--cov=asced_core", "--cov-report=term"]
    command = [env.python, "-m", "pytest", *paths, "-q", *own, f"--rootdir={ROOT}", "-c", ROOT / "pyproject.toml",
               f"--junitxml={_junit(name)}", *extra]  # fmt: skip
    with log.open("wb") if log else contextlib.nullcontext() as out:
        return subprocess.Popen(
            [str(word) for word in command], cwd=ROOT if core else _junit(name).parent, env=env.variables(),
            stdout=out, stderr=subprocess.STDOUT if log else None,
        )  # fmt: skip


def matrix(extra: list[str]) -> int:
    """Measures every row of docs/compatibility.md on every version; writes the tables if none got worse."""
    rows = HOST / "results" / "rows"
    shutil.rmtree(rows, ignore_errors=True)
    rows.mkdir(parents=True)
    for version in COMFYUI_WHEELS:
        print(f"\n== ComfyUI {version}", flush=True)
        env = prepare(True, version)
        os.environ["ASCED_MATRIX"] = str(rows / f"{version}.json")
        code, _ = _pytest(env, f"matrix {version}", [ROOT / "tests" / "host" / "test_compatibility.py"], extra)
        if code:
            print("A row got worse, or could not be measured: the tables stay as they are.")
            return code
        if env.own_comfyui:  # COMFYUI_PATH is one version, whatever is asked for
            break
    write_tables(sorted(rows.glob("*.json")), ROOT / "docs")
    return 0


def _counts(junit: Path) -> list[int]:
    """Passed, failed and skipped tests of a pytest run; a run that wrote no result counts as one failure."""
    if not junit.is_file():
        return [0, 1, 0]
    number = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in ElementTree.parse(junit).getroot().iter("testsuite"):
        for key in number:
            number[key] += int(suite.get(key, 0))
    bad = number["failures"] + number["errors"]
    return [number["tests"] - bad - number["skipped"], bad, number["skipped"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--suite", choices=(*SUITES, OLDER), action="append", default=[],
                        help="of test: this suite alone, without the linters; can be repeated")  # fmt: skip
    parser.add_argument("--port", type=int, default=8188, help="of serve")
    parser.add_argument("--quick", action="store_true", help="of the benchmarks: few images, printed only")
    own, extra = _split(sys.argv[1:])
    args = parser.parse_args(own)
    extra = ["--quick", *extra] if args.quick else extra
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends children as Ctrl-C does
    try:
        if args.command == "clean":
            return clean()
        if args.command in NEED_CLONE and not (ROOT / "benchmarks").is_dir():
            raise SetupError("tests and benchmarks are not part of the download: clone the repository with git.")
        return run(args.command, prepare(args.command in DEVELOPMENT), args.port, args.suite, extra)
    except SetupError as error:
        print(f"asced: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if args.command == "serve" else INTERRUPTED


def run(command: str, env: Environment, port: int, suites: list[str], extra: list[str]) -> int:
    """One command; its exit code."""
    if command == "test":
        return test(env, extra, suites)
    if command == "matrix":
        return matrix(extra)
    if command == "lint":
        return lint(env)
    if command == "format":
        return _call(env, "-m", "ruff", "format", ".") or _call(env, "-m", "ruff", "check", "--fix", ".")
    if command == "demo":
        return _call(env, ROOT / "tools" / "demo.py", *extra)
    if command == "screenshots":
        return _call(env, ROOT / "tools" / "screenshots.py", *extra)
    if command == "spaces":
        return _call(env, ROOT / "benchmarks" / "spaces.py", *extra)
    if command in BENCHMARKS:
        prepare_bench(env.python)
        name, *options = BENCHMARKS[command]
        return _call(env, "-m", f"benchmarks.{name}", *options, *extra)
    if command == "serve":
        # A ComfyUI that finds no accelerator does not start without --cpu.
        device = [] if env.own_comfyui and _call(env, "-c", ACCELERATOR) == 0 else ["--cpu"]
        return _call(env, ROOT / "tools" / "server.py", str(port), *device, *extra)
    print(f"Ready: {env.python} with ComfyUI in {env.comfyui}.")
    return 0


def clean() -> int:
    """Removes what the set-up and the tests made. ``.host/base`` stays: ``serve`` keeps the user's models there."""
    made = [VENV, *HOST.glob("comfyui-*"), HOST / "mypy", HOST / "results"]
    for folder in [*made, *(ROOT / name for name in (".mypy_cache", ".pytest_cache", ".ruff_cache"))]:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


if __name__ == "__main__":
    sys.exit(main())
