"""Input masks and the output mask, on the latent demo."""

from __future__ import annotations

import numpy as np
import pytest
import torch


@pytest.mark.parametrize(
    "shape", [(64, 64), (1, 64, 64), (2, 64, 64), (16, 16), (2, 16, 16), (1, 1, 64, 64), (128, 128)]
)
def test_protect_and_only_here_take_masks_of_every_accepted_shape(sample, loud, shape):
    left = torch.zeros(shape)
    left[..., : shape[-1] * 7 // 16] = 1  # the artifact lies in columns 5 to 9 of 16
    stock = sample(loud, None)["samples"]
    for name, kept in (("protect", np.s_[..., :7]), ("only_here", np.s_[..., 7:])):
        latent, _, report = sample(loud, {name: left, "min_width": 8, "min_area": 300}, steps=12)
        assert report.images[0].corrected, name
        state = report.masks[0][:, kept[-1]]
        assert not state.any(), name
        assert not torch.equal(latent["samples"], stock)


def test_both_masks_together_at_two_sizes(sample, loud):
    """Only the upper half of one image except its left part; what remains holds a part of the artifact."""
    only, protect = torch.zeros(2, 16, 16), torch.zeros(64, 64)
    only[0, :8] = 1
    protect[:, :27] = 1  # ends inside cell 6
    report = sample(loud, {"only_here": only, "protect": protect, "min_width": 8, "min_area": 300})[2]
    assert [image.corrected for image in report.images] == [True, False]
    assert not report.masks[0][8:].any() and not report.masks[0][:, :7].any()


def test_a_fully_protected_image_is_bit_identical_to_stock(sample, loud):
    latent, mask, report = sample(loud, {"protect": torch.ones(64, 64)})
    assert torch.equal(latent["samples"], sample(loud, None)["samples"])
    assert not mask.any() and report.summary().startswith("Nothing was looked at: the masks only_here and protect")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(3, 64, 64), "3 masks, but the run has 2 images"),
        (torch.ones(64, 256), "same proportions"),
        (torch.ones(64), r"\[H,W\] or \[B,H,W\]"),
        (torch.ones(0, 64, 64), r"\[H,W\] or \[B,H,W\]"),
    ],
)
def test_a_mask_that_does_not_fit_gets_one_clear_error(sample, loud, mask, message):
    for name in ("protect", "only_here"):
        with pytest.raises(ValueError, match=message) as error:
            sample(loud, {name: mask})
        assert name in str(error.value) and "\n" not in str(error.value)


def test_the_mask_works_as_noise_mask_and_in_comfyuis_mask_nodes(sample, demo, loud, run_node, core_node):
    latent, _, report = sample(loud, {})
    image = demo.vae.decode(latent["samples"])
    picture, mask = run_node("ASCED_MaskPreview", report=report, image=image, grow_px=3, feather_px=4, min_score=0.0)
    assert mask.shape == (2, 64, 64) and picture.shape == (2, 64, 64, 3)
    assert 0 < mask.max() <= 1 and ((mask > 0) & (mask < 1)).any()
    (masked,) = core_node("SetLatentNoiseMask", samples=latent, mask=mask)
    redone = sample(demo.model, None, latent=masked, denoise=0.6)["samples"]
    still = torch.nn.functional.max_pool2d(mask, 4) == 0
    still = torch.nn.functional.max_pool2d((~still).float(), 3, 1, 1) == 0  # ComfyUI smooths the mask's edge
    moved = (redone - latent["samples"]).abs().amax(1)
    assert moved[still].max() < 1e-4 and moved[0].max() > 0.05 and moved[1].max() < 1e-4
    for node, inputs in (
        ("GrowMask", {"mask": mask, "expand": 2, "tapered_corners": True}),
        ("InvertMask", {"mask": mask}),
        ("MaskToImage", {"mask": mask}),
        (
            "ImageCompositeMasked",
            {"destination": image, "source": 1 - image, "x": 0, "y": 0, "resize_source": False, "mask": mask},
        ),
    ):
        assert core_node(node, **inputs)[0].isfinite().all()
    (filled,) = core_node("VAEEncodeForInpaint", vae=demo.vae, pixels=image, mask=mask, grow_mask_by=6)
    assert filled["noise_mask"].shape[-2:] == (64, 64)


def test_weak_regions_can_be_excluded_from_the_mask(sample, demo, loud, run_node):
    _, _, report = sample(loud, {"threshold": 1.5, "min_area": 50, "min_width": 0}, {"method": "none"}, steps=20)
    scores = sorted({r.score for image in report.images for r in image.regions})
    assert len(scores) > 1
    whole = run_node("ASCED_MaskPreview", report=report)[1]
    strong = run_node("ASCED_MaskPreview", report=report, min_score=scores[-1])[1]
    assert whole.sum() > strong.sum() > 0
    assert not (strong > whole).any()
    assert not run_node("ASCED_MaskPreview", report=report, min_score=100.0)[1].any()
