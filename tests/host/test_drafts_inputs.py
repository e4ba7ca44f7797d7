"""Drafts of everything that a graph may hold: each finished image is the one that its own inputs make."""

from __future__ import annotations

import pytest
import torch

from .conftest import BLIND
from .drafts import MODES, around, row_by_row, same
from .families import FAMILIES, is_known, load_family
from .models import text, tiny_controlnet, tiny_unet


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def holds(drafted):
    """Checks that each finished draft is the image of the whole run, in both modes; bit for bit if ``exact``."""

    def check(model=None, exact=False, **inputs):
        whole = drafted(model, keep=4, **inputs)[0]
        for mode in MODES:
            picked, _, places = drafted(model, at_once=mode, **inputs)
            assert len(picked) == len(places) == 2
            assert torch.equal(picked, whole[places]) if exact else same(picked, whole, places), mode
        return whole

    return check


def _text(rows: int) -> object:
    return [[noise(rows, 4, 16, seed=3), {}]]


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_prompts_for_each_image(holds, hands, rows):
    whole = holds(row_by_row(tiny_unet(hands.eps)), exact=True, positive=_text(rows), negative=text(seed=1))
    assert not torch.equal(whole[0], whole[1])


@pytest.mark.parametrize("kind", ["area", "mask", "mask for each", "part of the run"])
def test_several_prompts_in_one_image(holds, hands, core_node, kind):
    if kind == "area":
        more = core_node(
            "ConditioningSetArea", conditioning=hands.positive, width=64, height=64, x=64, y=0, strength=0.8
        )[0]
    elif kind == "part of the run":
        more = core_node("ConditioningSetTimestepRange", conditioning=hands.positive, start=0.0, end=0.5)[0]
    else:
        mask = (noise(4, 16, 16, seed=2) > 0).float() if kind == "mask for each" else torch.ones(1, 16, 16).tril()
        more = core_node(
            "ConditioningSetMask", conditioning=hands.positive, mask=mask, strength=1.0, set_cond_area="default"
        )[0]
    holds(row_by_row(hands.eps), exact=True, positive=[*hands.positive, *more])


@pytest.mark.parametrize("masks", [1, 4])
def test_inpainting_with_one_mask_or_one_for_each(holds, hands, masks):
    mask = (noise(masks, 16, 16, seed=2) > 0).float()
    whole = holds(row_by_row(hands.eps), exact=True, latent_image={"samples": noise(4, 3, 16, 16), "noise_mask": mask})
    assert not torch.equal(whole[0], whole[1])


def test_one_image_with_a_mask_for_each_draft(holds, hands):
    mask = (noise(4, 16, 16, seed=2) > 0).float()
    holds(row_by_row(hands.eps), exact=True, latent_image={"samples": noise(1, 3, 16, 16), "noise_mask": mask})


@pytest.mark.parametrize("count", [1, 4])
def test_an_image_for_each_draft_in_image_to_image(holds, hands, count):
    latents = {"samples": noise(count, 3, 16, 16) / 3}
    holds(row_by_row(hands.eps), exact=True, latent_image=latents, denoise=0.6)


def test_guides_that_are_tensors_in_a_list_belong_to_their_image(drafted, hands):
    """Such as reference latents: ComfyUI gives the n-th image the n-th row of each."""
    import comfy.conds

    model = tiny_unet(hands.eps)
    plain = model.model.extra_conds

    def extra_conds(**kwargs):
        guides = kwargs.get("reference_latents")
        return {**plain(**kwargs), **({} if guides is None else {"guides": comfy.conds.CONDList(guides)})}

    def guided(network, x, *args, guides=(), **kwargs):
        return network(x, *args, **kwargs) + sum(guides)

    model = row_by_row(around(model, guided))
    model.model.extra_conds = extra_conds
    prompts = {name: [[text(seed=seed)[0][0], {"reference_latents": [noise(4, 3, 1, 1, seed=4), noise(1, 3, 1, 1)]}]]
               for name, seed in (("positive", 0), ("negative", 1))}  # fmt: skip
    whole = drafted(model, keep=4, **prompts)[0]
    for mode in MODES:
        picked, _, places = drafted(model, at_once=mode, **prompts)
        assert torch.equal(picked, whole[places]), mode


@pytest.mark.parametrize(("chained", "hints"), [(False, 1), (True, 4)])
def test_controlnet_with_one_hint_or_one_for_each(drafted, hands, core_node, hints, chained):
    model = tiny_unet(hands.eps)
    network = tiny_controlnet(model)

    def prompts(images):
        given = text(), text(seed=1)
        for image in images:
            given = core_node(
                "ControlNetApplyAdvanced", positive=given[0], negative=given[1], image=image, strength=5.0,
                control_net=network, start_percent=0.0, end_percent=0.8,
            )  # fmt: skip
        return {"positive": given[0], "negative": given[1]}

    # apart enough to act on random weights
    strengths = torch.tensor([1.0, 50.0, 100.0, 150.0])[:hints].view(-1, 1, 1, 1)
    images = [
        strengths * torch.rand(hints, 128, 128, 3, generator=torch.Generator().manual_seed(n))
        for n in range(1 + chained)
    ]
    given = prompts(images)
    whole, _, _ = drafted(model, keep=4, **given)
    first_for_all, _, _ = drafted(model, keep=4, **prompts([image[:1] for image in images]))
    assert same(whole[1:], first_for_all[1:]) == (hints == 1)
    for mode in MODES:
        picked, _, places = drafted(model, at_once=mode, also_finish="4", **given)
        assert same(picked, whole, places), mode
    assert len(given["positive"][0][1]["control"].cond_hint_original) == hints  # the graph's own


