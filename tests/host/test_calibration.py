"""ASCED_Calibrate, and detection by percentage of marked images, in a real ComfyUI with the demo model."""

from __future__ import annotations

import pytest

ENDING = ".calibration.safetensors"


@pytest.fixture
def sample(run_node, hands):
    """(seed, detection's widgets) -> report of eight hands; nothing is corrected."""

    def run(seed, **widgets):
        import torch

        return run_node(
            "ASCED_KSampler", model=hands.eps, seed=seed, steps=12, cfg=2.0, sampler_name="euler", scheduler="normal",
            positive=hands.positive, negative=hands.negative, latent_image={"samples": torch.zeros(8, 3, 64, 64)},
            denoise=1.0, detection=run_node("ASCED_Detection", **{"threshold": 3.0, **widgets})[0],
            correction=run_node("ASCED_Correction", method="none")[0],
        )[2]  # fmt: skip

    return run


def test_the_requested_share_is_marked(sample, run_node, asced_models):
    """Exactly of the learned images, and roughly of new ones; a repeated run counts once."""
    learned = [sample(seed, threshold=0.1) for seed in (1, 2, 3, 4)]
    for number, report in enumerate(learned):
        images, summary = run_node("ASCED_Calibrate", report=report, name="hands", start_over=False)
        assert images == 8 * (number + 1) and summary.startswith(f"{images} images; ")
    assert run_node("ASCED_Calibrate", report=learned[0], name=f"hands{ENDING}", start_over=False)[0] == 32
    assert [path.name for path in asced_models.iterdir()] == [f"hands{ENDING}"]
    calibrated = {"calibration": f"hands{ENDING}", "max_area": 65536}
    for share, most in ((10, 2), (50, 15)):  # the guarantee leaves room for one more image
        marked = [
            sum(i.flagged for i in sample(seed, marked_percent=share, **calibrated).images) for seed in (1, 2, 3, 4)
        ]
        assert sum(marked) == most
    fresh = [sample(seed, marked_percent=50, **calibrated) for seed in (11, 12)]
    assert 3 <= sum(i.flagged for report in fresh for i in report.images) <= 13  # 98.6 % of binomial draws
    assert fresh[0].detection["mad_scale"] > 0.1  # the threshold that was used is in the report
    assert run_node("ASCED_Calibrate", report=learned[0], name="hands", start_over=True)[0] == 8


def test_without_a_calibration_the_threshold_counts(run_node):
    plain = run_node("ASCED_Detection", threshold=2.5)[0]
    assert (
        run_node("ASCED_Detection", threshold=2.5, calibration="none", marked_percent=1.0)[0].settings == plain.settings
    )


def test_a_calibration_ships_for_each_demo_model(run_node, demo):
    for name in ("ASCED demo hands", "ASCED demo hands, latent"):
        lax, strict = (
            run_node("ASCED_Detection", mode="strict", threshold=3.0, calibration=name + ENDING, marked_percent=share)[
                0
            ].settings
            for share in (90.0, 2.0)
        )
        assert 0.1 < lax.mad_scale < strict.mad_scale < 15 and lax.min_area == 100


def test_a_mismatch_gets_one_clear_error(sample, run_node, asced_models):
    report = sample(1, threshold=0.1)
    run_node("ASCED_Calibrate", report=report, name="hands", start_over=False)
    with pytest.raises(ValueError, match=r"needs mode strict or robust at threshold 0\.1: set both in ASCED Detection"):
        run_node("ASCED_Calibrate", report=sample(1), name="hands", start_over=False)
    with pytest.raises(ValueError, match=r"name is '\.\./hands': enter a name without folders"):
        run_node("ASCED_Calibrate", report=report, name="../hands", start_over=False)
    other = sample(1, threshold=0.1, min_area=300)
    with pytest.raises(
        ValueError, match=r"earlier runs used other settings than this run \(min_area 100 instead of 300\)"
    ):
        run_node("ASCED_Calibrate", report=other, name="hands", start_over=False)
    own = {"threshold": 3.0, "calibration": f"hands{ENDING}"}
    with pytest.raises(ValueError, match="8 images cannot give a threshold for 5%: calibrate with 19 images or more"):
        run_node("ASCED_Detection", marked_percent=5.0, **own)
    with pytest.raises(
        ValueError, match=r"calibration used other settings than ASCED Detection \(start_percent 0\.2 instead of 0\.3\)"
    ):
        run_node("ASCED_Detection", start_percent=0.3, marked_percent=20.0, **own)
    with pytest.raises(ValueError, match=r"no file gone\.safetensors in models/asced: choose another one, or none"):
        run_node("ASCED_Detection", threshold=3.0, calibration="gone.safetensors")
