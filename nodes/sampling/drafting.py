"""Many seeds as drafts, and the best of them finished: in one batch, or one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import latent_preview
import numpy as np
import torch

from ...asced_core import Report
from ...asced_core.detect.run_score import step_at
from ...asced_core.report.drafts import Drafts, picked
from ...asced_core.report.joining import joined, with_drafts
from ...asced_core.report.ranking import ranked
from .latents import rows_of
from .one_draft import OneDraft
from .options import CorrectionOptions, DetectionOptions, DraftOptions
from .patch import OneRun, patch_model
from .prompts import prompts_in
from .seeds import conditioning_of, sample_seeds

Callback = Callable[[int, torch.Tensor, torch.Tensor, int], None]


@dataclass(frozen=True)
class Job:
    """What is sampled.

    Attributes:
        model: ComfyUI's ModelPatcher.
        latent: a LATENT with one image for each draft.
        positive, negative: CONDITIONING.
        detection, correction: as requested.
        options: how many are finished; with a seed for each draft.
        widgets: those of KSampler, by name.
        patched: the models of the runs so far. ComfyUI takes a model that is gone before the next one is loaded for a
            leak, and collects all garbage, which can take as long as a draft.
    """

    model: Any
    latent: dict[str, Any]
    positive: Any
    negative: Any
    detection: DetectionOptions
    correction: CorrectionOptions
    options: DraftOptions
    widgets: dict[str, Any]
    patched: list[Any] = field(default_factory=list)

    def sample(
        self, places: Sequence[int], options: DraftOptions, callback: Callback | None = None
    ) -> tuple[dict[str, Any], Report, dict[str, Any]]:
        """Samples some of the drafts together: the finished LATENT, its report, and the uncorrected LATENT."""
        run, alone = OneRun(), places[0] if len(places) == 1 else None
        detection = self.detection if alone is None else self.detection.of_one(alone, len(self.options.seeds))
        model = patch_model(self.model, detection, self.correction, run, options)
        self.patched.append(model)
        done = sample_seeds(
            model,
            [self.options.seeds[place] for place in places],
            rows_of(self.latent, places),
            *conditioning_of(alone, self.positive, self.negative),
            callback=callback,
            **self.widgets,
        )
        report = run.report_of(done, self.model, detection, self.correction, self.widgets["denoise"] <= 0)
        return run.finished(done), report, run.original_of(done)


def all_at_once(job: Job) -> tuple[dict[str, Any], Report, dict[str, Any]]:
    """Samples the drafts as one batch."""
    return job.sample(range(len(job.options.seeds)), job.options)


def one_by_one(job: Job) -> tuple[dict[str, Any], Report, dict[str, Any]]:
    """Samples the drafts one after another: each in a run of its own, so that a card has to hold one image only."""
    count, options = len(job.options.seeds), job.options
    progress = _Progress(job.model, job.widgets["steps"], options.decide_at, count, min(options.keep, count))
    drafts = [OneDraft(options.keep < count) for _ in range(count)]
    results = []
    for place, draft in enumerate(drafts):
        alone = replace(options, keep=1, always=(), seeds=(options.seeds[place],), draft=draft)
        results.append(job.sample([place], alone, progress.of_draft(place)))
    known = [report.drafts for _, report, _ in results]
    if all(draft.done for draft in drafts) and None not in known:
        compared = _compared([one for one in known if one is not None], options)
        results = [results[place] for place in compared.kept]
        progress.finishes(len(results))
        for turn, place in enumerate(compared.kept):
            alone = replace(options, keep=1, always=(), seeds=(options.seeds[place],), draft=drafts[place])
            results[turn] = job.sample([place], alone, progress.of_rest(turn))
            drafts[place].forget()
    else:
        compared = None
    report = joined([report for _, report, _ in results])
    facts = replace(report.run, seed=options.seeds[0], several_prompts=count > 1 and prompts_in(job.positive))
    if compared is not None:
        dropped = sum(draft.calls for draft in drafts)  # those of the finished ones are forgotten, and in their reports
        facts = replace(facts, model_calls=facts.model_calls + dropped)
        report = with_drafts(replace(report, run=facts), compared)
    latent, original = _batch([one[0] for one in results]), _batch([one[2] for one in results])
    return latent, replace(report, run=facts), original


def _compared(drafts: Sequence[Drafts], options: DraftOptions) -> Drafts:
    batch = ranked([one.score for alone in drafts for one in alone.ranked])
    return replace(
        drafts[0],
        kept=picked(batch, options.keep, options.always),
        ranked=batch,
        seeds=options.seeds,
        pictures=np.concatenate([one.pictures for one in drafts]),
    )


def _batch(latents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Single images as one LATENT."""
    out = {**latents[0], "samples": torch.cat([one["samples"] for one in latents])}
    out["batch_index"] = [index for one in latents for index in one["batch_index"]]
    masks = [one["noise_mask"] for one in latents if one.get("noise_mask") is not None]
    if masks and len(masks[0]) == 1 and any(mask is not masks[0] for mask in masks):
        out["noise_mask"] = torch.cat(masks)
    return out


class _Progress:
    """ComfyUI's progress bar and previews over all runs."""

    def __init__(self, model: Any, steps: int, decide_at: float, drafts: int, keep: int) -> None:
        self._first = step_at(steps, decide_at) + 1  # steps of a draft
        self._rest, self._drafts = steps - self._first, drafts
        self._total = drafts * self._first + keep * self._rest
        self._shown = 0  # highest step so far
        self._callback = latent_preview.prepare_callback(model, self._total)

    def finishes(self, keep: int) -> None:
        """This many drafts are finished, which is known once they are compared."""
        self._total = self._drafts * self._first + keep * self._rest

    def of_draft(self, place: int) -> Callback:
        """For the run of a draft."""
        return self._from(place * self._first, 0)

    def of_rest(self, turn: int) -> Callback:
        """For the run that finishes the n-th draft; the steps of the draft are not shown again."""
        return self._from(self._drafts * self._first + turn * self._rest - self._first, self._first)

    def _from(self, before: int, hidden: int) -> Callback:
        def callback(step: int, denoised: torch.Tensor, x: torch.Tensor, _: int) -> None:
            if step >= hidden:
                # a run that is not watched is finished as a draft, and takes more steps than one
                self._shown = min(max(self._shown, before + step), self._total - 1)
                self._callback(self._shown, denoised, x, self._total)

        return callback
