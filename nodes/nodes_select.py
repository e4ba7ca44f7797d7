"""ASCED_Gate and ASCED_BestOfBatch: pick the images of a batch with the best run scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..asced_core import Report
from ..asced_core.report.joining import DIFFERENT_PROMPTS
from ..asced_core.report.outcome import plural
from ..asced_core.report.selection import Verdict, best, part_of, passing, verdicts
from . import sockets
from .inputs import check_latent, report_input
from .page import status
from .sampling.latents import rows_of


class ASCED_Gate(io.ComfyNode):
    """Splits a batch by run score and marked area."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_Gate",
            display_name="ASCED Gate",
            category=sockets.SELECT,
            description="Drops the worst images of a batch, by run score, marked area or both. Nodes downstream of an "
            "empty output do not run.",
            **sockets.found_by("filter images", "quality check", "reject bad images"),
            inputs=[
                io.Latent.Input("samples", tooltip="LATENT from the sampler that made the report."),
                report_input(),
                io.Float.Input(
                    "max_marked_percent",
                    optional=True,
                    default=100.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    tooltip="Rejects images with more than this percentage of their area marked. 0 keeps only images "
                    "without a region; 100 rejects none.",
                ),
                io.Float.Input(
                    "drop_worst_percent",
                    optional=True,
                    default=50.0,
                    min=0.0,
                    max=100.0,
                    step=5.0,
                    tooltip="Rejects this percentage of the batch, rounded down: the images with the lowest run "
                    "scores. 0 rejects none.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "kept",
                    display_name="kept",
                    tooltip="Images that passed. If there are none, nothing downstream of this output runs.",
                ),
                io.Latent.Output(
                    "rejected",
                    display_name="rejected",
                    tooltip="The other images. If there are none, nothing downstream of this output runs.",
                ),
                io.Float.Output(
                    "score",
                    display_name="score",
                    tooltip="Highest region score in the batch; 0 if there is no region.",
                ),
                io.Int.Output("regions", display_name="regions", tooltip="Number of artifact regions in the batch."),
                io.Boolean.Output(
                    "clean",
                    display_name="clean",
                    tooltip="True if every image was watched and no region was found, not even one larger than "
                    "max_area.",
                ),
                io.String.Output("summary", display_name="summary", tooltip="What was found, as text."),
                sockets.Report.Output(
                    "kept_report", display_name="kept_report", tooltip="REPORT of the kept images only."
                ),
            ],
            hidden=[io.Hidden.unique_id],
            **sockets.keeps_result_text(),
        )

    @classmethod
    def execute(
        cls,
        samples: dict[str, Any],
        report: Report,
        max_marked_percent: float = 100.0,
        drop_worst_percent: float = 50.0,
    ) -> io.NodeOutput:
        found = _checked(samples, report)
        kept = passing(report, max_marked_percent / 100, drop_worst_percent / 100)
        rejected = [place for place in range(len(found)) if place not in kept]
        return status.told(
            cls,
            f"{_status(found, kept, 'kept')}, {_status(found, rejected, 'rejected')}.{_caution(report)}",
            _picked(samples, kept),
            _picked(samples, rejected),
            max(verdict.score for verdict in found),
            sum(verdict.regions for verdict in found),
            all(image.state == "clean" for image in report.images),
            report.summary(),
            part_of(report, kept) if kept else ExecutionBlocker(None),
        )


class ASCED_BestOfBatch(io.ComfyNode):
    """The best images of a batch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_BestOfBatch",
            display_name="ASCED Best of Batch",
            category=sockets.SELECT,
            description="Picks the images of a batch with the best run scores, best first.",
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
                    "score", display_name="score", tooltip="Highest region score among them; 0 if there is no region."
                ),
            ],
            hidden=[io.Hidden.unique_id],
            **sockets.keeps_result_text(),
        )

    @classmethod
    def execute(cls, samples: dict[str, Any], report: Report, count: int) -> io.NodeOutput:
        found = _checked(samples, report)
        places = best(report, count)
        indices = ", ".join(map(str, places))
        score = max(found[place].score for place in places)
        numbers = ", ".join(str(place + 1) for place in places)
        words = f"{_status(found, places, 'picked')}: {numbers}.{_caution(report)}"
        return status.told(cls, words, _picked(samples, places), part_of(report, places), indices, score)


def _checked(latent: dict[str, Any], report: Report) -> list[Verdict]:
    """The verdicts on the images of a latent.

    Raises:
        ValueError: the latent is empty, or the report covers other images.
    """
    check_latent(latent)
    found, count = verdicts(report), latent["samples"].size()[0]
    if len(found) != count:
        what = "image" if report.run.frames == 1 else "video"
        raise ValueError(
            f"This report covers {plural(len(found), what)}, but the latent holds {count}: "
            "connect LATENT and REPORT from the same sampler."
        )
    return found


def _status(found: Sequence[Verdict], places: Sequence[int], what: str) -> str:
    """How many images there are, with their run scores and marked areas: ``3 kept (run score 0.1 to 1.2, …)``."""
    chosen = [found[place] for place in places]
    runs = [one.run_score.relative for one in chosen if one.run_score is not None and one.measurable]
    areas = [100 * one.area for one in chosen if one.measurable and one.looked_at]
    facts = []
    if runs:
        least, most = (f"{pick(runs):+.1f}" for pick in (min, max))
        facts.append(f"run score {least if least == most else f'{least} to {most}'}")
    if areas:
        least, most = (f"{pick(areas):.1f}" for pick in (min, max))
        facts.append(f"{least if least == most else f'{least} to {most}'}% marked")
    if unseen := sum(one.measurable and not one.looked_at for one in chosen):
        facts.append(f"{unseen} not looked at")
    if lost := sum(not one.measurable for one in chosen):
        facts.append(f"{lost} not measurable")
    number = f"{len(places)} {what}"
    return f"{number} ({', '.join(facts)})" if facts else number


def _caution(report: Report) -> str:
    return f" {DIFFERENT_PROMPTS}" if report.run.several_prompts else ""


def _picked(latent: dict[str, Any], places: Sequence[int]) -> Any:
    """Some images of a LATENT; for none, a blocker that keeps downstream nodes from running."""
    return rows_of(latent, places) if places else ExecutionBlocker(None)  # ComfyUI has no empty batch


NODES = [ASCED_Gate, ASCED_BestOfBatch]
