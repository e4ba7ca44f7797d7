"""Makes what the demo models have learned: run ``python tools/calibrations.py`` after detector changes.

Runs each demo model with the demo's settings and new seeds, and stores in demo/asced what ASCED Calibrate and ASCED
Teach made of it; half an hour on one core. Needs ASCED_COMFYUI.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from graphs import CFG, CORRECTION, DETECTION, STEPS, demo_model, node, sampling
from server import ROOT, ComfyServer

SHIPPED = ROOT / "demo" / "asced"
NAMES = {"pixel": "ASCED demo hands", "latent": "ASCED demo hands, latent"}
BATCHES, BATCH, FIRST_SEED = 10, 10, 90_000
RUNS, TRAINING_STEPS = 640, 1600


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


def lesson(space: str) -> dict[str, Any]:
    """A detector for a demo model, taught by its own runs as the demo samples them."""
    return {
        **demo_model(space, BATCH),
        "teach": node(
            "ASCED_Teach", model=["model", 0], positive=["model", 2], negative=["model", 3],
            latent_image=["empty", 0], seed=FIRST_SEED + BATCHES, steps=STEPS, cfg=CFG, scheduler="normal",
            name=NAMES[space], runs=RUNS, training_steps=TRAINING_STEPS, start_over=False,
        ),
        "status": node("PreviewAny", source=["teach", 1]),
    }  # fmt: skip


def main() -> None:
    """Replaces the shipped files."""
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder)) as server:
        for space in NAMES:
            for batch in range(BATCHES):
                status = server.run(graph(space, FIRST_SEED + batch))["status"]["text"]
            print(space, *status)
            print(space, *server.run(lesson(space))["status"]["text"], flush=True)
        SHIPPED.mkdir(exist_ok=True)
        for file in (Path(folder) / "models" / "asced").glob("*.safetensors"):
            shutil.copy(file, SHIPPED)


if __name__ == "__main__":
    main()
