"""One row of the table: a pipeline sampled without ASCED, with nothing to find, and with an artifact to correct."""

from __future__ import annotations

from typing import Any

import torch

from asced_core import CorrectionSettings, DetectionSettings
from asced_core.hosts.diffusers import watching

from .families import STEPS, Family
from .planted import Denoises

NOTHING = DetectionSettings(mode="robust", mad_scale=30)
FINDS = DetectionSettings(mode="robust", mad_scale=2)


def sampled(pipe: Any, family: Family, **more: Any) -> torch.Tensor:
    """The latents of a call, as the pipeline returns them."""
    own = {"output": "latents"} if family.modular else {"output_type": "latent", "return_dict": False}
    given = {
        "num_inference_steps": STEPS,
        "generator": torch.Generator().manual_seed(5),
        **own,
        **family.call(),
        **more,
    }
    with torch.inference_mode():
        result = pipe(**given)
    return result if family.modular else result[0]


def side(family: Family) -> tuple[int, int]:
    """Height and width of the images of a call."""
    given = family.call()
    return given.get("height", 128), given.get("width", 128)


def measured(family: Family, scheduler: Any = None, **more: Any) -> dict[str, Any]:
    """What the table says of a pipeline."""
    pipe = family.make(scheduler)
    height, width = side(family)
    size = {"height": height, "width": width, "num_frames": family.call().get("num_frames")}

    def run(
        artifact: int | None, detection: DetectionSettings | None, correction: CorrectionSettings | None = None
    ) -> Any:
        with Denoises(pipe, size, artifact, family.sign, family.twice) as network:
            torch.manual_seed(9)
            if detection is None:
                return sampled(pipe, family, **more), network.calls, None, torch.get_rng_state()
            with watching(pipe, detection, correction, seed=5, size=side(family) if family.modular else None) as watch:
                out = sampled(pipe, family, **more)
            return out, network.calls, watch.report(), torch.get_rng_state()

    stock, calls, _, state = run(None, None)
    same, same_calls, quiet, same_state = run(None, NOTHING)
    row: dict[str, Any] = {
        "identical": torch.equal(stock, same) and calls == same_calls and torch.equal(state, same_state),
        "watched": quiet.decision is not None,
        "note": " ".join(quiet.notes),
        "steps": quiet.run.model_calls,
    }
    planted, calls, _, state = run(1, None)
    row["calls"] = calls
    for source in ("current", "previous"):
        out, now, report, after = run(1, FINDS, CorrectionSettings(x0_source=source))
        others = [i for i in range(len(out)) if i != 1]
        row[source] = {
            "flagged": [image.flagged for image in report.images],
            "corrected": [image.corrected for image in report.images],
            "others": torch.equal(out[others], planted[others]),
            "changed": not torch.equal(out[1], planted[1]),
            "apart": float((out[1].float() - planted[1].float()).abs().max()),
            "extra": now - calls,
            "reported": report.run.extra_model_calls,
            "generator": torch.equal(state, after),
            "note": " ".join(report.notes),
            "size": report.size,
        }
    return row
