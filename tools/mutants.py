"""Mutation testing of asced_core with cosmic-ray: which small changes of the code does no test notice?

    make mutants ARGS="-- asced_core/window.py tests/core/test_trajectory.py"

Without a module, all of asced_core is mutated, which takes a night. Without tests, each mutant meets the core suite.
Works on a copy, because cosmic-ray changes the files; the survivors go to output/mutants.txt.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

from environment import HOST, ROOT

COPY = HOST / "mutants-tree"
COPIED = ("asced_core", "demo", "tests", "benchmarks", "pyproject.toml")
OUTPUT = ROOT / "output" / "mutants.txt"
TIMEOUT = 180  # seconds; a mutant that loops counts as noticed
# Rules of the house and benchmarks read files that are not copied; they notice no mutant.
LEFT_OUT = [
    f"--ignore=tests/core/{name}.py" for name in ("test_project", "test_packaging", "test_bench", "test_picking")
]


def main() -> int:
    """Mutates, tests and reports; returns cosmic-ray's exit code."""
    modules = [word for word in sys.argv[1:] if not word.startswith("tests/")] or ["asced_core"]
    tests = [word for word in sys.argv[1:] if word.startswith("tests/")] or ["tests/core"]
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, COPY / name)
    command = [sys.executable, "-m", "pytest", *tests, *LEFT_OUT, "-xq", "-o", "pythonpath=.", "-p", "no:cacheprovider"]
    config = [
        "[cosmic-ray]",
        f"module-path = {modules}",
        f"timeout = {TIMEOUT}.0",
        'excluded-modules = ["asced_core/*/__init__.py"]',
        f'test-command = "{" ".join(command)}"',
        "[cosmic-ray.distributor]",
        'name = "local"',
        "[cosmic-ray.filters.operators-filter]",
        'exclude-operators = ["core/ReplaceBinaryOperator_BitOr_.*"]  # nearly all of them stand in annotations',
    ]
    (COPY / "config.toml").write_text("\n".join(config) + "\n", encoding="utf-8")
    tool = [sys.executable, "-m"]
    for step in (
        [*tool, "cosmic_ray.cli", "init", "config.toml", "session.sqlite"],
        [*tool, "cosmic_ray.tools.filters.operators_filter", "session.sqlite", "config.toml"],
        [*tool, "cosmic_ray.cli", "baseline", "config.toml"],
        [*tool, "cosmic_ray.cli", "exec", "config.toml", "session.sqlite"],
    ):
        print(*step[2:], flush=True)
        code = subprocess.run(step, cwd=COPY, check=False).returncode
        if code:
            return code
    report = [sys.executable, "-m", "cosmic_ray.tools.report", "--surviving-only", "--show-diff", "session.sqlite"]
    text = subprocess.run(report, cwd=COPY, capture_output=True, text=True, check=True).stdout
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(text, encoding="utf-8")
    print("\n".join(text.splitlines()[-4:]), f"\nSurvivors: {OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
