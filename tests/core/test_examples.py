"""Examples that need no host application."""

import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs/examples/ddim_loop.py"


def test_the_loop_of_ones_own_is_corrected(capsys):
    names = runpy.run_path(str(EXAMPLE))
    assert capsys.readouterr().out.startswith("1 region in 1 of 2 images; 1 image corrected at step 14 of 25.")
    assert names["x"].isfinite().all()


def test_the_loop_of_ones_own_is_short():
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 30


def test_a_first_correction_does_not_wait_for_large_imports():
    """Some functions of torch import sympy at their first call, a third of a second and 40 MB."""
    lines = [
        "import runpy, sys, torch",
        "before = 'sympy' in sys.modules",
        f"runpy.run_path({str(EXAMPLE)!r})",
        "assert ('sympy' in sys.modules) == before",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "1 image corrected" in done.stdout
