"""Mode strict: fewer marks than robust, and none where nobody would see a change."""

from __future__ import annotations

import torch

from asced_core import DetectionSettings, detect
from asced_core.detect.lasting import STRICT

SIDE = 128


def _frames(strength: float, *, wall: bool) -> torch.Tensor:
    """A window in which a smooth bump of light grows, on a flat wall or on a striped object next to it."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    still = torch.where(x > SIDE // 2, 0.4 * torch.sign(torch.sin(x * 0.8) * torch.sin(y * 0.8)), 0.0).float()
    center = (SIDE // 4, SIDE // 2) if wall else (3 * SIDE // 4, SIDE // 2)
    bump = strength * torch.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * 7.0**2))
    growth = (0, 0, 0, 0, 0.5, 1, 1, 1)
    return torch.stack([(still + g * bump)[None].repeat(3, 1, 1) for g in growth])


def _marks(frames: torch.Tensor, mode: str, scale: float = 3.0) -> int:
    return len(detect(frames, DetectionSettings(mode=mode, mad_scale=scale)).regions)


def test_a_faint_change_of_a_flat_wall_is_marked_by_robust_only():
    frames = _frames(0.15, wall=True)
    assert _marks(frames, "robust", 1.0) == 1
    assert _marks(frames, "strict", 1.0 / STRICT) == 0


def test_a_strong_change_is_marked_on_the_object_and_on_the_wall():
    for wall in (True, False):
        assert _marks(_frames(2.5, wall=wall), "strict") == 1


def test_strict_is_robust_at_a_higher_threshold_where_there_is_something_to_see():
    frames = _frames(1.2, wall=False)
    strict = detect(frames, DetectionSettings(mode="strict", mad_scale=2.0))
    robust = detect(frames, DetectionSettings(mode="robust", mad_scale=2.0 * STRICT))
    assert strict.regions and (strict.mask == robust.mask).all()


def test_every_mark_of_a_lasting_change_has_a_confidence():
    found = detect(_frames(2.5, wall=False), DetectionSettings(mode="strict"))
    assert all(region.confidence is not None and 0 < region.confidence < 1 for region in found.regions)
    other = detect(_frames(2.5, wall=False), DetectionSettings(mode="reference", base_size=256))
    assert all(region.confidence is None for region in other.regions)
