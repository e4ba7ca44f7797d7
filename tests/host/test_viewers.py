"""A node that only shows something never stops a run: what it cannot show, it says, in its picture and on the node."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

VIEWERS = ("ASCED_Dynamics", "ASCED_Overlay", "ASCED_Compare", "ASCED_MaskPreview", "ASCED_DraftSheet")


@pytest.fixture
def view(pack):
    """Executes a viewer on a report of two images; returns its picture and its words."""

    def run(node, report):
        from asced.nodes.nodes_compare import ASCED_Compare

        image = torch.rand(2, 48, 64, 3, generator=torch.Generator().manual_seed(1))
        inputs = {"report": report, "image": image, "opacity": 0.5, "index": -1, "before": image, "after": image}
        cls = pack[node]
        cls.hidden = SimpleNamespace(unique_id="1", prompt=None, extra_pnginfo=None)
        taken = {spec.id for spec in cls.GET_SCHEMA().inputs}
        out = cls.execute(**{name: value for name, value in inputs.items() if name in taken})
        assert ("asced_compare" in out.ui) == issubclass(cls, ASCED_Compare)
        return out.args[0], out.ui["asced_text"][0]

    return run


@pytest.mark.parametrize("node", VIEWERS)
def test_a_run_that_was_not_watched_says_why_in_every_viewer(view, corrected, node):
    report = corrected(steps=3)[2]
    picture, words = view(node, report)
    assert report.summary() in words and "fewer than two steps" in words
    assert picture.ndim == 4 and picture.shape[-1] == 3
    assert (picture.min() < picture.max()) == (node != "ASCED_MaskPreview")  # its masks are empty


@pytest.mark.parametrize("node", VIEWERS)
def test_masks_without_the_steps_of_a_run_are_shown_by_every_viewer(view, corrected, node):
    from asced.asced_core.report.report import without_trace

    picture, words = view(node, replace(corrected()[2], **without_trace(2)))
    assert picture.ndim == 4 and picture.shape[-1] == 3
    assert words.startswith("There are no dynamics to plot.") == (node == "ASCED_Dynamics")


def test_the_notice_of_dynamics_has_the_size_of_its_plots(view, corrected):
    plot, nothing = view("ASCED_Dynamics", corrected()[2])
    notice, words = view("ASCED_Dynamics", corrected(steps=3)[2])
    assert nothing == "" and words
    assert notice.shape == plot.shape
    ink = (notice[0].mean(-1) < 0.7).nonzero()
    assert (ink.min(0).values > 20).all()  # nothing is cut off
    assert (ink.max(0).values < torch.tensor(notice.shape[1:3]) - 20).all()


def test_settings_say_on_the_node_what_they_are(pack):
    cls = pack["ASCED_Detection"]
    cls.hidden = SimpleNamespace(unique_id="1", prompt=None, extra_pnginfo=None)
    assert cls.execute(threshold=4.0).ui == {"asced_text": ["Mode strict, threshold 4."]}


def test_the_panel_of_a_large_batch_gets_a_small_message(pack):
    from asced.asced_core import DetectionSettings, DiscreteSchedule, RunFacts, Trajectory, vp_level

    alphas = torch.linspace(0.9999, 0.005, 1000, dtype=torch.float64).tolist()
    levels = [vp_level(alphas[place]) for place in range(999, -1, -20)] + [vp_level(1.0)]
    settings = DetectionSettings(mode="reference", base_size=64, min_area=20, min_width=4)
    trajectory = Trajectory.begin(levels, DiscreteSchedule.from_alphas_cumprod(alphas), settings)
    generator = torch.Generator().manual_seed(0)
    for step in range(50):
        denoised = 0.01 * torch.randn(64, 3, 64, 64, generator=generator)
        if step > trajectory.schedule.window.first:
            for top in range(4, 60, 14):
                denoised[:, :, top : top + 8, 10:20] += 0.8
                denoised[:, :, top : top + 8, 40:52] += 0.5
        trajectory.observe(step, denoised, denoised)
        if trajectory.is_due(step):
            trajectory.decide()
    report = trajectory.report(RunFacts("euler", image_size=(1024, 1024)))
    assert min(len(image.regions) for image in report.images) >= 2
    cls = pack["ASCED_MaskPreview"]
    cls.hidden = SimpleNamespace(unique_id="1", prompt=None, extra_pnginfo=None)
    ui = cls.execute(report=report).ui
    sizes = {name: len(json.dumps(part)) for name, part in ui.items()}
    assert sizes["asced_panel"] < 200_000 and sum(sizes.values()) < 400_000
