"""No device sync while steps are watched: nothing is copied to the CPU or read as a number; at T_c there is one copy.

No GPU is needed: the code runs on PyTorch's meta device, which has shapes without values. A dispatch mode intercepts
and counts every transfer and every scalar read, and returns zeros for a transfer. What a run keeps on the device from
step to step is counted there, too.
"""

import gc
import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from asced_core import CorrectionSettings, DetectionSettings
from asced_core.detect.certainty import Certainty
from asced_core.detect.learned import FaultNet, Learned
from asced_core.report.run_trace import FRAMES, MAPS, SIDE, Trace
from benchmarks import gpu_runs
from benchmarks.gpu_models import MARK

from .runs import SIGMAS, trajectory_of

READS = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "_unique2", "unique_dim", "masked_select")
MODES = ["strict", "robust", "reference", "paper", "learned"]


class _Traffic(TorchDispatchMode):
    """Counts transfers from a device to the CPU, reads that need values on the CPU, and what blocks on its way back."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []
        self.reads: list[str] = []
        self.uploads: list[str] = []

    def __enter__(self):
        self._made = torch.tensor

        def made(data, *args, **kwargs):  # goes through the CPU, which the dispatcher does not see
            if torch.device(kwargs.get("device") or "cpu").type == "meta":
                self.uploads.append("tensor")
            return self._made(data, *args, **kwargs)

        torch.tensor = made
        return super().__enter__()

    def __exit__(self, *error):
        torch.tensor = self._made
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in READS:
            self.reads.append(name)
        source = next((a for a in args if isinstance(a, torch.Tensor)), None)
        to_cpu = torch.device(kwargs.get("device") or "meta").type == "cpu"
        to_meta = torch.device(kwargs.get("device") or "cpu").type == "meta"
        if name == "_to_copy" and source is not None and source.device.type == "cpu" and to_meta:
            self.uploads += [] if kwargs.get("non_blocking") else [name]
        if name == "_to_copy" and source is not None and source.device.type == "meta" and to_cpu:
            self.copies.append(name)
            return torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)
        return func(*args, **kwargs)


def _trajectory(mode, correction, channels=3, **options):
    learned = Learned(FaultNet(channels, 8).eval(), Certainty((0.1, 0.9), (0.2, 0.8)))
    settings = DetectionSettings(mode=mode, base_size=256)
    trace = Trace(len(options.get("sigmas", SIGMAS)) - 1, torch.ones(3, channels + 1))
    return trajectory_of(settings, correction, learned=learned, trace=trace, **options)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", ["ttc", "redo"])
def test_no_copy_and_no_read_per_step_and_one_copy_at_t_c(mode, dtype, method):
    trajectory = _trajectory(mode, CorrectionSettings(method, gamma=0.5), keep_predictions=True)
    window = trajectory.schedule.window
    x = torch.empty(2, 3, 64, 64, device="meta", dtype=dtype)
    with _Traffic() as watching:
        for step in range(window.decision + 1):
            trajectory.observe(step, x, x)
    assert trajectory.watcher.ready and window.last - window.first >= 4
    assert (watching.copies, watching.reads, watching.uploads) == ([], [], [])
    with _Traffic() as deciding:
        decision = trajectory.decide()
    assert (len(deciding.copies), deciding.reads) == (1, [])
    with _Traffic() as correcting:
        corrected = trajectory.correct(decision, x, x, predict=lambda x, _: x)
    assert corrected.device.type == "meta" and corrected.dtype == dtype
    assert (correcting.copies, correcting.reads) == ([], [])


def test_the_counter_counts():
    with _Traffic() as traffic:
        torch.empty(3, device="meta").cpu()
        torch.empty(3, device="meta").to("cpu", torch.float64)
        torch.ones(1).item()
        bool(torch.ones(1) > 0)
        torch.ones(3).nonzero()
        torch.ones(3)[torch.ones(3) > 0]
        torch.ones(3).to("meta")
        torch.ones(3).to("meta", non_blocking=True)
        torch.tensor([1.0], device="meta")
    assert (len(traffic.copies), traffic.uploads) == (2, ["_to_copy", "tensor"])
    assert traffic.reads[:2] == ["_local_scalar_dense"] * 2 and set(traffic.reads[2:]) == {"nonzero"}


@pytest.fixture
def only_new():
    """Hides what is there from ``_held``: to go through all objects of a long session takes seconds."""
    gc.freeze()
    yield
    gc.unfreeze()


def _held():
    """Bytes of all tensors on the device."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of modules that are asked for their type
        tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor and thing.is_meta]
    return sum({one.untyped_storage()._cdata: one.untyped_storage().nbytes() for one in tensors}.values())


# Latents per image that stay on the device besides the step's own and the report's thumbnails. Single steps need one
# and two maps; the others compare the window's first, middle and last prediction; a taught network has weights, and may
# be asked one step before its last prediction, which may have another middle.
KEPT = {"reference": 3, "paper": 3, "strict": 3, "robust": 3, "learned": 4}


THUMBNAILS = 2 * SIDE**2 * (MAPS + 3 * FRAMES)  # bytes per image


def _bytes(tensor):
    return tensor.numel() * tensor.element_size()


@pytest.mark.usefixtures("only_new")
@pytest.mark.parametrize("mode", MODES)
def test_what_a_run_keeps_on_the_device(mode):
    """While the model computes, at an SDXL latent of 1024 px; it does not grow with the steps."""
    sigmas = (*torch.logspace(1.9, -1.3, 60).tolist(), 0.0)
    most = []
    for options in ({}, {"sigmas": sigmas}):
        trajectory = _trajectory(mode, CorrectionSettings(), channels=4, **options)
        shape, before, held = (2, 4, 128, 128), _held(), []
        for step in range(trajectory.schedule.steps):
            x, denoised = torch.empty(shape, device="meta"), torch.empty(shape, device="meta")
            trajectory.observe(step, x, denoised)
            if trajectory.is_due(step):
                with _Traffic():
                    trajectory.decide()
            thumbnails = sum(map(_bytes, (trajectory.trace.maps(), trajectory.trace.frames())))
            held.append((_held() - before - thumbnails) / _bytes(x) - 2)
            del x, denoised
        most.append(max(held))
        assert thumbnails <= 2 * THUMBNAILS
    assert max(most) <= KEPT[mode], most


def test_waits_are_counted_from_one_model_call_to_the_next():
    def run():
        torch.ones(1).item()  # before the first call
        for reads in (0, 2, 1):
            with torch.profiler.record_function(MARK):
                torch.ones(4).sum()
            for _ in range(reads):
                torch.ones(1).item()

    assert gpu_runs.waits_of(run, on_gpu=False) == [0, 2, 1]
