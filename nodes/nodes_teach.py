"""ASCED_Teach: teaches a detector on faults planted into a checkpoint's own runs."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import Any

import comfy.samplers
import torch
from comfy_api.latest import io

from ..asced_core import Report
from ..asced_core.maps import frames_of
from ..asced_core.teach import Material, Taught, TaughtFacts
from ..asced_core.teach.notebook import DIGITS, Notebook
from . import sockets
from .good_pictures import NO_FOLDER, GoodPictures, picture_folders
from .inputs import cfg_input, check_conditioning, check_latent
from .model_files import FOLDER, TAUGHT, new_file
from .page import status
from .sampling.lesson import BATCH, Lesson, make_lesson
from .sampling.model_identity import model_identity
from .sampling.plan import image_size
from .sampling.prompts import digest_of
from .sampling.spaces import VaeCodec, check_vae
from .sampling.teaching import Homework, from_report, teach
from .version import version

FEWEST = 10  # runs and pictures
PROGRESS = ".teaching"  # ending of the folder of an unfinished teaching


class ASCED_Teach(io.ComfyNode):
    """Teaches a detector for one checkpoint."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_Teach",
            display_name="ASCED Teach",
            category=sockets.SETTINGS,
            description="Teaches a small detector for your checkpoint, without labels: it makes runs, plants faults "
            f"into them, and trains on runs with and without them. The file goes to models/{FOLDER} and is chosen in "
            "ASCED Detection. Can be canceled; the next run goes on where it stopped.",
            **sockets.found_by("train a detector", "learn artifacts", "fine-tune"),
            inputs=[
                io.Model.Input("model", tooltip="The checkpoint that the detector is for."),
                io.Conditioning.Input(
                    "positive",
                    tooltip="What the images show: a prompt typical of what you make, or one for each image.",
                ),
                io.Conditioning.Input("negative", tooltip="What the images should not show."),
                io.Latent.Input(
                    "latent_image",
                    tooltip="Size and number of images of a batch; its content is not used. A single image counts as "
                    f"a size only, and batches have {BATCH}. Use the size that you generate at.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=False,
                    tooltip="Seed of the first batch; the others follow. Also of the faults and the training.",
                ),
                io.Int.Input(
                    "steps",
                    default=25,
                    min=1,
                    max=10000,
                    tooltip="Sampling steps, as you generate with; no run is sampled to its end.",
                ),
                cfg_input(),
                io.Combo.Input(
                    "scheduler",
                    options=list(comfy.samplers.KSampler.SCHEDULERS),
                    tooltip="How the noise is removed over the steps, as in KSampler.",
                ),
                io.String.Input(
                    "name", default="my_checkpoint", tooltip=f"Name of the file in models/{FOLDER}, without folders."
                ),
                io.Int.Input(
                    "runs",
                    default=256,
                    min=0,
                    max=4096,
                    tooltip=f"Images that the checkpoint makes to learn from, {FEWEST} or more. 0: only pictures and "
                    "report.",
                ),
                io.Int.Input(
                    "training_steps",
                    default=1200,
                    min=50,
                    max=100000,
                    tooltip="Steps of the training that follows the runs.",
                ),
                io.Boolean.Input(
                    "start_over",
                    default=False,
                    tooltip="Replaces the file of this name, and discards what an interrupted run has done so far. "
                    "Turn it off to go on after that.",
                ),
                sockets.Report.Input(
                    "report",
                    optional=True,
                    tooltip="REPORT of a run with keep_predictions in ASCED Detection: its images are learned, too, as "
                    "images without faults.",
                ),
                io.Image.Input(
                    "pictures",
                    optional=True,
                    tooltip="Pictures that are as they should be, such as photos. Scaled and cropped to the size of "
                    "the latent.",
                ),
                io.Combo.Input(
                    "pictures_folder",
                    optional=True,
                    options=[NO_FOLDER, *picture_folders()],
                    default=NO_FOLDER,
                    tooltip="A folder in ComfyUI's input directory with such pictures.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="The checkpoint's VAE, to encode the pictures."),
            ],
            outputs=[
                io.String.Output(
                    "taught", display_name="taught", tooltip="Name of the file, to choose in ASCED Detection."
                ),
                io.String.Output(
                    "summary",
                    display_name="summary",
                    tooltip="What the detector was taught with, and how well it does.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        seed: int,
        steps: int,
        cfg: float,
        scheduler: str,
        name: str,
        runs: int,
        training_steps: int,
        start_over: bool,
        report: Report | None = None,
        pictures: torch.Tensor | None = None,
        pictures_folder: str = NO_FOLDER,
        vae: Any = None,
    ) -> io.NodeOutput:
        check_latent(latent_image)
        check_conditioning(positive, negative, cfg)
        file = new_file("name", name, TAUGHT)
        lesson = make_lesson(model, positive, negative, latent_image, steps, cfg, scheduler, seed)
        good = GoodPictures(pictures, pictures_folder)
        shown = _predictions(report, lesson)
        _check_enough(runs, len(good), 0 if shown is None else len(shown.runs))
        identity = model_identity(model)
        known: dict[str, Any] = {
            "model": identity,
            "latent": "x".join(map(str, lesson.latent.shape)),
            "seed": seed,
            "steps": steps,
            "cfg": cfg,
            "scheduler": scheduler,
            "runs": runs,
            "training_steps": training_steps,
            "prompts": digest_of([positive, negative]),
            "report": "" if shown is None else hashlib.sha256(shown.runs.numpy().tobytes()).hexdigest()[:DIGITS],
            "pictures": good.digest,
            "version": version(),
        }
        own = file.name.removesuffix(TAUGHT)
        notebook = Notebook(file.with_name(f"{own}{PROGRESS}"), known)
        taught = None if start_over or notebook.begun else _finished(file, notebook.digest)
        if taught is None:
            homework = Homework(runs, len(good), _encoder(good, vae, lesson), shown, training_steps)
            notebook.open(own, start_over)
            facts = TaughtFacts(
                model=identity,
                runs=runs + (0 if shown is None else len(shown.runs)),
                pictures=len(good),
                date=datetime.date.today().isoformat(),
                version=version(),
                lesson=notebook.digest,
                cfg=cfg,
            )
            taught = teach(lesson, homework, notebook, facts, cls.hidden.unique_id)
            taught.save(file)
            notebook.remove()
        summary = " ".join((taught.facts.summary(), *lesson.schedule.window.notes))
        return status.told(cls, f"{file.name}: {summary}", file.name, summary)


def _finished(file: Path, lesson: str) -> Taught | None:
    """The file, if it was taught with exactly this lesson; None if there is no file.

    Raises:
        ValueError: it was taught with another one.
    """
    if not file.is_file():
        return None
    taught = Taught.load(file)
    if taught.facts.lesson != lesson:
        raise ValueError(
            f"{file.name} exists and was taught with other settings: use another name, or turn on start_over."
        )
    return taught


def _predictions(report: Report | None, lesson: Lesson) -> Material | None:
    if report is None:
        return None
    if report.predictions is None:
        raise ValueError(
            "The REPORT holds no predictions: turn on keep_predictions in ASCED Detection, and check in its summary "
            "that the run was watched."
        )
    needed = (lesson.latent.shape[1], *lesson.latent.shape[-2:])
    if report.predictions.shape[2:] != needed:
        raise ValueError(
            f"The REPORT's predictions have {_size(report.predictions.shape[2:])}, but this latent has "
            f"{_size(needed)}: use the same model and size for both."
        )
    return from_report(report.predictions)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} channels and {shape[2]}x{shape[1]} cells"


def _check_enough(runs: int, pictures: int, reported: int) -> None:
    if (runs and runs < FEWEST) or runs + pictures + reported < FEWEST:
        raise ValueError(
            f"There is too little to learn from ({runs} runs, {pictures} pictures, {reported} images of a report): set "
            f"runs to {FEWEST} or more, or to 0 with {FEWEST} pictures or more."
        )


def _encoder(good: GoodPictures, vae: Any, lesson: Lesson) -> Any:
    """Gives the n-th picture as clean states [1,C,H,W]."""
    shape = tuple(lesson.latent.shape)
    if len(good) and frames_of(shape) > 1:
        raise ValueError(
            "Pictures cannot teach a detector for videos: disconnect pictures, and set pictures_folder to none."
        )
    if len(good):
        check_vae(vae, shape, "Teaching from pictures")
    codec = VaeCodec(vae, lesson.model.model, lambda: None)  # the run that follows loads the model
    height, width = image_size(lesson.model, shape)
    return lambda place: codec.encode(good.picture(place, height, width))


NODES = [ASCED_Teach]
