"""Drafts with ControlNets: each image keeps its own hint, and the dropped ones cost no ControlNet either."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .conftest import BLIND
from .models import text, tiny_controlnet, tiny_unet

NEAR = 1e-4


@pytest.fixture
def scene(hands, core_node):
    """A tiny U-Net with two ControlNets, and the rows that each call of the first one has."""

    def make(hints: int) -> tuple[Any, Any, Any, list[int]]:
        model, rows = tiny_unet(hands.eps), []
        positive, negative = text(), text(seed=1)
        for turn in range(2):
            net = tiny_controlnet(model)
            if turn == 0:
                net.control_model.register_forward_pre_hook(
                    lambda _, args, given: rows.append(len(given["x"])), with_kwargs=True
                )
            image = torch.rand(hints, 16 * 8, 16 * 8, 3, generator=torch.Generator().manual_seed(turn))
            positive, negative = core_node(
                "ControlNetApplyAdvanced", positive=positive, negative=negative, control_net=net, image=image,
                strength=1.0, start_percent=0.0, end_percent=1.0,
            )[:2]  # fmt: skip
        return model, positive, negative, rows

    return make


@pytest.mark.parametrize("at_once", ["all", "one"])
@pytest.mark.parametrize("hints", [1, 4])
def test_a_dropped_draft_costs_no_controlnet(scene, run_node, latent, detection, hints, at_once):
    model, positive, negative, rows = scene(hints)

    def sample(keep: int, at_once: str = "all") -> Any:
        rows.clear()
        return run_node(
            "ASCED_DraftAndPick", model=model, seed=5, drafts=4, keep=keep, decide_at=0.3, steps=10, cfg=2.0,
            sampler_name="dpmpp_2m", scheduler="normal", denoise=1.0, positive=positive, negative=negative,
            latent_image=latent(1, 16), at_once=at_once, detection=detection(**BLIND),
        )  # fmt: skip

    whole = sample(keep=4)[0]["samples"]
    assert rows == [8] * 10
    out = sample(1, at_once)
    place = out[2].drafts.kept[0]
    assert rows == ([8] * 3 + [2] * 7 if at_once == "all" else [2] * (4 * 3 + 7))
    assert (out[0]["samples"][0] - whole[place]).abs().max() <= NEAR * whole.abs().max()
