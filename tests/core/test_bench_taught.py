"""The benchmarks of taught detectors and of confidence, on small made-up cases."""

from __future__ import annotations

import numpy as np
import torch

from asced_core import CorrectionSettings, DetectionSettings
from asced_core.teach import Course, Material, TaughtFacts
from benchmarks.confidence import marks_in
from benchmarks.detection_sets import boxed
from benchmarks.hands import HandSampler, correct, record, to_uint8
from benchmarks.place import centered, row
from benchmarks.teach import from_runs, taught

SIDE = 64


def _planted() -> torch.Tensor:
    """Predictions [9,2,3,64,64] of two striped images; in the first one a patch appears in mid-window."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    frames = (0.3 * torch.sign(torch.sin(x * 0.8) * torch.sin(y * 0.8))).float().expand(9, 2, 3, SIDE, SIDE).clone()
    frames[5:, 0, :, 20:32, 24:36] += 1.5
    return frames


def test_a_mark_is_right_where_the_judge_drew_a_box_and_nowhere_else():
    settings = DetectionSettings(mode="strict", base_size=256)
    inside = marks_in(_planted(), boxed([[(22, 18, 38, 34)], []], SIDE), settings)
    outside = marks_in(_planted(), boxed([[(0, 40, 10, 60)], []], SIDE), settings)
    assert inside.right.tolist() == [True] and outside.right.tolist() == [False]
    assert inside.marked.tolist() == inside.faulty.tolist() == [True, False]
    assert 0 < inside.confidences[0] < 1


def test_place_is_measured_within_the_hand():
    hands = np.zeros((2, SIDE, SIDE), bool)
    hands[:, 10:40, 10:40] = True
    boxes = boxed([[(10, 10, 20, 20)], [(30, 30, 40, 40)]], SIDE)
    maps = np.zeros((2, SIDE, SIDE), np.float32)
    maps[0, 15, 15] = 1  # inside of the box
    maps[1, 12, 12] = 1  # inside of the hand, not of the box
    maps[:, 60, 60] = 9  # outside of the hand: does not count
    strongest, area = row(maps, hands, boxes)
    assert strongest.value == 0.5 and 0.4 < area.value < 0.6
    prior = row(centered(torch.zeros(9, 2, 3, SIDE, SIDE)), hands, boxes)[1]
    assert 0.4 < prior.value < 0.6  # one box is near the center, one is far


def test_a_detector_taught_on_a_few_runs_corrects_what_it_marks_and_nothing_else(tmp_path):
    sampler = HandSampler("early", steps=12)
    material = Material.joined(list(from_runs(sampler, 12)))
    assert material.runs.shape == (12, 3, 3, SIDE, SIDE) and len(material.grown) == 24
    detector = taught(material, Course(steps=4, batch=4, width=8), TaughtFacts(runs=12))
    run = record(sampler, [0, 1, 2, 3])
    settings = detector.applied(DetectionSettings(base_size=256, max_area=60000), 0.5)
    out = correct(sampler, run, settings, CorrectionSettings(method="redo"), learned=detector.learned)
    same = (out.images == to_uint8(run.images)).all((1, 2, 3))
    assert (out.corrected | same).all() and (out.masks.any((1, 2)) | ~out.corrected).all()
