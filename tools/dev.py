"""The project's commands, with their own set-up: ``python tools/dev.py COMMAND``, see --help.

Everything after ``--`` is passed on: to pytest (test), to ComfyUI (serve), to mutants or to the benchmark.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from environment import (
    COMFYUI_WHEELS,
    HOST,
    MUTANTS_REQUIREMENTS,
    OLDER_VERSION,
    ROOT,
    VENV,
    Environment,
    SetupError,
    packages_folder,
    prepare,
    with_bench_packages,
    with_oldest_packages,
    with_other_hosts,
)  # fmt: skip
from matrix import write_tables
from server import link_folder
from suites import Lanes, Suite, end, run_alone

OLDER = "older"  # host tests on the older version of ComfyUI
HOSTS = "hosts"  # applications besides ComfyUI
SUITES = ("host", "core", "web", HOSTS, OLDER)
COVERAGE = ("--cov=asced_core", "--cov-report=term")
# The benchmarks' parts run on packages of their own, which are built for a newer numpy; no user has the two together.
NO_BENCH = tuple(f"--ignore=tests/core/test_{name}.py" for name in ("bench", "bench_taught", "picking"))
VERSIONS = (
    "import cv2, matplotlib, numpy, safetensors; modules = numpy, matplotlib, cv2, safetensors;"
    "print(*(f'{module.__name__} {module.__version__}' for module in modules), sep=', ')"
)
ON_OLDER = (  # of tests/host: what depends on ComfyUI's own code; foreign code is mixed by test_never_break
    "test_sampling.py", "test_sampler_nodes.py", "test_compatibility.py", "test_kinds_of_data.py",
    "test_never_break.py",
)  # fmt: skip
MODULES = (
    "dev", "suites", "matrix", "demo", "graphs", "browser", "thumbnails", "screenshots", "locales", "calibrations",
    "registry_images", "mutants", "changed_sheet", "diffusers_matrix", "help_pages",
)  # fmt: skip
TOOLS = [word for name in MODULES for word in ("-m", name)]  # for mypy
COMMANDS = [
    "demo", "test", "mutants", "matrix", "spaces", "bench", "bench-quick", "bench-detection", "bench-hosts",
    "bench-gpu", "api", "screenshots", "serve", "setup", "lint", "format", "clean",
]  # fmt: skip
BENCHMARKS = {"bench": ["all"], "bench-quick": ["all", "--quick"], "bench-detection": ["detection"]}
API = ["asced_core", *(f"asced_core.{name}" for name in (
    "settings", "noise", "window", "trajectory", "decision", "maps", "correct", "report", "report.masks",
    "teach", "draw.overlay", "draw.plots", "kdiffusion", "hosts.diffusers", "hosts.webui", "batch", "baselines.pal",
    "baselines.bayesdiff", "baselines.vlm",
))]  # fmt: skip
DEVELOPMENT = (
    "api",
    "test",
    "mutants",
    "matrix",
    "screenshots",
    "lint",
    "format",
)  # need the packages of the developers
NEED_CLONE = (
    "test",
    "mutants",
    "matrix",
    "spaces",
    "lint",
    "bench-hosts",
    "bench-gpu",
    *BENCHMARKS,
)  # .gitattributes keeps their files out of archives
INTERRUPTED = 130
ACCELERATOR = "import sys, torch; sys.exit(not getattr(torch, 'accelerator', torch.cuda).is_available())"


def _call(env: Environment, *command: str | Path, cwd: Path = ROOT) -> int:
    child = subprocess.Popen([str(env.python), *map(str, command)], cwd=cwd, env=env.variables())
    try:
        return child.wait()
    except KeyboardInterrupt:
        end(child)
        raise


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
    """Each suite in a pytest of its own: core must not see a host, host must not see the checkout. And lint.

    Packages are the newest that pip finds at set-up, and for one more run of core the oldest that are allowed.
    Two suites at a time: each keeps to one core, because contended threads are far slower on tiny models. The rest of
    the set-up and the linters run beside the first ones. Chosen suites run without the linters.
    """
    with Lanes(extra) as lanes:
        lanes.add([suite for suite in _first_suites(env) if suite.name.split(",")[0] in (chosen or SUITES)])
        lanes.add(_further_suites(env, extra, chosen))
        failed = not chosen and lint(with_bench_packages(env)) != 0  # so the type checker knows Ray
        outcomes = lanes.outcomes()
    totals, words = [0, 0, 0], []
    for suite, result in outcomes.items():
        failed |= result.code not in (0, 5) or (result.code == 5 and not extra)
        counts = [result.passed, result.failed, result.skipped]
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        words.append(f"{suite.name}: {_counted(counts)}")
    print("\n" + " · ".join(words))
    if failed and not totals[1]:
        print("Failed outside of the tests: see above.")
    print(_counted(totals))
    return 1 if failed else 0


def _first_suites(env: Environment) -> list[Suite]:
    """The longest ones, so that both cores are busy to the end."""
    files = sorted((ROOT / "tests" / "host").glob("test_*.py"))
    return [
        Suite("web", env, [ROOT / "tests" / "web"]),
        Suite("host, the other half", env, files[::2]),
        Suite("host", env, files[1::2]),
    ]


def _further_suites(env: Environment, extra: list[str], chosen: list[str]) -> list[Suite]:
    """Those whose packages are set up only now."""
    tests, own_packages = ROOT / "tests", VENV in env.python.parents
    suites = []
    if OLDER in chosen or not (chosen or env.own_comfyui):
        older = prepare(True, OLDER_VERSION)
        suites.append(Suite(f"host on {OLDER_VERSION}", older, [tests / "host" / name for name in ON_OLDER]))
    if own_packages and (not chosen or HOSTS in chosen):
        suites.append(Suite(HOSTS, with_other_hosts(env), [tests / "hosts"], core=True))
    if not chosen or "core" in chosen:
        newest = with_bench_packages(env)
        suites.append(Suite("core", newest, [tests / "core"], core=True, options=() if extra else COVERAGE))
        if own_packages:
            oldest = with_oldest_packages(env)
            suites.append(Suite("core on the oldest packages", oldest, [tests / "core"], core=True, options=NO_BENCH))
            print(f"core runs on {_versions(newest)}\ncore on the oldest packages on {_versions(oldest)}")
        else:
            print("Left out: core on the oldest packages, and diffusers; these are set up for the Pythons of .venv.")
    return suites


def _versions(env: Environment) -> str:
    return subprocess.check_output([str(env.python), "-c", VERSIONS], env=env.variables(), text=True).strip()


def _counted(counts: list[int]) -> str:
    return f"{counts[0]} passed, {counts[1]} failed, {counts[2]} skipped"


def matrix(extra: list[str]) -> int:
    """Measures every row of docs/compatibility.md on every version; writes the tables if none got worse."""
    rows = HOST / "results" / "rows"
    shutil.rmtree(rows, ignore_errors=True)
    rows.mkdir(parents=True)
    for version in COMFYUI_WHEELS:
        env = prepare(True, version)
        print(f"\n== {env.comfyui}", flush=True)
        os.environ["ASCED_MATRIX"] = str(rows / f"{version}.json")
        table = Suite(f"matrix {env.comfyui.name}", env, [ROOT / "tests" / "host" / "test_compatibility.py"])
        code = run_alone(table, extra).code
        if code:
            print("A row got worse, or could not be measured: the tables stay as they are.")
            return code
        if env.own_comfyui:  # COMFYUI_PATH is one version, whatever is asked for
            break
    write_tables(sorted(rows.glob("*.json")), ROOT / "docs")
    return _call(with_other_hosts(env), ROOT / "tools" / "diffusers_matrix.py") if VENV in env.python.parents else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--suite", choices=SUITES, action="append", default=[],
                        help="of test: this suite alone, without the linters; can be repeated")  # fmt: skip
    parser.add_argument("--port", type=int, default=8188, help="of serve")
    parser.add_argument("--quick", action="store_true", help="of the benchmarks: few images, printed only")
    own, extra = _split(sys.argv[1:])
    args = parser.parse_args(own)
    extra = ["--quick", *extra] if args.quick else extra
    # SIGTERM ends children as Ctrl-C does. A background job starts with SIGINT ignored, and so would its children.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.default_int_handler)
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
    if command == "mutants":
        own = packages_folder(env.python, "mutants", MUTANTS_REQUIREMENTS, "--no-binary", "yattag")
        return _call(replace(env, packages=own), ROOT / "tools" / "mutants.py", *extra)
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
    if command == "api":
        return _call(env, "-m", "pdoc", "-d", "google", "-o", ROOT / "output" / "api", *API)
    if command == "bench-hosts":
        return _call(with_other_hosts(env), "-m", "benchmarks.hosts", *extra)
    if command == "bench-gpu":
        return _call(env, "-m", "benchmarks.gpu", *extra)
    if command in BENCHMARKS:
        name, *options = BENCHMARKS[command]
        return _call(with_bench_packages(env), "-m", f"benchmarks.{name}", *options, *extra)
    if command == "serve":
        # A ComfyUI that finds no accelerator does not start without --cpu.
        device = [] if env.own_comfyui and _call(env, "-c", ACCELERATOR) == 0 else ["--cpu"]
        return _call(env, ROOT / "tools" / "server.py", str(port), *device, *extra)
    print(f"Ready: {env.python} with ComfyUI in {env.comfyui}.")
    return 0


def clean() -> int:
    """Removes what the set-up and the tests made. ``.host/base`` stays: ``serve`` keeps the user's models there."""
    made = [
        VENV,
        *HOST.glob("comfyui-*"),
        *(HOST / name for name in ("bench", "hosts", "mutants", "mutants-tree", "mypy", "oldest", "results")),
    ]
    for folder in [*made, *(ROOT / name for name in (".mypy_cache", ".pytest_cache", ".ruff_cache"))]:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


if __name__ == "__main__":
    sys.exit(main())
