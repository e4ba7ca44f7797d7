"""ASCED_Teach, and detection with what it taught, in a real ComfyUI with the demo models."""

from __future__ import annotations

import pytest

ENDING = ".taught.safetensors"
WIDGETS = {"seed": 5, "steps": 12, "cfg": 2.0, "scheduler": "normal", "name": "hands", "runs": 12,
           "training_steps": 50, "start_over": False}  # fmt: skip


@pytest.fixture
def teach(run_node, demo, asced_models):
    """ASCED_Teach on the latent demo with tiny numbers; file name and summary."""
    import torch

    def run(**change):
        given = {"model": demo.model, "positive": demo.positive, "negative": demo.negative,
                 "latent_image": {"samples": torch.zeros(6, 4, 16, 16)}}  # fmt: skip
        return run_node("ASCED_Teach", **{**given, **WIDGETS, **change})

    return run


def test_a_detector_is_taught_and_used(teach, run_node, asced_models, sample):
    name, summary = teach()
    assert name == f"hands{ENDING}" and [path.name for path in asced_models.iterdir()] == [name]
    print(summary)
