"""Complaints from users of similar packs, each test named after what they saw.

Some are tested elsewhere: nested latents in test_nested.py, templates and shifted widgets in tests/web, one OpenCV
wheel in tests/core.
"""

from __future__ import annotations

import pytest
import torch

from .models import with_artifact


@pytest.fixture
def patched(hands, run_node, settings):
    """A cached MODEL output and its RUN."""
    return run_node("ASCED_ApplyToModel", model=with_artifact(hands.eps), **settings)


def test_the_second_queue_did_nothing(stock, run_node, patched):
    """TeaCache: a cached MODEL kept its spent state."""
    model, run = patched
    for seed in (1, 2, 1):
        latent = stock(model, seed=seed)
        assert run_node("ASCED_CollectRun", samples={"samples": latent}, run=run)[2].images[0].corrected


def test_it_crashed_when_a_second_sampler_had_other_steps_and_size(stock, patched):
    """TeaCache#15."""
    model, _ = patched
    for use in ({"steps": 12, "side": 32}, {"steps": 25, "side": 20, "batch": 1}, {"steps": 6, "side": 48}):
        assert stock(model, **use).isfinite().all()


def test_the_effect_stayed_after_bypass(hands, stock, patched):
    """PuLID-Flux2#12, KJNodes#173."""
    before = stock()
    stock(patched[0])
    assert torch.equal(stock(), before)


def test_another_workflow_with_another_seed_changed_mine(hands, corrected, settings):
    """ComfyUI#2841, #2416."""
    model = with_artifact(hands.eps)
    mine = corrected(model, settings=settings, seed=7, sampler="euler_ancestral")[0]
    corrected(model, settings=settings, seed=8, sampler="dpmpp_sde")
    torch.manual_seed(99)
    assert torch.equal(corrected(model, settings=settings, seed=7, sampler="euler_ancestral")[0], mine)


def test_results_differed_from_run_to_run(hands, corrected, settings):
    """ppm#9."""
    model = with_artifact(hands.eps)
    runs = [corrected(model, settings=settings, sampler="dpmpp_2m_sde")[0] for _ in range(3)]
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("batch", [2, 3, 5])
def test_batches_larger_than_one_failed(hands, corrected, settings, batch):
    """Impact-Pack#61, #75: here each image is handled on its own."""
    model = with_artifact(hands.eps, images=(batch - 1,))
    _, mask, report = corrected(model, settings=settings, batch=batch)
    assert [image.corrected for image in report.images] == [False] * (batch - 1) + [True]
    assert mask.shape[0] == batch and mask[-1].any() and not mask[:-1].any()


@pytest.mark.parametrize("size", [(32, 32), (256, 256), (4, 4)])
def test_an_image_size_mask_met_a_latent_size_tensor(hands, stock, corrected, latent, settings, size):
    """NAG-Extended#9: a noise_mask comes at any size."""
    mask = torch.ones(1, *size)
    mask[:, : size[0] // 4] = 0
    given = {**latent(2), "samples": torch.ones(2, 3, 32, 32) / 2, "noise_mask": mask}
    model = with_artifact(hands.eps)
    before = stock(model, latent=given)
    after, found, report = corrected(model, latent=given, settings=settings)
    assert found.shape == (2, 32, 32) and report.images[0].corrected
    assert torch.equal(after[..., :3, :], before[..., :3, :])  # small masks are blurred on their way up


def test_the_cost_doubled_at_cfg_1(hands, stock, corrected, settings):
    """Adaptive-Guidance#7: at CFG 1 ComfyUI skips the negative, and so must a watched run."""
    from comfy.patcher_extension import WrappersMP

    images = []

    def count(executor, x, *args, **kwargs):
        images.append(len(x))
        return executor(x, *args, **kwargs)

    model = with_artifact(hands.eps)
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "count", count)
    stock(model, cfg=1.0)
    expected, images[:] = list(images), []
    corrected(model, cfg=1.0, settings=settings)
    assert expected == [2] * 12
    assert images == [2] * 13  # one more for the correction


def test_the_mask_canvas_was_hidden_in_the_new_renderer(hands, corrected, settings):
    """frontend#7615: the preview is an image in the node's output and needs no script in the page."""
    from comfy_execution.utils import CurrentNodeContext

    report = corrected(with_artifact(hands.eps), settings=settings)[2]
    with CurrentNodeContext(prompt_id="p", node_id="1"):
        import asced.nodes.nodes_mask_preview as node

        shown = node.ASCED_MaskPreview
        shown.hidden = type("Hidden", (), {"unique_id": "1", "prompt": None, "extra_pnginfo": None})()
        ui = shown.execute(report=report).ui
    assert len(ui["images"]) == 2


def test_a_bad_image_is_cancelled_on_the_fly_and_the_queue_goes_on(hands, corrected, settings):
    """ComfyUI#3425: people cancel a run that goes wrong; the next one must not be affected."""
    import comfy.model_management

    model = with_artifact(hands.eps)
    expected = corrected(model, settings=settings, seed=4)[0]

    def cancel(args):
        if float(args["sigma"][0]) < 2.0:
            comfy.model_management.interrupt_current_processing()
            comfy.model_management.throw_exception_if_processing_interrupted()
        return args["denoised"]

    cancelled = model.clone()
    cancelled.set_model_sampler_post_cfg_function(cancel)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        corrected(cancelled, settings=settings, seed=5)
    assert torch.equal(corrected(model, settings=settings, seed=4)[0], expected)
