"""Overlays, contact sheets, comparisons."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from asced_core.draw.comparison import SEAM, before_and_after
from asced_core.draw.overlay import COLORS, GAP, STYLES, contact_sheet, draw_overlay, enlarge, split_sheet
from asced_core.report.masks import ratios_at

VERMILION = COLORS["vermilion"]


@pytest.fixture
def picture():
    """A color ramp of 64x64 pixels."""
    ramp = np.linspace(30, 220, 64)
    return np.stack([np.add.outer(ramp, 0 * ramp), np.add.outer(0 * ramp, ramp), np.full((64, 64), 90)], 2).astype(
        np.uint8
    )


def _draw(report, picture, **options):
    image = report.images[0]
    return draw_overlay(picture, report.masks[0], image.regions, (64, 64), ratio=report.ratios[0], **options)


def test_the_overlay_draws_on_the_mask(report):
    picture = np.full((64, 64, 3), 90, np.uint8)
    drawn = draw_overlay(picture, report.masks[0], report.images[0].regions, (64, 64))
    assert drawn.shape == (256, 256, 3)
    changed = (drawn != 90).any(axis=2)
    inside = report.masks[0].repeat(4, 0).repeat(4, 1)
    assert changed[inside].all()
    assert (drawn == VERMILION).all(axis=2).any()
    clean = draw_overlay(picture, report.masks[1], (), (64, 64))
    assert np.array_equal(clean, enlarge(picture, 256))
    with pytest.raises(ValueError, match="size"):
        draw_overlay(picture, np.zeros((32, 32), bool))


def test_the_default_is_exactly_a_tint_with_an_outline(report, picture):
    """As in the first release: older workflows look the same."""
    expected = picture.repeat(4, 0).repeat(4, 1)
    inside = report.masks[0].repeat(4, 0).repeat(4, 1)
    expected[inside] = (expected[inside] * 0.55 + np.array([255, 64, 0], np.float32) * 0.45).astype(np.uint8)
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(expected, contours, -1, (255, 64, 0), 1)
    assert np.array_equal(draw_overlay(picture, report.masks[0]), expected)


def test_outline_leaves_the_inside_and_heat_shows_the_ratio(report, picture):
    plain = enlarge(picture, 256)
    inside = cv2.erode(report.masks[0].repeat(4, 0).repeat(4, 1).astype(np.uint8), np.ones((5, 5))) > 0
    outline = draw_overlay(picture, report.masks[0], style="outline")
    assert np.array_equal(outline[inside], plain[inside]) and (outline == VERMILION).all(2).any()
    heat = draw_overlay(picture, report.masks[0], style="heat", opacity=1.0, ratio=report.ratios[0])
    level = report.ratios[0].repeat(4, 0).repeat(4, 1).astype(np.float32)
    scale = np.zeros_like(inside)
    scale[210:] = True  # the color scale is drawn there
    cold, hot = (level == 0) & ~scale, inside & ~scale
    assert (heat[cold].max(1) == heat[cold].min(1)).mean() > 0.95  # gray except for the outline
    light = heat[hot] @ np.array([0.299, 0.587, 0.114])
    strong = level[hot] > np.median(level[hot])
    assert light[strong].mean() > light[~strong].mean()  # hotter is brighter, with color blindness too


def test_side_by_side_shows_the_image_and_its_overlay(report, picture):
    both = _draw(report, picture, style="side by side")
    assert both.shape == (256, 2 * 256 + GAP, 3)
    assert np.array_equal(both[:, :256], enlarge(picture, 256))
    assert np.array_equal(both[:, 256 + GAP :], _draw(report, picture))


@pytest.mark.parametrize("color", COLORS)
def test_every_color_is_drawn_as_named(report, picture, color):
    assert (_draw(report, picture, color=COLORS[color], style="outline") == COLORS[color]).all(2).any()


def test_wrong_styles_and_ratios_are_rejected(report, picture):
    with pytest.raises(ValueError, match="overlay style must be one of tint"):
        _draw(report, picture, style="glow")
    with pytest.raises(ValueError, match="Style heat needs"):
        draw_overlay(picture, report.masks[0], style="heat")
    assert len(STYLES) == 4


def test_ratios_are_resized_to_the_images(report):
    large = ratios_at(report, 128, 128, 2)
    assert np.array_equal(large[0], report.ratios[0].repeat(2, 0).repeat(2, 1).astype(np.float32))


def test_before_is_on_the_left_and_after_on_the_right(report, picture):
    after = picture[::-1].copy()
    both = before_and_after(picture, after)
    assert both.shape == (256, 512 + SEAM, 3)
    for half, whole in ((both[40:, :256], picture), (both[40:, 256 + SEAM :], after)):  # below the labels
        assert np.array_equal(half, enlarge(whole, 256)[40:])
    assert (both[:, 256 : 256 + SEAM] == 255).all()
    marked = before_and_after(picture, after, report.masks[0])
    assert [(half == VERMILION).all(2).any() for half in (marked[:, :256], marked[:, 256 + SEAM :])] == [True, True]
    with pytest.raises(ValueError, match="must have the same size"):
        before_and_after(picture, picture[:32])


def test_a_contact_sheet_shows_every_image():
    pictures = [np.full((4, 6, 3), i, np.uint8) for i in range(5)]
    sheet = contact_sheet(pictures, gap=2)
    assert sheet.shape == (2 * 6 - 2, 3 * 8 - 2, 3)
    assert [int((sheet == i).all(axis=2).sum()) for i in range(5)] == [24] * 5
    default = contact_sheet(pictures)
    assert all(np.array_equal(a, b) for a, b in zip(split_sheet(default, 5), pictures, strict=True))
    with pytest.raises(ValueError, match="the same size"):
        contact_sheet([pictures[0], np.zeros((5, 6, 3), np.uint8)])
