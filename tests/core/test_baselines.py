"""The baselines of the paper, compared with independent formulas or cases worked out by hand."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from asced_core import CorrectionSettings, DetectionSettings, RunFacts
from asced_core.baselines import pal
from asced_core.baselines.clipping import ScoreClipping
from asced_core.baselines.sargd import AdaptedSARGD
from asced_core.baselines.steering import Steering

from .runs import trajectory_of

SIGMAS = (10.0, 8.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0)
# the baselines act on the regions of the authors' detector
FIRM = DetectionSettings("reference", mad_scale=8, base_size=256)


def predictions(jump=2.0):
    """Calm predictions [2,3,64,64] for every step; in image 1 a square jumps at step 3."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(2, 3, 64, 64, generator=generator)
    out = []
    for step in range(8):
        frame = base + 0.01 * torch.randn(base.shape, generator=generator)
        if step >= 3:
            frame[1, :, 20:32, 20:32] += jump
        out.append(frame)
    return out


def run(method, frames=None, find=None, forbidden=None, **options):
    """A run with given states and predictions; returns its report, the steered predictions and the state at T_c."""
    frames = frames or predictions()
    correction = CorrectionSettings(method=method, expand=0, **options)
    trajectory = trajectory_of(FIRM, correction, sigmas=SIGMAS, ends=(8.0, 3.0), seed=5, find=find, forbidden=forbidden)
    steering = Steering(method, FIRM, trajectory.schedule.window, forbidden, find) if correction.steers else None
    steered, state = [], None
    for step, frame in enumerate(frames):
        x = torch.full_like(frame, float(step))
        steered.append(frame if steering is None else steering(step, frame))
        trajectory.observe(step, x, frame)
        if trajectory.is_due(step) and (decision := trajectory.decide()).acts:
            state = trajectory.correct(decision, x, frame)
    report = trajectory.report(RunFacts())
    return report if steering is None else steering.finish(report), steered, state


def corrected(report):
    return [image.corrected for image in report.images]


def test_replacement_by_the_prediction_at_t_c_equals_ttc_without_gamma():
    frames = predictions()
    frames[1] = frames[5].clone()  # the window's first prediction is the one at T_c: t' = T_c
    frames[1][1, 0, 0, 0] += 1e-3
    frames[5][1, 0, 0, 0] += 1e-3
    _, _, by_replacement = run("replace", frames)
    _, _, by_ttc = run("ttc", frames)
    assert by_ttc is not None and torch.equal(by_replacement, by_ttc)


def test_replacement_re_noises_the_first_prediction_of_the_window():
    report, _, state = run("replace", gamma=0.7)  # gamma does not apply
    mask = torch.from_numpy(report.masks[1])
    assert mask.any()
    first = predictions()[1][1]
    drawn = (state[1] - first)[:, mask] / SIGMAS[5]
    assert abs(float(drawn.mean())) < 0.2 and 0.8 < float(drawn.std()) < 1.2
    assert torch.equal(state[1][:, ~mask], torch.full_like(first, 5.0)[:, ~mask])


def test_clipping_limits_a_jump_to_the_threshold():
    """A flat image: a step of 0.1 everywhere, and a 3x3 square that jumps by 1; worked out by hand.

    Unsmoothed, the changes are 0.1 in 4087 cells and 1 in 9: median 0.1, MAD 0, threshold 0.1; the mean of the
    changes is 0.1 + 9 * 0.9 / 4096, which is larger and therefore the limit.
    """
    settings = DetectionSettings(base_size=300)  # no smoothing at this scale
    clip = ScoreClipping(settings, (1, 1, 64, 64), torch.device("cpu"))
    before = torch.zeros(1, 1, 64, 64)
    after = before + 0.1
    after[..., 10:13, 10:13] = 1.0
    assert torch.equal(clip(4, before), before)
    got = clip(5, after)
    limit = 0.1 + 9 * 0.9 / 4096
    expected = after.clone()
    expected[..., 10:13, 10:13] = limit
    torch.testing.assert_close(got, expected)
    assert clip.touched.tolist() == [True]
    torch.testing.assert_close(clip(5, after), expected)  # a sampler may evaluate a step twice


