"""One run in every host: ``python -m benchmarks.hosts``. The same seed, model and sampler, with and without ASCED.

The hand model of the demo is sampled by Euler in ComfyUI (a headless server), in diffusers, in the WebUI script's run
(with a stand-in for the WebUI's samplers), and in a plain loop around the core. Writes docs/benchmarks/hosts.json and
hosts.md. ``make bench-hosts`` also sets up diffusers.
"""

from __future__ import annotations

import io
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load, load_file
from torch import Tensor, nn

from asced_core import CorrectionSettings, DetectionSettings, DiscreteSchedule, Report, RunFacts, Trajectory, edm_level
from asced_core.correct import noise_keys
from asced_core.noise import next_state
from demo.hand_unet import BETA_END, BETA_START, CLASSES, STEPS, HandUNet, alphas_cumprod

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "benchmarks"
WEIGHTS = ROOT / "demo" / "hands64.safetensors"
BATCH, SEED, SIDE = CLASSES, 22, 64
TIMES = list(range(STEPS - 1, -1, -40))  # ComfyUI's scheduler "simple" with 25 steps
DETECTION = DetectionSettings(mode="strict", base_size=256)
CLOSE = 1e-3  # of the images' range of 2
HEADER = (
    "| host | regions | the same regions | stock apart | corrected apart | only marked images change | added calls |"
)
Box = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Result:
    """One host's run.

    Attributes:
        stock, corrected: final images [B,3,H,W], -1 to 1, without and with ASCED.
        boxes: of the regions of each image.
        added: model calls of the correction.
    """

    stock: Tensor
    corrected: Tensor
    boxes: list[list[Box]]
    added: int


@dataclass(frozen=True, eq=False)
class Setting:
    """What all hosts share.

    Attributes:
        network: predicts the noise.
        noise: standard normal [B,3,H,W], the same numbers as ComfyUI's for this seed.
        labels: a digit for each image.
        sigmas: noise levels, and the final 0.
        training: the model's noise schedule.
        correction: how the marks are corrected.
    """

    network: nn.Module
    noise: Tensor
    labels: Tensor
    sigmas: Sequence[float]
    training: DiscreteSchedule
    correction: CorrectionSettings

    @property
    def start(self) -> Tensor:
        """The state at the highest noise level."""
        return self.noise * math.sqrt(1 + self.sigmas[0] ** 2)

    @property
    def items(self) -> list[int]:
        """A number for each image, as in ComfyUI."""
        return noise_keys(self.noise)

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """The predicted clean images."""
        step = min(range(len(TIMES)), key=lambda i: abs(self.sigmas[i] - sigma))
        times = torch.full((len(x),), TIMES[step])
        return x - sigma * self.network(x / math.sqrt(1 + sigma**2), times, self.labels)


def setting(correction: CorrectionSettings) -> Setting:
    """The run."""
    network = HandUNet().eval()
    network.load_state_dict(load_file(WEIGHTS))
    bars = alphas_cumprod().double()
    levels = ((1 - bars) / bars).sqrt().tolist()
    noise = torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(SEED))
    sigmas = [*(levels[t] for t in TIMES), 0.0]
    return Setting(network, noise, torch.arange(BATCH) % CLASSES, sigmas, DiscreteSchedule(tuple(levels)), correction)


def boxes_of(report: Report) -> list[list[Box]]:
    return [sorted(tuple(region.box) for region in image.regions) for image in report.images]


def in_core(given: Setting) -> Result:
    """A loop around the core."""
    levels = [edm_level(sigma) for sigma in given.sigmas]
    results, added, boxes = [], 0, []
    for correction in (CorrectionSettings(method="none"), given.correction):
        run = Trajectory.begin(levels, given.training, DETECTION, correction, SEED, given.items)
        x = given.start
        for step, level in enumerate(levels[:-1]):
            denoised = given.denoise(x, level.sigma)
            run.observe(step, x, denoised)
            if run.is_due(step) and (decision := run.decide()).acts:
                x, added = run.correct(decision, x, denoised), added + 1
                denoised = given.denoise(x, level.sigma)
            x = next_state(x, denoised, level, levels[step + 1])
            if run.is_due_early(step) and (decision := run.decide()).acts:
                x = run.correct(decision, x)
        results.append(x)
        boxes = boxes_of(run.report(RunFacts("euler", SEED)))
    return Result(results[0], results[1], boxes, added)


def in_diffusers(given: Setting) -> Result:
    """A pipeline of diffusers."""
    from diffusers import DiffusionPipeline, EulerDiscreteScheduler

    from asced_core.hosts.diffusers import watching

    class Hands(DiffusionPipeline):
        def __init__(self, unet: nn.Module, scheduler: Any) -> None:
            super().__init__()
            self.register_modules(unet=unet, scheduler=scheduler)

        def __call__(self, x: Tensor, labels: Tensor) -> Tensor:
            self.scheduler.set_timesteps(timesteps=TIMES)
            for t in self.scheduler.timesteps:
                times = torch.full((len(x),), int(t))
                eps = self.unet(self.scheduler.scale_model_input(x, t), times, labels)
                x = self.scheduler.step(eps, t, x).prev_sample
            return x

    scheduler = EulerDiscreteScheduler(beta_start=BETA_START, beta_end=BETA_END, beta_schedule="linear")
    pipe = Hands(given.network, scheduler)
    stock = pipe(given.start, given.labels)
    with watching(pipe, DETECTION, given.correction, SEED, given.items) as run:
        corrected = pipe(given.start, given.labels)
    report = run.report()
    return Result(stock, corrected, boxes_of(report), report.run.extra_model_calls)


