"""What mode robust marks in the demo's sixteen images, so that no release changes it unnoticed.

The runs are those of ``make demo``, up to T_c. ``ASCED_WRITE_REGIONS=1`` rewrites the snapshot.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

SNAPSHOT = Path(__file__).with_name("demo_regions.npz")
STEPS, CFG, SEED, AFTER_T_C = 25, 2.0, 2, 14


@pytest.mark.parametrize("variant", ["pixel", "latent"])
def test_mode_robust_marks_the_same_regions_in_the_demo(run_node, variant):
    model, vae, positive, negative = run_node("ASCED_DemoModel", digit="each in turn", variant=variant)
    shape, options = ((16, 3, 64, 64), {}) if variant == "pixel" else ((16, 4, 16, 16), {"space": "vae", "vae": vae})
    detection = run_node("ASCED_Detection", mode="robust", threshold=3.0, **options)[0]
    report = run_node(
        "ASCED_KSamplerAdvanced", model=model, add_noise="enable", noise_seed=SEED, steps=STEPS, cfg=CFG,
        sampler_name="ddim", scheduler="normal", positive=positive, negative=negative,
        latent_image={"samples": torch.zeros(shape)}, start_at_step=0, end_at_step=AFTER_T_C,
        return_with_leftover_noise="enable", detection=detection,
    )[2]  # fmt: skip
    scores = np.array([[region.score for region in image.regions] + [0.0] * (8 - len(image.regions))
                       for image in report.images], np.float32)  # fmt: skip
    found = {f"{variant}_labels": report.labels.astype(np.uint8), f"{variant}_scores": scores}
    if os.environ.get("ASCED_WRITE_REGIONS"):
        known = dict(np.load(SNAPSHOT)) if SNAPSHOT.is_file() else {}
        np.savez_compressed(SNAPSHOT, **{**known, **found})
    with np.load(SNAPSHOT) as known:
        labels, expected = known[f"{variant}_labels"], known[f"{variant}_scores"]
    assert (labels > 0).any()
    # other processors round differently: a cell at the threshold may fall on the other side
    assert np.mean(report.labels != labels) < 1e-4
    np.testing.assert_allclose(scores, expected, rtol=0.01)
