"""The nodes as a graph uses them: settings, patched models, views, invalid inputs."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from .models import with_artifact

SNAPSHOT = Path(__file__).with_name("schema.json")


@pytest.fixture
def applied(hands, run_node, detection):
    """A model with an artifact in image 0, patched by ASCED_ApplyToModel."""
    return run_node("ASCED_ApplyToModel", model=with_artifact(hands.eps), detection=detection())


def _schema(pack):
    out = {}
    for node_id, cls in sorted(pack.items()):
        info = cls.GET_NODE_INFO_V1()
        inputs = []
        for kind in ("required", "optional"):
            for name, spec in info["input"].get(kind, {}).items():
                sort = "COMBO" if isinstance(spec[0], list) else str(spec[0])
                default = spec[1].get("default") if len(spec) > 1 else None
                inputs.append([name, sort, kind, default])
        out[node_id] = {
            "inputs": inputs,
            "outputs": list(zip(map(str, info["output"]), info["output_name"], strict=True)),
        }
    return json.loads(json.dumps(out))


def test_ids_names_order_and_defaults_are_unchanged(pack):
    """Saved workflows store widget values by position: new inputs go last, and old ones stay.

    ``ASCED_WRITE_SCHEMA=1`` rewrites the snapshot; review the diff before committing it.
    """
    if os.environ.get("ASCED_WRITE_SCHEMA"):
        SNAPSHOT.write_text(json.dumps(_schema(pack), indent=1) + "\n", encoding="utf-8")
    assert _schema(pack) == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def test_every_input_and_output_is_explained(pack):
    for node_id, cls in pack.items():
        schema = cls.define_schema()
        assert schema.description and schema.category.startswith("ASCED"), node_id
        for socket in [*schema.inputs, *schema.outputs]:
            assert socket.tooltip and socket.tooltip.endswith((".", ")")), (node_id, socket.id)


def test_every_node_has_a_help_page(pack):
    docs = Path(__file__).resolve().parents[2] / "web" / "docs"
    assert sorted(path.stem for path in docs.glob("*.md")) == sorted(pack)


def test_default_widgets_equal_no_settings_node(pack, hands, corrected, run_node):
    widgets = {}
    for node_id in ("ASCED_Detection", "ASCED_Correction"):
        inputs = pack[node_id].GET_NODE_INFO_V1()["input"]["optional"]
        widgets[node_id] = {name: spec[1]["default"] for name, spec in inputs.items() if "default" in spec[1]}
    settings = {
        "detection": run_node("ASCED_Detection", **widgets["ASCED_Detection"])[0],
        "correction": run_node("ASCED_Correction", **widgets["ASCED_Correction"])[0],
    }
    with_nodes, without = corrected(settings=settings), corrected()
    assert torch.equal(with_nodes[0], without[0])
    assert with_nodes[2].detection == without[2].detection and with_nodes[2].correction == without[2].correction


def test_patched_model_and_collected_run_equal_the_sampler_node(hands, applied, stock, corrected, run_node, detection):
    model, run = applied
    sampled = stock(model)
    latent, mask, report, *_ = run_node("ASCED_CollectRun", samples={"samples": sampled}, run=run)
    direct = corrected(with_artifact(hands.eps), settings={"detection": detection()})
    assert torch.equal(sampled, direct[0]) and torch.equal(mask, direct[1])
    assert latent["samples"] is sampled
    assert report.images == direct[2].images


def test_one_patched_model_through_two_samplers_gives_each_its_own_mask(applied, stock, run_node):
    model, run = applied
    small, large = stock(model), stock(model, steps=15, side=48, seed=4, batch=3, sampler="dpmpp_2m")
    for sampled, side, batch, steps in ((large, 48, 3, 15), (small, 32, 2, 12)):
        _, mask, report, *_ = run_node("ASCED_CollectRun", samples={"samples": sampled}, run=run)
        assert mask.shape == (batch, side, side) and report.steps == steps


def test_a_cached_latent_still_finds_its_run(applied, stock, run_node):
    """ComfyUI returns an old latent from its cache after newer runs of the same model."""
    model, run = applied
    old = stock(model, seed=1)
    masks = run_node("ASCED_CollectRun", samples={"samples": old}, run=run)[1]
    for seed in range(2, 6):
        stock(model, seed=seed)
    again = run_node("ASCED_CollectRun", samples={"samples": old.clone()}, run=run)[1]
    assert torch.equal(again, masks)


def test_run_log_forgets_the_oldest(hands):
    from asced.nodes.sampling.run_log import KEPT, RunLog

    log = RunLog()
    for i in range(KEPT + 1):
        log.put(torch.full((1, 3, 2, 2), float(i)), i)
    assert log.get(torch.full((1, 3, 2, 2), float(KEPT))) == (KEPT, None)
    with pytest.raises(ValueError, match="did not come from"):
        log.get(torch.zeros(1, 3, 2, 2))


def test_a_latent_of_another_sampler_is_refused(applied, stock, run_node):
    _, run = applied
    with pytest.raises(ValueError, match="did not come from a sampler that used the MODEL of this RUN"):
        run_node("ASCED_CollectRun", samples={"samples": stock()}, run=run)


def test_patched_twice_the_last_one_counts(hands, applied, stock, run_node, detection):
    model, first_run = applied
    blind = detection(min_area=60000, max_area=65536)
    twice, run = run_node("ASCED_ApplyToModel", model=model, detection=blind)
    sampled = stock(twice)
    report = run_node("ASCED_CollectRun", samples={"samples": sampled}, run=run)[2]
    assert not report.images[0].flagged
    assert torch.equal(sampled, stock(with_artifact(hands.eps)))
    with pytest.raises(ValueError, match="did not come from"):
        run_node("ASCED_CollectRun", samples={"samples": sampled}, run=first_run)
    assert stock(model).isfinite().all()  # the first patch is unchanged


def test_comfyui_custom_sampling_is_corrected_too(hands, applied, latent, run_node):
    """A ComfyUI guider with the patched model, as in SamplerCustomAdvanced."""
    import comfy.sample
    import comfy.samplers

    model, run = applied
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(hands.positive, hands.negative)
    guider.set_cfg(2.0)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "karras", 14)
    empty = torch.zeros(2, 3, 32, 32)
    noise = comfy.sample.prepare_noise(empty, 3)
    sampler = comfy.samplers.sampler_object("heun")
    sampled = guider.sample(noise, empty, sampler, sigmas, disable_pbar=True, seed=3)
    report = run_node("ASCED_CollectRun", samples={"samples": sampled}, run=run)[2]
    assert report.images[0].corrected and report.run.sampler == "heun"


def test_mask_preview_returns_masks_at_image_size_and_a_summary(corrected, hands, pack, detection):

    _, mask, report = corrected(with_artifact(hands.eps), settings={"detection": detection()})
    cls = pack["ASCED_MaskPreview"]
    cls.hidden = SimpleNamespace(unique_id="1", prompt=None, extra_pnginfo=None)
    out = cls.execute(report=report)
    image, shown = out.args
    assert torch.equal(shown, mask) and image.shape == (*mask.shape, 3)
    assert len(out.ui["images"]) == 2
    sent = json.loads(out.ui["asced_report"][0])
    assert sent["images"][0]["flagged"] and sent["summary"] == report.summary()
    odd = cls.execute(report=report, image=torch.zeros(2, 77, 131, 3)).args[1]
    assert odd.shape == (2, 77, 131) and odd[0].any() and not odd[1].any()


def test_mask_preview_excludes_regions_and_reports_unknown_ones(corrected, hands, run_node, monkeypatch, detection):
    from asced.nodes.page import status

    texts = []
    monkeypatch.setattr(status, "announce", lambda _, text: texts.append(text))
    model = with_artifact(hands.eps, images=(0, 1))
    _, mask, report = corrected(model, settings={"detection": detection()})
    assert [len(image.regions) for image in report.images] == [1, 1]
    out = run_node("ASCED_MaskPreview", report=report, exclude="2:1, 1:7")[1]
    assert torch.equal(out[0], mask[0]) and not out[1].any()
    assert texts[-1] == f"{report.summary()} There is no region 1:7 to exclude."
    with pytest.raises(ValueError, match="exclude contains '1', but expects image:region"):
        run_node("ASCED_MaskPreview", report=report, exclude="1")


def test_mask_preview_sends_pictures_and_facts_to_its_panel(corrected, hands, run_node, pack, detection):

    import folder_paths
    from PIL import Image

    def opened(file):
        assert file["type"] == "temp"
        return Image.open(os.path.join(folder_paths.get_temp_directory(), file["subfolder"], file["filename"]))

    def size(file):
        with opened(file) as made:
            return made.size

    latent, _, report = corrected(with_artifact(hands.eps), settings={"detection": detection()})
    cls = pack["ASCED_MaskPreview"]
    cls.hidden = SimpleNamespace(unique_id="1", prompt=None, extra_pnginfo=None)
    image = torch.nn.functional.interpolate(hands.vae.decode(latent).movedim(-1, 1), size=(600, 1200)).movedim(1, -1)
    for given, expected in ((image, (512, 256)), (None, (32, 32))):
        (panel,) = cls.execute(report=report, image=given).ui["asced_panel"]
        panel = json.loads(json.dumps(panel))
        assert (panel["steps"], panel["window"], panel["decision"]) == (12, list(report.window), report.decision)
        assert panel["aspect"] == 1.0 and panel["corrected_steps"] == list(report.corrected_steps)
        flagged, clean = panel["images"]
        assert (len(flagged["regions"]), len(clean["regions"])) == (1, 0)
        box = flagged["regions"][0]["box"]
        assert [round(edge * 32) for edge in box] == list(report.images[0].regions[0].box)
        height, width = panel["size"]
        assert (height, width) == ((600, 1200) if given is image else report.size)
        numbers = re.findall(r"([\d.]+),([\d.]+)", flagged["regions"][0]["outline"])
        for side, whole, near, far in ((0, width, box[0], box[2]), (1, height, box[1], box[3])):
            ends = sorted(float(point[side]) / whole for point in numbers)
            assert abs(ends[0] - near) < 0.01 and abs(ends[-1] - far) < 0.01
        for shown in (flagged, clean):
            assert size(shown["picture"]) == expected
            assert size(shown["strip"]) == (32 * len(shown["timeline"]["mean"]), 32)
            assert (shown["editable"] is None) == (given is None)
    masks = cls.execute(report=report, image=image).args[1]
    (panel,) = cls.execute(report=report, image=image).ui["asced_panel"]
    for place, shown in enumerate(panel["images"]):  # for the mask editor: as Load Image reads it
        with opened(shown["editable"]) as made:
            pixels = np.asarray(made)
        assert pixels.shape == (600, 1200, 4) and (pixels[..., 3] == np.where(masks[place] > 0.5, 0, 255)).all()
        assert np.array_equal(pixels[..., :3], (image[place] * 255).clamp(0, 255).byte().numpy())
    none = run_node("ASCED_KSampler", model=hands.eps, seed=1, steps=2, cfg=2.0, sampler_name="euler",
                    scheduler="normal", positive=hands.positive, negative=hands.negative,
                    latent_image={"samples": torch.zeros(1, 4, 16, 16)}, denoise=1.0)[2]  # fmt: skip
    (panel,) = cls.execute(report=none).ui["asced_panel"]
    assert panel["decision"] is None and panel["images"][0]["strip"] is None and panel["trace_steps"] == []


def test_overlay_and_dynamics_are_images(corrected, hands, run_node, detection):
    latent, _, report = corrected(with_artifact(hands.eps), settings={"detection": detection()})
    pixels = hands.vae.decode(latent)
    drawn, mask = run_node("ASCED_Overlay", report=report, image=pixels, opacity=0.5)
    assert drawn.shape == (2, 256, 256, 3) and drawn.min() >= 0 and drawn.max() <= 1
    enlarged = pixels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert (drawn[1] - enlarged[1]).abs().max() < 0.01  # no region, no change
    assert (drawn[0] - enlarged[0]).abs().max() > 0.1
    assert mask.shape == (2, 32, 32)
    by_score, first = (run_node("ASCED_Dynamics", report=report, index=i)[0] for i in (-1, 1))
    assert torch.equal(by_score, first) and by_score.ndim == 4
    with pytest.raises(ValueError, match="no image 5"):
        run_node("ASCED_Dynamics", report=report, index=5)
    with pytest.raises(ValueError, match=r"covers 2 images, but 3 are connected"):
        run_node("ASCED_Overlay", report=report, image=torch.zeros(3, 32, 32, 3), opacity=0.5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"latent_image": {"samples": torch.zeros(0, 4, 32, 32)}}, "latent is empty"),
        ({"latent_image": {}}, "latent is empty"),
        ({"positive": []}, "positive conditioning is empty"),
        ({"negative": []}, "negative conditioning is empty"),
    ],
)
def test_invalid_inputs_get_one_clear_error(hands, latent, run_node, corrected, change, sentence):
    inputs = {
        "model": hands.eps, "seed": 1, "steps": 12, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal",
        "positive": hands.positive, "negative": hands.negative, "latent_image": latent(1), "denoise": 1.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match=sentence) as error:
        run_node("ASCED_KSampler", **{**inputs, **change})
    assert "\n" not in str(error.value)
    assert run_node("ASCED_KSampler", **inputs)[0]["samples"].isfinite().all()


def test_settings_out_of_range_get_one_clear_error(detection):
    with pytest.raises(ValueError, match="must be smaller than end_percent"):
        detection(start_percent=0.6, end_percent=0.5)
    with pytest.raises(ValueError, match="must be smaller than max_area"):
        detection(min_area=200, max_area=100)


def test_packed_latents_pass_through_with_one_sentence(hands):
    """No audio model is in this suite: the wrapper itself is called, with the shape of a packed latent."""
    import comfy.samplers
    from asced.nodes.sampling.options import CorrectionOptions, DetectionOptions
    from asced.nodes.sampling.patch import KEY, patch_model
    from comfy.patcher_extension import WrappersMP

    reports, noise = [], torch.ones(1, 1, 96)
    patched = patch_model(hands.eps, DetectionOptions(), CorrectionOptions(), lambda *run: reports.append(run[1]))
    ((watch,),) = [found for key, found in patched.wrappers[WrappersMP.SAMPLER_SAMPLE].items() if key == KEY]
    sampler = comfy.samplers.sampler_object("euler")
    function = sampler.sampler_function

    class Executor:
        class_obj = sampler

        def __call__(self, guider, sigmas, extra_args, callback, noise):
            assert sampler.sampler_function is function and callback is None
            return noise

    guider = SimpleNamespace(
        model_patcher=patched, inner_model=SimpleNamespace(process_latent_out=lambda samples: samples)
    )
    assert watch(Executor(), guider, torch.tensor([2.0, 1.0, 0.0]), {}, None, noise) is noise
    (report,) = reports
    assert "3 dimensions" in report.summary() and report.masks.shape == (1, 1, 1)


def test_the_demo_model_shows_the_requested_digit(hands, host, run_node):
    """Images differ more between digits than between guidance scales of one digit."""
    empty = {"samples": torch.zeros(2, 4, 64, 64)}

    def sample(digit, cfg):
        model, _, positive, negative = run_node("ASCED_DemoModel", digit=digit)
        return host.common_ksampler(model, 0, 8, cfg, "euler", "normal", positive, negative, empty)[0]["samples"]

    five, zero, guided = sample("5", 1.0), sample("0", 1.0), sample("5", 1.5)
    assert (five - zero).abs().mean() > (five - guided).abs().mean() > 0


@pytest.mark.parametrize("load", ["load_pixel_model", "load_latent_model"])
def test_loading_a_demo_model_leaves_the_global_rng_alone(pack, load):
    from asced.nodes import hand_models

    state = torch.get_rng_state()
    getattr(hand_models, load)()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("load", ["load_pixel_model", "load_latent_model"])
def test_a_demo_model_is_copied_to_another_device_with_weights_of_its_own(pack, host, load):
    """What ComfyUI's multi-GPU nodes do; versions that lack them make a clone, which shares the weights."""
    from asced.nodes import hand_models

    model, vae = getattr(hand_models, load)()
    model.model_options["mark"] = 5
    has_copies = hasattr(model, "deepclone_multigpu")
    patchers = [patcher for patcher in (model, getattr(vae, "patcher", None)) if patcher]
    copies = [p.deepclone_multigpu(new_load_device=p.load_device) if has_copies else p.clone() for p in patchers]
    for patcher, copied in zip(patchers, copies, strict=True):
        assert (patcher.model is copied.model) is not has_copies
        assert patcher.model.state_dict().keys() == copied.model.state_dict().keys()
    copied = copies[0]
    assert copied.model_options["mark"] == 5

    def sample(patcher):
        channels = patcher.get_model_object("latent_format").latent_channels
        prompts = (hand_models.conditioning([5]), hand_models.conditioning([0]))
        empty = {"samples": torch.zeros(1, channels, 16, 16)}
        return host.common_ksampler(patcher, 0, 3, 2.0, "euler", "normal", *prompts, empty)[0]["samples"]

    expected = sample(model)
    assert torch.equal(sample(copied), expected)
    if has_copies:
        for parameter in model.model.parameters():
            parameter.requires_grad_(False).zero_()
        assert torch.equal(sample(copied), expected)


