"""A detector that was taught: a small network on the predictions of the window, mode ``learned``.

It sees the prediction at T_c and how that differs from the window's first and middle prediction. How it is taught, from
faults planted into a checkpoint's own runs: asced_core/teach.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..maps import in_parts
from ..noise import NoiseLevel
from ..settings import DetectionSettings
from .certainty import Certainty
from .evidence import MAX_RATIO, Evidence, Shape, no_thresholds
from .memory import WindowMemory
from .upload import upload

WIDTH = 24  # channels at full resolution
GROUPS = 8
SEEN = 3  # predictions that the network sees
LARGE = 48  # side in cells from which on the network works on squares of 2x2 cells, four times as fast


class FaultNet(nn.Module):
    """A U-Net with two levels; works on latents of any size.

    Args:
        channels: C of the latents.
        width: channels at its finest resolution, a multiple of 8.
        stride: side of the squares of cells that it works on.
    """

    def __init__(self, channels: int, width: int = WIDTH, stride: int = 1) -> None:
        super().__init__()
        self.channels, self.width, self.stride = channels, width, stride
        self.fine, self.middle = _block(SEEN * channels * stride**2, width), _block(width, 2 * width)
        self.coarse = _block(2 * width, 4 * width)
        self.middle_up, self.fine_up = _block(6 * width, 2 * width), _block(3 * width, width)
        self.out = nn.Conv2d(width, stride**2, 1)
        self.register_buffer("mean", torch.zeros(SEEN * channels))
        self.register_buffer("deviation", torch.ones(SEEN * channels))
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, frames: Tensor) -> Tensor:
        """Logits [B,H,W] that each cell belongs to a fault.

        Args:
            frames: the window's first, middle and last prediction, float32 [B,3,C,H,W].
        """
        seen = (features(frames) - self.mean[:, None, None]) / self.deviation[:, None, None]
        height, width = seen.shape[2:]
        seen = F.pad(seen, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        fine = self.fine(F.pixel_unshuffle(seen, self.stride))
        middle = self.middle(_halved(fine))
        coarse = self.coarse(_halved(middle))
        middle = self.middle_up(torch.cat([_as_large_as(middle, coarse), middle], 1))
        fine = self.fine_up(torch.cat([_as_large_as(fine, middle), fine], 1))
        return F.pixel_shuffle(self.out(fine), self.stride)[:, 0, :height, :width]

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> FaultNet:
        """A network on the CPU with these weights, ready for use; the global random generator stays as it is.

        Raises:
            KeyError, RuntimeError: they are of something else.
        """
        with torch.random.fork_rng(devices=[]):
            cells, width = weights["out.weight"].shape[:2]
            network = cls(len(weights["mean"]) // SEEN, width, math.isqrt(cells))
        network.load_state_dict({name: value.cpu().float() for name, value in weights.items()})
        return network.eval()

    def measure(self, frames: Tensor) -> None:
        """Sets the scale of the inputs to that of frames [N,3,C,H,W]."""
        seen = features(frames.float())
        self.mean.copy_(seen.mean((0, 2, 3)))
        self.deviation.copy_(seen.std((0, 2, 3)).clamp(min=1e-6))


def stride_for(height: int, width: int) -> int:
    """The stride for latents of this size."""
    return 2 if height * width >= LARGE**2 else 1


def features(frames: Tensor) -> Tensor:
    """What the network sees of frames [B,3,C,H,W]: the last one, and its two differences, [B,3C,H,W]."""
    first, middle, last = frames.unbind(1)
    return torch.cat([last, last - middle, last - first], 1)


def _block(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1), nn.GroupNorm(GROUPS, after), nn.SiLU()]
    return nn.Sequential(*layers)


def _halved(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2, ceil_mode=True)


def _as_large_as(large: Tensor, small: Tensor) -> Tensor:
    return F.interpolate(small, size=large.shape[2:])


@dataclass(frozen=True, eq=False)
class Learned:
    """What was learned.

    Attributes:
        network: a taught one.
        certainty: how likely a mark is right, by mean probability; None if that is unknown.
    """

    network: FaultNet
    certainty: Certainty | None = None


class LearnedDetector:
    """Runs a taught network once, on what it keeps of the window: mode ``learned``.

    Args:
        settings: the lowest probability that counts, and the scale of the sizes.
        shape: (B, C, H, W) of the predictions.
        device: where they live.
        learned: its network is neither changed nor moved.
        asked: see WindowMemory.

    Raises:
        ValueError: the network was made for another number of channels.
    """

    def __init__(
        self,
        settings: DetectionSettings,
        shape: Shape,
        device: torch.device,
        learned: Learned,
        asked: Collection[int] = (),
    ) -> None:
        network = learned.network
        if network.channels != shape[1]:
            raise ValueError(
                f"The taught detector was made for {network.channels} channels, but these predictions have {shape[1]}: "
                "use one that was taught on this model."
            )
        self.settings, self._shape = settings, shape
        self._certainty = learned.certainty
        self._network = network if network.out.weight.device == device else upload(copy.deepcopy(network), device)
        self._memory = WindowMemory(shape, asked)

    @property
    def ready(self) -> bool:
        """True from the second prediction on."""
        return self._memory.seen > 1

    def push(self, denoised: Tensor, x: Tensor | None = None, level: NoiseLevel | None = None) -> None:
        """Takes the prediction of the next step, see Detector; state and noise level are not needed."""
        self._memory.push(denoised)

    def probability(self) -> Tensor:
        """That each cell belongs to a fault, float32 [B,H,W], as the network puts it.

        Raises:
            ValueError: there are fewer than two predictions.
        """
        if not self.ready:
            raise ValueError("Detection needs at least two predictions in the window.")
        with torch.no_grad():
            return in_parts(lambda part: self._network(torch.stack(self._memory.three(part), 1)).sigmoid(), self._shape)

    def result(self) -> Evidence:
        """The cells at least as probable as the settings ask for; see Detector."""
        least = max(self.settings.min_probability, 1 / MAX_RATIO)
        probability = self.probability()
        ratio = torch.where(probability > least, probability / least, 0.0)
        certainty = None if self._certainty is None else self._certainty.at(least)
        return no_thresholds(ratio.clamp(max=MAX_RATIO), certainty)

    def so_far(self, image: int) -> None:
        """None: a network does not run at every step."""