def test_controlnet_is_computed_once_for_both_prompts_of_a_draft(drafted, hands, core_node):
    model = tiny_unet(hands.eps)
    control = tiny_controlnet(model)
    positive, negative = core_node(
        "ControlNetApplyAdvanced", positive=text(), negative=text(seed=1), image=torch.rand(4, 128, 128, 3),
        strength=0.7, control_net=control, start_percent=0.0, end_percent=1.0,
    )  # fmt: skip
    sizes = []
    handle = control.control_model.register_forward_pre_hook(lambda _, args, kwargs: sizes.append(len(kwargs["x"])),
                                                             with_kwargs=True)  # fmt: skip
    drafted(model, at_once="one", drafts=2, keep=2, positive=positive, negative=negative)
    handle.remove()
    assert set(sizes) == {2}


@pytest.mark.parametrize("name", ["HunyuanVideo, flow", "Wan 2.1 video, flow", "SD 3, flow"])
def test_video_and_flow_checkpoints(drafted, name, tmp_path_factory):
    family = FAMILIES[name]
    if not is_known(family):
        return  # this ComfyUI is too old for it
    model = load_family(name, tmp_path_factory.mktemp("family"))
    given = {"latent_image": family.empty(1), "positive": family.conditioning(), "negative": family.conditioning(1),
             "scheduler": "simple", "steps": 4, "drafts": 3}  # fmt: skip
    whole, report, _ = drafted(model, keep=3, **given)
    assert report.run.frames == (3 if whole.ndim == 5 else 1)
    for mode in MODES:
        picked, report, places = drafted(model, keep=1, at_once=mode, **given)
        assert picked.shape == (1, *whole.shape[1:])
        assert (picked - whole[places]).abs().max() <= 0.02 * whole.abs().max()  # of half precision
        assert len(report.images) == report.run.frames


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde", "uni_pc"])
def test_flow_models(holds, hands, sampler):
    holds(hands.flow, scheduler="simple", sampler_name=sampler)


def test_noise_indices_stay_with_their_images(ksampler, run_node, hands, latent):
    for given in ({"batch_index": [4]}, {"batch_index": [4, 7, 9, 11]}):
        out = run_node(
            "ASCED_DraftAndPick", model=hands.eps, seed=5, drafts=4, keep=2, decide_at=0.28, positive=hands.positive,
            negative=hands.negative, latent_image=latent(len(given["batch_index"]), 16, **given), steps=4, cfg=1.0,
            sampler_name="euler", scheduler="normal", denoise=1.0,
        )  # fmt: skip
        kept = out[2].drafts.kept
        every = given["batch_index"] if len(given["batch_index"]) == 4 else [4, 5, 6, 7]
        assert out[0]["batch_index"] == [every[place] for place in kept]
        ksampler(latent_image=out[0], steps=2)  # the next sampler needs one for each


@pytest.mark.parametrize("kind", ["protect", "only_here"])
@pytest.mark.parametrize("mode", MODES)
def test_a_mask_for_each_draft_limits_its_own_image(drafted, hands, detection, mode, kind):
    mask = torch.zeros(4, 32, 32)
    mask[::2] = 1
    loud = {"threshold": 0.5, "min_area": 0, "max_area": 65536, "min_width": 0}  # finds something in every image
    _, report, places = drafted(
        keep=4, steps=12, at_once=mode, latent_image={"samples": torch.zeros(1, 3, 32, 32)},
        detection=detection(**{kind: mask}, **loud),
    )  # fmt: skip
    found = [bool(image.regions) for image in report.images]
    assert found == [place % 2 == (kind == "protect") for place in places]


def test_models_without_guidance(holds, hands):
    whole = holds(row_by_row(hands.eps), exact=True, cfg=1.0, negative=[])
    assert torch.isfinite(whole).all()


@pytest.mark.parametrize("node", ["KSampler", "KSamplerAdvanced"])
def test_drafts_of_a_batch_are_rows_of_stock(run_node, core_node, hands, detection, node):
    drafts = run_node("ASCED_Drafts", keep=2, decide_at=0.28)[0]
    given = {
        "samples": noise(4, 3, 16, 16) / 3,
        "batch_index": [3, 5, 5, 8],
        "noise_mask": torch.rand(4, 16, 16).round(),
    }
    prompts = {"positive": hands.positive, "negative": hands.negative}
    common = {
        "model": row_by_row(hands.eps), "steps": 10, "cfg": 2.0, "sampler_name": "dpmpp_2m", "scheduler": "karras",
        "latent_image": given, **prompts,
    }  # fmt: skip
    if node == "KSampler":
        common |= {"seed": 3, "denoise": 0.8}
    else:
        common |= {"add_noise": "enable", "noise_seed": 3, "start_at_step": 2, "end_at_step": 9,
                   "return_with_leftover_noise": "enable"}  # fmt: skip
    stock = core_node(node, **common)[0]["samples"]
    out = run_node(f"ASCED_{node}", **common, drafts=drafts, detection=detection(**BLIND))
    kept = list(out[2].drafts.kept)
    assert torch.equal(out[0]["samples"], stock[kept])
    assert out[0]["batch_index"] == [given["batch_index"][place] for place in kept]
    assert torch.equal(out[0]["noise_mask"], given["noise_mask"][kept])
    assert torch.equal(out[3]["samples"], stock[kept])
