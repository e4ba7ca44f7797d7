"""ASCED_DraftAndPick, ASCED_Drafts and ASCED_DraftSheet: many drafts, of which only the best are finished."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from ..asced_core import Report
from ..asced_core.draw.draft_sheet import draft_sheet
from ..asced_core.draw.notice import notice
from ..asced_core.report.drafts import Drafts
from . import sockets
from .images import found_in, frames_each, preview, to_pictures
from .inputs import (
    check_conditioning,
    check_latent,
    image_input,
    report_input,
    sampling_inputs,
    seed_input,
    sensitivity_input,
    settings_inputs,
)
from .page import status
from .page.preview import show_last
from .presets import FEW, sensitive
from .sampling.drafting import Job, all_at_once, one_by_one
from .sampling.options import (
    DEFAULT_CORRECTION,
    DEFAULT_DRAFTS,
    CorrectionOptions,
    DetectionOptions,
    DraftOptions,
)
from .sampling.seeds import repeated, seeds_from

MOST_DRAFTS = 4096
EMPTY_SHEET = (512, 768)  # height and width in pixels
NO_PICTURES = {"images": [], "animated": (False,)}
WAYS = {"all": all_at_once, "one": one_by_one}


def _keep_input() -> Any:
    return io.Int.Input(
        "keep",
        default=1,
        min=1,
        max=MOST_DRAFTS,
        tooltip="How many drafts are finished: those with the best run score.",
    )


def _decide_at_input() -> Any:
    return io.Float.Input(
        "decide_at",
        default=DEFAULT_DRAFTS.decide_at,
        min=0.05,
        max=0.95,
        step=0.01,
        tooltip="Share of the steps after which the drafts are compared. Later costs more time. On our models, 0.2 to "
        "0.36 pick equally well.",
    )


class ASCED_DraftAndPick(io.ComfyNode):
    """KSampler that starts many seeds and finishes the best."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_DraftAndPick",
            display_name="ASCED Draft and Pick",
            category=sockets.SAMPLING,
            description="KSampler that starts several seeds, compares the drafts early in the run, and finishes only "
            "the best.",
            **sockets.found_by(
                "best of", "pick image", "seed search", "batch", "cancel bad images", "bad hands", "bad anatomy"
            ),
            inputs=[
                io.Model.Input("model", tooltip="The model used for denoising."),
                seed_input("seed", "Seed of the first draft. The next ones use seed + 1, seed + 2 and so on."),
                io.Int.Input("drafts", default=8, min=1, max=MOST_DRAFTS, tooltip="How many seeds are started."),
                _keep_input(),
                _decide_at_input(),
                *sampling_inputs(),
                io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip="As in KSampler."),
                *settings_inputs(),
                io.Combo.Input(
                    "at_once",
                    optional=True,
                    options=list(WAYS),
                    default="all",
                    tooltip="all: the drafts are one batch. one: one after another, for cards that hold one image; as "
                    "fast, and bit-for-bit what KSampler makes with each seed.",
                ),
                io.String.Input(
                    "also_finish",
                    optional=True,
                    default="",
                    tooltip="Numbers of drafts that are finished as well, such as 3, 12: those on the draft sheet, "
                    "counted from 1.",
                ),
                sensitivity_input(),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="LATENT", tooltip="The finished images, in order of seed."),
                *sockets.run_outputs(),
                io.String.Output("seeds", display_name="seeds", tooltip="Their seeds, separated by commas."),
            ],
            hidden=[io.Hidden.unique_id],
            **sockets.keeps_result_text(),
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        seed: int,
        drafts: int,
        keep: int,
        decide_at: float,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        detection: DetectionOptions | None = None,
        correction: CorrectionOptions = DEFAULT_CORRECTION,
        at_once: str = "all",
        also_finish: str = "",
        sensitivity: str = FEW,
        **widgets: Any,
    ) -> io.NodeOutput:
        check_latent(latent_image)
        check_conditioning(positive, negative, widgets["cfg"])
        seeds = seeds_from(seed, drafts)
        job = Job(
            model, repeated(latent_image, drafts), positive, negative, sensitive(detection, sensitivity),
            correction, DraftOptions(keep, decide_at, _places(also_finish, drafts), seeds), widgets,
        )  # fmt: skip
        latent, report, original = WAYS[at_once](job)
        if report.drafts is not None:
            seeds = tuple(seeds[place] for place in report.drafts.kept)
        shown = NO_PICTURES
        if report.drafts is not None:
            sheet = _sheet(report.drafts)
            show_last(sheet)
            shown = preview(sheet, cls)
        outputs = (latent, *found_in(report), original, ", ".join(map(str, seeds)))
        return status.told(cls, report.summary(), *outputs, shown=shown)


