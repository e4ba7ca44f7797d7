"""BayesDiff on the test sets: its posteriors, and its uncertainty about each cell of a recorded run.

The posteriors are fitted to photographs: ``python -m benchmarks.uncertainty --data signdigits_64.npz``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asced_core import DetectionSettings
from asced_core.baselines.bayesdiff import LastLayerLaplace, as_offset, fit_pair, map_of, sample_with_uncertainty
from asced_core.baselines.last_layer import LastLayerTap, find_last_layer
from asced_core.correct.renoising import item_generator
from asced_core.detect.medians import median
from asced_core.detect.regions import find_regions
from asced_core.detect.single_steps import MAD_TO_SIGMA, SMOOTHING
from asced_core.detect.smoothing import GaussianSmoother
from asced_core.maps import BoolMap
from benchmarks.hands import WEIGHTS, HandSampler, Recording, available_test_sets, encode

IMAGES = 1000  # per posterior, as in Kou et al.'s code
SEED = 0


def last_layer(sampler: HandSampler) -> LastLayerTap:
    """A tap at the last layer of the sampler's network."""
    x, label = torch.zeros(1, *sampler.shape), torch.zeros(1, dtype=torch.long)
    return LastLayerTap(find_last_layer(sampler.net, lambda: sampler.net(x, label, label)))


def posterior_file(test_set: str) -> Path:
    """The file of a test set's posterior."""
    return WEIGHTS / f"laplace-{test_set}.safetensors"


@torch.inference_mode()
def uncertainty_at(
    sampler: HandSampler, run: Recording, end: int, planted: Tensor | None = None, since: int = 0
) -> Tensor:
    """Standard deviation of the state at a step, [B,H,W]; its mean is the recorded run.

    Args:
        sampler: of the test set.
        run: recorded by it.
        end: step; the number of steps gives the uncertainty of the final images.
        planted: [B,C,H,W], an artifact added to the states that the model sees after step ``since``.
        since: last step without the planted artifact.
    """
    tap = last_layer(sampler)
    laplace = LastLayerLaplace(tap.layer)
    laplace.load(posterior_file(sampler.test_set))
    seen = -1

    def at(x: Tensor, step: int) -> Tensor:
        shown = x if planted is None or step <= since else x + planted
        return sampler.denoise(shown, step, run.labels)

    def predict(x: Tensor, step: int) -> Tensor:
        nonlocal seen
        if step != seen:  # the first call of a step is the recorded prediction; further calls are draws
            seen = step
            return run.predictions[step]
        return at(x, step)

    def spread(_: Tensor, step: int, __: Tensor) -> Tensor:
        tap.clear()
        plain = at(run.states[step], step)
        tap.offsets, factor = as_offset([laplace.variance(features) for features in tap.features])
        tap.features = []
        return ((at(run.states[step], step) - plain) / factor).square()

    draw = [item_generator(SEED, seed) for seed in run.seeds]
    with tap:
        _, variance = sample_with_uncertainty(predict, spread, run.states[0], sampler.sigmas[: end + 1], draw)
    return map_of(variance)


def abnormal_cells(uncertainty: Tensor, settings: DetectionSettings) -> BoolMap:
    """Masks [B,H,W] of the regions above ``median + k * 1.4826 * MAD`` in maps [B,H,W], by ASCED's size filters."""
    height, width = uncertainty.shape[-2:]
    sigma = SMOOTHING * settings.scale(height, width)
    smooth = GaussianSmoother((height, width), sigma, None, uncertainty.device)
    values = smooth(uncertainty[:, None])[:, 0]
    middle = median(values.flatten(1))
    mad = median((values.flatten(1) - middle[:, None]).abs())
    limit = (middle + settings.mad_scale * MAD_TO_SIGMA * mad)[:, None, None]
    ratio = (values / limit).numpy()
    return np.stack([find_regions(one > 1, one, settings)[0] > 0 for one in ratio])


def fit(test_set: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Fits a test set's posterior to photographs uint8 [N,64,64,3], each at a random step, and writes it."""
    sampler, generator = HandSampler(test_set), torch.Generator().manual_seed(SEED)
    picks = torch.randperm(len(images), generator=generator)[:IMAGES].tolist()
    clean = encode(sampler, images[picks])
    tap = last_layer(sampler)
    laplace = LastLayerLaplace(tap.layer)

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for pick, x0 in zip(picks, clean.split(1), strict=True):
            step = int(torch.randint(len(sampler.timesteps), (1,), generator=generator))
            noise, label = torch.randn(x0.shape, generator=generator), torch.tensor([int(labels[pick])])
            x = x0 + sampler.sigmas[step] * noise
            yield fit_pair(tap, partial(sampler.denoise, step=step, labels=label), x, x0, sampler.sigmas[step])

    with tap:
        laplace.fit(pairs())
    laplace.save(posterior_file(test_set))
    print(f"{test_set}: median standard deviation of a weight {float(laplace.weight.median().sqrt()):.2e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)  # ComfyUI's autoencoder samples from its posterior
    archive = np.load(args.data, allow_pickle=False)
    train = ~archive["is_test"].astype(bool)
    for test_set in available_test_sets():
        fit(test_set, archive["images"][train], archive["labels"][train])


if __name__ == "__main__":
    main()
