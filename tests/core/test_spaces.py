"""Settings mean the same in every space and at every size; masks stay where they belong."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from asced_core import CorrectionSettings, DetectionSettings, Space
from asced_core.detect.single_steps import PLAIN, SingleSteps
from asced_core.detect.space import linear_rgb
from asced_core.maps import as_images, feather, resize_mask, touched_cells

from .runs import feed, trajectory_of

ANYWHERE = DetectionSettings(mad_scale=6, space="auto")


def _upscaled(factor):
    return lambda latent: F.interpolate(latent[:, :3], scale_factor=factor, mode="bilinear")


def _blob(height, width, side, steps=8):
    """Frames [1,3,H,W] of a calm image in which a square of ``side`` px (of a 256-px image) jumps and stays."""
    generator, f = torch.Generator().manual_seed(1), (height * width) ** 0.5 / 256
    if height * width > 10**6:
        steps = 4
    small = torch.rand(1, 3, 16, 16, generator=generator) * 0.4 - 0.2
    base, frames, n = F.interpolate(small, (height, width), mode="bilinear"), [], round(side * f)
    for step in range(steps):
        grain = torch.randn(1, 3, 32, 32, generator=generator)
        base = base + 0.01 * F.interpolate(grain, (height, width), mode="bilinear")
        frame = base.clone()
        if step >= steps // 2:
            frame[..., height // 3 : height // 3 + n, width // 2 : width // 2 + n] += 0.8
        frames.append(frame)
    return frames


SIZES = [(64, 64), (128, 128), (256, 256), (512, 512), (2048, 2048), (222, 666)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_sizes_are_in_pixels_of_a_256_px_image_at_every_size(height, width):
    """A 20-px square is detected and an 8-px square is too small, from 64 to 2048 px and at 1:3."""
    for side, found in ((20, 1), (8, 0)):
        trajectory = trajectory_of(DetectionSettings(mad_scale=6, min_area=300, min_width=10))
        for step, frame in enumerate(_blob(height, width, side)):
            trajectory.observe(trajectory.schedule.window.first + step, frame, frame)
        decision = trajectory.decide()
        assert len(decision.detections[0].regions) == found, (side, height, width)


@pytest.mark.parametrize("factor", [1, 4, 8])
def test_a_region_is_detected_at_the_right_place_in_every_space(planted, factor):
    trajectory = trajectory_of(ANYWHERE, space=Space("x", _upscaled(factor)))
    feed(trajectory, planted(batch=3))
    assert trajectory.decision.corrected == [True, False, False]
    mask = trajectory.detections[0].mask
    assert mask.shape == (64 * factor, 64 * factor)
    rows, columns = np.argwhere(mask).mean(0) / factor
    assert rows == pytest.approx(64 // 3 + 5, abs=1.5) and columns == pytest.approx(64 // 2 + 5, abs=1.5)


@pytest.mark.parametrize("factor", [1, 4, 8])
def test_exactly_the_touched_cells_are_corrected(planted, factor):
    trajectory = trajectory_of(ANYWHERE, CorrectionSettings(expand=0), space=Space("x", _upscaled(factor)))
    before, after = feed(trajectory, planted(batch=2))
    cells = trajectory.detections[0].mask.reshape(64, factor, 64, factor).any((1, 3))
    changed = (before != after).any(1).numpy()
    assert np.array_equal(changed[0], cells) and not changed[1].any()


def test_any_part_of_a_mask_touches_its_cell_at_any_two_sizes():
    rng = np.random.default_rng(0)
    for height, width, h, w in ((72, 104, 9, 13), (100, 50, 7, 5), (5, 7, 5, 7), (64, 64, 63, 65), (10, 10, 40, 20)):
        mask = rng.random((height, width)) < 0.03
        touched = touched_cells(mask, h, w)
        for row in range(h):
            for column in range(w):
                top, bottom = row * height / h, (row + 1) * height / h
                left, right = column * width / w, (column + 1) * width / w
                rows = [r for r in range(height) if r < bottom - 1e-9 and r + 1 > top + 1e-9]
                columns = [c for c in range(width) if c < right - 1e-9 and c + 1 > left + 1e-9]
                assert touched[row, column] == mask[np.ix_(rows, columns)].any()


def test_downscaling_a_mask_loses_no_pixel():
    mask = np.zeros((101, 67), bool)
    mask[50, 33] = True
    assert resize_mask(mask, 8, 8)[3, 3] and resize_mask(mask, 8, 8)[4, 4] and resize_mask(mask, 7, 7).sum() == 1
    assert resize_mask(resize_mask(mask, 8, 8), 101, 67)[50, 33]


def test_forbidden_areas_are_neither_marked_nor_changed(planted):
    """Half of the artifact is protected, by a mask at image size: only the other half is corrected."""
    forbidden = np.zeros((1, 512, 512), bool)
    forbidden[:, :, : (32 + 5) * 8 + 3] = True  # ends inside a cell
    trajectory = trajectory_of(correction=CorrectionSettings(expand=8), forbidden=forbidden)
    before, after = feed(trajectory, planted())
    changed = (before != after).any(1)[0].numpy()
    assert changed.any() and not changed[:, :38].any()
    assert not trajectory.detections[0].mask[:, :38].any()


def test_each_image_uses_its_own_mask(planted):
    frames = planted()
    frames = [frame.repeat(2, 1, 1, 1) for frame in frames]
    trajectory = trajectory_of(forbidden=np.stack([np.zeros((64, 64), bool), np.ones((64, 64), bool)]))
    feed(trajectory, frames)
    assert trajectory.decision.corrected == [True, False]


def test_a_mask_that_is_too_large_is_not_corrected_and_noted(planted):
    trajectory = trajectory_of(correction=CorrectionSettings(max_corrected_share=0.02))
    assert feed(trajectory, planted()) is None
    assert trajectory.detections[0].regions and trajectory.decision.corrected == [False]
    assert len(trajectory.decision.notes) == 1 and "max_corrected_share" in trajectory.decision.notes[0]


def test_many_masks_that_are_too_large_get_one_note(planted):
    frames = [frame.repeat(9, 1, 1, 1) for frame in planted()]
    for count, words in ((1, "Image 1 is"), (2, "Images 1 and 2 are"), (9, "9 images are")):
        trajectory = trajectory_of(correction=CorrectionSettings(max_corrected_share=0.02))
        feed(trajectory, [frame[:count] for frame in frames])
        (note,) = trajectory.decision.notes
        assert note.startswith(f"{words} not corrected: {'its mask covers' if count == 1 else 'their masks cover'}")
        assert trajectory.decision.corrected == [False] * count


class _Halving:
    """A lossy codec: images at twice the size, and a round trip that darkens."""

    def decode(self, latent):
        return F.interpolate(latent, scale_factor=2) * 0.9

    def encode(self, picture):
        return F.avg_pool2d(picture, 2) * 0.9


def test_pixel_space_changes_nothing_outside_the_mask(planted):
    correction = CorrectionSettings(gamma=0.5, perturb_in="pixel", expand=0)
    trajectory = trajectory_of(correction=correction, codec=_Halving(), seed=3)
    before, after = feed(trajectory, planted(batch=2))
    changed = (before != after).any(1).numpy()
    assert np.array_equal(changed[0], trajectory.detections[0].mask) and not changed[1].any()


def test_pixel_space_only_adds_the_perturbation(planted):
    """The codec's round-trip error cancels out: only gamma's part differs from latent space."""
    states = {}
    for gamma in (0.0, 1e-4, 0.5):
        trajectory = trajectory_of(
            correction=CorrectionSettings(gamma=gamma, perturb_in="pixel"), codec=_Halving(), seed=3
        )
        _, states[gamma] = feed(trajectory, planted())
    _, latent = feed(trajectory_of(correction=CorrectionSettings(), seed=3), planted())
    assert torch.equal(states[0.0], latent)
    torch.testing.assert_close(states[1e-4], latent, atol=1e-3, rtol=0)
    assert (states[0.5] - latent).abs().max() > 0.1


def test_the_feather_fades_in_inside_the_mask():
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    weight = feather(mask, 3)
    assert not weight[~mask].any() and weight[10, 10] == 1
    assert (np.diff(weight[10, 4:9]) > 0).all()
    assert np.array_equal(feather(mask, 0) > 0, mask)
    assert feather(np.ones((8, 8), bool), 3).min() == 1  # the image border is not an edge


def test_pixel_space_without_a_codec_is_rejected(planted):
    trajectory = trajectory_of(correction=CorrectionSettings(gamma=0.5, perturb_in="pixel"))
    with pytest.raises(ValueError, match="needs a codec"):
        feed(trajectory, planted())


def test_the_frames_of_a_video_are_watched_separately_and_corrected_together():
    """Two videos of nine frames; the second one has the square in frames 3 to 6."""
    frames = []
    for one in _blob(64, 64, 60):
        calm, _ = one.clone(), one
        if len(frames) >= 4:
            calm[..., 21:36, 32:47] -= 0.8
        video = calm[:, :, None].repeat(2, 1, 9, 1, 1)
        video[1, :, 3:7] = one[0, :, None]
        frames.append(video + 0.002 * torch.randn(video.shape, generator=torch.Generator().manual_seed(len(frames))))
    trajectory = trajectory_of(detection=DetectionSettings(mad_scale=6))
    before, after = feed(trajectory, frames)
    assert [i for i, on in enumerate(trajectory.decision.corrected) if on] == [9 + 3, 9 + 4, 9 + 5, 9 + 6]
    assert trajectory.decision.acting(2) == [False, True]
    changed = (before != after).any(1).flatten(2).any(2)
    assert changed.tolist() == [[False] * 9, [3 <= t < 7 for t in range(9)]]


def test_smoothing_over_frames_equals_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    frames = torch.rand(3, 2 * 9, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    settings = DetectionSettings(smooth_frames=1.5)
    steps = SingleSteps(settings, (18, 3, 16, 16), frames.device, frames=9, rule=PLAIN)
    seen = []
    steps._add = seen.append
    for frame in frames:
        steps.push_value(frame)
    plain = (frames[1] - frames[0]).abs().view(2, 9, 3, 16, 16).numpy()
    expected = ndimage.gaussian_filter1d(plain, 1.5, axis=1)
    np.testing.assert_allclose(seen[0].view(2, 9, 3, 16, 16).numpy(), expected, atol=1e-5)


def test_frames_are_smoothed_in_any_memory_layout():
    """A video model may return a transposed tensor, as Wan with uni_pc does."""
    detection = DetectionSettings(smooth_frames=1.0)
    seen = []
    for order in (lambda x: x, lambda x: x.transpose(0, -1).contiguous().transpose(0, -1)):
        steps = SingleSteps(detection, (9, 3, 16, 16), torch.device("cpu"), frames=9, rule=PLAIN)
        steps._add = seen.append
        for frame in torch.rand(2, 9, 3, 16, 16, generator=torch.Generator().manual_seed(0)):
            steps.push_value(order(frame))
    torch.testing.assert_close(seen[1], seen[0])


def test_frames_become_images_in_order():
    video = torch.arange(2 * 3 * 4 * 5 * 6).view(2, 3, 4, 5, 6)
    images = as_images(video)
    assert images.shape == (8, 3, 5, 6) and torch.equal(images[5], video[1, :, 1])
    assert as_images(images) is images


def test_rgb_is_the_linear_map():
    matrix, latent = torch.rand(3, 5), torch.rand(2, 4, 6, 7)
    expected = torch.einsum("dc,bchw->bdhw", matrix[:, :4], latent) + matrix[:, 4, None, None]
    torch.testing.assert_close(linear_rgb(matrix)(latent), expected)


@pytest.mark.parametrize("interval", [1, 3, 4])
def test_every_nth_step_is_watched_and_always_the_last_one(interval):
    seen = []

    def view(images):
        seen.append(round(float(images.mean())))
        return images

    settings = DetectionSettings(mad_scale=6, step_interval=interval)
    trajectory = trajectory_of(settings, space=Space("latent", view))
    window = trajectory.schedule.window
    for step in range(25):
        frame = torch.full((1, 3, 64, 64), float(step))
        trajectory.observe(step, frame, frame)
    assert seen == sorted({*range(window.first, window.last + 1, interval), window.last})


def test_a_space_that_does_not_match_the_settings_is_rejected():
    with pytest.raises(ValueError, match="use space vae, but the Space passed in is latent"):
        trajectory_of(DetectionSettings(space="vae"))
