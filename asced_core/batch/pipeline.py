"""A worker with a pipeline of diffusers, which it loads once."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..hosts.diffusers import watching
from ..report.masks import shaped_masks
from ..report.report import Report
from ..report.selection import part_of
from ..settings import CorrectionSettings, DetectionSettings
from .farm import Task
from .jobs import Job
from .pictures import CHUNK, Made, mask_png, png

FUNCTION = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")
LOADER = "diffusers:DiffusionPipeline"
OWN = ("prompt", "generator", "output_type", "return_dict")  # arguments that the batch sets


@dataclass(frozen=True)
class PipelineSetup:
    """Loads a pipeline in a worker, and makes images with it.

    Attributes:
        source: a folder or a name for ``DiffusionPipeline.from_pretrained``, or ``module:function``, a function without
            arguments that returns a pipeline.
        detection, correction: how images are watched and corrected.
        options: more arguments of each call of the pipeline.
        device: of the pipeline; empty is the accelerator if there is one. A function chooses by itself.
        dtype: of the weights, such as ``float16``; empty leaves it to diffusers.

    Raises:
        ValueError: two of them contradict each other, or an option is set by the batch itself.
    """

    source: str
    detection: DetectionSettings
    correction: CorrectionSettings
    options: dict[str, Any] = field(default_factory=dict)
    device: str = ""
    dtype: str = ""

    def __post_init__(self) -> None:
        if taken := [name for name in OWN if name in self.options]:
            raise ValueError(f"The option {taken[0]} is set for each image by the batch: leave it out of --options.")
        if self.dtype and FUNCTION.fullmatch(self.source):
            raise ValueError("--dtype is for pipelines that are loaded by name: set the dtype in your function.")

    def __call__(self) -> Task:
        """Loads the pipeline; the returned function makes the images of a job."""
        pipe = self._loaded()
        if hasattr(pipe, "set_progress_bar_config"):
            pipe.set_progress_bar_config(disable=True)
        with watching(pipe, self.detection, self.correction):  # says at once if this cannot work
            pass

        def make(job: Job) -> list[Made]:
            return self._make(pipe, job)

        return make

    def _loaded(self) -> Any:
        import torch

        if match := FUNCTION.fullmatch(self.source):
            pipe = _named(*match.groups())()
            return pipe.to(self.device) if self.device else pipe
        if self.dtype and not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise ValueError(f"There is no dtype {self.dtype!r} in torch: use float16, bfloat16 or float32.")
        more = {"torch_dtype": getattr(torch, self.dtype)} if self.dtype else {}
        pipe = _named(*LOADER.split(":")).from_pretrained(self.source, **more)
        return pipe.to(self.device or _accelerator())

    def _make(self, pipe: Any, job: Job) -> list[Made]:
        import torch

        negative = {} if job.negative is None else {"negative_prompt": job.negative}
        generator = torch.Generator().manual_seed(job.seed)  # of the CPU: the same noise on every device
        with watching(pipe, self.detection, self.correction, seed=job.seed) as run:
            images = pipe(prompt=job.prompt, generator=generator, **{**self.options, **negative}).images
        report = run.report()
        if len(images) != len(report.images):
            raise ValueError(
                f"{len(images)} images were made, but {len(report.images)} watched: a batch makes images only."
            )
        return [_made(image, part_of(report, [place])) for place, image in enumerate(images)]


def _made(image: Any, report: Report) -> Made:
    mask = shaped_masks(report, image.height, image.width)[0]
    return Made(png(image, {CHUNK: report.to_json(indent=None)}), mask_png(mask), report.to_json())


def _named(module: str, name: str) -> Any:
    """What a module calls by a name; the folder where the batch was started is searched, too."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        hint = " with `pip install diffusers transformers`" if error.name == "diffusers" else ""
        raise ValueError(f"There is no module {error.name} here: install it{hint}, or start in its folder.") from error
    except AttributeError as error:
        raise ValueError(f"The module {module} has no {name}.") from error


def _accelerator() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
