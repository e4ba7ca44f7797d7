"""Drafts when something goes wrong: interrupts, errors, images that turn NaN, wrong inputs; and what is left behind."""

from __future__ import annotations

import gc
import json
import queue
import weakref
from collections import Counter

import pytest
import torch

from .drafts import MODES, around, same


def failing(model, at, error):
    """The model that raises ``error`` in its n-th call, counted from 0."""
    calls: Counter[str] = Counter()

    def network(net, x, *args, **kwargs):
        calls["all"] += 1
        if calls["all"] == at + 1:
            raise error
        return net(x, *args, **kwargs)

    return around(model, network)


def _errors():
    import comfy.model_management as management

    return {
        "interrupt": management.InterruptProcessingException(),
        "error": RuntimeError("The size of tensor a must match"),
        "memory": management.OOM_EXCEPTION("out of memory"),
    }


# calls before the error: in a draft, in the first call after the decision, and while images are finished
@pytest.mark.parametrize("kind", ["interrupt", "error", "memory"])
@pytest.mark.parametrize(("mode", "at"), [("all", 1), ("all", 3), ("all", 5), ("one", 4), ("one", 12), ("one", 19)])
def test_an_interrupt_or_error_ends_the_node_and_the_next_run_is_clean(drafted, hands, mode, at, kind):
    error = _errors()[kind]
    model = failing(hands.eps, at, error)
    with pytest.raises(type(error)) as raised:
        drafted(model, at_once=mode)
    assert raised.value is error
    again, _, places = drafted(model, at_once=mode)
    clean, _, expected = drafted(at_once=mode)
    assert places == expected
    assert torch.equal(again, clean)


def test_an_interrupt_in_the_check_of_a_patched_model(drafted, hands):
    """The check must not take ComfyUI's interrupt for a disagreement."""
    from .patches import wrapping

    error = _errors()["interrupt"]
    patched = wrapping(lambda run, args: run(args["input"]))
    with pytest.raises(type(error)):
        drafted(patched(failing(hands.eps, 3, error)))  # call 3 of 3 steps of a draft is the check


@pytest.mark.parametrize("mode", MODES)
def test_a_draft_that_turns_nan_is_ranked_last(drafted, hands, mode):
    def network(net, x, t, *args, y, **kwargs):
        out = net(x, t, *args, y=y, **kwargs)
        return torch.where((y == 1).view(-1, 1, 1, 1), torch.nan, out)  # the digit of image 1

    model = around(hands.eps, network)
    picked, report, places = drafted(model, keep=3, at_once=mode)
    assert places == [0, 2, 3]
    assert torch.isfinite(picked).all()
    assert report.drafts.ranks[1] == 4
    _, report, places = drafted(model, keep=1, also_finish="2", at_once=mode)
    assert 1 in places
    assert not report.images[places.index(1)].measurable


@pytest.mark.parametrize("mode", MODES)
def test_drafts_that_all_turn_nan_still_give_what_was_asked_for(drafted, hands, mode):
    from .patches import wrapping

    model = wrapping(lambda run, args: run(args["input"]) * torch.nan)(hands.eps)
    picked, report, places = drafted(model, at_once=mode)
    assert places == [0, 1]
    assert len(picked) == 2
    assert "depend on each other" not in report.summary()
    assert not any(image.measurable for image in report.images)
    json.dumps(report.drafts.to_dict())


@pytest.mark.parametrize("mode", MODES)
def test_nothing_of_a_run_stays_in_memory(drafted, hands, mode):
    held: queue.SimpleQueue[weakref.ref] = queue.SimpleQueue()  # a list would be put back as the memory of a patch

    def network(net, x, *args, **kwargs):
        out = net(x, *args, **kwargs)
        held.put(weakref.ref(out))
        held.put(weakref.ref(x))
        return out

    model = around(hands.eps, network)
    picked, report, _ = drafted(model, at_once=mode)
    gc.collect()
    assert report is not None
    assert len(picked) == 2
    count = held.qsize()
    assert count >= 2 * 8
    assert not [ref for ref in (held.get() for _ in range(count)) if ref() is not None]


@pytest.mark.parametrize("mode", MODES)
def test_the_model_of_the_graph_is_not_written_to(drafted, hands, mode):
    model = hands.eps.clone()
    held = dict(vars(model))
    options = str(model.model_options)
    prompts = str([[sorted(o), t.shape] for t, o in hands.positive])
    drafted(model, at_once=mode)
    assert vars(model).keys() == held.keys()
    assert str(model.model_options) == options
    assert not model.wrappers
    assert str([[sorted(o), t.shape] for t, o in hands.positive]) == prompts