def test_clipping_only_changes_the_jump():
    frames = predictions()
    report, steered, _ = run("clip")
    assert corrected(report) == [False, True] and report.corrected_steps == (5,)
    for step, (got, given) in enumerate(zip(steered, frames, strict=True)):
        if step != 3:
            continue
        inside = (got - given)[1, :, 22:30, 22:30]
        assert float(inside.max()) < -1.0, "the jump of 2 is limited"
        assert torch.equal(got[:, :, :12, :12], given[:, :, :12, :12])


@pytest.mark.parametrize("method", ["clip", "sargd"])
def test_a_calm_run_stays_bit_identical(method):
    frames = [torch.full((2, 3, 64, 64), 0.5)] * 8
    report, steered, state = run(method, frames)
    assert all(torch.equal(a, b) for a, b in zip(steered, frames, strict=True))
    assert state is None and corrected(report) == [False, False] and report.corrected_steps == ()


def test_sargd_changes_nothing_with_an_empty_mask_and_returns_the_guide_with_a_full_one():
    frames = predictions()
    empty = AdaptedSARGD(lambda x: torch.zeros_like(x[:, 0], dtype=torch.bool), 2, torch.device("cpu"))
    assert all(torch.equal(empty(i, f), f) for i, f in enumerate(frames))
    assert empty.touched.tolist() == [False, False]
    full = AdaptedSARGD(lambda x: torch.ones_like(x[:, 0], dtype=torch.bool), 2, torch.device("cpu"))
    assert all(torch.equal(full(i, f), frames[0]) for i, f in enumerate(frames))


def test_sargd_follows_algorithm_2():
    frames = predictions()
    generator = torch.Generator().manual_seed(1)
    masks = [torch.rand(2, 64, 64, generator=generator) > 0.7 for _ in frames]
    queue = iter(masks)
    ours = AdaptedSARGD(lambda _: next(queue), 2, torch.device("cpu"))
    guide = frames[0].double()
    for step, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        m = mask[:, None].double()
        expected = m * guide + (1 - m) * frame.double()
        r = (1 - m.mean((1, 2, 3), keepdim=True)).double()
        guide = r * expected + (1 - r) * guide
        torch.testing.assert_close(ours(step, frame).double(), expected, atol=1e-5, rtol=0)


def test_another_detector_replaces_the_dynamics():
    found = np.zeros((2, 128, 128), bool)
    found[0, 64:66, 64:66] = True  # in image 0, which does not change; a single cell of the state
    report, _, state = run("ttc", find=lambda images: found)
    assert [len(image.regions) for image in report.images] == [1, 0]
    assert report.masks[0].sum() == 1 and report.masks[0, 32, 32] and report.images[0].score == 1
    changed = state != 5.0
    assert changed[0, :, 32, 32].all() and changed.sum() == 3
    _, steered, _ = run("sargd", find=lambda images: found)
    frames = predictions()
    differs = (steered[4] != frames[4]).any(1)
    assert differs[0, 32, 32] and differs.sum() == 1


def test_another_detector_runs_on_the_prediction_at_t_c():
    seen = []
    run("ttc", find=lambda images: seen.append(images) or np.zeros((2, 64, 64), bool))
    assert len(seen) == 1 and torch.equal(seen[0], predictions()[5])


def test_another_detector_respects_protected_areas():
    protect = np.zeros((1, 64, 64), bool)
    protect[:, :, 32:] = True
    report, _, state = run("ttc", find=lambda images: np.ones((2, 64, 64), bool), forbidden=protect)
    assert report.masks[:, :, :32].all() and not report.masks[:, :, 32:].any()
    assert (state[..., :32] != 5.0).all() and (state[..., 32:] == 5.0).all()


