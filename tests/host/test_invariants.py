"""What must always hold (ALGORITHM, Sec. 4), for any settings an artist may choose."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from .conftest import examples
from .models import with_artifact

LARGEST_SEED = 2**64 - 1
EXAMPLES = examples(15)


@st.composite
def _runs(draw):
    """A run: sampler, scheduler, steps, shape, batch, mask, cfg, denoise, seed and model; names by number, since
    ComfyUI is not yet loaded when tests are collected."""
    return {
        "sampler": draw(st.integers(0, 10**6)), "scheduler": draw(st.integers(0, 10**6)),
        "steps": draw(st.integers(2, 16)), "cfg": draw(st.sampled_from([1.0, 2.0, 5.0])),
        "denoise": draw(st.sampled_from([1.0, 1.0, 0.8, 0.4])), "seed": draw(st.integers(0, LARGEST_SEED - 1)),
        "batch": draw(st.integers(1, 3)), "height": draw(st.integers(14, 26)), "width": draw(st.integers(14, 26)),
        "mask": draw(st.booleans()), "form": draw(st.sampled_from(["eps", "flow"])),
    }  # fmt: skip


@pytest.fixture
def play(hands, stock, corrected, detection, correction):
    """Plays a run on ComfyUI's KSampler (``watched=None``), or watched with these widgets."""
    import comfy.samplers

    def play(run, watched=None, model=None, **correct):
        generator = torch.Generator().manual_seed(run["seed"] & 0xFFFF)
        image = torch.randn(run["batch"], 3, run["height"], run["width"], generator=generator) / 4
        latent = {"samples": image}
        if run["mask"]:
            latent["noise_mask"] = (torch.rand(1, run["height"], run["width"], generator=generator) > 0.3).float()
        names, schedulers = comfy.samplers.KSampler.SAMPLERS, comfy.samplers.KSampler.SCHEDULERS
        given = {
            "sampler": names[run["sampler"] % len(names)], "scheduler": schedulers[run["scheduler"] % len(schedulers)],
            "steps": run["steps"], "cfg": run["cfg"], "denoise": run["denoise"], "seed": run["seed"], "latent": latent,
        }  # fmt: skip
        model = model or getattr(hands, run["form"])
        if watched is None:
            return stock(model, **given)
        widgets = {
            "threshold": 1.0, "min_area": 4, "max_area": 65536, "min_width": 0, "start_percent": 0.1,
            "end_percent": 0.6, **watched,
        }  # fmt: skip
        return corrected(
            model, **given, settings={"detection": detection(**widgets), "correction": correction(**correct)}
        )  # fmt: skip

    return play


def _same(a, b):
    return torch.equal(a.nan_to_num(nan=7.0), b.nan_to_num(nan=7.0))  # some settings break down in stock, too


@EXAMPLES
@given(run=_runs(), how=st.sampled_from(["none found", "method none", "strength 0"]))
def test_1_nothing_detected_or_nothing_done_is_bit_identical(play, run, how):
    expected = play(run)
    state = torch.get_rng_state()
    if how == "none found":
        latent, mask, report = play(run, {"threshold": 20.0, "min_width": 128, "min_area": 60000})
        assert not any(image.flagged for image in report.images) and not mask.any()
    else:
        latent, _, report = play(run, {}, **({"method": "none"} if how == "method none" else {"strength": 0.0}))
    assert not any(image.corrected for image in report.images)
    assert _same(latent, expected)
    assert torch.equal(torch.get_rng_state(), state)


