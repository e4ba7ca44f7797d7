"""Patches of other packs: an added model call leaves no trace in them, nor in the images that nothing was found in."""

from __future__ import annotations

import pytest
import torch

from . import patches
from .conftest import BLIND
from .models import with_artifact
from .randomness import seed_all, states

PATCHES = {
    **{f"draws, {kind}": lambda kind=kind: patches.drawing(kind)
       for kind in ("torch", "numpy", "python", "own torch", "own numpy", "own python")},
    **{f"counts, {where}": lambda where=where: patches.counting(where)
       for where in ("attribute", "dict", "tensor", "global", "class", "closure")},
    "caches by level": lambda: patches.caching_by_level(),
    "skips calls": lambda: patches.wrapping(patches.Skipping()),
    "smooths over the steps": lambda: patches.smoothing(),
    "counts on the network": lambda: patches.on_the_network(),
}  # fmt: skip
SAMPLERS = ["euler", "dpmpp_2m", "heun", "euler_ancestral"]
# each patch with two of them, in turn
PAIRS = [(name, SAMPLERS[(n + k) % 4]) for n, name in enumerate(PATCHES) for k in (0, 1)] + [
    ("caches by level", "heun")
]


def _seeded():
    seed_all(5)
    patches.COUNT, patches.Counter.calls = 0, 0


@pytest.fixture
def compare(hands, stock, corrected, detection, correction):
    """Stock and ours on a freshly patched model: latents, report, original."""

    def run(name, sampler, images=(0,), widgets=(), keep=False, **more):
        results, ended = [], []
        for sample in (stock, corrected):
            model = PATCHES[name]()(with_artifact(hands.eps, images=images))
            _seeded()
            settings = {"detection": detection(**dict(widgets)), "correction": correction(keep_original=keep)}
            extra = {} if sample is stock else {"settings": settings}
            results.append(sample(model, sampler=sampler, steps=16, **extra, **more))
            ended.append(states())
        assert ended[0] == ended[1], "a random generator ended elsewhere"
        return results[0], *results[1]

    return run


@pytest.mark.parametrize(("name", "sampler"), PAIRS[::2])
def test_a_patch_with_a_memory_and_nothing_found(compare, name, sampler):
    stock, ours, _, report = compare(name, sampler, widgets=BLIND)
    assert torch.equal(stock, ours) and not report.images[0].flagged


@pytest.mark.parametrize(("name", "sampler"), dict.fromkeys(PAIRS))
def test_hypertile_made_the_other_images_of_my_batch_change(compare, name, sampler):
    stock, ours, _, report = compare(name, sampler)
    assert torch.equal(stock[1], ours[1])
    assert report.images[0].flagged and not report.images[1].flagged
    if (name, sampler) == ("caches by level", "heun"):  # which gets its own first call of a step from the cache
        assert "answers from a cache" in report.summary() and torch.equal(stock, ours)
    else:
        assert report.images[0].corrected and not report.notes, report.summary()


@pytest.mark.parametrize("name", PATCHES)
def test_a_single_image_is_corrected_as_well(compare, name):
    stock, ours, _, report = compare(name, "euler", batch=1)
    assert report.images[0].corrected
    assert (ours - stock).abs().max() > 0.1


def test_a_patch_that_only_keeps_a_log_sees_every_call_and_costs_nothing(hands, stock, corrected, settings):
    """It is told from one that acts on its count; the images share their model calls as ever."""
    log, last = [], [0.0]

    def wrap(run, args):
        log.append(len(args["input"]))
        last[0] = float(args["timestep"].flatten()[0])
        return run(args["input"])

    model = patches.wrapping(wrap)(with_artifact(hands.eps))
    before = stock(model)
    plain, log[:] = list(log), []
    after, _, report = corrected(model, settings=settings)
    assert report.images[0].corrected and torch.equal(before[1], after[1])
    assert report.run.extra_model_calls == 1
    assert log == [*plain, plain[0]]


@pytest.mark.parametrize("name", ["skips calls", "smooths over the steps", "caches by level"])
def test_a_cache_brought_the_artifact_back(compare, name):
    """What is remembered after the correction comes from the corrected image, as in a run of its own."""
    shared = compare(name, "euler", batch=1)[1]
    alone = compare(name, "euler", batch=1, keep=True)[1]
    torch.testing.assert_close(shared, alone, rtol=0, atol=1e-5)


def test_a_patch_whose_memory_cannot_be_reached_is_named(hands, corrected, settings):
    import itertools

    calls = itertools.count()
    model = patches.wrapping(lambda run, args: run(args["input"]) * (1 + 0.1 * (next(calls) % 2)))
    report = corrected(model(with_artifact(hands.eps)), steps=16, settings=settings)[2]
    assert report.images[0].corrected
    assert "depends on its earlier calls" in report.summary()
