"""The version of the pack, which pyproject.toml holds."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def version() -> str:
    """Such as ``0.1.0``; empty if the file is missing."""
    text = PROJECT.read_text(encoding="utf-8") if PROJECT.is_file() else ""
    found = re.search(r'^version = "(.+)"', text, re.M)
    return found.group(1) if found else ""
