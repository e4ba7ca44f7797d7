"""The API reference is made of the docstrings; it has to be complete and without a broken import."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_api_reference_has_every_public_name(tmp_path):
    sys.path.insert(0, str(ROOT / "tools"))
    modules = runpy.run_path(str(ROOT / "tools" / "dev.py"))["API"]
    command = [sys.executable, "-W", "error::UserWarning", "-m", "pdoc", "-d", "google", "-o", str(tmp_path), *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for module in modules:
        assert (tmp_path / f"{module.replace('.', '/')}.html").is_file(), module
    page = (tmp_path / "asced_core.html").read_text(encoding="utf-8")
    import asced_core

    missing = [name for name in asced_core.__all__ if not re.search(rf'id="{name}"', page)]
    assert missing == []
