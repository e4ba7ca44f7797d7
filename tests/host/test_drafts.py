"""Drafts: only the best images of a batch are finished, and each is what it would have been."""

from __future__ import annotations

from typing import Any

import pytest
import torch

NEAR = 2e-4  # what the size of the batch changes in the network's own answers
SETTINGS: dict[str, Any] = {"steps": 12, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}


@pytest.fixture
def drafted(run_node, hands, latent):
    """ASCED_DraftAndPick on the demo model; latent, report and seeds."""

    def sample(model: Any = None, keep: int = 2, drafts: int = 6, **options: Any) -> tuple[Any, Any, str]:
        given = options.pop("latent_image", None) or latent(1)
        out = run_node(
            "ASCED_DraftAndPick", model=model or hands.eps, seed=5, drafts=drafts, keep=keep, decide_at=0.28,
            positive=hands.positive, negative=hands.negative, latent_image=given, **{**SETTINGS, **options},
        )  # fmt: skip
        return out[0]["samples"], out[2], out[4]

    return sample


def counted(model: Any, rows: list[int]) -> Any:
    """A clone of the model that notes how many rows each call of the network has."""
    from comfy.patcher_extension import WrappersMP

    patched = model.clone()

    def count(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        rows.append(len(x))
        return executor(x, *args, **kwargs)

    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "count", count)
    return patched


def row_by_row(model: Any) -> Any:
    """A clone of the model whose answers do not depend on the size of the batch, not even by rounding."""
    from comfy.patcher_extension import WrappersMP

    patched = model.clone()

    def each(executor: Any, x: torch.Tensor, t: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        y = kwargs.pop("y")
        rows = zip(x.split(1), t.split(1), y.split(1), strict=True)
        return torch.cat([executor(row, level, *args, y=label, **kwargs) for row, level, label in rows])

    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "each", each)
    return patched


@pytest.mark.parametrize("at_once", ["all", "one"])
def test_a_finished_draft_is_what_it_would_have_been_with_every_sampler(drafted, run_node, hands, latent, at_once):
    from comfy.samplers import KSampler

    for sampler in KSampler.SAMPLERS:
        whole, _, seeds = drafted(keep=6, sampler_name=sampler)
        picked, report, kept = drafted(sampler_name=sampler, at_once=at_once)
        if sampler == "dpm_adaptive":  # it is not watched, and says that all were finished
            assert len(picked) == 6
            assert "All drafts were finished" in report.summary()
            continue
        assert len(picked) == 2, sampler
        places = [seeds.split(", ").index(seed) for seed in kept.split(", ")]
        assert list(report.drafts.kept) == places, sampler
        print(sampler, places, float((picked - whole[places]).abs().max() / whole.abs().max()))
        assert (picked - whole[places]).abs().max() <= NEAR * whole.abs().max(), sampler