@pytest.fixture
def shown(monkeypatch):
    """What ComfyUI's progress bar gets, and the previews that are decoded."""
    import comfy.utils
    import latent_preview

    bars, previews = [], []

    class Previewer:
        def decode_latent_to_preview_image(self, _, x0):
            previews.append(bool(torch.isfinite(x0).all()))

    monkeypatch.setattr(latent_preview, "get_previewer", lambda *_: Previewer())
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda done, total, *_, **__: bars.append((done, total)))
    return bars, previews


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm_fast", "dpm_adaptive", "sa_solver_pece"])
def test_progress_never_runs_back_and_previews_are_images(drafted, shown, mode, sampler):
    bars, previews = shown
    ways = {"euler": [{}, {"keep": 4}, {"steps": 3, "decide_at": 0.95}, {"steps": 1}], "dpm_adaptive": [{}]}
    for given in ways.get(sampler, [{"also_finish": "1, 2, 4", "keep": 1}]):
        bars.clear()
        drafted(at_once=mode, sampler_name=sampler, **given)
        done = [step for step, _ in bars]
        assert done == sorted(done), given
        assert all(step <= total for step, total in bars), given
        if sampler in ("euler", "heun", "sa_solver_pece"):
            assert done[-1] == bars[-1][1], given
    assert previews
    assert all(previews)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"latent_image": {"samples": torch.zeros(3, 3, 16, 16)}},
            "The latent has 3 images, but 4 drafts are asked for",
        ),
        ({"latent_image": {"samples": torch.zeros(0, 3, 16, 16)}}, "The latent is empty"),
        ({"also_finish": "0"}, "also_finish must be numbers of drafts from 1 to 4"),
        ({"also_finish": "5"}, "also_finish must be numbers of drafts from 1 to 4"),
        ({"also_finish": "all"}, "got 'all'"),
        ({"also_finish": "1-3"}, "got '1-3'"),
        ({"also_finish": "²"}, "got '²'"),
        ({"positive": []}, "positive conditioning is empty"),
    ],
)
def test_wrong_inputs_get_one_sentence(run_node, hands, latent, given, says):
    inputs = {
        "model": hands.eps, "seed": 5, "drafts": 4, "keep": 2, "decide_at": 0.28, "positive": hands.positive,
        "negative": hands.negative, "latent_image": latent(1, 16), "steps": 8, "cfg": 2.0, "sampler_name": "euler",
        "scheduler": "normal", "denoise": 1.0, **given,
    }  # fmt: skip
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        run_node("ASCED_DraftAndPick", **inputs)


def test_video_with_audio_is_refused(drafted):
    try:
        from comfy.nested_tensor import NestedTensor
    except ImportError:  # in older ComfyUI versions there is none
        return
    nested = NestedTensor([torch.zeros(1, 4, 2, 8, 8), torch.zeros(1, 8, 4, 4)])
    with pytest.raises(ValueError, match="video with audio"):
        drafted(latent_image={"samples": nested})


@pytest.mark.parametrize("also", ["1,2", "2;1", " 2 1 2 ", "1\n2"])
def test_drafts_to_finish_may_be_written_in_any_way(drafted, also):
    whole, _, _ = drafted(keep=4, steps=4)
    best = drafted(keep=1, steps=4)[2]
    picked, _, places = drafted(keep=1, steps=4, also_finish=also)
    assert places == sorted({0, 1, *best})
    assert same(picked, whole, places)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_to_sample(drafted, mode):
    given = {"samples": torch.rand(4, 3, 16, 16)}
    picked, report, places = drafted(denoise=0.0, latent_image=given, at_once=mode)
    assert places == [0, 1, 2, 3]
    assert torch.equal(picked, given["samples"])
    assert "no step to sample" in report.summary()


def test_seeds_run_over_the_highest(run_node, hands, latent):
    out = run_node(
        "ASCED_DraftAndPick", model=hands.eps, seed=2**64 - 1, drafts=3, keep=3, decide_at=0.28,
        positive=hands.positive, negative=hands.negative, latent_image=latent(1, 16), steps=2, cfg=1.0,
        sampler_name="euler", scheduler="normal", denoise=1.0, at_once="one",
    )  # fmt: skip
    assert out[4] == f"{2**64 - 1}, 0, 1"
    assert out[2].run.seed == 2**64 - 1
