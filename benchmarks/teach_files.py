"""Where the taught detectors of the test sets lie."""

from __future__ import annotations

from pathlib import Path

from benchmarks.hands import DEMO, WEIGHTS

SHIPPED = {"final": "ASCED demo hands", "latent": "ASCED demo hands, latent"}
ENDING = ".taught.safetensors"


def taught_file(test_set: str, pictures: bool = False) -> Path:
    """Where the detector of a test set lies."""
    if not pictures and test_set in SHIPPED:
        return DEMO / "asced" / f"{SHIPPED[test_set]}{ENDING}"
    return WEIGHTS / f"taught-{test_set}{'-pictures' * pictures}.safetensors"
