"""ASCED_Gate and ASCED_BestOfBatch: pick the images of a batch with the smallest marked area."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..asced_core import Report
from ..asced_core.report.selection import Verdict, cleanest, part_of, passing, verdicts
from . import sockets
from .inputs import check_latent, report_input
from .latents import rows_of
from .page import status


class ASCED_Gate(io.ComfyNode):
    """Splits a batch by marked area."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_Gate",
            display_name="ASCED Gate",
            category=sockets.SELECT,
            description="Splits a batch by marked area. Nodes downstream of an empty output do not run.",
            **sockets.found_by("filter images", "quality check", "reject bad images"),
            inputs=[
                io.Latent.Input("samples", tooltip="LATENT from the sampler that made the report."),
                report_input(),
                io.Float.Input(
                    "max_marked_percent",
                    optional=True,
                    default=2.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    tooltip="Keeps images with at most this percentage of their area marked. 0 keeps only images "
                    "without a region.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "kept",
                    display_name="kept",
                    tooltip="Images with little marked area. If there are none, nothing downstream of this output "
                    "runs.",
                ),
                io.Latent.Output(
                    "rejected",
                    display_name="rejected",
                    tooltip="The other images. If there are none, nothing downstream of this output runs.",
                ),
                io.Float.Output(
                    "score", display_name="score", tooltip="Highest score in the batch; 0 if there is no region."
                ),
                io.Int.Output("regions", display_name="regions", tooltip="Number of artifact regions in the batch."),
                io.Boolean.Output(
                    "clean",
                    display_name="clean",
                    tooltip="True if every image was watched, none was rejected, and no region was left alone as "
                    "larger than max_area.",
                ),
                io.String.Output("summary", display_name="summary", tooltip="What was found, as text."),
                sockets.Report.Output(
                    "kept_report", display_name="kept_report", tooltip="REPORT of the kept images only."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, samples: dict[str, Any], report: Report, max_marked_percent: float = 2.0) -> io.NodeOutput:
        found = _checked(samples, report)
        kept = passing(report, max_marked_percent / 100)
        rejected = [place for place in range(len(found)) if place not in kept]
        status.announce(
            cls.hidden.unique_id, f"{_status(found, kept, 'kept')}, {_status(found, rejected, 'rejected')}."
        )
        return io.NodeOutput(
            _picked(samples, kept),
            _picked(samples, rejected),
            max(verdict.score for verdict in found),
            sum(verdict.regions for verdict in found),
            not rejected and all(verdict.looked_at and not verdict.too_large for verdict in found),
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
            description="Picks the images of a batch with the smallest marked area, best first.",
            **sockets.found_by("pick image", "rank images", "quality score"),
            inputs=[
                io.Latent.Input("samples", tooltip="LATENT from the sampler that made the report."),
                report_input(),
                io.Int.Input(
                    "count",
                    default=1,
                    min=1,
                    max=4096,
                    tooltip="How many images to pick; all of them if the batch is smaller.",
                ),
            ],
            outputs=[
                io.Latent.Output("best", display_name="LATENT", tooltip="The picked images, best first."),
                sockets.Report.Output("best_report", display_name="REPORT", tooltip="REPORT of the picked images."),
                io.String.Output("indices", display_name="indices", tooltip="Their positions in the batch, from 0."),
                io.Float.Output(
                    "score", display_name="score", tooltip="Highest score among them; 0 if there is no region."
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
        status.announce(cls.hidden.unique_id, f"{_status(found, places, 'picked')}: {indices}.")
        return io.NodeOutput(_picked(samples, places), part_of(report, places), indices, score)


def _checked(latent: dict[str, Any], report: Report) -> list[Verdict]:
    """The verdicts on the images of a latent.

    Raises:
        ValueError: the latent is empty, or the report covers other images.
    """
    check_latent(latent)
    found, count = verdicts(report), latent["samples"].size()[0]
    if len(found) != count:
        raise ValueError(
            f"This report covers {len(found)} image(s) or video(s), but the latent holds {count}: "
            "connect LATENT and REPORT from the same sampler."
        )
    return found


def _status(found: Sequence[Verdict], places: Sequence[int], what: str) -> str:
    """How many images there are and how much of them is marked, such as ``3 kept (1.2 to 4.7% marked)``."""
    chosen = [found[place] for place in places]
    areas = [100 * one.area for one in chosen if one.measurable and one.looked_at]
    facts = []
    if areas:
        least, most = (f"{pick(areas):.1f}" for pick in (min, max))
        facts.append(f"{least if least == most else f'{least} to {most}'}% marked")
    if unseen := sum(one.measurable and not one.looked_at for one in chosen):
        facts.append(f"{unseen} not looked at")
    if lost := sum(not one.measurable for one in chosen):
        facts.append(f"{lost} not measurable")
    number = f"{len(places)} {what}"
    return f"{number} ({', '.join(facts)})" if facts else number


def _picked(latent: dict[str, Any], places: Sequence[int]) -> Any:
    """Some images of a LATENT; for none, a blocker that keeps downstream nodes from running."""
    return rows_of(latent, places) if places else ExecutionBlocker(None)  # ComfyUI has no empty batch


NODES = [ASCED_Gate, ASCED_BestOfBatch]
