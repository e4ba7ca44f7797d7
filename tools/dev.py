"""The project's commands, with their own set-up: ``python tools/dev.py COMMAND``, see --help.

What stands behind ``--`` goes on to pytest (test) or to ComfyUI (serve).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from environment import COMFYUI_WHEELS, HOST, OLDER_VERSION, ROOT, VENV, Environment, SetupError, prepare, prepare_bench
from matrix import write_tables
from server import link_folder

SUITES = ("core", "host", "web")
ON_OLDER = ("test_sampling.py", "test_sampler_nodes.py", "test_compatibility.py")  # of tests/host
TOOLS = [
    word for name in ("dev", "matrix", "demo", "graphs", "browser", "thumbnails") for word in ("-m", name)
]  # as modules, for mypy
COMMANDS = [
    "demo", "test", "matrix", "spaces", "bench", "bench-quick", "serve", "setup", "lint", "format", "clean",
]  # fmt: skip
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


def test(env: Environment, extra: list[str]) -> int:
    """Lint, then each suite in a pytest of its own: core must not see a host, host must not see the checkout."""
    prepare_bench(env.python)
    failed = lint(env) != 0
    totals, words = [0, 0, 0], []
    host = ROOT / "tests" / "host"
    suites = [(suite, env, [ROOT / "tests" / suite]) for suite in SUITES]
    if not env.own_comfyui:
        older = prepare(True, OLDER_VERSION)
        suites.append((f"host on {OLDER_VERSION}", older, [host / name for name in ON_OLDER]))
    for suite, where, paths in suites:
        print(f"\n== {suite}", flush=True)
        code, counts = _pytest(where, suite, paths, extra)
        failed |= code not in (0, 5) or (code == 5 and not extra)
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        words.append(f"{suite}: {counts[0]} passed, {counts[1]} failed, {counts[2]} skipped")
    print("\n" + " · ".join(words))
    if failed and not totals[1]:
        print("Failed outside of the tests: see above.")
    print(f"{totals[0]} passed, {totals[1]} failed, {totals[2]} skipped")
    return 1 if failed else 0


def _pytest(env: Environment, name: str, paths: list[Path], extra: list[str]) -> tuple[int, list[int]]:
    """A pytest run of its own; exit code and counts."""
    results = HOST / "results"
    results.mkdir(exist_ok=True)
    out = results / f"{name}.xml"
    out.unlink(missing_ok=True)
    options: list[str | Path] = [f"--rootdir={ROOT}", "-c", ROOT / "pyproject.toml", f"--junitxml={out}", *extra]
    if name == "core":
        coverage = [] if extra else ["--cov=asced_core", "--cov-report=term"]
        code = _call(env, "-m", "pytest", *paths, "-q", "-o", "pythonpath=.", *coverage, *options)
    else:
        code = _call(env, "-m", "pytest", *paths, "-q", *options, cwd=results)
    return code, _counts(out)


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
    parser.add_argument("--port", type=int, default=8188, help="of serve")
    own, extra = _split(sys.argv[1:])
    args = parser.parse_args(own)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends children as Ctrl-C does
    try:
        if args.command == "clean":
            return clean()
        return run(args.command, prepare(args.command in ("test", "matrix", "lint", "format")), args.port, extra)
    except SetupError as error:
        print(f"asced: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if args.command == "serve" else INTERRUPTED


def run(command: str, env: Environment, port: int, extra: list[str]) -> int:
    """One command; its exit code."""
    if command == "test":
        return test(env, extra)
    if command == "matrix":
        return matrix(extra)
    if command == "lint":
        return lint(env)
    if command == "format":
        return _call(env, "-m", "ruff", "format", ".") or _call(env, "-m", "ruff", "check", "--fix", ".")
    if command == "demo":
        return _call(env, ROOT / "tools" / "demo.py", *extra)
    if command == "spaces":
        return _call(env, ROOT / "benchmarks" / "spaces.py", *extra)
    if command in ("bench", "bench-quick"):
        prepare_bench(env.python)
        quick = ["--quick"] if command == "bench-quick" else []
        return _call(env, "-m", "benchmarks.all", *quick, *extra)
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
