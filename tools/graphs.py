"""Parts of the API graphs that the demo, the pictures and the benchmarks queue."""

from __future__ import annotations

from typing import Any

STEPS, CFG = 25, 2.0
SIDES = {"pixel": 512, "latent": 128}  # of the Empty Latent Image; both give 64-pixel images
DETECTION = {
    "mode": "strict", "threshold": 3.0, "min_area": 100, "max_area": 10000, "min_width": 5, "expand": 0,
    "start_percent": 0.2, "end_percent": 0.5,
}  # fmt: skip
TAUGHT = {
    "pixel": "ASCED demo hands.taught.safetensors", "latent": "ASCED demo hands, latent.taught.safetensors",
}  # fmt: skip
CORRECTION = {"method": "ttc", "gamma": 0.0, "strength": 1.0, "expand": 5, "x0_source": "current"}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    """One node of a graph."""
    return {"class_type": kind, "inputs": inputs}


def demo_model(space: str, batch: int) -> dict[str, Any]:
    """Nodes ``model`` and ``empty``: a demo model and the latent it starts from."""
    return {
        "model": node("ASCED_DemoModel", digit="each in turn", variant=space),
        "empty": node("EmptyLatentImage", width=SIDES[space], height=SIDES[space], batch_size=batch),
    }


def sampling(seed: int) -> dict[str, Any]:
    """Inputs of a KSampler connected to the nodes of ``demo_model``."""
    return {
        "model": ["model", 0], "positive": ["model", 2], "negative": ["model", 3], "latent_image": ["empty", 0],
        "seed": seed, "steps": STEPS, "cfg": CFG, "sampler_name": "ddim", "scheduler": "normal", "denoise": 1.0,
    }  # fmt: skip
