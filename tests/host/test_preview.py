"""What a run shows while it samples, through ComfyUI's own callback, progress bar and status text."""

from __future__ import annotations

import asyncio
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from .conftest import STEPS
from .models import ONSET, with_artifact

CLIENT = "a browser tab"


@pytest.fixture
def screen(host, monkeypatch):
    """What a client would see: ComfyUI's pictures by step, ours, and status texts by node; previews are on."""
    import comfy.utils
    from comfy.cli_args import LatentPreviewMethod, args
    from comfy_execution.graph import DynamicPrompt
    from comfy_execution.progress import ProgressHandler, get_progress_state, reset_progress_state
    from comfy_execution.utils import CurrentNodeContext

    seen = SimpleNamespace(frames=[], painted={}, texts=[], bars=0, settings={})

    class Screen(ProgressHandler):
        def update_handler(self, node_id, value, max_value, state, prompt_id, image=None):
            assert node_id == "7" and max_value == STEPS
            if image is not None:
                seen.painted[value - 1] = image

    reset_progress_state("prompt", DynamicPrompt({}))
    get_progress_state().register_handler(Screen("screen"))
    server = SimpleNamespace(
        client_id=CLIENT,
        sockets_metadata={CLIENT: {"feature_flags": {}}},
        send_progress_text=lambda text, node_id: seen.texts.append((node_id, text)),
    )
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=server)))
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)

    def hook(value, total, preview, node_id=None):
        seen.frames.append((value, total, preview))
        get_progress_state().update_progress("7", value, total)  # as the server does

    bar = comfy.utils.ProgressBar.__init__

    def count(self, *given, **options):
        seen.bars += 1
        bar(self, *given, **options)

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    monkeypatch.setattr(comfy.utils.ProgressBar, "__init__", count)
    seen.server, seen.args, seen.none = server, args, LatentPreviewMethod.NoPreviews
    with CurrentNodeContext("prompt", "7"):
        yield seen
    reset_progress_state("prompt", DynamicPrompt({}))


def _view_settings():
    return sys.modules["asced.nodes.page.preferences"]


def _pictures(screen):
    return [np.asarray(preview[1]).astype(int) for _, _, preview in screen.frames]