class ASCED_Drafts(io.ComfyNode):
    """Settings: how many images of a batch are finished."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_Drafts",
            display_name="ASCED Drafts",
            category=sockets.SETTINGS,
            description="Makes an ASCED sampler treat the images of its batch as drafts: it compares them early in the "
            "run and finishes only the best.",
            **sockets.found_by("best of", "pick image", "batch"),
            inputs=[_keep_input(), _decide_at_input()],
            outputs=[sockets.Drafts.Output("drafts", display_name="DRAFTS", tooltip="For an ASCED sampler.")],
        )

    @classmethod
    def execute(cls, keep: int, decide_at: float) -> io.NodeOutput:
        return io.NodeOutput(DraftOptions(keep, decide_at))


class ASCED_DraftSheet(io.ComfyNode):
    """All drafts of a run in one picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_DraftSheet",
            display_name="ASCED Draft Sheet",
            category=sockets.VIEW,
            description="Shows all drafts of a run in one picture, with number, rank, run score and seed. Those that "
            "were finished are framed.",
            **sockets.found_by("contact sheet", "show drafts", "compare seeds"),
            inputs=[
                report_input(),
                image_input(
                    "The decoded images of the finished drafts, shown in place of their drafts.",
                    True,
                ),
            ],
            outputs=[io.Image.Output("sheet", display_name="IMAGE", tooltip="The sheet, one picture.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, report: Report, image: torch.Tensor | None = None) -> io.NodeOutput:
        words = ""
        if report.drafts is None:
            words = (
                "This REPORT has no drafts: connect the one of ASCED Draft and Pick, or of a sampler that ASCED Drafts "
                f"is connected to. {report.summary()}"
            )
            sheet = torch.from_numpy(notice(words, *EMPTY_SHEET)[None]).float() / 255
        else:
            sheet = _sheet(report.drafts, {} if image is None else _by_draft(report, image))
        return status.told(cls, words, sheet, shown=preview(sheet, cls))


def _sheet(drafts: Drafts, finished: dict[int, np.ndarray] | None = None) -> torch.Tensor:
    """The sheet as a ComfyUI IMAGE."""
    return torch.from_numpy(draft_sheet(drafts, finished)[None]).float() / 255


def _by_draft(report: Report, image: torch.Tensor) -> dict[int, np.ndarray]:
    """The decoded images by their drafts; of a video, its middle frame."""
    each, frames = frames_each(report, image), report.run.frames
    middle = to_pictures(image[each // 2 :: each])
    drafts = (found.draft for found in report.images[::frames])
    return {draft: picture for draft, picture in zip(drafts, middle, strict=True) if draft is not None}


def _places(text: str, drafts: int) -> tuple[int, ...]:
    """Places, from 0, of drafts that are named by their numbers, from 1.

    Raises:
        ValueError: the text is no list of such numbers.
    """
    words = [word for word in re.split(r"[,;\s]+", text) if word]
    if any(not word.isdecimal() or not 1 <= int(word) <= drafts for word in words):
        raise ValueError(
            f"also_finish must be numbers of drafts from 1 to {drafts}, separated by commas, such as 3, 12; got "
            f"{text.strip()!r}."
        )
    return tuple(dict.fromkeys(int(word) - 1 for word in words))


NODES = [ASCED_DraftAndPick, ASCED_Drafts, ASCED_DraftSheet]
