"""Looks up the report of a sampling run by the latent that it returned."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator

import comfy.utils
import torch

from ...asced_core import Report

KEPT = 64  # runs that are remembered for one patched model: a tiled upscaler makes many


class RunLog:
    """Reports of the last runs of one patched model.

    One patched model may feed several samplers, and a cached sampler does not run again: runs are identified by
    their result.
    """

    def __init__(self) -> None:
        self._runs: OrderedDict[str, tuple[torch.Tensor, Report, torch.Tensor | None]] = OrderedDict()

    def put(self, latent: torch.Tensor, report: Report, original: torch.Tensor | None = None) -> None:
        """Remembers the run that returned this latent: its report, and its uncorrected latent if there is one."""
        key = _fingerprint(latent)
        kept = None if original is None else original.detach().cpu()
        self._runs[key] = (latent.detach().to("cpu", torch.float16), report, kept)
        self._runs.move_to_end(key)
        while len(self._runs) > KEPT:
            self._runs.popitem(last=False)

    def get(self, latent: torch.Tensor) -> tuple[Report, torch.Tensor | None]:
        """The report of the run that returned this latent, and its uncorrected latent if it was kept.

        Raises:
            ValueError: the latent is from no remembered run.
        """
        run = self._runs.get(_fingerprint(latent))
        if run is None:
            raise ValueError(
                "This LATENT did not come from a sampler that used the MODEL of this RUN: connect the LATENT "
                "output of that sampler directly, and MODEL and RUN of the same ASCED Apply to Model node. If they are "
                "connected like this, ComfyUI has freed the MODEL and its RUN but kept the LATENT: change the "
                "sampler's seed to sample again."
            )
        return run[1:]

    def newest_first(self) -> Iterator[tuple[torch.Tensor, Report]]:
        """The latents and reports of the remembered runs."""
        for latent, report, _ in reversed(self._runs.values()):
            yield latent.float(), report


def _fingerprint(latent: torch.Tensor) -> str:
    if getattr(latent, "is_nested", False):  # video with audio: packed, as during sampling
        latent, _ = comfy.utils.pack_latents(latent.unbind())
    # fp16: ComfyUI may store latents in a narrower dtype than it samples in
    data = latent.detach().to("cpu", torch.float16).contiguous()
    return f"{tuple(data.shape)} {hashlib.sha256(data.numpy().tobytes()).hexdigest()}"
