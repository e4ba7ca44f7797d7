"""Complaints from users of similar packs, part two: those to be measured in the image or in the process."""

from __future__ import annotations

import copy
import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from .conftest import ROOT
from .models import with_artifact


@pytest.fixture(scope="module")
def pictures(host, hands, run_node, detection):
    """Four hands without a planted artifact, sensitive settings: stock and corrected, decoded.

    ``regions`` holds image and corrected area of each hand that was corrected.
    """
    with torch.inference_mode():
        sensitive = detection(threshold=1.1, min_area=100, min_width=5)
        common = (16, 2.0, "euler", "normal", hands.positive, hands.negative, {"samples": torch.zeros(4, 3, 64, 64)})
        stock = host.common_ksampler(hands.eps, 0, *common)[0]["samples"]
        other = host.common_ksampler(hands.eps, 1, *common)[0]["samples"]
        names = ("steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image")
        out, mask, report, *_ = run_node(
            "ASCED_KSampler", model=hands.eps, seed=0, denoise=1.0, detection=sensitive,
            **dict(zip(names, common, strict=True)),
        )  # fmt: skip
        area = F.max_pool2d(mask[:, None], 3, 1, 1)[:, 0] > 0  # the correction's own expand, in cells of 64
        before, after, foreign = (hands.vae.decode(x) for x in (stock, out["samples"], other))
    regions = [(i, area[i]) for i, image in enumerate(report.images) if image.corrected]
    assert len(regions) == 4
    return SimpleNamespace(before=before, after=after, foreign=foreign, regions=regions)


def _seam(picture, area):
    """Mean color jump across the area's edge."""
    down, right = (picture.diff(dim=d).abs().mean(-1) for d in (0, 1))
    over_down, over_right = (area.diff(dim=d) for d in (0, 1))
    return float(torch.cat([down[over_down], right[over_right]]).mean())


def test_a_corrected_hand_is_not_a_featureless_blob(pictures):
    """ADetailer#88: inside the corrected area there is about as much structure as in the stock image."""
    for i, area in pictures.regions:
        assert not torch.equal(pictures.after[i], pictures.before[i])
        assert pictures.after[i][area].std(0).mean() > 0.6 * pictures.before[i][area].std(0).mean()


def test_a_corrected_region_has_no_square_seam(pictures):
    """ADetailer#798: the area's edge jumps no more than the image's own edges, and far less than a pasted one."""
    for i, area in pictures.regions:
        seam, stock = _seam(pictures.after[i], area), _seam(pictures.before[i], area)
        assert seam < 1.5 * max(stock, float(pictures.before[i].diff(dim=0).abs().mean()))
        pasted = _seam(torch.where(area[..., None], pictures.foreign[i], pictures.before[i]), area)
        assert seam - stock < 0.25 * (pasted - stock)  # the image's own jump there is not a seam


def test_no_black_patches(pictures):
    """ADetailer: what was redrawn keeps the stock brightness; black or emptied areas do not."""
    assert pictures.after.isfinite().all()
    for i, area in pictures.regions:
        assert (pictures.after[i][area].mean(0) - pictures.before[i][area].mean(0)).abs().max() < 0.1
        assert pictures.after[i][area].max() > 0.05


def test_the_mask_is_seen_without_a_canvas(hands, corrected, pack, settings):
    """frontend#7615: the files that the node shows are the mask itself, and none of our scripts is involved."""
    import folder_paths
    from PIL import Image

    _, mask, report = corrected(with_artifact(hands.eps), settings=settings)
    cls = pack["ASCED_MaskPreview"]
    cls.hidden = SimpleNamespace(unique_id="1", prompt=None, extra_pnginfo=None)
    shown = cls.execute(report=report).ui["images"]
    for file, expected in zip(shown, mask, strict=True):
        with Image.open(f"{folder_paths.get_temp_directory()}/{file['subfolder']}/{file['filename']}") as picture:
            assert np.array_equal(np.asarray(picture.convert("L")) > 127, expected.numpy() > 0)
    ours = [path for path in (ROOT / "web").rglob("*.js") if path.name != "mask_editor.js"]  # it resets a Load Image
    assert ".imgs" not in "".join(path.read_text(encoding="utf-8") for path in ours)


