"""ASCED Draft and Pick as its user sees it: the sheet of drafts, their numbers and seeds, the saved report."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

BLUE = (86, 180, 233)  # frame of a finished draft
SETTINGS: dict[str, Any] = {
    "steps": 12, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0, "decide_at": 0.28,
}  # fmt: skip


def _execute(pack, node_id, **inputs):
    cls = pack[node_id]
    cls.hidden = SimpleNamespace(unique_id="1", prompt=None, extra_pnginfo=None)
    return cls.execute(**inputs)


@pytest.fixture
def pick(pack, run_node, latent):
    """ASCED_DraftAndPick on the demo model with six drafts of one digit: latent, report, seeds, vae, and its ui."""
    model, vae, positive, negative = run_node("ASCED_DemoModel", digit="3")

    def sample(keep: int = 2, drafts: int = 6, **options: Any) -> SimpleNamespace:
        given = options.pop("latent_image", None) or latent(1)
        done = _execute(
            pack, "ASCED_DraftAndPick", model=options.pop("model", model), seed=5, drafts=drafts, keep=keep,
            positive=positive, negative=negative, latent_image=given, **{**SETTINGS, **options},
        )  # fmt: skip
        found, _, report, _, seeds = done.args
        return SimpleNamespace(latent=found, report=report, seeds=seeds, vae=vae, ui=done.ui)

    return sample


def _file(saved):
    import folder_paths

    return f"{folder_paths.get_directory_by_type(saved['type'])}/{saved['subfolder']}/{saved['filename']}"


def _shown(ui) -> np.ndarray:
    (saved,) = (ui if isinstance(ui, dict) else ui.as_dict())["images"]
    return np.asarray(Image.open(_file(saved)).convert("RGB"))


def _framed(sheet: np.ndarray, columns: int, count: int) -> list[int]:
    """Numbers, from 1, of the drafts with a frame."""
    rows = -(-count // columns)
    high, wide = (sheet.shape[0] + 4) // rows, (sheet.shape[1] + 4) // columns
    corners = [sheet[place // columns * high, place % columns * wide] for place in range(count)]
    return [place + 1 for place, corner in enumerate(corners) if tuple(corner) == BLUE]


@pytest.mark.parametrize("at_once", ["all", "one"])
def test_the_node_shows_its_drafts_and_frames_the_finished_ones(pick, at_once):
    done = pick(at_once=at_once)
    numbers = [place + 1 for place in done.report.drafts.kept]
    assert _framed(_shown(done.ui), 3, 6) == numbers and len(numbers) == 2
    assert done.seeds == ", ".join(str(4 + number) for number in numbers)
    assert [image.draft + 1 for image in done.report.images] == numbers
    first, second = numbers
    assert done.report.summary().startswith(f"6 drafts compared after step 4 of 12; {first} and {second} finished. ")
    assert all(image.run_score == done.report.drafts.ranked[image.draft] for image in done.report.images)


def test_each_draft_has_its_own_picture(pick):
    """Late in the run, it is nearly what it becomes."""
    done = pick(keep=6, decide_at=0.9)
    finished = done.latent["samples"].numpy()
    small = done.report.drafts.pictures.astype(np.float32)
    assert small.shape == finished.shape == (6, 3, 32, 32)
    apart = [[np.abs(one - other).mean() for other in finished] for one in small]
    assert [int(np.argmin(row)) for row in apart] == list(range(6))
    assert done.report.summary().startswith("6 drafts compared after step 11 of 12; all finished.")


def test_the_sheet_shows_finished_images_in_place_of_their_drafts(pick, pack):
    done = pick()
    images = done.vae.decode(done.latent["samples"])
    plain = _execute(pack, "ASCED_DraftSheet", report=done.report)
    both = _execute(pack, "ASCED_DraftSheet", report=done.report, image=images)
    (sheet,), (full,) = plain.args, both.args
    assert sheet.shape == full.shape and sheet.shape[0] == 1 and sheet.shape[3] == 3
    np.testing.assert_allclose(_shown(plain.ui), sheet[0].numpy() * 255, atol=1)
    np.testing.assert_array_equal(_shown(plain.ui), _shown(done.ui))  # as on the sampler node
    cards = [(full[0, row : row + 192, left : left + 192] != sheet[0, row : row + 192, left : left + 192]).any()
             for row, left in ((6 + n // 3 * (full.shape[1] + 4) // 2, 6 + n % 3 * (full.shape[2] + 4) // 3)
                               for n in range(6))]  # fmt: skip
    assert [n for n, changed in enumerate(cards) if changed] == list(done.report.drafts.kept)


def test_a_part_of_the_finished_images_finds_its_drafts(pick, pack, run_node):
    done = pick(keep=3)
    _, report, indices, _ = run_node("ASCED_BestOfBatch", samples=done.latent, report=done.report, count=1)
    white = torch.ones(1, 600, 600, 3)
    (sheet,) = _execute(pack, "ASCED_DraftSheet", report=report, image=white).args
    kept = done.report.drafts.kept
    assert report.images[0].draft == kept[int(indices)]
    high, wide = (sheet.shape[1] + 4) // 2, (sheet.shape[2] + 4) // 3
    centers = [float(sheet[0, n // 3 * high + 200, n % 3 * wide + 200].mean()) for n in range(6)]
    assert [n for n, value in enumerate(centers) if value == 1] == [kept[int(indices)]]


def test_a_report_without_drafts_gets_one_clear_sentence(corrected, pack):
    _, _, report = corrected()
    out = _execute(pack, "ASCED_DraftSheet", report=report)
    assert out.ui["asced_text"][0].startswith("This REPORT has no drafts: connect the one of ASCED Draft and Pick, or")
    assert len(out.ui["images"]) == 1 and out.args[0].min() < out.args[0].max()


def test_drafts_that_were_never_compared_are_all_finished_and_the_sheet_says_why(pick, pack):
    done = pick(sampler_name="dpm_adaptive")
    assert done.ui["images"] == [] and done.seeds == "5, 6, 7, 8, 9, 10"
    (words,) = _execute(pack, "ASCED_DraftSheet", report=done.report).ui["asced_text"]
    assert words.index("dpm_adaptive") < words.index("All drafts were finished")


def test_images_of_another_run_are_refused(pick, pack):
    with pytest.raises(ValueError, match=r"covers 2 images, but 3 are connected"):
        _execute(pack, "ASCED_DraftSheet", report=pick().report, image=torch.zeros(3, 8, 8, 3))


def test_the_images_of_a_batch_as_drafts_have_no_seeds_of_their_own(run_node, hands, latent, pack):
    out, _, report, _ = run_node(
        "ASCED_KSampler", model=hands.eps, seed=5, positive=hands.positive, negative=hands.negative,
        latent_image=latent(5), drafts=run_node("ASCED_Drafts", keep=2, decide_at=0.28)[0],
        **{name: value for name, value in SETTINGS.items() if name != "decide_at"},
    )  # fmt: skip
    assert len(out["samples"]) == 2 and report.drafts.seeds == ()
    (sheet,) = _execute(pack, "ASCED_DraftSheet", report=report).args
    assert _framed((sheet[0].numpy() * 255).round().astype(np.uint8), 3, 5) == [n + 1 for n in report.drafts.kept]


# a dropped draft


def test_a_dropped_draft_is_finished_by_its_number_beside_the_picked_ones(pick):
    before = pick()
    kept = before.report.drafts.kept
    dropped = next(place for place in range(6) if place not in kept)
    after = pick(also_finish=f" {dropped + 1} ")
    assert after.report.drafts.kept == tuple(sorted((*kept, dropped)))
    places = [after.report.drafts.kept.index(place) for place in kept]
    torch.testing.assert_close(after.latent["samples"][places], before.latent["samples"], atol=2e-4, rtol=1e-3)


def test_a_dropped_draft_is_finished_by_its_seed_in_a_ksampler(pick, run_node, latent):
    """One after another, as the help page says: bit-for-bit."""
    done = pick(at_once="one")
    dropped = next(place for place in range(6) if place not in done.report.drafts.kept)
    named = pick(at_once="one", also_finish=str(dropped + 1))
    place = named.report.drafts.kept.index(dropped)
    model, _, positive, negative = run_node("ASCED_DemoModel", digit="3")
    other = run_node(
        "ASCED_KSampler", model=model, seed=5 + dropped, positive=positive, negative=negative, latent_image=latent(1),
        **{name: value for name, value in SETTINGS.items() if name != "decide_at"},
    )  # fmt: skip
    assert torch.equal(other[0]["samples"], named.latent["samples"][[place]])


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", ()), ("  ", ()), (",", ()), ("2", (2,)), ("2, 2,2", (2,)), ("2 5", (2, 5)), ("6;1", (1, 6)),
        ("1,2,3,4,5", (1, 2, 3, 4, 5)),
    ],
)  # fmt: skip
def test_named_drafts_are_finished_beside_the_best(pick, text, numbers):
    drafts = pick(also_finish=text).report.drafts
    assert {place + 1 for place in drafts.kept} == {*numbers, drafts.ranks.index(1) + 1, drafts.ranks.index(2) + 1}


@pytest.mark.parametrize("text", ["0", "7", "-1", "2, seven", "1.5", "²", "3-5"])
def test_a_number_that_is_no_draft_gets_one_clear_sentence(pick, text):
    sentence = "also_finish must be numbers of drafts from 1 to 6, separated by commas, such as 3, 12; got "
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}{re.escape(repr(text))}"):
        pick(also_finish=text)


# the saved report


def test_the_saved_report_knows_which_draft_an_image_was(pick, pack):
    done = pick()
    images = done.vae.decode(done.latent["samples"])
    saved = _execute(pack, "ASCED_SaveReport", image=images, report=done.report, filename_prefix="drafts").ui["images"]
    drafts = done.report.drafts
    for place, ref in zip(drafts.kept, saved, strict=True):
        with Image.open(_file(ref)) as picture:
            sent = json.loads(picture.text["asced"])
        with open(_file(ref).replace(".png", ".json"), encoding="utf-8") as file:
            assert json.load(file) == sent
        (image,) = sent["images"]
        assert image["draft"] == place
        assert {"rank": drafts.ranks[place], **image["run_score"]} == sent["drafts"]["drafts"][place]
        assert sent["drafts"]["seeds"] == [5, 6, 7, 8, 9, 10] and sent["drafts"]["kept"] == list(drafts.kept)
        assert [one["rank"] for one in sent["drafts"]["drafts"]] == drafts.ranks
        assert sent["summary"].startswith("6 drafts compared after step 4 of 12; ")
