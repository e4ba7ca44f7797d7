"""Where the taught detectors of the test sets lie."""

from __future__ import annotations

from pathlib import Path

from benchmarks.hands import WEIGHTS


def taught_file(test_set: str, pictures: bool = False) -> Path:
    """Where the detector of a test set lies; those of the demo are others, taught with its guidance."""
    return WEIGHTS / f"taught-{test_set}{'-pictures' * pictures}.safetensors"