def test_every_node_has_search_aliases_if_comfyui_supports_them(pack, monkeypatch):
    from comfy_api.latest import io

    if "search_aliases" not in io.Schema.__dataclass_fields__:  # an older ComfyUI: its schema with the newer field
        for node in pack.values():
            assert not hasattr(node.define_schema(), "search_aliases")
        field = ("search_aliases", list, dataclasses.field(default_factory=list))
        monkeypatch.setattr(io, "Schema", dataclasses.make_dataclass("Schema", [field], bases=(io.Schema,)))
    for node in pack.values():
        schema = node.define_schema()
        aliases = schema.search_aliases
        assert len(aliases) >= 2 and len(set(aliases)) == len(aliases), schema.node_id
        assert all(alias == alias.lower() for alias in aliases), aliases


def test_each_in_turn_gives_the_images_of_a_batch_all_digits(hands, run_node):
    label = run_node("ASCED_DemoModel", digit="each in turn")[2][0][1]
    assert next(iter(label.values())).tolist() == list(range(10))


def test_noise_levels_equal_comfyuis(hands):
    """Levels measured on ComfyUI's noise scaling against the formulas; percents against the core's schedule."""
    from asced.asced_core import edm_level, flow_level
    from asced.asced_core.noise import DiscreteSchedule
    from asced.demo.hand_unet import alphas_cumprod
    from asced.nodes.sampling.plan import noise_level

    eps, flow = (m.get_model_object("model_sampling") for m in (hands.eps, hands.flow))
    for sigma in (0.1, 0.5, 0.9):
        assert _close(noise_level(eps, sigma), edm_level(sigma))
        assert _close(noise_level(flow, sigma), flow_level(sigma))
    ours = DiscreteSchedule.from_alphas_cumprod(alphas_cumprod().tolist())
    for percent in (0.2, 0.5, 0.8):
        assert ours.percent_to_sigma(percent) == pytest.approx(eps.percent_to_sigma(percent), rel=1e-4)


def _close(a, b):
    return a.alpha == pytest.approx(b.alpha, abs=1e-6) and a.sigma == pytest.approx(b.sigma, abs=1e-6)
