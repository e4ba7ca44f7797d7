"""An extension of a WebUI, for tools/webui.py only: a model with known artifacts, and facts about each job.

It replaces the model's predictions: a smooth picture, a little of what the model predicted, and an artifact that
appears partway through sampling in the chosen images.
"""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any

import gradio as gr
import torch
from modules import script_callbacks, scripts, shared

LATE = 2.5  # sigma below which the artifact is there


class State:
    """Of the job in progress."""

    p: Any = None
    planted: tuple[int, ...] = ()
    interrupt_at = 0
    samplers: tuple[Any, ...] = ()
    calls = 0
    sigma = 0.0


def before_call(params: Any) -> None:
    """Called by the WebUI before each model call."""
    State.sigma = float(params.sigma.flatten()[0])
    State.calls += 1
    if State.calls == State.interrupt_at:
        shared.state.interrupt()


def after_call(params: Any) -> None:
    """Called by the WebUI after each model call, with the prediction."""
    if State.p is None:
        return
    given = params.x
    _, channels, height, width = given.shape
    down, right = torch.meshgrid(torch.linspace(0, 6.28, height), torch.linspace(0, 6.28, width), indexing="ij")
    base = torch.stack([torch.sin(down * (1 + k / 2)) + torch.cos(right + k) for k in range(channels)])
    out = base.to(given) + 0.05 * given.clamp(-3, 3)
    if State.sigma < LATE:
        top, left = height // 4, width // 4
        for place in State.planted:
            if place < len(out):
                out[place, :, top : top + height // 5, left : left + width // 5] += 3.0
    params.x = out


class Probe(scripts.Script):
    def title(self) -> str:
        return "ASCED probe"

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        return [gr.Textbox("", label="Probe", visible=False)]

    def process(self, p: Any, wanted: str = "") -> None:
        wishes = json.loads(wanted) if wanted else None
        State.p = None if wishes is None else p
        State.calls, State.samplers = 0, ()
        if wishes is not None:
            State.planted, State.interrupt_at = tuple(wishes["planted"]), wishes.get("interrupt_at", 0)
            p.probed = []

    def process_before_every_sampling(self, p: Any, *_: Any, **__: Any) -> None:
        State.samplers = (*State.samplers, p.sampler)

    def post_sample(self, p: Any, ps: Any, wanted: str = "") -> None:
        if State.p is p:
            p.probed += [hashlib.sha256(x.float().cpu().numpy().tobytes()).hexdigest() for x in ps.samples]

    def postprocess(self, p: Any, processed: Any, wanted: str = "") -> None:
        if State.p is p:
            threads = sum(thread.name.startswith("ASCED") for thread in threading.enumerate())
            left = threads + sum("asced" in str(one.func) for one in State.samplers)
            facts = {"latents": p.probed, "calls": State.calls, "left": left}
            processed.extra_generation_params["Probe"] = json.dumps(facts)
            State.p = None


script_callbacks.on_cfg_denoiser(before_call)
script_callbacks.on_cfg_after_cfg(after_call)
