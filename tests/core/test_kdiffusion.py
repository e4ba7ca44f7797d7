"""Two runs of one sampler in step, with a toy sampler and a toy model, without ComfyUI."""

from __future__ import annotations

import threading

import pytest
import torch

from asced_core.kdiffusion import GlobalGenerators, NoiseTape, SecondRun, Stopwatch, WatchedModel

CPU = torch.device("cpu")


def _sampler(model, x, sigmas, callback=None, disable=None, noise_sampler=None, calls=1):
    """Keeps its last prediction, as multistep samplers do, and draws noise."""
    former = None
    for i, sigma in enumerate(sigmas[:-1]):
        for _ in range(calls):
            denoised = model(x, sigma)
        callback({"i": i})
        slope = denoised if former is None else 1.5 * denoised - 0.5 * former
        x = x + (slope - x) * 0.3
        if noise_sampler:
            x = x + 0.01 * noise_sampler(sigma, sigmas[i + 1])
        former = denoised
    return x


def _model(x, sigma):
    return torch.tanh(x) * sigma


def _answer(asked):
    return _model(asked.x, asked.sigma)


def _watched(model=_model, tape=None):
    return WatchedModel(model, Stopwatch(CPU), GlobalGenerators(CPU), tape)


def _steps(calls=1, edit=4.0, model=_model, noise=False, separate=False, joins=False):
    """A minimal caller: two images, the second one corrected by adding ``edit`` at step 2.

    With ``joins``, that is done before the model is called there, and no call is added.
    """
    generator = torch.Generator().manual_seed(1)
    tape = NoiseTape()
    source = (lambda *_: torch.randn(2, 1, 2, 2, generator=generator)) if noise else None
    watched = _watched(model, tape)
    sigmas = torch.linspace(1, 0, 7)

    def second(x, drawn):
        changed = x.clone()
        changed[1] += edit
        replay = tape.replay(drawn)
        options = {"calls": calls}
        if source:
            options["noise_sampler"] = replay.source(source, x)
        return SecondRun(_sampler, watched, changed, sigmas[2:].clone(), options, replay)

    def join(asked):
        watched.join(second(asked.x, tape.position), asked.x, [False, True], GlobalGenerators(CPU))

    def on_step(info):
        with tape.paused():
            if info["i"] == 1 and joins:
                watched.before_next = join
            if info["i"] == 2 and edit is not None and not joins:
                call = watched.step[-1]
                run = second(call.x, call.drawn)
                watched.follow(run, call, [False, True], GlobalGenerators(CPU), separate=separate)
            watched.next_step()
            tape.next_step()

    x = torch.arange(8.0).reshape(2, 1, 2, 2) / 8
    try:
        with tape:
            recorded = tape.source(source) if source else None
            out = _sampler(watched, x, sigmas, callback=on_step, calls=calls, noise_sampler=recorded)
        return watched.merge(out), watched.calls
    finally:
        watched.close()
        assert not any("ASCED" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("noise", [False, True])
def test_a_run_that_joins_before_the_call_costs_none_and_ends_the_same(noise):
    plain, count = _steps(edit=None, noise=noise)
    followed, more = _steps(noise=noise)
    joined, same = _steps(noise=noise, joins=True)
    assert (more, same) == (count + 1, count)
    assert torch.equal(joined, followed) and torch.equal(joined[0], plain[0]) and not torch.equal(joined[1], plain[1])


@pytest.mark.parametrize("calls", [1, 2, 3])
@pytest.mark.parametrize("noise", [False, True])
def test_the_uncorrected_image_stays_bit_identical_and_keeps_its_history(calls, noise):
    plain, count = _steps(calls, edit=None, noise=noise)
    corrected, more = _steps(calls, noise=noise)
    assert torch.equal(corrected[0], plain[0])
    assert not torch.equal(corrected[1], plain[1])
    assert more - count == calls  # the corrected run's first step


def test_the_corrected_image_equals_a_run_from_its_state():
    states = []

    def recording(x, sigma):
        states.append(x.clone())
        return _model(x, sigma)

    _steps(edit=None, model=recording)
    start = states[2].clone()
    start[1] += 4.0
    expected = _sampler(_model, start, torch.linspace(1, 0, 7)[2:], callback=lambda _: None)
    assert torch.equal(_steps()[0][1], expected[1])


def test_a_second_run_without_an_edit_only_differs_by_its_lost_history():
    plain = _steps(edit=None, noise=True)[0]
    same = _steps(edit=0.0, noise=True)[0]
    assert torch.equal(same[0], plain[0])
    assert 0 < (same[1] - plain[1]).abs().max() < 0.2


@pytest.mark.parametrize("when", [3, 4, 6])
def test_an_error_of_the_model_ends_both_runs(when):
    count = [0]

    def failing(x, sigma):
        count[0] += 1
        if count[0] > when:
            raise RuntimeError("model failed")
        return _model(x, sigma)

    with pytest.raises(RuntimeError, match="model failed"):
        _steps(model=failing)


def test_an_error_in_the_second_run_is_raised_in_the_first():
    def failing(x, sigma):
        if threading.current_thread() is not threading.main_thread():
            raise AssertionError("the model was called from a thread")
        return _model(x, sigma)

    assert _steps(model=failing)[0].isfinite().all()

    def broken(model, x, sigmas, callback=None, disable=None):
        raise ValueError("sampler failed")

    second = SecondRun(broken, _model, torch.zeros(1, 1, 2, 2), torch.linspace(1, 0, 3), {})
    with pytest.raises(ValueError, match="sampler failed"):
        second.first_step(_answer)
    second.close()


def test_a_second_run_with_more_calls_is_finished_separately():
    """It makes more calls than the first run: none is lost, and nothing hangs."""

    def longer(model, x, sigmas, callback=None, disable=None):
        for i in range(9):
            x = model(x, sigmas[0])
            callback({"i": i})
        return x

    second = SecondRun(longer, _model, torch.ones(1, 1, 2, 2), torch.linspace(1, 0, 3), {})
    second.first_step(_answer)
    out, expected = second.result(_answer), torch.ones(1, 1, 2, 2)
    for _ in range(9):
        expected = torch.tanh(expected)
    assert torch.equal(out, expected)
    second.close()


def test_a_sampler_sees_and_changes_the_model_itself():
    class Inpainting:
        noise = 1

        def __call__(self, x, sigma):
            return x * self.noise

    model = Inpainting()
    watched = _watched(model)
    assert isinstance(watched, Inpainting) and watched.noise == 1
    watched.noise = 3
    assert model.noise == 3 and float(watched(torch.ones(1, 1, 1, 1), torch.ones(1))) == 3
    assert watched.calls == 1 and not hasattr(model, "calls")


def test_a_run_at_other_noise_levels_is_noticed():
    sigmas = torch.linspace(1, 0, 7)
    for shift, out_of_step in ((0, False), (1, True)):
        watched = _watched()
        watched(torch.ones(2, 1, 2, 2), sigmas[0])
        second = SecondRun(_sampler, watched, torch.ones(2, 1, 2, 2), sigmas[shift:].clone(), {})
        watched.follow(second, watched.step[-1], [True, False], GlobalGenerators(CPU))
        for sigma in sigmas[1:4]:
            watched(torch.ones(2, 1, 2, 2), sigma)
        assert bool(watched.out_of_step) == out_of_step
        watched.close()
