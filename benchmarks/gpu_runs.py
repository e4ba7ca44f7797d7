"""Measures one model in one form of its weights for ``python -m benchmarks.gpu``, in a process of its own.

``python -m benchmarks.gpu_runs JOB`` prints a line ``ROW`` and JSON for each part of the job, and ends at the first one
that fails. The network decides how long a run takes, not what is seen: its prediction is mixed into a still scene, so
that random weights give a calm run, and one artifact appears where it is planted.
"""

from __future__ import annotations

import json
import math
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from benchmarks.draft_cost import DECIDE_AT, ROOT, load_nodes, run
from benchmarks.gpu_models import BACKENDS, DTYPES, MARK, MODELS, Spec, compiled, load, painted, shapes_of

SEED = 3  # of the noise
SHARES = (1.0, 0.5, 0.25, 0.1)  # of the blocks
GPU_ROOM, HOST_ROOM = 0.6, 0.8  # share of the free memory that weights may take
LEAST_ROUNDS = 3
PROFILED = 12  # steps
WAITS = ("StreamSynchronize", "DeviceSynchronize", "EventSynchronize")  # after cuda or hip
READS = ("_local_scalar_dense", "nonzero", "equal", "masked_select")  # on the CPU, in their place


@dataclass(frozen=True)
class Done:
    """What a run gave: its latent, and its report if it was watched."""

    latent: Tensor
    report: Any = None


Call = Callable[[], Done]


class Bench:
    """A model with random weights, to be sampled with the pack and without.

    Args:
        spec: the architecture.
        form: its weights, or a backend of torch.compile.
        device: ``cuda`` or ``cpu``.

    Attributes:
        title: of the model; it says so if blocks were left out.
        plain, faulty: ComfyUI's model, seeing a calm scene, and the same with an artifact from ONSET on.
        steps: of a run.

    Raises:
        RuntimeError: ComfyUI's loader does not know the network.
    """

    def __init__(self, spec: Spec, form: str, device: str) -> None:
        self.nodes = load_nodes(cpu=device == "cpu")
        import comfy.model_management as management

        self.spec, self.device, self.steps = spec, management.get_torch_device(), spec.steps
        weights: torch.dtype = getattr(torch, DTYPES[spec.forms[0] if form in BACKENDS else form])
        room = HOST_ROOM * psutil.virtual_memory().available
        if self.device.type == "cuda":
            room = min(room, GPU_ROOM * management.get_free_memory(self.device))
        for share in SHARES if spec.blocks else (1.0,):
            shapes = shapes_of(spec, share)
            if weights.itemsize * sum(map(math.prod, shapes.values())) <= room:
                break
        self.title = spec.title if share == 1 else f"{spec.title}, {share:.0%} of its blocks"
        self._model = load(shapes, weights)
        model = compiled(self._model, form) if form in BACKENDS else self._model
        self.plain, self.faulty = (painted(model, faulty) for faulty in (False, True))
        self._positive, self._negative = self._text(1), self._text(2)

    def _text(self, seed: int) -> Any:
        """Conditioning as a text encoder would return it."""
        generator = torch.Generator().manual_seed(seed)
        pooled = {"pooled_output": torch.randn(1, self.spec.pooled, generator=generator)} if self.spec.pooled else {}
        return [[torch.randn(1, *self.spec.text, generator=generator), pooled]]

    def _options(self, images: int = 0) -> dict[str, Any]:
        latent = {"samples": torch.zeros(images or self.spec.images, *self.spec.latent)}
        return {
            "steps": self.steps, "cfg": self.spec.cfg, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
            "positive": self._positive, "negative": self._negative, "latent_image": latent,
        }  # fmt: skip

    def stock(self, images: int = 0) -> Done:
        """A run of ComfyUI's own KSampler, by the function behind it; 0 images are as many as the model has."""
        from nodes import common_ksampler  # type: ignore[attr-defined]

        own = self._options(images)
        sampler, latent = own.pop("sampler_name"), own.pop("latent_image")
        return Done(common_ksampler(self.plain, SEED, sampler_name=sampler, latent=latent, **own)[0]["samples"])

    def ours(self, model: Any) -> Done:
        """A run of ASCED KSampler with its defaults."""
        latent, _, report, _ = run(self.nodes, "ASCED_KSampler", model=model, seed=SEED, **self._options())
        return Done(latent["samples"], report)

    def drafted(self) -> Done:
        """A run of ASCED Draft and Pick that finishes one draft."""
        latent, _, report, *_ = run(
            self.nodes, "ASCED_DraftAndPick", model=self.plain, seed=SEED, drafts=self.spec.drafts, keep=1,
            decide_at=DECIDE_AT, **self._options(1),
        )  # fmt: skip
        return Done(latent["samples"], report)

    @property
    def offloaded(self) -> bool:
        """True if the weights did not all fit on the device, so that transfers decide the time."""
        return bool(self._model.loaded_size() < self._model.model_size())

    def timed(self, call: Call) -> tuple[float, int, Done]:
        """Seconds of a run and of cleaning up after it, its peak memory in bytes (0 on the CPU), and what it gave."""
        import comfy.model_management as management

        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        done = call()
        management.cleanup_models_gc()
        if on_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
        return seconds, torch.cuda.max_memory_allocated() if on_gpu else 0, done


