"""What is known about a run besides what was found in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunFacts:
    """Facts about a run, provided by the caller.

    Attributes:
        sampler: name of the sampler.
        seed: the run's seed.
        model_calls: model evaluations, including the extra ones.
        extra_model_calls: model evaluations for the correction, and for an uncorrected run kept next to it.
        seconds_model: time spent in the model.
        seconds_asced: time spent in detection and correction.
        space: what the detector looked at; see DetectionSettings.
        image_size: height and width of the decoded images in pixels; 0 if unknown.
        frames: latent frames of each video of the batch; 1 for images.
        model: what identifies the checkpoint; empty if unknown.
        cfg: guidance scale; 0 if unknown.
        several_prompts: True if the images of the batch have different prompts, so that run scores hardly compare.
    """

    sampler: str = ""
    seed: int = 0
    model_calls: int = 0
    extra_model_calls: int = 0
    seconds_model: float = 0.0
    seconds_asced: float = 0.0
    space: str = "latent"
    image_size: tuple[int, int] = (0, 0)
    frames: int = 1
    model: str = ""
    several_prompts: bool = False
    cfg: float = 0.0