@pytest.mark.parametrize("method", ["clip", "sargd"])
def test_no_baseline_changes_protected_areas(method):
    frames = predictions()
    _, steered, _ = run(method, forbidden=np.ones((1, 64, 64), bool))
    assert all(torch.equal(a, b) for a, b in zip(steered, frames, strict=True))


class Reddish(nn.Module):
    """Labels red pixels as artifacts; stands in for a trained network."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, 0] > 1.0).long()


def test_a_torchscript_detector_handles_any_aspect_ratio(tmp_path):
    file = tmp_path / "end2end.pt"
    torch.jit.script(Reddish()).save(str(file))
    detector = pal.PALDetector.load(file)
    pictures = torch.full((2, 3, 96, 160), -1.0)
    pictures[1, 0, 24:48, 80:120] = 1.0
    masks = detector(pictures)
    expected = np.zeros((96, 160), bool)
    expected[24:48, 80:120] = True
    assert masks.shape == (2, 96, 160)
    assert not masks[0].any()
    union, both = (masks[1] | expected).sum(), (masks[1] & expected).sum()
    assert both / union > 0.9
    np.testing.assert_allclose(pal.artifact_ratio(masks), [0, masks[1].mean()])


def test_the_letterbox_centers_and_keeps_the_aspect_ratio():
    box, edges = pal.letterbox(torch.ones(1, 3, 100, 200))
    assert edges == (128, 0, 384, 512)
    assert float(box[..., 128:384, :].min()) == 1.0 and float(box[..., :128, :].abs().max()) == 0.0


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "There is no file"),
        ("pickle", "without the network's code"),
        ("weights", "without the network's code"),
        ("safetensors", "another kind of file"),
        ("text", "another kind of file"),
        ("half", "or incomplete"),
        ("hollow", "cannot be read"),
    ],
)
def test_other_files_are_rejected_with_one_sentence(tmp_path, what, message):
    file = tmp_path / "detector.pt"
    if what == "pickle":
        torch.save(Reddish(), file)
    elif what == "weights":
        torch.save({"a": torch.zeros(1)}, file)
    elif what == "safetensors":
        save_file({"a": torch.zeros(1)}, str(file))
    elif what == "text":
        file.write_text("hello")
    elif what == "half":
        torch.jit.script(Reddish()).save(str(file))
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif what == "hollow":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("detector/code/__torch__.py", "")
    with pytest.raises(ValueError, match=message) as caught:
        pal.PALDetector.load(file)
    assert str(caught.value).endswith(
        "expected a TorchScript file written by torch.jit.save, such as PAL's end2end.pt."
    )


class FourChannels(nn.Module):
    """Expects four input channels, but gets three."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x).argmax(1)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Identity(), r"returned float32 \(1, 3, 512, 512\)"),
        (nn.MaxPool2d(2, return_indices=True), "returned tuple"),
        (torch.jit.script(FourChannels()), "failed on an image .*expected input.* to have 4 channels"),
    ],
)
def test_an_unsuitable_network_is_rejected_with_one_sentence(network, message):
    with pytest.raises(ValueError, match=message) as caught:
        pal.PALDetector(network)(torch.zeros(1, 3, 8, 8))
    assert "integer labels 512x512" in str(caught.value) and "\n" not in str(caught.value)


def test_a_detector_only_accepts_rgb():
    with pytest.raises(ValueError, match="needs RGB images"):
        pal.PALDetector(nn.Identity())(torch.zeros(1, 4, 8, 8))


def test_a_change_without_a_region_over_the_window_is_noted():
    """Regions of normal size at single steps, but one too large over the whole window, which is dropped."""
    frames = predictions()
    for step in range(2, 5):  # another third of image 0 jumps at each step
        for later in range(step, 8):
            frames[later][0, :, (step - 2) * 21 : (step - 1) * 21, :20] += 2.0
    report, steered, _ = run("clip", frames)
    assert report.images[0].corrected and not report.images[0].regions
    assert "1 image changed at single steps" in report.notes[-1]
    assert any((a[0] != b[0]).any() for a, b in zip(steered, frames, strict=True))
