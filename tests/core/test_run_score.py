"""The run score: what it calls undecided, and what it must not depend on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from asced_core.detect.run_score import RunScore, ScoreReader, agreement, sharpness
from asced_core.report.ranking import best_first, ranked


def pictures(count: int = 4, channels: int = 3, height: int = 24, width: int = 32, seed: int = 0) -> Tensor:
    coarse = torch.randn(count, channels, height // 4, width // 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (height, width))


def blurred(value: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(value, (2, 2, 2, 2), mode="replicate"), 5, 1)


def order(sharp: Tensor, agree: Tensor) -> list[int]:
    parts = zip(sharp.tolist(), agree.tolist(), strict=True)
    return best_first(ranked([RunScore(*part) for part in parts]))


@pytest.mark.parametrize("channels", [1, 4, 16])
def test_the_softest_draft_is_the_most_undecided(channels: int) -> None:
    drafts = pictures(channels=channels)
    drafts[2] = blurred(drafts[2:3])[0]
    assert sharpness(drafts).argmin() == 2


def test_a_draft_that_moves_against_the_prompt_comes_last() -> None:
    now, pull = pictures(), pictures(seed=2)
    move = 0.1 * pull
    move[1] = -move[1]
    agree = agreement(pull, move)
    torch.testing.assert_close(agree, torch.tensor([1.0, -1.0, 1.0, 1.0]))
    assert order(sharpness(now), agree)[-1] == 1


def test_the_order_does_not_depend_on_the_unit_of_the_space() -> None:
    now, pull, move = (pictures(8, seed=seed) for seed in range(3))
    plain = order(sharpness(now), agreement(pull, move))
    assert order(sharpness(7 * now + 3), agreement(7 * pull, 7 * move)) == plain


def test_the_strength_of_guidance_does_not_change_the_agreement() -> None:
    pull, move = pictures(seed=1), pictures(seed=2)
    torch.testing.assert_close(agreement(4 * pull, move), agreement(pull, move))


def test_mirrored_and_rotated_drafts_score_the_same() -> None:
    drafts = pictures()
    for turned in (drafts.flip(3), drafts.flip(2), drafts.transpose(2, 3)):
        torch.testing.assert_close(sharpness(turned), sharpness(drafts))


def test_one_broken_draft_leaves_the_others_alone() -> None:
    drafts = pictures()
    whole = sharpness(drafts)
    drafts[3, 0, 5, 5] = torch.nan
    torch.testing.assert_close(sharpness(drafts)[:3], whole[:3])
    assert sharpness(drafts)[3].isnan()


def test_flat_and_tiny_predictions_have_a_finite_score() -> None:
    for size in ((8, 8), (1, 1), (1, 5), (3, 1)):
        flat = torch.zeros(2, 3, *size)
        assert sharpness(flat).isfinite().all()
        assert agreement(flat, flat).tolist() == [0, 0]


def test_half_precision_scores_like_single_precision() -> None:
    drafts = pictures()
    assert sharpness(drafts.half()).dtype == torch.float32
    torch.testing.assert_close(sharpness(drafts.half()), sharpness(drafts), rtol=1e-3, atol=1e-4)


def test_the_move_is_counted_from_the_middle_of_the_draft() -> None:
    reader = ScoreReader(25, agreement=True)
    frames = [pictures(seed=seed) for seed in range(25)]
    for step, frame in enumerate(frames):
        reader.observe(step, frame)
    reader.agree(frames[2])
    assert reader.step == 6
    expected = agreement(frames[6] - frames[2], frames[6] - frames[3])
    assert [score.agreement for score in reader.scores()] == pytest.approx(expected.tolist())
