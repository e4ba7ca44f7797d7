"""Examples that need no host application."""

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs/examples/ddim_loop.py"


def test_the_loop_of_ones_own_is_corrected(capsys):
    names = runpy.run_path(str(EXAMPLE))
    assert capsys.readouterr().out.startswith("1 region in 1 of 2 images; 1 image corrected at step 14 of 25.")
    assert names["x"].isfinite().all()


def test_the_loop_of_ones_own_is_short():
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 30