def test_pictures_and_status_texts_of_a_run(screen, hands, corrected, settings):
    model = with_artifact(hands.eps)
    samples, mask, report = corrected(model, settings=settings)
    texts = [text for node, text in screen.texts if node == "7"]
    first, last = report.window
    assert texts[0] == f"Watching starts at step {first + 1} of {STEPS}"
    assert texts[1:-1] == [f"Watching, step {step + 1} of {STEPS}" for step in range(first, last + 1)]
    assert texts[-1] == f"1 region, corrected at step {report.decision + 1}"
    # ComfyUI's own bar, one update per step, each with a picture
    assert screen.bars == 1
    assert [(value, total) for value, total, _ in screen.frames] == [(i + 1, STEPS) for i in range(STEPS)]
    assert all(kind == "JPEG" and side == screen.args.preview_size for _, _, (kind, _, side) in screen.frames)
    plain, painted = _pictures(screen), screen.painted
    appears = float(model.get_model_object("model_sampling").percent_to_sigma(ONSET))
    assert set(painted) == {step for step in range(STEPS) if report.sigmas[step] <= appears}
    for step, (kind, picture, side) in painted.items():
        assert kind == "JPEG" and side == screen.args.preview_size
        drawn, bare = np.asarray(picture).astype(int), plain[step]
        factor = drawn.shape[0] // bare.shape[0]
        changed = (drawn != bare.repeat(factor, 0).repeat(factor, 1)).any(-1)
        assert changed.any(), step
        if step >= report.decision:  # the kept region and its outline, nowhere else
            where = mask[0].numpy().repeat(changed.shape[0] // mask.shape[1], 0).repeat(
                changed.shape[1] // mask.shape[2], 1) > 0  # fmt: skip
            assert not (changed & ~where).any() and changed[where].mean() > 0.9
    screen.painted.clear()
    screen.server.sockets_metadata[CLIENT][_view_settings().KEY] = _view_settings().ViewSettings(live=False)
    assert torch.equal(samples, corrected(model, settings=settings)[0])
    assert not screen.painted


def test_any_sampler_with_a_patched_model_shows_it_too(screen, hands, stock, run_node, settings):
    patched = run_node("ASCED_ApplyToModel", model=with_artifact(hands.eps), **settings)[0]
    stock(patched, sampler="dpmpp_2m")
    assert screen.bars == 1 and len(screen.frames) == STEPS
    assert screen.texts[-1][0] == "7" and ", corrected at step " in screen.texts[-1][1]
    assert {np.asarray(p[1]).shape[0] for _, _, p in screen.frames} == {32}
    assert {np.asarray(p[1]).shape[0] for p in screen.painted.values()} == {256}  # enlarged for drawing


def test_the_denoised_output_of_custom_sampling_is_not_painted(screen, hands, run_node, core_node, latent, settings):
    def sample():
        model = with_artifact(hands.eps)
        noise = core_node("RandomNoise", noise_seed=3)[0]
        guider = core_node("CFGGuider", model=model, positive=hands.positive, negative=hands.negative, cfg=2.0)[0]
        sampler = core_node("KSamplerSelect", sampler_name="euler")[0]
        sigmas = core_node("BasicScheduler", model=model, scheduler="normal", steps=STEPS, denoise=1.0)[0]
        return run_node(
            "ASCED_SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas,
            latent_image=latent(), **settings,
        )  # fmt: skip

    shown = sample()
    assert len(screen.frames) == STEPS
    screen.args.preview_method = screen.none
    hidden = sample()
    for a, b in zip(shown[:2], hidden[:2], strict=True):
        assert torch.equal(a["samples"], b["samples"])


def test_the_progress_of_a_node_with_several_runs_is_kept(screen, hands, corrected, settings):
    """The bar is the sampler node's own, and a picture must not move it."""
    import comfy.utils
    from comfy_execution.progress import get_progress_state

    comfy.utils.PROGRESS_BAR_HOOK = lambda *_, **__: get_progress_state().update_progress("7", 1, STEPS)
    corrected(with_artifact(hands.eps), settings=settings)
    assert set(screen.painted) == {0}


def test_with_previews_off_a_run_reads_nothing_for_them(screen, hands, corrected, settings, monkeypatch):
    live = sys.modules["asced.nodes.page.preview"]
    monkeypatch.setattr(live, "marked_so_far", lambda *_: pytest.fail("read without a preview to paint"))
    screen.args.preview_method = screen.none
    corrected(with_artifact(hands.eps), settings=settings)
    assert [preview for _, _, preview in screen.frames] == [None] * STEPS and not screen.painted


def test_final_latents_are_the_same_with_and_without_previews(screen, hands, stock, corrected, settings):
    for model in (hands.eps, with_artifact(hands.eps)):
        screen.args.preview_method = screen.none
        bare = corrected(model, settings=settings)[0]
        screen.args.preview_method = type(screen.none).Latent2RGB
        assert torch.equal(corrected(model, settings=settings)[0], bare)
    assert torch.equal(corrected(hands.eps, settings=settings)[0], stock(hands.eps))


@pytest.mark.parametrize("preview", [None, b"bytes", ("JPEG", b"bytes", 512)])
def test_a_previewer_of_another_pack_without_a_picture_is_left_alone(
    screen, hands, corrected, settings, monkeypatch, preview
):
    import latent_preview

    class Silent:
        def decode_latent_to_preview_image(self, kind, x0):
            return preview

    monkeypatch.setattr(latent_preview, "get_previewer", lambda *_: Silent())
    assert corrected(with_artifact(hands.eps), settings=settings)[2].images[0].corrected
    assert not screen.painted


def test_color_and_opacity_are_the_clients(screen, hands):
    view = _view_settings()
    live = sys.modules["asced.nodes.page.preview"]
    screen.server.sockets_metadata[CLIENT][view.KEY] = view.read_settings(
        {"live": True, "color": "#0072b2", "opacity": 1}
    )
    run = SimpleNamespace(detections=[SimpleNamespace(mask=np.ones((4, 4), bool))],
                          schedule=SimpleNamespace(steps=STEPS))  # fmt: skip
    live.Preview(hands.eps).paint(run, 3, torch.zeros(1, 3, 4, 4))
    assert (np.asarray(screen.painted[3][1]) == (0x00, 0x72, 0xB2)).all()


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ([], "live must be true or false, got None."),
        ({"live": 1, "color": "#ff4000", "opacity": 0.4}, "live must be true or false, got 1."),
        (
            {"live": True, "color": "red", "opacity": 0.4},
            "color must be # and six hexadecimal digits, such as #ff4000, got 'red'.",
        ),
        ({"live": True, "color": "#ff4000", "opacity": 2}, "opacity must be a number between 0 and 1, got 2."),
        ({"live": True, "color": "#ff4000", "opacity": True}, "opacity must be a number between 0 and 1, got True."),
    ],
)
def test_invalid_settings_get_one_clear_error(pack, sent, sentence):
    with pytest.raises(ValueError, match=sentence.replace(".", r"\.")):
        _view_settings().read_settings(sent)


def test_the_route_keeps_each_clients_settings_apart(screen):
    view, handlers = _view_settings(), {}
    screen.server.routes = SimpleNamespace(post=lambda path: lambda f: handlers.setdefault(path, f))
    screen.server.sockets_metadata["another"] = {}
    view.add_route()

    def post(body):
        async def text():
            return json.loads(body)

        answer = asyncio.run(handlers[view.ROUTE](SimpleNamespace(json=text)))
        return answer.status, json.loads(answer.text)

    good = {"live": False, "color": "#ff4000", "opacity": 0.5}
    assert post(json.dumps({**good, "client_id": "another"})) == (200, {})
    assert view.settings_of_client().live
    screen.server.client_id = "another"
    assert view.settings_of_client() == view.ViewSettings(False, (255, 64, 0), 0.5)
    assert post(json.dumps({**good, "client_id": "nobody"}))[0] == 404
    assert post("{")[0] == 400
    assert "opacity" in post(json.dumps({**good, "opacity": "x"}))[1]["error"]
