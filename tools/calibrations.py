"""Makes the calibrations that ship with the demo models: run ``python tools/calibrations.py`` after detector changes.

Runs each demo model with the defaults and a new seed per batch, and stores what ASCED Calibrate learned in demo/asced.
Needs ASCED_COMFYUI.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from graphs import CORRECTION, DETECTION, demo_model, node, sampling
from server import ROOT, ComfyServer

SHIPPED = ROOT / "demo" / "asced"
NAMES = {"pixel": "ASCED demo hands", "latent": "ASCED demo hands, latent"}
BATCHES, BATCH, FIRST_SEED = 10, 10, 90_000


def graph(space: str, seed: int) -> dict[str, Any]:
    """A batch with one hand per digit, watched and passed to ASCED Calibrate."""
    return {
        **demo_model(space, BATCH),
        "detection": node("ASCED_Detection", **{**DETECTION, "threshold": 0.1}),
        "correction": node("ASCED_Correction", **{**CORRECTION, "method": "none"}),
        "run": node("ASCED_KSampler", **sampling(seed), detection=["detection", 0], correction=["correction", 0]),
        "learn": node("ASCED_Calibrate", report=["run", 2], name=NAMES[space], start_over=False),
        "status": node("PreviewAny", source=["learn", 1]),
    }


def main() -> None:
    """Replaces the shipped files."""
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder)) as server:
        for space in NAMES:
            for batch in range(BATCHES):
                status = server.run(graph(space, FIRST_SEED + batch))["status"]["text"]
            print(space, *status)
        SHIPPED.mkdir(exist_ok=True)
        for file in (Path(folder) / "models" / "asced").glob("*.safetensors"):
            shutil.copy(file, SHIPPED)


if __name__ == "__main__":
    main()
