"""Picks the drafts of one run that are finished; from then on, the network computes these alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.samplers
import numpy as np
import torch

from ...asced_core import Trajectory
from ...asced_core.detect.run_score import step_at
from ...asced_core.kdiffusion import Call, WatchedModel, World
from ...asced_core.maps import as_images, frames_of
from ...asced_core.report.drafts import Drafts, picked
from ...asced_core.report.ranking import ranked
from .guidance import has_unprompted, is_stock, unprompted
from .kept_rows import KeptRows
from .options import DraftOptions
from .patch_state import PatchState, same_numbers

EXACT, ROUNDED = 1e-5, 1e-2  # differences that the size of a batch makes, in float32 and in half precision
# whose batches are the frames of one video
COUPLED = tuple(
    getattr(comfy.model_base, name) for name in ("SVD_img2vid", "SV3D_u", "SV3D_p") if hasattr(comfy.model_base, name)
)
HOSTS = {"transformer_options", "to_load_options", "wrappers", "sample_sigmas"}  # model options that ComfyUI sets
COMPUTED_ALL = (
    "All drafts were computed to the end: with a patch, guider or model of this run, the images of a batch depend on "
    "each other."
)


class Picking:
    """Picks the drafts of one run.

    Args:
        options: how many, and when.
        guider: ComfyUI's, with its model loaded.
        shape: of the latents.
        steps: of the run.

    Attributes:
        step: after which the drafts are picked, counted from 0.
        drafts: what was picked; None until then.
        note: what the user should know, as a sentence.
    """

    def __init__(self, options: DraftOptions, guider: Any, shape: tuple[int, ...], steps: int) -> None:
        self._options, self._guider, self._shape = options, guider, shape
        self._steps = steps
        self.step = step_at(steps, options.decide_at)
        self.drafts: Drafts | None = None
        self.note = ""
        draft = options.draft
        chooses = options.keep < shape[0] if draft is None else draft.chosen and not draft.done
        self._compares = has_unprompted(guider) and chooses

    def begin(self, watched: WatchedModel, patches: PatchState) -> None:
        """Before the first call of the run."""
        if self._options.draft is not None:
            watched.answering = self._options.draft.answering(watched.model, patches)

    @property
    def asks(self) -> bool:
        """True if the drafts are picked with an added call, which has to be undone."""
        return self._compares or self.checks

    @property
    def checks(self) -> bool:
        """True if something foreign may need the whole batch, so that the first smaller call is checked."""
        return not _is_stock(self._guider)

    def due(self, step: int) -> bool:
        """True once, after the step of the decision."""
        return self.drafts is None and self.step <= step

    def pick(self, step: int, trajectory: Trajectory, watched: WatchedModel, call: Call, patches: PatchState) -> None:
        """Picks the drafts after a step, and lets the model answer for them alone.

        Args:
            step: that was observed last; after the last one of the run, there is nothing left to save.
            trajectory: of the run; nothing will be found in the other images.
            watched: the sampler's model.
            call: its last call with the whole batch.
            patches: what a call that stock does not make must leave as it was.
        """
        count, frames = self._shape[0], frames_of(self._shape)
        if self._compares and step == trajectory.score.step:
            self._agree(trajectory, watched, call, patches)
        batch = ranked(trajectory.score.scores(frames))
        draft = self._options.draft
        kept = picked(batch, self._options.keep, self._options.always)
        frame = trajectory.trace.frame(_first_frames(call.denoised))
        pictures = np.zeros((count, 0, 1, 1), np.float16) if frame is None else frame.cpu().numpy()
        self.drafts = Drafts(trajectory.score.step, self._steps, kept, batch, self._options.seeds, pictures)
        if draft is not None:
            draft.done = True
        if len(kept) == count:
            return
        if step < self._steps - 1:
            self._narrow(KeptRows(watched.model, kept, call.denoised), watched, call, patches)
        if not self.note:
            trajectory.exclude([place not in kept for place in range(count) for _ in range(frames)])

    def _agree(self, trajectory: Trajectory, watched: WatchedModel, call: Call, patches: PatchState) -> None:
        """Reads the agreement with the prompt, by an added call without it."""
        asked = unprompted(self._guider, replace(call.asked, x=call.x))
        try:
            answer = watched.aside(asked, World(patches, patches.read() if call.before is None else call.before))
        except comfy.model_management.InterruptProcessingException:
            raise
        except Exception:  # of a patch that only knows calls with the prompt
            return
        trajectory.score.agree(as_images(answer))

    def _narrow(self, rows: KeptRows, watched: WatchedModel, call: Call, patches: PatchState) -> None:
        """Lets the model answer for the kept images alone, if it can."""
        if self.checks and not self._agrees(rows, call, patches):
            self.note = COMPUTED_ALL
        else:
            watched.answering = rows

    def _agrees(self, rows: KeptRows, call: Call, patches: PatchState) -> bool:
        """True if the kept images get the same answer without the others; the call is undone.

        A cache may answer alike now and decide by a mean over the batch later: what it notes must be the same as well.
        """
        dtype = self._guider.model_patcher.model.get_dtype()
        tolerance = EXACT if dtype == torch.float32 else ROUNDED
        after = patches.read()
        try:
            with World(patches, call.before or after).entered():
                same = rows.agrees(replace(call.asked, x=call.x), call.denoised, tolerance)
                return same and (call.before is None or same_numbers(after, patches.read(), tolerance))
        except comfy.model_management.InterruptProcessingException:
            raise
        except Exception:  # of a patch that knows the size of the batch
            return False


def _first_frames(denoised: torch.Tensor) -> torch.Tensor:
    return denoised if denoised.ndim == 4 else denoised[:, :, denoised.shape[2] // 2]


def _is_stock(guider: Any) -> bool:
    """True if only ComfyUI's own code sees the batch, which treats its images one by one."""
    patcher, options = guider.model_patcher, guider.model_options
    model = type(patcher.model)
    own_model = model.__module__.startswith(__package__.partition(".nodes")[0] + ".nodes") or (
        getattr(comfy.model_base, model.__name__, None) is model and not issubclass(model, COUPLED)
    )
    inner = options.get("transformer_options", {})
    return (
        own_model
        and is_stock(guider)
        and not patcher.object_patches
        and not {name for name, value in options.items() if value} - HOSTS
        and not {name for name, value in inner.items() if value} - HOSTS
        and all(list(by_key) in ([], ["ASCED"]) for by_key in inner.get("wrappers", {}).values())
        and not any(_knows_the_batch(cond) for conds in guider.conds.values() for cond in conds)
    )


def _knows_the_batch(cond: dict[str, Any]) -> bool:
    """True if conditioning brings code that may be made for one size of the batch."""
    control = cond.get("control")
    own = control is None or type(control).__module__.startswith("comfy.")
    return "gligen" in cond or not own
