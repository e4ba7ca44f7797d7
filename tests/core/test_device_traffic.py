"""No device sync while steps are watched: nothing is copied to the CPU or read as a number; at T_c there is one copy.

No GPU is needed: the code runs on PyTorch's meta device, which has shapes without values. A dispatch mode intercepts
and counts every transfer and every scalar read, and returns zeros for a transfer.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from asced_core import CorrectionSettings, DetectionSettings
from asced_core.detect.certainty import Certainty
from asced_core.detect.learned import FaultNet, Learned

from .runs import trajectory_of

READS = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "_unique2", "masked_select")


class _Traffic(TorchDispatchMode):
    """Counts transfers from a device to the CPU, and reads that need values on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []
        self.reads: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in READS:
            self.reads.append(name)
        source = next((a for a in args if isinstance(a, torch.Tensor)), None)
        to_cpu = torch.device(kwargs.get("device") or "meta").type == "cpu"
        if name == "_to_copy" and source is not None and source.device.type == "meta" and to_cpu:
            self.copies.append(name)
            return torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)
        return func(*args, **kwargs)


@pytest.mark.parametrize("mode", ["robust", "reference", "paper", "learned"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", ["ttc", "redo"])
def test_no_copy_and_no_read_per_step_and_one_copy_at_t_c(mode, dtype, method):
    settings, correction = DetectionSettings(mode=mode, base_size=256), CorrectionSettings(method, gamma=0.5)
    learned = Learned(FaultNet(3, 8).eval(), Certainty((0.1, 0.9), (0.2, 0.8)))
    trajectory = trajectory_of(settings, correction, learned=learned, keep_predictions=True)
    window = trajectory.schedule.window
    x = torch.empty(2, 3, 64, 64, device="meta", dtype=dtype)
    with _Traffic() as watching:
        for step in range(window.decision + 1):
            trajectory.observe(step, x, x)
    assert trajectory.watcher.ready and window.last - window.first >= 4
    assert (watching.copies, watching.reads) == ([], [])
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
    assert (len(traffic.copies), traffic.reads) == (2, ["_local_scalar_dense"] * 2)
