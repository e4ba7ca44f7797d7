"""The command line of a batch, checked before anything starts."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..settings import MODES, CorrectionSettings, DetectionSettings
from .comfyui import ServerSetup, server_url
from .farm import Setup
from .graph import find_places, read_graph
from .jobs import Job, parse_seeds, read_jobs
from .pipeline import PipelineSetup

OF_SERVERS = ("workflow", "prompt_node", "negative_node", "seed_node", "image_node")
OF_PIPELINES = ("options", "device", "dtype", "mode", "threshold", "correct", "workers", "gpus_per_worker")
BY_GRAPH = ("mode", "threshold", "correct")
EXAMPLES = """examples:
  python -m asced_core.batch prompts.txt --seeds 0-7 --out results --pipeline stabilityai/stable-diffusion-xl-base-1.0
  python -m asced_core.batch jobs.csv --out results --server 127.0.0.1:8188 --workflow graph.json
"""


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        jobs: the images to make.
        out: the folder for them.
        setups: one for each server, or a single one for all pipeline workers.
        settings: what the images depend on besides their job.
        by_server: True if ComfyUI servers make the images.
        address: of a Ray cluster; None starts one on this machine.
        workers: number of pipeline workers; None chooses.
        gpus: that each of them occupies; None chooses.
    """

    jobs: list[Job]
    out: Path
    setups: list[Setup]
    settings: dict[str, Any]
    by_server: bool
    address: str | None
    workers: int | None
    gpus: float | None


def parsed(words: list[str] | None = None) -> Plan:
    """The plan of a command line; ends the program with one sentence if it asks for something impossible."""
    parser = _parser()
    args = parser.parse_args(words)
    try:
        return _plan(args)
    except ValueError as error:
        parser.exit(2, f"asced batch: {error}\n")


def _plan(args: argparse.Namespace) -> Plan:
    if bool(args.server) == bool(args.pipeline):
        raise ValueError("Name what makes the images: either --pipeline, or one --server or more.")
    foreign = OF_PIPELINES if args.server else OF_SERVERS
    if passed := [name for name in foreign if getattr(args, name) is not None]:
        option = f"--{passed[0].replace('_', '-')}"
        if passed[0] in BY_GRAPH:
            raise ValueError(f"{option} is for pipelines: with --server, the nodes of the workflow decide that.")
        raise ValueError(f"{option} is for {'pipelines' if args.server else 'servers'}: leave it out.")
    jobs = read_jobs(args.jobs, None if args.seeds is None else parse_seeds(args.seeds))
    setups, settings = _servers(args) if args.server else _pipeline(args)
    return Plan(
        jobs, args.out, setups, settings, bool(args.server), args.address, args.workers, args.gpus_per_worker
    )  # fmt: skip


def _servers(args: argparse.Namespace) -> tuple[list[Setup], dict[str, Any]]:
    if args.workflow is None:
        raise ValueError("--server needs --workflow, the graph to run: in ComfyUI, choose Workflow > Export (API).")
    form = find_places(
        read_graph(args.workflow), args.seed_node or (), args.prompt_node or "", args.negative_node or "",
        args.image_node or "",
    )  # fmt: skip
    urls = dict.fromkeys(server_url(address) for address in args.server)
    return [ServerSetup(url, form) for url in urls], {"workflow": form.graph}


def _pipeline(args: argparse.Namespace) -> tuple[list[Setup], dict[str, Any]]:
    if args.workers is not None and args.workers < 1:
        raise ValueError(f"--workers must be 1 or more, got {args.workers}.")
    if args.gpus_per_worker is not None and args.gpus_per_worker < 0:
        raise ValueError(f"--gpus-per-worker must be 0 or more, got {args.gpus_per_worker:g}.")
    threshold = {} if args.threshold is None else {"mad_scale": args.threshold}
    try:
        detection = DetectionSettings(mode=args.mode or "strict", **threshold)
    except ValueError as error:
        raise ValueError(str(error).replace("mad_scale", "--threshold")) from error
    correction = CorrectionSettings(method=args.correct or "ttc")
    setup = PipelineSetup(
        args.pipeline, detection, correction, _options(args.options), args.device or "", args.dtype or ""
    )
    settings = asdict(setup)
    del settings["device"]
    return [setup], {"pipeline" if key == "source" else key: value for key, value in settings.items()}


def _options(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        options = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--options must be a JSON object or a file with one: {error}.") from error
    if not isinstance(options, dict):
        raise ValueError('--options must be a JSON object, such as {"num_inference_steps": 25}.')
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m asced_core.batch",
        description="Makes many images over Ray workers, each with its mask and report. Called again, it makes what is "
        "missing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("jobs", type=Path, help="prompts one per line, or a .jsonl or .csv with prompt, seed, negative, name")
    add("--out", type=Path, required=True, help="the folder to write to")
    add("--seeds", help="for prompts without a seed of their own: 0-7 or 0,1,5 (default: 0)")
    add("--address", help="of a running Ray cluster, HOST:6379 (default: this machine alone)")
    add = parser.add_argument_group("a pipeline of diffusers").add_argument
    add("--pipeline", help="for DiffusionPipeline.from_pretrained, or module:function that returns a pipeline")
    add("--options", help="arguments of each call as JSON, or a file with them: '{\"num_inference_steps\": 25}'")
    add("--mode", choices=MODES, help="of the detection (default: strict)")
    add("--threshold", type=float, help="of the detection; higher marks less (default: 3)")
    add("--correct", choices=("ttc", "none"), help="how marked regions are corrected (default: ttc)")
    add("--workers", type=int, help="how many load the pipeline (default: one per GPU, or one)")
    add("--gpus-per-worker", type=float, help="such as 0.5 for two workers on one GPU (default: 1, or 0 without a GPU)")
    add("--device", help="of the pipeline, such as cuda or cpu (default: the accelerator if there is one)")
    add("--dtype", help="of the weights: float16, bfloat16 or float32 (default: that of diffusers)")
    add = parser.add_argument_group("ComfyUI servers").add_argument
    add("--server", action="append", help="address of a running ComfyUI, HOST:8188; name several to share the work")
    add("--workflow", type=Path, help="the graph to run, exported in API format")
    add("--prompt-node", help="ID or ID.input of the positive prompt, if there are several")
    add("--negative-node", help="the same for the negative prompt")
    add("--seed-node", action="append", help="the same for the seed; name several to give them the same seed")
    add("--image-node", help="ID of the node whose images are taken")
    return parser