def test_a_seed_does_not_leak_into_other_workflows(hands, stock, corrected, run_node, settings):
    """ComfyUI#2841, #2416: a corrected run and its views leave every global generator in the same state as stock."""
    model = with_artifact(hands.eps)

    def drawn():
        return random.random(), np.random.rand(), float(torch.rand(())), float(stock(seed=7, sampler="lcm").sum())  # noqa: NPY002

    def other_workflow(first):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        first()
        return drawn()

    def ours():
        latent, _, report = corrected(model, sampler="euler_ancestral", settings=settings)
        assert report.images[0].corrected
        run_node("ASCED_Overlay", report=report, image=hands.vae.decode(latent), opacity=0.5)
        run_node("ASCED_Dynamics", report=report, index=-1)

    assert other_workflow(ours) == other_workflow(lambda: stock(model, sampler="euler_ancestral"))


def test_nothing_stays_after_bypass(hands, stock, run_node, settings):
    """PuLID-Flux2#12, KJNodes#173: neither the model nor ComfyUI's modules keep anything of ours."""
    model = with_artifact(hands.eps)

    def state():
        network = model.model.diffusion_model
        return repr(model.model_options), model.wrappers, sorted(vars(model.model)), sorted(vars(network))

    before, latent = copy.deepcopy(state()), stock(model)
    patched, _ = run_node("ASCED_ApplyToModel", model=model, **settings)
    assert not torch.equal(stock(patched), latent)
    assert torch.equal(stock(model), latent) and state() == before
    hosts = [module for name, module in sys.modules.items() if name.split(".")[0] in ("comfy", "nodes", "execution")]
    ours = [
        f"{module.__name__}.{name}"
        for module in hosts
        for name, thing in vars(module).items()
        if str(getattr(thing, "__module__", "")).startswith("asced")
    ]
    assert ours == []


def test_image_size_and_latent_size_masks_meet(hands, stock, corrected, core_node, settings):
    """NAG-Extended#9: at eight pixels per cell, the output MASK has image size and works for inpainting."""
    model = with_artifact(hands.eps)
    model.model = copy.copy(model.model)  # otherwise the format would stay with all models of this test run
    eight_pixels = type("EightPixels", (type(model.model.latent_format),), {"pixels_per_cell": 8})
    model.model.latent_format = eight_pixels()
    latent, mask, report = corrected(model, settings=settings)
    assert mask.shape == (2, 256, 256) and report.masks.shape == (2, 32, 32)
    cells = torch.from_numpy(report.masks).float()
    results = []
    for given in (mask, cells):
        (masked,) = core_node("SetLatentNoiseMask", samples={"samples": latent}, mask=given)
        after, _, again = corrected(model, seed=8, latent=masked, settings=settings)
        assert again.images[0].flagged
        before, outside = stock(model, seed=8, latent=masked), cells == 0
        for other in (before, latent):
            torch.testing.assert_close(after.movedim(1, -1)[outside], other.movedim(1, -1)[outside])
        results.append(after)
    assert torch.equal(*results)


def test_batches_larger_than_one_work(hands, stock, corrected, run_node, settings):
    """Impact-Pack#61, #75: five images, two of them with an artifact; the others are bit-for-bit identical."""
    model = with_artifact(hands.eps, images=(1, 3))
    before = stock(model, batch=5)
    after, mask, report = corrected(model, batch=5, settings=settings)
    touched = [False, True, False, True, False]
    assert [image.corrected for image in report.images] == touched
    assert [bool(m.any()) for m in mask] == touched
    assert [not torch.equal(a, b) for a, b in zip(after, before, strict=True)] == touched
    assert not torch.equal(after[1] - before[1], after[3] - before[3])  # each has its own noise
    drawn, _ = run_node("ASCED_Overlay", report=report, image=hands.vae.decode(after), opacity=0.5)
    assert len(drawn) == 5


def test_a_bad_image_is_cancelled_by_the_button(hands, corrected, settings, monkeypatch):
    """ComfyUI#3425: ComfyUI stops at the progress bar, wherever the corrected run is then."""
    import comfy.model_management
    import comfy.utils

    model = with_artifact(hands.eps)
    expected = corrected(model, settings=settings)[0]
    for step in (1, 6, 7, 8, 12):

        def hook(value, *_, step=step, **__):
            if value == step:
                comfy.model_management.interrupt_current_processing()
            comfy.model_management.throw_exception_if_processing_interrupted()

        with monkeypatch.context() as patch:
            patch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
            with pytest.raises(comfy.model_management.InterruptProcessingException):
                corrected(model, settings=settings, seed=5)
        assert torch.equal(corrected(model, settings=settings)[0], expected)
