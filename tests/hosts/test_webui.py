"""ASCED in a Stable Diffusion WebUI, with a stand-in for the WebUI; see webui_standin/README.md."""

import importlib.util
import inspect
import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).resolve().parent / "webui_standin"
OURS = ("modules", "gradio", "k_sampling", "webui", "asced_core_of_webui", "asced_of_webui")
CORRECTED = {
    "Euler": "sample_euler",
    "Euler a": "sample_euler_ancestral",
    "Heun": "sample_heun",
    "DPM++ 2M": "sample_dpmpp_2m",
    "DPM++ 2M SDE": "sample_dpmpp_2m_sde",
}
NOT_WATCHED = {
    "DPM fast": ("sample_dpm_fast", "Not watched: sampler DPM fast makes its own steps"),
    "DDIM": ("ddim", "Not watched: sampler DDIM makes its own steps"),
}
ON = (True, 50, True, True)


def _forget():
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]


def _script_module():
    """The script, as a WebUI loads it."""
    spec = importlib.util.spec_from_file_location("asced_of_webui", ROOT / "scripts/asced.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def host(monkeypatch):
    """The stand-in's job, samplers and the script."""
    _forget()
    monkeypatch.syspath_prepend(str(STAND_IN))
    import k_sampling
    import webui

    module = _script_module()
    yield SimpleNamespace(Job=webui.Job, samplers=k_sampling, script=module.ASCED(), module=module, webui=webui)
    _forget()


@pytest.fixture
def both(host):
    """Runs a job without and with ASCED; returns both jobs, and what the one with ASCED showed."""

    def run(name="Euler a", args=ON, **more):
        function = getattr(host.samplers, {**CORRECTED, **{n: f for n, (f, _) in NOT_WATCHED.items()}}[name])
        stock, ours = (host.Job(function, name, **more) for _ in range(2))
        stock.run()
        return stock, ours, ours.run(host.script, *args)

    return run


def _equal(stock, ours):
    return [torch.equal(a, b) for a, b in zip(stock.latents, ours.latents, strict=True)]


@pytest.mark.parametrize("forge", [True, False], ids=["forge", "a1111"])
@pytest.mark.parametrize("name", CORRECTED)
def test_where_nothing_is_found_the_images_are_bit_identical(both, name, forge):
    stock, ours, shown = both(name, forge=forge)
    assert _equal(stock, ours) == [True, True]
    assert ours.calls == stock.calls
    assert [text["ASCED"] for text in shown.infotexts[:2]] == ["clean", "clean"]


@pytest.mark.parametrize("forge", [True, False], ids=["forge", "a1111"])
@pytest.mark.parametrize("name", CORRECTED)
def test_one_more_call_corrects_the_image_with_an_artifact_and_no_other(both, name, forge):
    stock, ours, shown = both(name, planted=(1,), forge=forge)
    assert _equal(stock, ours) == [True, False]
    assert ours.calls == stock.calls + 1
    assert shown.infotexts[0]["ASCED"] == "clean"
    assert shown.infotexts[1]["ASCED"].startswith("1 region, score ")
    assert shown.infotexts[1]["ASCED"].endswith(", corrected")


@pytest.mark.parametrize("name", NOT_WATCHED)
def test_a_sampler_that_is_not_watched_samples_as_before_and_the_image_says_why(both, name):
    stock, ours, shown = both(name, planted=(1,))
    assert _equal(stock, ours) == [True, True]
    assert ours.calls == stock.calls
    assert all(text["ASCED"].startswith(NOT_WATCHED[name][1]) for text in shown.infotexts[:2])


def test_a_sampler_that_writes_into_the_prediction_leaves_the_other_image_alone(host):
    stock, ours = (host.Job(host.samplers.sample_lcm, "LCM", planted=(1,)) for _ in range(2))
    stock.run()
    shown = ours.run(host.script, *ON)
    assert ours.calls == stock.calls + 1
    assert shown.infotexts[1]["ASCED"].endswith(", corrected")
    assert _equal(stock, ours)[0]


def test_restart_goes_back_after_the_correction_so_it_is_only_watched(host):
    stock, ours = (host.Job(host.samplers.restart_sampler, "Restart", planted=(1,)) for _ in range(2))
    stock.run()
    shown = ours.run(host.script, *ON)
    assert _equal(stock, ours) == [True, True]
    assert ours.calls == stock.calls
    assert shown.infotexts[1]["ASCED"].endswith(", not corrected")
    assert "Only watched: sampler Restart takes other steps when it starts in mid-run." in shown.comments


def test_a_sampler_that_goes_back_while_it_is_watched_is_not_watched(host):
    def back_early(model, x, sigmas, extra_args=None, callback=None, disable=None):
        return host.samplers.restart_sampler(model, x, sigmas, extra_args, callback, disable, 1.0, (0.3, 0.2))

    stock, ours = (host.Job(back_early, "Early", planted=(1,)) for _ in range(2))
    stock.run()
    shown = ours.run(host.script, *ON)
    assert _equal(stock, ours) == [True, True]
    assert shown.infotexts[1]["ASCED"] == "Not watched: sampler Early goes back to a higher noise level."


def test_prompt_editing_switches_at_the_same_call(both):
    prompt = [0.0] * 14 + [5.0]  # the prompt changes after the step of the correction
    stock, ours, _ = both(planted=(1,), prompt=prompt)
    assert _equal(stock, ours) == [True, False]
    assert ours.samplers[0].model_wrap_cfg.step == stock.samplers[0].model_wrap_cfg.step == 20


def test_inpainting_that_draws_noise_in_every_call_keeps_the_other_image(both):
    area = torch.zeros(4, 32, 32)
    area[:, :, :20] = 1
    stock, ours, _ = both("Euler", planted=(1,), area=area)
    assert _equal(stock, ours) == [True, False]
    differs = (stock.latents[1] != ours.latents[1]).any(0)
    assert differs.any()
    assert not differs[:, 20:].any()  # outside of what is inpainted


@pytest.mark.parametrize("source", ["CPU", "NV"])
def test_an_image_is_corrected_the_same_in_a_batch_and_alone(both, source):
    _, batch, _ = both(seeds=[4, 5, 6], planted=(1,), source=source)
    _, alone, _ = both(seeds=[5], planted=(0,), source=source)
    torch.testing.assert_close(batch.latents[1], alone.latents[0], rtol=0, atol=1e-5)


def test_variations_of_one_seed_are_corrected_with_noise_of_their_own(both):
    stock, ours, _ = both(seeds=[5, 5], planted=(0, 1), strength=0.3)
    assert torch.equal(*stock.latents)  # the stand-in starts them from the same noise
    assert not torch.equal(*ours.latents)


def test_both_passes_of_hires_fix_are_watched_and_each_has_its_own_report(both, tmp_path):
    stock, ours, shown = both("Euler", planted=(1,), hires=True, folder=tmp_path)
    assert _equal(stock, ours) == [True, False]
    assert ours.calls == stock.calls + 2
    assert shown.infotexts[1]["ASCED"].endswith(", corrected")
    assert shown.infotexts[1]["ASCED hires"].endswith(", corrected")
    assert "ASCED hires" in shown.infotexts[0]
    passes = json.loads((tmp_path / "00001-6.asced.json").read_text())["passes"]
    assert [one["pass"] for one in passes] == ["first", "hires"]
    assert [one["run"]["image_size"] for one in passes] == [[256, 256], [384, 384]]
    assert len(shown.images) == 2 + 4


@pytest.mark.parametrize("forge", [True, False], ids=["forge", "a1111"])
def test_each_image_of_a_batch_count_has_its_own_text_and_report(both, tmp_path, forge):
    _, _, shown = both(planted=(1,), count=3, folder=tmp_path, forge=forge)
    texts = [text["ASCED"].split(", ")[-1] for text in shown.infotexts[:6]]
    assert texts == ["clean", "corrected"] * 3
    found = sorted(tmp_path.glob("*.asced.json"))
    assert [file.name for file in found] == [f"{n:05}-{5 + n}.asced.json" for n in range(6)]
    report = json.loads(found[3].read_text())
    assert report["seed"] == 8
    assert report["passes"][0]["images"][0]["corrected"] is True
    assert len(report["passes"][0]["images"]) == 1


def test_masks_follow_the_images_in_the_gallery_when_asked(both):
    _, _, shown = both(planted=(1,))
    clean, marked = (np.asarray(image) for image in shown.images[2:])
    assert clean.shape == marked.shape == (256, 256)
    assert not clean.any()
    assert marked[5 * 8 + 4 : 10 * 8, 5 * 8 + 4 : 10 * 8].all()
    assert shown.infotexts[3].startswith("ASCED mask of seed 6: 1 region")
    _, _, without = both(planted=(1,), args=(True, 50, True, False))
    assert len(without.images) == 2


def test_without_correct_the_images_are_only_marked(both):
    stock, ours, shown = both(planted=(1,), args=(True, 50, False, False))
    assert _equal(stock, ours) == [True, True]
    assert ours.calls == stock.calls
    assert shown.infotexts[1]["ASCED"].endswith(", not corrected")


def test_switched_off_nothing_is_touched(both):
    stock, ours, shown = both(planted=(1,), args=(False, 50, True, True))
    assert _equal(stock, ours) == [True, True]
    assert shown.infotexts == [{}, {}]
    assert shown.comments == ""


def test_more_sensitivity_marks_what_less_does_not(both):
    regions = []
    for sensitivity in (0, 100):
        _, _, shown = both(planted=(1,), args=(True, sensitivity, False, False))
        regions.append("region" in shown.infotexts[1]["ASCED"])
    assert regions == [False, True]


@pytest.mark.parametrize("wrong", [-1, 101, "much", True])
def test_a_wrong_sensitivity_is_refused_in_one_sentence(host, wrong):
    with pytest.raises(ValueError, match=r"^The sensitivity of ASCED must be a number from 0 to 100, got .*\.$"):
        host.Job(host.samplers.sample_euler, "Euler").run(host.script, True, wrong, True, True)


@pytest.mark.parametrize("at", [3, 17], ids=["before the correction", "after it"])
def test_an_interrupted_run_leaves_nothing_behind(both, at):
    _, ours, _ = both(planted=(1,), interrupt_at=at)
    assert not any(thread.name.startswith("ASCED") for thread in threading.enumerate())
    assert ours.samplers[0].func is ours.function


def test_the_sampler_gets_its_function_back_and_the_options_it_asks_for(both, host):
    for name in (*CORRECTED, *NOT_WATCHED):
        stock, ours, _ = both(name)
        assert ours.samplers[0].func is ours.function
        assert ours.samplers[0].given == stock.samplers[0].given
    assert inspect.signature(ours.function) == inspect.signature(stock.function)


def test_a_sampler_that_is_never_called_gets_its_function_back(host):
    job = host.Job(host.samplers.sample_euler, "Euler")
    p = job._processing()
    p.seeds, p.subseeds, p.sampler = [5], [0], host.webui.Sampler(job)
    host.script.process(p, *ON)
    host.script.process_before_every_sampling(p, *ON)
    assert p.sampler.func is not job.function
    host.script.postprocess(p, SimpleNamespace(images=[], infotexts=[], comments=""), *ON)
    assert p.sampler.func is job.function


def test_a_sampler_with_a_loop_of_its_own_is_not_watched_and_the_image_says_so(host, monkeypatch):
    monkeypatch.setattr(host.webui.Sampler, "sample", lambda sampler, p, x, *_: x)
    shown = host.Job(host.samplers.sample_euler, "Own").run(host.script, *ON)
    assert shown.infotexts[0]["ASCED"] == "Not watched: sampler Own has its own sampling loop."
    assert len(shown.images) == 2


def test_with_churn_the_steps_are_not_those_of_the_schedule_so_the_run_is_not_watched(host):
    def churned(model, x, sigmas, extra_args=None, callback=None, disable=None):
        def raised(x, sigma, **options):
            return model(x, sigma * 1.02, **options)

        def told(report):
            callback({**report, "sigma_hat": report["sigma"] * 1.02})

        return host.samplers.sample_euler(raised, x, sigmas, extra_args, told)

    stock, ours = (host.Job(churned, "Euler", planted=(1,)) for _ in range(2))
    stock.run()
    shown = ours.run(host.script, *ON)
    assert _equal(stock, ours) == [True, True]
    assert shown.infotexts[1]["ASCED"] == (
        "Not watched: sampler Euler does not report its predictions at the noise levels of this run's steps."
    )


def test_a_flow_model_is_watched_on_its_own_levels(both):
    stock, ours, _ = both("Euler", planted=(1,), flow=True, late=0.62)
    assert _equal(stock, ours) == [True, False]
    assert ours.calls == stock.calls + 1


def test_a_model_that_answers_from_a_cache_is_not_corrected(both):
    stock, ours, shown = both("Euler", planted=(1,), cached=True)
    assert _equal(stock, ours) == [True, True]
    assert "answers from a cache" in shown.comments


def test_a_model_without_known_noise_levels_is_not_watched(both):
    stock, ours, shown = both("Euler", planted=(1,), forge=False, secret=True)
    assert _equal(stock, ours) == [True, True]
    assert shown.infotexts[1]["ASCED"] == "Not watched: the noise levels of this model are unknown."


def test_an_infotext_sets_the_controls_again(host):
    enabled, sensitivity, correct, masks = host.script.ui(False)
    fields = {id(component): key for component, key in host.script.infotext_fields}
    params = {"ASCED sensitivity": "70", "ASCED correct": "False"}
    assert fields[id(enabled)](params) is True
    assert fields[id(enabled)]({}) is False
    assert params[fields[id(sensitivity)]] == "70"
    assert params[fields[id(correct)]] == "False"
    assert id(masks) not in fields
    assert (enabled.value, sensitivity.value, correct.value, masks.value) == (False, 50, True, False)


def test_arguments_of_the_api_may_be_left_out(host):
    shown = host.Job(host.samplers.sample_euler, "Euler").run(host.script, True)
    assert [text["ASCED"] for text in shown.infotexts] == ["clean", "clean"]


def test_a_missing_package_is_named_in_one_sentence_and_the_webui_goes_on(host, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cv2", None)
    module = _script_module()
    said = capsys.readouterr().out
    assert said == "ASCED is off: this WebUI's Python has no cv2; install it with: pip install opencv-python-headless\n"
    assert module.ASCED().show(False) is False


def test_an_old_webui_is_told_what_is_needed_and_goes_on(host, monkeypatch, capsys):
    monkeypatch.delattr(sys.modules["modules.scripts"].Script, "process_before_every_sampling")
    module = _script_module()
    said = "ASCED is off: it needs AUTOMATIC1111 1.10 or newer, Forge or reForge; update this WebUI.\n"
    assert capsys.readouterr().out == said
    assert module.ASCED().show(False) is False


def test_the_core_of_the_webui_is_its_own_and_the_path_stays_as_it_was(host):
    before = list(sys.path)
    other = sys.modules.get("asced_core")
    module = _script_module()
    assert sys.path == before
    assert sys.modules.get("asced_core") is other
    assert module.core.__name__ == "asced_core_of_webui.hosts.webui"
    assert module.core is not host.module.core  # loaded anew, as after an update


def test_a_webui_loads_nothing_else_of_this_repository():
    """It looks for these names at the top of an extension."""
    looked_for = ("javascript", "style.css", "install.py", "preload.py", "metadata.ini", "localizations", "html")
    assert [name for name in looked_for if (ROOT / name).exists()] == []
    assert [file.name for file in (ROOT / "scripts").iterdir() if file.suffix == ".py"] == ["asced.py"]
