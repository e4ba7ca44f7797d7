"""Drafts with any sampler, patch, mode and number to keep: nothing about one changes what holds for another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from . import foreign
from .conftest import FIRM, examples
from .drafts import MODES, row_by_row, same
from .models import with_artifact
from .patches import counting, drawing, on_the_network, smoothing, wrapping

PATCHES = {
    "none": lambda: lambda model: model,
    "plain": lambda: wrapping(lambda run, args: run(args["input"]) * 0.99),
    "counter": lambda: counting("attribute"),
    "closure": lambda: counting("closure"),
    "network": on_the_network,
    "smoothing": smoothing,
    "noise": lambda: drawing("own torch"),
    "numpy noise": lambda: drawing("own numpy"),
}
FOREIGN = {
    "plain": foreign.euler,
    "late": lambda: foreign.euler(report="late"),
    "in place": lambda: foreign.euler(in_place=True),
    "noisy": foreign.seeded_once,
    "numpy": lambda: foreign.of_numpy,
    "detailed": lambda: foreign.detailed(),
}
OWN = ("euler", "heun", "dpmpp_2s_ancestral", "dpmpp_sde", "lms", "uni_pc", "euler_cfg_pp", "res_multistep", "er_sde",
       "dpm_fast", "sa_solver_pece", "seeds_2")  # fmt: skip


@examples(12)
@given(
    sampler=st.sampled_from([*OWN, *FOREIGN]), patch=st.sampled_from(list(PATCHES)), mode=st.sampled_from(MODES),
    keep=st.integers(1, 4), decide_at=st.sampled_from([0.05, 0.28, 0.5, 0.95]), steps=st.sampled_from([3, 6, 11]),
    also=st.sampled_from(["", "1", "4, 2"]), artifact=st.booleans(), denoise=st.sampled_from([1.0, 0.6]),
)  # fmt: skip
def test_any_sampler_patch_and_choice(
    drafted, detection, hands, monkeypatch, sampler, patch, mode, keep, decide_at, steps, also, artifact, denoise
):
    import comfy.k_diffusion.sampling
    from comfy.samplers import KSampler

    if sampler in FOREIGN:
        monkeypatch.setattr(comfy.k_diffusion.sampling, "sample_of_a_pack", FOREIGN[sampler](), raising=False)
        monkeypatch.setattr(KSampler, "SAMPLERS", [*KSampler.SAMPLERS, "of_a_pack"])
        sampler = "of_a_pack"
    widgets = {"sampler_name": sampler, "at_once": mode, "steps": steps, "denoise": denoise}
    if artifact:
        widgets["detection"] = detection(**{**FIRM, "min_area": 100})

    def model():
        made = PATCHES[patch]()(row_by_row(hands.eps))
        return with_artifact(made, images=(0, 1, 2, 3)) if artifact else made

    whole, _, every = drafted(model(), keep=4, decide_at=decide_at, **widgets)
    picked, report, places = drafted(model(), keep=keep, decide_at=decide_at, also_finish=also, **widgets)
    assert every == [0, 1, 2, 3]
    named = {int(word) - 1 for word in also.replace(",", " ").split()}
    assert len(places) == len(picked)
    assert keep <= len(places) <= min(4, keep + len(named))
    assert named <= set(places)
    assert same(picked, whole, places)
    assert len(report.images) == len(places)
    assert [image.index for image in report.images] == list(range(len(places)))