def in_webui(given: Setting) -> Result:
    """The run of the WebUI script; a stand-in takes the place of the WebUI's own samplers."""
    from asced_core.hosts.webui.levels import Trained
    from asced_core.hosts.webui.run import Run, Task

    sys.path.append(str(ROOT / "tests" / "hosts" / "webui_standin"))
    import k_sampling

    class Denoiser(nn.Module):
        step = 0

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            return given.denoise(x, float(sigma[0]))

    def sample(sampler: Any) -> Tensor:
        made: Tensor = sampler.func(
            Denoiser(), given.start, sigmas=torch.tensor(given.sigmas), extra_args={}, callback=lambda _: None
        )
        return made

    stock = sample(SimpleNamespace(func=k_sampling.sample_euler))
    sampler = SimpleNamespace(func=k_sampling.sample_euler)
    scale = Trained(given.training.sigmas)
    run = Run(Task("Euler", DETECTION, given.correction, scale, [SEED] * BATCH, given.items), sampler)
    corrected = sample(sampler)
    return Result(stock, corrected, boxes_of(run.report), run.report.run.extra_model_calls)


def in_comfyui(given: Setting) -> Result:
    """A headless server."""
    sys.path.append(str(ROOT / "tools"))
    from graphs import demo_model, node
    from PIL import Image
    from server import ComfyServer

    sampling = {
        "model": ["model", 0], "positive": ["model", 2], "negative": ["model", 3], "latent_image": ["empty", 0],
        "seed": SEED, "steps": len(TIMES), "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
    }  # fmt: skip
    widgets = {"mode": DETECTION.mode, "threshold": DETECTION.mad_scale, "space": "latent", "min_area": 100,
               "max_area": 10000, "min_width": 5, "expand": 0, "start_percent": 0.2, "end_percent": 0.5}  # fmt: skip
    acting = {name: getattr(given.correction, name) for name in ("method", "gamma", "strength", "expand", "x0_source")}
    graph = {
        **demo_model("pixel", BATCH),
        "stock": node("KSampler", **sampling),
        "asced": node("ASCED_KSampler", **sampling, detection=["detection", 0], correction=["correction", 0]),
        "detection": node("ASCED_Detection", **widgets),
        "correction": node("ASCED_Correction", **acting),
        "image": node("VAEDecode", samples=["asced", 0], vae=["model", 1]),
        "report": node("ASCED_SaveReport", image=["image", 0], report=["asced", 2], filename_prefix="hosts"),
        "stock latent": node("SaveLatent", samples=["stock", 0], filename_prefix="stock"),
        "asced latent": node("SaveLatent", samples=["asced", 0], filename_prefix="asced"),
    }
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder)) as server:
        outputs = server.run(graph)
        stock, corrected = (
            load(server.view(outputs[name]["latents"][0]))["latent_tensor"] for name in ("stock latent", "asced latent")
        )
        plain = [
            json.loads(Image.open(io.BytesIO(server.view(file))).text["asced"])  # type: ignore[attr-defined]
            for file in outputs["report"]["images"]
        ]
    boxes = [sorted(tuple(region["box"]) for region in one["images"][0]["regions"]) for one in plain]
    return Result(stock, corrected, boxes, plain[0]["run"]["extra_model_calls"])


HOSTS: dict[str, Callable[[Setting], Result]] = {
    "asced_core, a plain loop": in_core,
    "ComfyUI": in_comfyui,
    "diffusers": in_diffusers,
    "WebUI script, stand-in": in_webui,
}


@torch.inference_mode()
def compared(correction: CorrectionSettings, hosts: Sequence[str] = tuple(HOSTS)) -> dict[str, dict[str, Any]]:
    """How far each host is from the first one.

    Args:
        correction: how the marks are corrected.
        hosts: which ones.
    """
    torch.set_num_threads(1)
    given = setting(correction)
    results = {name: HOSTS[name](given) for name in hosts}
    first = next(iter(results.values()))
    return {
        name: {
            "regions": sum(map(len, one.boxes)),
            "same_regions": one.boxes == first.boxes,
            "stock_apart": float((one.stock - first.stock).abs().max()),
            "corrected_apart": float((one.corrected - first.corrected).abs().max()),
            "changed": [i for i in range(BATCH) if not torch.equal(one.stock[i], one.corrected[i])],
            "marked": [i for i in range(BATCH) if one.boxes[i]],
            "added": one.added,
        }
        for name, one in results.items()
    }


def as_markdown(result: dict[str, dict[str, dict[str, Any]]]) -> str:
    lines = [
        "# One run in every host",
        "",
        f"Written by `make bench-hosts`: the hand model of the demo, Euler, {len(TIMES)} steps, a batch of "
        f"{BATCH}, seed {SEED}, mode strict, TTC. *Apart* is the largest difference of any value from the plain loop; "
        "images range from -1 to 1. ComfyUI is a real headless server; of the WebUI, the script's own run is used, "
        "with a stand-in for the WebUI's samplers. Marked images are the only ones that differ from stock, bit for "
        "bit, in every host.",
    ]
    for source, rows in result.items():
        lines += ["", f"## x0_source {source}", "", HEADER, "|---|---|---|---|---|---|---|"]
        for name, row in rows.items():
            only = "yes" if row["changed"] == row["marked"] else "no"
            same = "yes" if row["same_regions"] else "no"
            lines.append(
                f"| {name} | {row['regions']} | {same} | {row['stock_apart']:.1e} | {row['corrected_apart']:.1e} | "
                f"{only} | {row['added']} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    result = {source: compared(CorrectionSettings(x0_source=source)) for source in ("current", "previous")}
    (DOCS / "hosts.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (DOCS / "hosts.md").write_text(as_markdown(result), encoding="utf-8")
    print(as_markdown(result))


if __name__ == "__main__":
    main()
