"""Drafts: how they are ranked and picked, what the report says of them, and the sheet that shows them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from asced_core.detect.run_score import RunScore, ScoreReader, agreement, sharpness, step_at
from asced_core.draw.draft_sheet import FINISHED, draft_sheet
from asced_core.draw.overlay import split_sheet
from asced_core.report.drafts import Drafts, picked
from asced_core.report.joining import joined, with_drafts
from asced_core.report.ranking import best_first, ranked

NAN = math.nan


def _ranked(*sharpness):
    return ranked([RunScore(value) for value in sharpness])


def _drafts(count=5, kept=(1, 3), seeds=None, colors=3):
    """Drafts of which the later ones are sharper; the picture of draft n has brightness n."""
    pictures = np.zeros((count, colors, 8, 8), np.float16) + np.arange(count)[:, None, None, None] / 127.5 - 1
    own = tuple(range(7, 7 + count)) if seeds is None else seeds
    return Drafts(6, 25, kept, _ranked(*range(1, count + 1)), own, pictures.astype(np.float16))


# ranking


def test_the_sharpest_run_is_ranked_first_and_the_average_one_is_zero():
    batch = _ranked(1.0, 4.0, 2.0)
    assert best_first(batch) == [1, 2, 0]
    assert [round(one.relative, 3) for one in batch] == [-1.225, 1.225, 0.0]


def test_both_parts_count_alike_whatever_their_units():
    sharp, pulled = [1.0, 2.0, 4.0], [0.3, 0.1, -0.1]
    alike = ranked([RunScore(*parts) for parts in zip(sharp, pulled, strict=True)])
    assert [one.relative for one in alike] == pytest.approx([0, 0, 0], abs=1e-9)
    scaled = ranked([RunScore(1000 * s, a) for s, a in zip(sharp, pulled, strict=True)])
    assert [one.relative for one in scaled] == pytest.approx([0, 0, 0], abs=1e-9)


def test_a_part_that_one_image_lacks_does_not_count():
    batch = ranked([RunScore(1.0, 0.9), RunScore(2.0, None), RunScore(3.0, 0.1)])
    assert best_first(batch) == [2, 1, 0]
    assert not any("agreement" in one.words for one in batch)


def test_an_image_that_is_not_finite_comes_last_and_does_not_touch_the_others():
    batch = _ranked(NAN, 1.0, math.inf, 2.0)
    assert best_first(batch) == [3, 1, 0, 2]
    assert math.isnan(batch[0].relative) and batch[0].words == batch[2].words == "could not be measured"
    assert [one.relative for one in (batch[1], batch[3])] == [one.relative for one in _ranked(1.0, 2.0)]


def test_a_batch_of_one_and_equal_images_have_run_score_zero_in_their_order():
    assert _ranked(4.2)[0].relative == 0 and best_first(_ranked(4.2)) == [0]
    equal = ranked([RunScore(0.1, 0.3)] * 3)
    assert [one.relative for one in equal] == pytest.approx([0, 0, 0], abs=1e-3)
    assert best_first(equal) == [0, 1, 2]
    assert best_first(_ranked(NAN, NAN)) == [0, 1]
    assert ranked([]) == ()


def test_the_words_name_both_parts_beside_the_median():
    batch = ranked([RunScore(1.0, 0.25), RunScore(2.0, 0.5), RunScore(4.0, 0.75)])
    assert batch[0].words == "undecided: 2.00 times the batch's median; agreement with the prompt: 0.25 (median 0.50)"
    assert _ranked(1.0, 2.0, 4.0)[2].words == "undecided: 0.50 times the batch's median"


# reading


def test_the_score_is_read_after_the_given_share_of_the_steps():
    assert [step_at(25, share) for share in (0.0, 0.28, 0.3, 1.0)] == [0, 6, 7, 24]
    assert step_at(1, 0.5) == step_at(0, 0.5) == 0
    reader = ScoreReader(25)
    images = torch.randn(2, 3, 8, 8)
    reader.observe(5, images)
    assert not reader.known and reader.scores() == []
    reader.observe(6, images)
    reader.observe(7, images * 9)
    assert [one.sharpness for one in reader.scores()] == pytest.approx(sharpness(images).tolist())


def test_agreement_is_the_cosine_of_the_change_with_the_pull_of_the_prompt():
    reader, start, pull = ScoreReader(25, agreement=True), torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    now = start + torch.stack([pull[0], -pull[1]])
    reader.observe(3, start)
    reader.observe(6, now)
    reader.agree(now - pull)
    assert [one.agreement for one in reader.scores()] == pytest.approx([1, -1], abs=1e-5)


def test_with_guidance_sharpness_is_that_of_the_prompted_prediction():
    reader, prompted = ScoreReader(25), torch.randn(2, 3, 8, 8)
    reader.observe(6, 7 * prompted, prompted)
    assert [one.sharpness for one in reader.scores()] == pytest.approx(sharpness(prompted).tolist())


def test_agreement_is_zero_without_a_pull():
    assert agreement(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)).tolist() == [0]


def test_a_video_has_the_mean_of_its_frames():
    reader, images = ScoreReader(25), torch.randn(4, 3, 8, 8)
    reader.observe(6, images)
    each = [one.sharpness for one in reader.scores()]
    assert [one.sharpness for one in reader.scores(2)] == pytest.approx([sum(each[:2]) / 2, sum(each[2:]) / 2])
    assert reader.scores()[0].agreement is None


def test_a_blurred_image_is_less_sharp_and_fine_grain_counts_less_than_structure():
    checker = torch.zeros(1, 1, 8, 8)
    checker[..., ::2, 1::2] = checker[..., 1::2, ::2] = 1
    blocks = torch.kron(torch.eye(2).repeat(2, 2), torch.ones(2, 2))[None, None]
    assert sharpness(checker) < sharpness(0.5 * blocks) < sharpness(blocks)
    assert sharpness(0 * blocks) > 0  # so that its logarithm is finite


# picking


def test_named_drafts_are_finished_beside_the_best():
    batch = _ranked(1.0, 5.0, 4.0, 3.0, 2.0)
    assert picked(batch, 2) == (1, 2)
    assert picked(batch, 2, always=(0,)) == (0, 1, 2)
    assert picked(batch, 2, always=(2,)) == (1, 2)
    assert picked(batch, 1, always=(4, 0, 3)) == (0, 1, 3, 4)
    assert picked(batch, 9) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("kept", "finished"),
    [((2,), "3"), ((2, 4), "3 and 5"), ((0, 2, 11), "1, 3 and 12"), (tuple(range(7)), "7"), (tuple(range(16)), "all")],
)
def test_the_summary_counts_drafts_from_1(kept, finished):
    assert _drafts(16, kept).summary() == f"16 drafts compared after step 7 of 25; {finished} finished."


def test_a_report_starts_with_its_drafts_and_its_json_holds_their_run_scores(report):
    drafts = replace(_drafts(3, (0, 2)), ranked=_ranked(2.0, NAN, 1.0))
    whole = with_drafts(report, drafts)
    assert whole.summary() == f"{drafts.summary()} {report.summary()}"
    sent = json.loads(whole.to_json())
    assert [image["draft"] for image in sent["images"]] == [0, 2]
    assert [image["run_score"]["relative"] for image in sent["images"]] == [1, -1]
    assert (sent["drafts"]["step"], sent["drafts"]["kept"], sent["drafts"]["seeds"]) == (6, [0, 2], [7, 8, 9])
    assert [(one["rank"], one["relative"], one["sharpness"]) for one in sent["drafts"]["drafts"]] == [
        (1, 1, 2), (3, None, None), (2, -1, 1),
    ]  # fmt: skip
    assert json.loads(report.to_json())["drafts"] is None


# joining


def test_reports_of_single_runs_become_one_report(report):
    other = replace(
        report,
        notes=("A note.", "Another."),
        corrected_steps=(9,),
        images=tuple(replace(image, score=5.0) for image in report.images),
    )
    both = joined([report, other])
    assert [(image.index, image.score == 5.0) for image in both.images] == list(enumerate([False] * 2 + [True] * 2))
    assert np.array_equal(both.labels, np.concatenate([report.labels, report.labels]))
    assert both.trace.shape[0] == both.frames.shape[0] == both.ratios.shape[0] == 4
    assert both.notes == ("A note.", "Another.") and both.corrected_steps == tuple(sorted({9, *report.corrected_steps}))
    assert both.run.model_calls == 2 * report.run.model_calls and both.run.seconds_model == 2 * report.run.seconds_model
    assert joined([report]).to_dict() == report.to_dict()


def test_every_frame_of_a_finished_video_knows_its_draft(report):
    videos = joined([replace(report, run=replace(report.run, frames=2)), report])
    assert [image.draft for image in with_drafts(videos, _drafts(5, (1, 3))).images] == [1, 1, 3, 3]


# the sheet


def _cards(drafts, finished=None):
    return split_sheet(draft_sheet(drafts, finished), len(drafts.ranked))


def _inside(card):
    """The middle of the picture on a card."""
    return card[90, card.shape[1] // 2].tolist()


def test_the_sheet_shows_every_draft_and_frames_the_finished_ones():
    cards = _cards(_drafts())
    assert [_inside(card) for card in cards] == [[place] * 3 for place in range(5)]
    assert [tuple(card[0, 0].tolist()) == FINISHED for card in cards] == [False, True, False, True, False]
    assert all(min(card.shape[:2]) >= 192 for card in cards)
    strips = [card[-60:] for card in cards]  # number, rank, run score and seed tell them apart
    assert len({strip.tobytes() for strip in strips}) == 5


def test_without_seeds_the_sheet_has_no_line_for_them():
    with_seeds, without = (_cards(_drafts(seeds=seeds))[0] for seeds in (None, ()))
    assert with_seeds.shape[0] > without.shape[0] and with_seeds.shape[1] == without.shape[1]


def test_finished_images_replace_their_drafts_at_up_to_512_pixels():
    images = {1: np.full((600, 1200, 3), 200, np.uint8), 3: np.full((600, 1200, 3), 210, np.uint8)}
    cards = _cards(_drafts(), images)
    assert [_inside(card)[0] for card in cards] == [0, 200, 2, 210, 4]
    assert {card.shape for card in cards} == {cards[0].shape} and 512 <= cards[0].shape[1] < 560


def test_the_text_stays_outside_of_the_picture_and_inside_of_the_card():
    drafts = replace(_drafts(), seeds=(2**64 - 1,) * 5, ranked=_ranked(NAN, 2, 3, 4, 5))
    for card, seeds in zip(_cards(drafts), drafts.seeds, strict=True):
        assert len(np.unique(card[10:190, 10:190])) == 1  # nothing on the picture
        strip = (card[205:] < 60).all(2)
        assert strip.any() and not strip[:, :3].any() and not strip[:, -3:].any(), seeds


def test_predictions_without_known_colors_or_with_nan_are_still_a_sheet():
    gray = _cards(replace(_drafts(), pictures=np.zeros((5, 0, 1, 1), np.float16)))
    assert [_inside(card) for card in gray] == [[128] * 3] * 5
    lost = _drafts()
    lost.pictures[2] = np.nan
    assert _inside(_cards(lost)[2]) == [0, 0, 0]


@pytest.mark.parametrize("count", [1, 2, 400])
def test_a_sheet_of_any_number_of_drafts_has_a_bearable_size(count):
    finished = {0: np.zeros((1024, 1024, 3), np.uint8)}
    for sheet in (draft_sheet(_drafts(count, (0,))), draft_sheet(_drafts(count, (0,)), finished)):
        assert max(sheet.shape) < 4500 and min(sheet.shape[:2]) >= 128
