"""ASCED_PALDetector and ASCED_VLMVerdict: other ways to find artifacts, as baselines."""

from __future__ import annotations

import os
from typing import Any

import comfy.model_management
import torch
from comfy_api.latest import io

from ..asced_core.baselines.pal import PALDetector, artifact_ratio
from ..asced_core.baselines.vlm import BEST_PROMPT, PROMPTS, Judge, Question, question_of_paper
from . import sockets
from .images import to_pictures, to_rgb
from .model_files import FOLDER, changed, files_with, find_file

NO_FILE = "put a TorchScript file into models/asced"
# Not widgets: workflows are shared, and the key goes only to an address that was named on this machine.
KEY_VARIABLE, ENDPOINT_VARIABLE = "ASCED_VLM_KEY", "ASCED_VLM_ENDPOINT"
LOCAL = "http://127.0.0.1:11434/v1"


class ASCED_PALDetector(io.ComfyNode):
    """A trained detector from a TorchScript file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_PALDetector",
            display_name="ASCED PAL Detector",
            category=sockets.BASELINES,
            description="Loads a trained artifact detector, such as PAL's end2end.pt, from a TorchScript file in "
            "models/asced. Connect it to ASCED Detection to correct what it finds, or use it on finished images.",
            **sockets.found_by("artifact detector", "torchscript", "perceptual artifacts"),
            inputs=[
                io.Combo.Input(
                    "file",
                    options=files_with(".pt", ".torchscript") or [NO_FILE],
                    tooltip="TorchScript file in models/asced. Takes a normalized 1x3x512x512 image and returns a "
                    "label map, 1 for artifact.",
                ),
                io.Image.Input("image", optional=True, tooltip="Images to check. Without them, the mask is empty."),
            ],
            outputs=[
                sockets.Detector.Output("detector", display_name="DETECTOR", tooltip="Connect to ASCED Detection."),
                sockets.mask_output(),
                io.Float.Output(
                    "par",
                    display_name="PAR",
                    tooltip="Perceptual artifact ratio: mean share of the images that is artifact, 0 to 1.",
                ),
            ],
        )

    @classmethod
    def execute(cls, file: str, image: torch.Tensor | None = None) -> io.NodeOutput:
        if file == NO_FILE:
            raise ValueError(f"No detector is installed: {NO_FILE}, then reload the page.")
        path = find_file(file)
        if path is None:
            raise ValueError(
                f"There is no file {file} in models/{FOLDER}: choose another one, or add it and reload the page."
            )
        detector = PALDetector.load(path)
        if image is None:
            return io.NodeOutput(detector, torch.zeros(1, 64, 64), 0.0)
        masks = detector(to_rgb(image).movedim(-1, 1) * 2 - 1)
        return io.NodeOutput(detector, torch.from_numpy(masks).float(), float(artifact_ratio(masks).mean()))

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: Any) -> float:
        return changed(file)


class ASCED_VLMVerdict(io.ComfyNode):
    """A vision-language model's verdict on finished images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_VLMVerdict",
            display_name="ASCED VLM Verdict",
            category=sockets.BASELINES,
            description="Asks a vision-language model whether the images have artifacts. The model runs on your own "
            "server, such as Ollama or llama.cpp; the images are sent there and nowhere else.",
            **sockets.found_by("vision language model", "llm judge", "ollama"),
            inputs=[
                io.Image.Input("image", tooltip="Finished images. The model is asked about each one separately."),
                io.String.Input(
                    "endpoint",
                    default=LOCAL,
                    tooltip="Address of an OpenAI-compatible server, including /v1; empty: the one in the environment "
                    f"variable {ENDPOINT_VARIABLE}. A key in {KEY_VARIABLE} is sent to that one only.",
                ),
                io.String.Input("model", default="llava:13b", tooltip="Name of the model on that server."),
                io.Int.Input(
                    "paper_question",
                    default=BEST_PROMPT,
                    min=1,
                    max=PROMPTS,
                    tooltip="Which of the paper's 50 questions to ask. Number 5 did best in the paper.",
                ),
                io.String.Input(
                    "custom_question",
                    default="",
                    multiline=True,
                    tooltip="Your own question, asked instead if not empty. The answer yes must mean that there is an "
                    "artifact.",
                ),
                io.Float.Input(
                    "timeout", default=120.0, min=1.0, max=3600.0, step=1.0, tooltip="Seconds to wait for each answer."
                ),
            ],
            outputs=[
                io.Boolean.Output("artifact", display_name="artifact", tooltip="True if any image has an artifact."),
                io.Float.Output("share", display_name="share", tooltip="Share of the images with an artifact, 0 to 1."),
                io.String.Output("answers", display_name="answers", tooltip="The model's answers, one line per image."),
            ],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, endpoint: str, model: str, paper_question: int, custom_question: str, timeout: float
    ) -> io.NodeOutput:
        own = os.environ.get(ENDPOINT_VARIABLE, "").strip()
        key = os.environ.get(KEY_VARIABLE, "")
        address = endpoint.strip() or own or LOCAL
        withheld = bool(key) and address.rstrip("/") != own.rstrip("/")
        judge = Judge(address, model.strip(), "" if withheld else key, timeout)
        question = Question(custom_question.strip()) if custom_question.strip() else question_of_paper(paper_question)
        verdicts, answers = [], []
        for picture in to_pictures(image):
            comfy.model_management.throw_exception_if_processing_interrupted()
            try:
                verdict, answer = judge.ask(picture, question)
            except ValueError as error:
                if not withheld:
                    raise
                raise ValueError(
                    f"{error} The key in {KEY_VARIABLE} was not sent, because {address} is not the address in "
                    f"{ENDPOINT_VARIABLE}: set that variable to this address if you trust it."
                ) from error
            verdicts.append(verdict)
            answers.append(" ".join(answer.split()))
        return io.NodeOutput(any(verdicts), sum(verdicts) / max(1, len(verdicts)), "\n".join(answers))


NODES = [ASCED_PALDetector, ASCED_VLMVerdict]