@EXAMPLES
@given(run=_runs(), other=_runs())
def test_2_same_seed_same_result_and_the_global_rng_is_left_alone(play, run, other):
    play(run)
    state = torch.get_rng_state()
    first, _, report = play(run, {})
    assert torch.equal(torch.get_rng_state(), state)
    play(other, {})
    again, _, second = play(run, {})
    assert _same(first, again)
    assert [image.regions for image in report.images] == [image.regions for image in second.images]


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_sde", "lcm", "sa_solver"])
def test_2_the_largest_seed_ends_as_in_stock(stock, corrected, detection, sampler):
    """Newer versions of ComfyUI add 1 to the seed of a sampler's own noise, which is too large then."""
    blind = {"detection": detection(threshold=20.0, min_width=250)}

    def outcome(sample, **more):
        try:
            return sample(seed=LARGEST_SEED, sampler=sampler, steps=6, **more)
        except (RuntimeError, ValueError) as error:
            return f"{type(error).__name__}: {error}"

    expected, found = outcome(stock), outcome(corrected, settings=blind)
    if isinstance(expected, str):
        assert found == expected
    else:
        assert _same(found[0], expected)


@EXAMPLES
@given(run=_runs(), longer=st.integers(2, 6))
def test_3_memory_does_not_grow_with_the_steps(pack, run, longer):
    """A detector holds a few maps, at most MOST frames and the last one, however many it was shown."""
    from asced.asced_core import DetectionSettings
    from asced.asced_core.detect.lasting import LastingChange
    from asced.asced_core.detect.memory import MOST

    shape = (run["batch"], 3, run["height"], run["width"])
    frames = torch.randn(longer * (2 * MOST + 1), *shape)

    def held(count: int) -> int:
        detector = LastingChange(DetectionSettings(), shape, frames.device)
        for frame in frames[:count]:
            detector.push(frame)
        parts = [*vars(detector).values(), *vars(detector._memory).values()]
        kept = [item for part in parts if isinstance(part, dict) for item in part.values()]
        tensors = {id(t): t for t in [*parts, *kept] if torch.is_tensor(t)}
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

    two, frame = held(2), frames[0].numel() * frames.element_size()
    assert two >= 2 * frame
    assert held(len(frames)) <= two + (MOST - 1) * frame


@EXAMPLES
@given(run=_runs(), when=st.integers(1, 20), interrupt=st.booleans())
def test_4_a_run_that_breaks_off_anywhere_leaves_nothing_behind(play, hands, run, when, interrupt):
    import comfy.model_management

    run = {**run, "denoise": 1.0}
    before = play(run, {})[0]
    calls = [0]

    def fail(args):
        calls[0] += 1
        if calls[0] >= when:
            raise comfy.model_management.InterruptProcessingException if interrupt else RuntimeError("broken")
        return args["denoised"]

    broken = getattr(hands, run["form"]).clone()
    broken.set_model_sampler_post_cfg_function(fail)
    try:
        play(run, {}, model=broken)
        assert calls[0] < when
    except (RuntimeError, comfy.model_management.InterruptProcessingException):
        assert calls[0] == when
    assert not any("ASCED" in thread.name for thread in threading.enumerate())
    assert _same(play(run, {})[0], before)


@EXAMPLES
@given(run=_runs())
def test_5_steps_are_counted_by_noise_level_and_a_correction_costs_one_call(play, hands, run):
    from asced.asced_core.noise import percent_at

    model = with_artifact(getattr(hands, run["form"]))
    sampling = model.get_model_object("model_sampling")
    seen = play(run, {}, model=model, method="none")[2]
    report = play(run, {}, model=model)[2]
    if report.decision is None:
        assert report.notes
        return
    first, last = report.window
    begin = percent_at(lambda p: float(sampling.percent_to_sigma(p)), report.sigmas[0])
    percents = (0.1, 0.6) if begin < 0.1 else (begin - 1e-3, 1 - 0.4 * (1 - begin) / 0.9)  # from the start on
    start, end = (float(sampling.percent_to_sigma(p)) for p in percents)
    assert all(end < sigma <= start for sigma in report.sigmas[first : last + 1])
    assert report.sigmas[report.decision] <= end < report.sigmas[report.decision - 1]
    corrected = any(image.corrected for image in report.images)
    assert report.run.extra_model_calls == corrected
    assert report.run.model_calls - seen.run.model_calls == corrected
