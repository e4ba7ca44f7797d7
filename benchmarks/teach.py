"""Teaches the detectors of the tables: ``python -m benchmarks.teach final``, in about 10 minutes on one core.

From runs with seeds that no table reports, or with ``--pictures signdigits_64.npz`` from photographs of hands. Writes
benchmarks/weights/taught-TEST_SET.safetensors.
"""

from __future__ import annotations

import argparse
import datetime
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from asced_core.teach import Course, Material, Taught, TaughtFacts, Training, certified, grow_faults, show_pictures
from benchmarks.hands import ROOT, TEST_SETS, HandSampler, encode
from benchmarks.methods import DETECTION, one_thread
from benchmarks.teach_files import taught_file
from demo.hand_unet import CLASSES

FIRST = 2_000_000  # first seed
RUNS, STEPS = 640, 1600
BATCH = 40


@torch.inference_mode()
def from_runs(sampler: HandSampler, runs: int) -> Iterator[Material]:
    """Runs of the model with grown faults, batch by batch."""
    schedule, rng = sampler.run_schedule(DETECTION), np.random.default_rng(FIRST)
    for start in range(FIRST, FIRST + runs, BATCH):
        seeds = list(range(start, min(start + BATCH, FIRST + runs)))
        labels = torch.tensor([seed % CLASSES for seed in seeds])

        def predict(x: torch.Tensor, step: int, labels: torch.Tensor = labels) -> torch.Tensor:
            return sampler.denoise(x, step, labels)

        yield grow_faults(predict, sampler.start(seeds), schedule.levels, schedule.window, rng)


@torch.inference_mode()
def from_pictures(sampler: HandSampler, file: Path, count: int) -> Iterator[Material]:
    """Photographs of the training signers with faults, batch by batch."""
    schedule, rng = sampler.run_schedule(DETECTION), np.random.default_rng(FIRST)
    with np.load(file, allow_pickle=False) as data:
        own = np.flatnonzero(~data["is_test"].astype(bool))
        picked = rng.permutation(own)[:count]
        images, labels = data["images"][picked], torch.from_numpy(data["labels"][picked].astype(np.int64))
    clean = encode(sampler, images)
    for start in range(0, len(images), BATCH):
        part = labels[start : start + BATCH]

        def predict(x: torch.Tensor, step: int, labels: torch.Tensor = part) -> torch.Tensor:
            return sampler.denoise(x, step, labels)

        yield show_pictures(predict, clean[start : start + BATCH], schedule.levels, schedule.window, rng)


def taught(material: Material, course: Course, facts: TaughtFacts) -> Taught:
    """A detector that was taught with a material."""
    training = Training(material, course, torch.device("cpu"))
    for _ in tqdm(training, total=course.steps, mininterval=10):
        pass
    return certified(training, facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test_set", choices=list(TEST_SETS))
    parser.add_argument("--pictures", type=Path, help="teach with these photographs: signdigits_64.npz")
    parser.add_argument("--runs", type=int, default=RUNS, help="number of runs, or of photographs")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the optimizer")
    parser.add_argument("--out", type=Path, help="write this file instead")
    args = parser.parse_args()
    one_thread()
    sampler = HandSampler(args.test_set)
    parts = from_pictures(sampler, args.pictures, args.runs) if args.pictures else from_runs(sampler, args.runs)
    material = Material.joined(list(tqdm(parts, total=-(-args.runs // BATCH))))
    version = re.findall('^version = "(.*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[0]
    count, shown = len(material.runs), bool(args.pictures)
    numbers = (0, count) if shown else (count, 0)
    facts = TaughtFacts(runs=numbers[0], pictures=numbers[1], date=f"{datetime.date.today()}", version=version, cfg=1.0)
    file = args.out or taught_file(args.test_set, bool(args.pictures))
    result = taught(material, Course(steps=args.steps), facts)
    result.save(file)
    print(result.facts.summary())


if __name__ == "__main__":
    main()
