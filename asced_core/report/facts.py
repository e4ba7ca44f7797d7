"""What a report says of each image, and of how the host ran it."""

from __future__ import annotations

from dataclasses import dataclass

from ..detect.regions import Region


@dataclass(frozen=True)
class ImageReport:
    """One image of the batch.

    Attributes:
        index: place in the batch.
        score: of its strongest region, 0 (none) to 100; 1 is exactly at the threshold.
        regions: strongest first, in cells of the signal.
        corrected: True if its state was changed.
    """

    index: int
    score: float
    regions: tuple[Region, ...]
    corrected: bool

    @property
    def flagged(self) -> bool:
        """True if an artifact region was found."""
        return bool(self.regions)


@dataclass(frozen=True)
class RunFacts:
    """How the host ran it.

    Attributes:
        sampler: the host's name of the sampler.
        seed: of the run.
        model_calls: evaluations of the model by the sampler, the extra ones included.
        extra_model_calls: those that the correction cost, and those for the run without one.
        seconds_model: spent in the model.
        seconds_asced: spent in detection and correction.
        space: where the detector looked, see DetectionSettings.
        image_size: height and width of the decoded images in pixels; 0 where it is not known.
        frames: latent frames of each video of the batch; 1 for images.
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
