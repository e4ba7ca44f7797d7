"""The run score: what it calls undecided, and what it must not depend on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from asced_core.detect.run_score import ScoreParts, agreement, parts, sharpness, undecided


def pictures(count: int = 4, channels: int = 3, height: int = 24, width: int = 32, seed: int = 0) -> Tensor:
    coarse = torch.randn(count, channels, height // 4, width // 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (height, width))


def blurred(value: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(value, (2, 2, 2, 2), mode="replicate"), 5, 1)


@pytest.mark.parametrize("channels", [1, 4, 16])
def test_the_softest_draft_is_the_most_undecided(channels: int) -> None:
    drafts = pictures(channels=channels)
    drafts[2] = blurred(drafts[2:3])[0]
    assert undecided(parts(drafts)).argmax() == 2


def test_a_draft_that_moves_against_the_prompt_is_the_most_undecided() -> None:
    unprompted, pull = pictures(seed=1), pictures(seed=2)
    now = unprompted + pull
    earlier = now - 0.1 * pull
    earlier[1] = now[1] + 0.1 * pull[1]
    score = parts(now, earlier, unprompted)
    assert score.agreement is not None
    torch.testing.assert_close(score.agreement, torch.tensor([1.0, -1.0, 1.0, 1.0]))
    assert undecided(score).argmax() == 1


def test_the_order_does_not_depend_on_the_unit_of_the_space() -> None:
    now, earlier, unprompted = (pictures(seed=seed) for seed in range(3))
    score = undecided(parts(now, earlier, unprompted))
    scaled = undecided(parts(7 * now + 3, 7 * earlier + 3, 7 * unprompted + 3))
    torch.testing.assert_close(scaled, score, rtol=1e-3, atol=1e-3)


def test_guidance_does_not_change_the_direction_of_the_pull() -> None:
    now, earlier, unprompted = (pictures(seed=seed) for seed in range(3))
    step = now - earlier
    guided = unprompted + 4 * (now - unprompted)
    torch.testing.assert_close(agreement(guided, guided - step, unprompted), agreement(now, earlier, unprompted))


def test_mirrored_and_rotated_drafts_score_the_same() -> None:
    drafts = pictures()
    for turned in (drafts.flip(3), drafts.flip(2), drafts.transpose(2, 3)):
        torch.testing.assert_close(sharpness(turned), sharpness(drafts))


def test_one_broken_draft_comes_last_and_leaves_the_others_alone() -> None:
    now, earlier, unprompted = (pictures(seed=seed) for seed in range(3))
    alone = undecided(parts(now[:3], earlier[:3], unprompted[:3]))
    now[3, 0, 5, 5] = torch.nan
    together = undecided(parts(now, earlier, unprompted))
    torch.testing.assert_close(together[:3], alone)
    assert together[3] == torch.inf


def test_equal_drafts_and_a_single_one_are_neither_better_nor_worse() -> None:
    assert undecided(parts(pictures(1).expand(3, -1, -1, -1))).abs().max() < 1e-3
    assert undecided(parts(pictures(1))).tolist() == [0.0]


def test_flat_predictions_have_a_finite_score() -> None:
    flat = torch.zeros(2, 3, 8, 8)
    assert undecided(parts(flat, flat, flat)).tolist() == [0.0, 0.0]


def test_half_precision_scores_like_single_precision() -> None:
    now, earlier, unprompted = (pictures(seed=seed) for seed in range(3))
    half = parts(now.half(), earlier.half(), unprompted.half())
    assert half.sharpness.dtype == torch.float32
    torch.testing.assert_close(undecided(half), undecided(parts(now, earlier, unprompted)), rtol=2e-2, atol=2e-2)


def test_both_parts_count_alike() -> None:
    score = ScoreParts(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.6, 0.4, 0.2]))
    torch.testing.assert_close(undecided(score), torch.zeros(3), atol=1e-5, rtol=0)


def test_predictions_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        parts(pictures(), pictures(), pictures(channels=4))
