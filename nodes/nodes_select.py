"""ASCED_Gate and ASCED_BestOfBatch: go on with the images of a batch that have the least marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..asced_core import Report
from ..asced_core.report.selection import Verdict, cleanest, part_of, passing, verdicts
from . import sockets
from .inputs import check_latent, report_input
from .page import status


class ASCED_Gate(io.ComfyNode):
    """Parts the images of a batch with little marked from the others."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_Gate",
            display_name="ASCED Gate",
            category=sockets.SELECT,
            description="Parts the images of a batch of which little is marked from those of which much is. "
            "Nodes behind an empty side do not run.",
            **sockets.found_by("filter images", "quality check", "reject bad images"),
            inputs=[
                io.Latent.Input("samples", tooltip="The LATENT of the sampler that the report is about."),
                report_input(),
                io.Float.Input(
                    "max_marked_percent",
                    optional=True,
                    default=2.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    tooltip="Images are kept if no more than this is marked, in percent of the image; 0 keeps only "
                    "those without a region.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "kept",
                    display_name="kept",
                    tooltip="The images with little marked; without any, nothing behind it runs.",
                ),
                io.Latent.Output(
                    "rejected",
                    display_name="rejected",
                    tooltip="The other images; without any, nothing behind it runs.",
                ),
                io.Float.Output(
                    "score", display_name="score", tooltip="The highest score in the batch; 0: there is no region."
                ),
                io.Int.Output("regions", display_name="regions", tooltip="Number of artifact regions in the batch."),
                io.Boolean.Output(
                    "clean", display_name="clean", tooltip="True if the run was watched and no image is rejected."
                ),
                io.String.Output("summary", display_name="summary", tooltip="What was found, in words."),
                sockets.Report.Output(
                    "kept_report", display_name="kept_report", tooltip="What was found in the images that are kept."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, samples: dict[str, Any], report: Report, max_marked_percent: float = 2.0) -> io.NodeOutput:
        found = _checked(samples, report)
        kept = passing(report, max_marked_percent / 100)
        rejected = [place for place in range(len(found)) if place not in kept]
        status.announce(cls.hidden.unique_id, f"{_told(found, kept, 'kept')}, {_told(found, rejected, 'rejected')}.")
        return io.NodeOutput(
            _picked(samples, kept),
            _picked(samples, rejected),
            max(verdict.score for verdict in found),
            sum(verdict.regions for verdict in found),
            report.decision is not None and not rejected,
            report.summary(),
            part_of(report, kept) if kept else ExecutionBlocker(None),
        )


class ASCED_BestOfBatch(io.ComfyNode):
    """The cleanest images of a batch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_BestOfBatch",
            display_name="ASCED Best of Batch",
            category=sockets.SELECT,
            description="The images of a batch with the smallest marked area, best first.",
            **sockets.found_by("pick image", "rank images", "quality score"),
            inputs=[
                io.Latent.Input("samples", tooltip="The LATENT of the sampler that the report is about."),
                report_input(),
                io.Int.Input(
                    "count", default=1, min=1, max=4096, tooltip="How many are taken; all, if there are no more."
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "best", display_name="LATENT", tooltip="The images with the smallest marked area, best first."
                ),
                sockets.Report.Output("best_report", display_name="REPORT", tooltip="What was found in these images."),
                io.String.Output("indices", display_name="indices", tooltip="Their places in the batch, from 0."),
                io.Float.Output(
                    "score", display_name="score", tooltip="The highest score among them; 0: there is no region."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, samples: dict[str, Any], report: Report, count: int) -> io.NodeOutput:
        found = _checked(samples, report)
        places = cleanest(report, count)
        indices = ", ".join(map(str, places))
        score = max(found[place].score for place in places)
        status.announce(cls.hidden.unique_id, f"{_told(found, places, 'taken')}: {indices}.")
        return io.NodeOutput(_picked(samples, places), part_of(report, places), indices, score)


def _checked(latent: dict[str, Any], report: Report) -> list[Verdict]:
    """The verdicts on the images of a latent; one clear sentence where the report is about others."""
    check_latent(latent)
    found, count = verdicts(report), latent["samples"].size()[0]
    if len(found) != count:
        raise ValueError(
            f"This report is about {len(found)} image(s) or video(s) but the latent holds {count}: "
            "connect LATENT and REPORT of the same sampler."
        )
    return found


def _told(found: Sequence[Verdict], places: Sequence[int], what: str) -> str:
    """How many there are and how much of them is marked, such as ``3 kept (1.2 to 4.7 % marked)``."""
    words = f"{len(places)} {what}"
    if not places:
        return words
    least, most = (f"{100 * pick(found[place].area for place in places):.1f}" for pick in (min, max))
    return f"{words} ({least if least == most else f'{least} to {most}'} % marked)"


def _picked(latent: dict[str, Any], places: Sequence[int]) -> Any:
    """Some images of a LATENT, with their own noise masks and noise; for none, what keeps the next nodes from running.

    As the host's Latent From Batch does it.
    """
    if not places:
        return ExecutionBlocker(None)  # the host has no empty batch
    samples = latent["samples"]
    chosen = torch.tensor(places)
    out = {**latent, "samples": _rows(samples, chosen)}
    mask = latent.get("noise_mask")
    if mask is not None and len(mask) > 1:
        out["noise_mask"] = mask[chosen.to(mask.device) % len(mask)]
    indices = latent.get("batch_index", range(samples.size()[0]))
    out["batch_index"] = [indices[place] for place in places]
    return out


def _rows(samples: Any, chosen: torch.Tensor) -> Any:
    if getattr(samples, "is_nested", False):  # video and audio side by side
        return type(samples)([part[chosen.to(part.device)] for part in samples.unbind()])
    return samples[chosen.to(samples.device)]


NODES = [ASCED_Gate, ASCED_BestOfBatch]