@contextmanager
def screen(previews: bool) -> Iterator[None]:
    """What a node runs in on the server, with ComfyUI's previews or without."""
    import comfy.utils
    from comfy.cli_args import LatentPreviewMethod, args
    from comfy_execution.progress import get_progress_state
    from comfy_execution.utils import CurrentNodeContext

    args.preview_method = LatentPreviewMethod.Latent2RGB if previews else LatentPreviewMethod.NoPreviews

    def hook(value: float, total: float, _: Any, node_id: Any = None) -> None:
        get_progress_state().update_progress("1", value, total)

    comfy.utils.set_progress_bar_global_hook(hook)
    with CurrentNodeContext("bench", "1"):
        yield


def turns(bench: Bench, calls: Mapping[str, Call], limits: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Done]]:
    """Runs that take turns, in another order each time; the first turn warms up.

    Returns:
        Seconds of each round and peak bytes by name; and the last outcomes.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    peaks: dict[str, int] = dict.fromkeys(calls, 0)
    outcomes: dict[str, Done] = {}
    names, begin = list(calls), time.monotonic()
    for turn in range(limits["rounds"] + 1):
        if turn > LEAST_ROUNDS and time.monotonic() - begin > limits["seconds"]:
            break
        for name in names if turn % 2 else names[::-1]:
            took, peak, outcomes[name] = bench.timed(calls[name])
            if turn:
                seconds[name].append(took)
                peaks[name] = max(peaks[name], peak)
    return {"seconds": seconds, "peak": peaks}, outcomes


def compare(bench: Bench, limits: Mapping[str, Any]) -> dict[str, Any]:
    """A watched run in which nothing is found, and a corrected run, against stock.

    Raises:
        RuntimeError: the runs are not what they should be.
    """
    calls: dict[str, Call] = {
        "stock": bench.stock,
        "watched": partial(bench.ours, bench.plain),
        "corrected": partial(bench.ours, bench.faulty),
    }
    row, last = turns(bench, calls, limits)
    watched, corrected = last["watched"].report, last["corrected"].report
    if watched.decision is None or any(image.regions for image in watched.images):
        raise RuntimeError(f"nothing was to be found in the watched run, but it says: {watched.summary()}")
    if not any(image.corrected for image in corrected.images):
        raise RuntimeError(f"the planted artifact was to be corrected, but the run says: {corrected.summary()}")
    repeats = torch.equal(bench.stock().latent, last["stock"].latent)
    return row | {
        "steps": bench.steps, "added": corrected.run.extra_model_calls, "repeats": repeats,
        "same": torch.equal(last["watched"].latent, last["stock"].latent),
    }  # fmt: skip


def drafts(bench: Bench, limits: Mapping[str, Any]) -> dict[str, Any]:
    """Drafts of which one is finished, against the same number of whole images and against one.

    Raises:
        RuntimeError: all drafts were computed to the end.
    """
    count = bench.spec.drafts
    calls: dict[str, Call] = {"drafted": bench.drafted, "all": partial(bench.stock, count), "one": bench.stock}
    row, last = turns(bench, calls, limits)
    report = last["drafted"].report
    if report.drafts is None:
        raise RuntimeError(f"one draft was to be finished, but the run says: {report.summary()}")
    share = math.ceil(DECIDE_AT * bench.steps) / bench.steps
    return row | {"drafts": count, "share": share, "added": report.run.extra_model_calls, "steps": bench.steps}


def waits(bench: Bench, _: Mapping[str, Any]) -> dict[str, Any]:
    """How often a stock run and a watched one wait for the device, after each model call up to the next."""
    bench.steps = min(bench.steps, PROFILED)  # a record holds every kernel
    bench.stock()
    report = bench.ours(bench.plain).report
    calls: dict[str, Call] = {"stock": bench.stock, "watched": partial(bench.ours, bench.plain)}
    on_gpu = bench.device.type == "cuda"
    found = {name: waits_of(call, on_gpu) for name, call in calls.items()}
    places = places_of_waits(calls["watched"]) if on_gpu else {}
    bench.steps = bench.spec.steps
    return {**found, "decision": report.decision, "places": places}


def waits_of(call: Call, on_gpu: bool) -> list[int]:
    """Waits in each interval between two model calls; the last one ends with the run.

    On the CPU nothing is waited for: what is counted are the reads that would wait on a GPU.

    Raises:
        RuntimeError: the profiler may not look at the device.
    """
    kinds = [torch.profiler.ProfilerActivity.CPU, *[torch.profiler.ProfilerActivity.CUDA] * on_gpu]
    with torch.profiler.profile(activities=kinds) as record:
        call()
    host = [e for e in record.events() or () if e.device_type == torch.autograd.DeviceType.CPU]
    if on_gpu and not any("LaunchKernel" in event.name for event in host):
        raise RuntimeError("the profiler sees no calls of the device's runtime here, so waits cannot be counted")
    starts = sorted(event.time_range.start for event in host if event.name == MARK)
    counted = [kind + name for kind in ("cuda", "hip") for name in WAITS] if on_gpu else [f"aten::{n}" for n in READS]
    times = [event.time_range.start for event in host if event.name in counted]
    ends = [*starts[1:], math.inf]
    return [sum(start <= time < end for time in times) for start, end in zip(starts, ends, strict=True)]


def places_of_waits(call: Call) -> dict[str, int]:
    """Where the pack's own lines wait in a run on CUDA, by torch's warnings: how often, by file and line."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    own = [f"{Path(one.filename).relative_to(ROOT)}:{one.lineno}" for one in said if one.filename.startswith(str(ROOT))]
    return dict(Counter(own))


PARTS: dict[str, Callable[[Bench, Mapping[str, Any]], dict[str, Any]]]
PARTS = {"runs": compare, "waits": waits, "drafts": drafts}
PREVIEWS = " with previews"


def reason(error: Exception) -> str:
    """An exception in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}"[:300]


def main() -> None:
    job = json.loads(sys.argv[1])
    bench = None
    with torch.inference_mode():
        for part in job["parts"]:
            try:
                bench = bench or Bench(MODELS[job["model"]], job["form"], job["device"])
                with screen(part.endswith(PREVIEWS)):
                    row = PARTS[part.removesuffix(PREVIEWS)](bench, job)
                latent = 4 * bench.spec.images * math.prod(bench.spec.latent)  # bytes
                row |= {"title": bench.title, "latent": latent, "offloaded": bench.offloaded}
            except Exception as error:
                traceback.print_exc()
                row = {"error": reason(error)}
            print("ROW " + json.dumps(row), flush=True)
            if "error" in row:
                return  # the device may be in any state now


if __name__ == "__main__":
    main()
