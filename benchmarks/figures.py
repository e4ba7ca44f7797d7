"""The paper's analyses (Sec. 4.4 and 7) on our test sets: ``python -m benchmarks.figures``, part of ``make bench``.

Fig. 7 abnormal dynamics over time, Fig. 9 linear probe on the states, Fig. 10 number of steps, Fig. 12 harmlessness.
The timing of Fig. 8 and 11 is in sweeps. Writes docs/benchmarks/figures.json, figures.md and figures.png. Finished
parts are kept and not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure as Plot
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from asced_core import DetectionSettings
from asced_core.detect.single_steps import PLAIN, RULES, Rule, SingleSteps
from asced_core.draw.overlay import contact_sheet
from asced_core.maps import resize_mask
from asced_core.noise import percent_at
from benchmarks.hands import HandSampler, Recording, available_test_sets, correct, record, to_uint8
from benchmarks.judges import PRESENT, describe, landmark_file, presence, stray_components
from benchmarks.methods import DETECTION, ORIGINAL, REFERENCE, TTC
from benchmarks.quality import figure, rate
from benchmarks.table1 import DOCS, OUT, Made, made

FULL = {"dynamics": 128, "probe": 512, "steps": 32, "harmlessness": 2048}
QUICK = {"dynamics": 16, "probe": 16, "steps": 2, "harmlessness": 32}
NFE, QUICK_NFE = (25, 50, 100, 250, 1000), (25, 50)
FIRST = 30000  # first seed; tables 1 and 2 use different ones
BATCH = 32
RESAMPLES = 200


def _recordings(sampler: HandSampler, images: int) -> list[Recording]:
    starts = range(FIRST, FIRST + images, BATCH)
    return [record(sampler, list(range(s, min(s + BATCH, FIRST + images)))) for s in starts]


@torch.inference_mode()
def dynamics(images: int, _: bool) -> dict[str, Any]:
    """Fig. 7: share of cells whose change is abnormal at each step of the whole run, by test set and mode.

    Mode ``robust`` has no threshold for single steps; its curve uses ``median + k * 1.4826 * MAD`` of the change.
    """
    out: dict[str, Any] = {}
    rules = {"robust": (DETECTION, PLAIN), "reference": (REFERENCE, RULES["reference"])}
    for test_set in available_test_sets():
        sampler = HandSampler(test_set)
        runs = _recordings(sampler, images)
        percents = [percent_at(sampler.schedule.percent_to_sigma, s) for s in sampler.sigmas[1:-1]]
        modes = {}
        for name, (settings, rule) in rules.items():
            modes[name] = np.mean([_abnormal(run, settings, rule) for run in runs], axis=0).tolist()
        out[test_set] = {"percents": percents, "abnormal": modes}
    return out


def _abnormal(run: Recording, settings: DetectionSettings, rule: Rule) -> NDArray[np.floating]:
    """Share of a run's cells above the threshold of each step, averaged over its images."""
    shape: Any = tuple(run.predictions[0].shape)
    shares = []
    for pair in itertools.pairwise(run.predictions):  # a floor would depend on the other steps
        detector = SingleSteps(settings, shape, pair[0].device, rule=replace(rule, mean_floor=False))
        for prediction in pair:
            detector.push(prediction)
        shares.append((detector.result().ratio > 0).float().mean((1, 2)))
    return torch.stack(shares).mean(1).numpy()


@torch.inference_mode()
def probe(images: int, _: bool) -> dict[str, Any]:
    """Fig. 9: how well a linear classifier reads the digit from the states after T_c, original and corrected.

    The states are scaled to unit variance, as in a VP model, and averaged to 16x16 cells. The classifier is trained on
    one half of the seeds and tested on the other; the interval is a bootstrap over the test images.
    """
    sampler = HandSampler("final")
    stock: list[list[Tensor]] = []
    corrected: list[list[Tensor]] = []
    labels = []
    for run in _recordings(sampler, images):
        states: list[Tensor] = []
        correct(sampler, run, DETECTION, TTC, on_state=states.append)
        stock.append(run.states)
        corrected.append(states)
        labels.append(run.labels.numpy())
    digits, rng = np.concatenate(labels), np.random.default_rng(0)
    half = np.arange(len(digits)) // 10 % 2 == 0
    out: dict[str, Any] = {"steps": [], "original": [], "corrected": []}
    for step in range(sampler.watched(DETECTION)[-1] + 1, len(sampler.timesteps)):
        out["steps"].append(step)
        for name, chunks in (("original", stock), ("corrected", corrected)):
            x = torch.cat([chunk[step] for chunk in chunks]) / (1 + sampler.sigmas[step] ** 2) ** 0.5
            flat = torch.nn.functional.avg_pool2d(x, 4).flatten(1).numpy()
            classifier = LogisticRegression(C=0.05, max_iter=300).fit(flat[half], digits[half])
            right = classifier.predict(flat[~half]) == digits[~half]
            out[name].append(asdict(figure(right.mean(), [rng.choice(right, len(right)).mean() for _ in range(200)])))
    return out


@torch.inference_mode()
def steps(images: int, quick: bool) -> dict[str, Any]:
    """Fig. 10: whether more steps remove artifacts; the same seeds with 25 to 1000 DDIM steps."""
    seeds, landmarks = list(range(FIRST, FIRST + images)), landmark_file(OUT / "models")
    bad: dict[str, NDArray[np.bool_]] = {}
    rows = []
    for nfe in QUICK_NFE if quick else NFE:
        sampler = HandSampler("final", steps=nfe)
        final = np.concatenate([_sample(sampler, seeds[i : i + BATCH]) for i in range(0, len(seeds), BATCH)])
        bad[str(nfe)] = (presence(final, landmarks) < PRESENT) | np.array([bool(stray_components(i)) for i in final])
        rows.append(final)
    few, by_steps = bad["25"], {}
    for number, flags in bad.items():
        by_steps[number] = {"bad": asdict(rate(flags)), "still_bad": asdict(rate(flags[few])) if few.any() else None}
    if not quick:
        shown = np.flatnonzero(few)[:10]
        tiles = [cv2.resize(row[i], (96, 96), interpolation=cv2.INTER_CUBIC) for row in rows for i in shown]
        _save("figures-steps.jpg", contact_sheet(tiles, columns=len(shown)))
    return {"images": images, "by_steps": by_steps}


def _sample(sampler: HandSampler, seeds: list[int]) -> NDArray[np.uint8]:
    labels, x = torch.tensor([seed % 10 for seed in seeds]), sampler.start(seeds)
    for step in range(len(sampler.timesteps)):
        x = sampler.next_state(x, sampler.denoise(x, step, labels), step)
    return to_uint8(sampler.decode(x))


def harmlessness(images: int, _: bool) -> dict[str, Any]:
    """Fig. 12: the effect of a false alarm, on images without a stray piece that ASCED corrected anyway."""
    return {name: _harm(made(name, images, [ORIGINAL, "ASCED robust"], None)) for name in ("early", "final")}


def _harm(data: Made) -> dict[str, Any]:
    before, after = data[ORIGINAL]["images"], data["ASCED robust"]["images"]
    landmarks = landmark_file(OUT / "models")
    stray = np.array([bool(stray_components(image)) for image in before])
    changed = data["ASCED robust"]["corrected"] & ~stray
    before, after = before[changed], after[changed]
    masks = np.stack([resize_mask(mask, 64, 64) for mask in data["ASCED robust"]["masks"][changed]])
    masks = np.stack([cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for mask in masks])
    difference = np.abs(after.astype(float) - before).mean(-1)
    one, two = (describe(images)[0] for images in (before, after))
    others = np.linalg.norm(one - np.roll(one, 10, axis=0), axis=1)  # another hand that shows the same digit
    sure = presence(before, landmarks) >= PRESENT
    rng = np.random.default_rng(0)

    def mean(values: NDArray[np.floating]) -> dict[str, float]:
        return asdict(figure(values.mean(), [rng.choice(values, len(values)).mean() for _ in range(RESAMPLES)]))

    return {
        "images": int(changed.sum()),
        "change_inside": mean(np.array([d[m].mean() for d, m in zip(difference, masks, strict=True)])),
        "change_outside": mean(np.array([d[~m].mean() for d, m in zip(difference, masks, strict=True)])),
        "feature_distance": mean(np.linalg.norm(one - two, axis=1)),
        "feature_distance_to_another": mean(others),
        "new_stray": asdict(rate(np.array([bool(stray_components(image)) for image in after]))),
        "new_malformed": asdict(rate(presence(after[sure], landmarks) < PRESENT)) if sure.any() else None,
    }


PARTS: dict[str, Callable[[int, bool], dict[str, Any]]] = {
    "dynamics": dynamics, "probe": probe, "steps": steps, "harmlessness": harmlessness,
}  # fmt: skip


def measured(name: str, quick: bool) -> dict[str, Any]:
    """A part's figures, measured now or kept from an earlier run."""
    images = (QUICK if quick else FULL)[name]
    file = OUT / "figures" / f"{name}-{images}.json"
    if not file.is_file():
        print(f"{name}: {images} images …", flush=True)
        result = PARTS[name](images, quick)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"images": images, **result}), encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


def _save(name: str, sheet: NDArray[np.uint8]) -> None:
    cv2.imwrite(str(DOCS / name), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


def plot(result: dict[str, Any]) -> None:
    """Fig. 7 and 9 side by side."""
    drawing = Plot(figsize=(11, 3.6), layout="constrained")
    left, right = drawing.subplots(1, 2)
    for test_set, row in result["dynamics"].items():
        if test_set == "images":
            continue
        for mode, style in (("robust", "-"), ("reference", "--")):
            left.plot(row["percents"], np.array(row["abnormal"][mode]) * 100, style, label=f"{test_set}, {mode}")
    left.axvspan(DETECTION.start_percent, DETECTION.end_percent, color="#f0e442", alpha=0.3, label="window")
    left.set(xlabel="share of the run", ylabel="cells with an abnormal change, %")
    left.legend(fontsize=7)
    probed = result["probe"]
    for name, marker in (("original", "o"), ("corrected", "s")):
        values = np.array([[r["value"], r["low"], r["high"]] for r in probed[name]]) * 100
        spread = np.abs(values[:, 1:] - values[:, :1]).T
        right.errorbar(probed["steps"], values[:, 0], spread, marker=marker, capsize=2, label=name)
    right.set(xlabel="step", ylabel="digit read off the state, %")
    right.legend(fontsize=8)
    drawing.savefig(DOCS / "figures.png", dpi=90)


def _text(value: dict[str, float] | None, scale: float = 100, digits: int = 1) -> str:
    if value is None:
        return "–"
    low, high = value["low"] * scale, value["high"] * scale
    return f"{value['value'] * scale:.{digits}f} ({low:.{digits}f} … {high:.{digits}f})"


def as_markdown(result: dict[str, Any]) -> str:
    """What the figures show, as tables."""
    lines = [
        "# Analyses", "", "Written by `make bench`; the 95 % interval of a bootstrap over images is in parentheses. "
        "Discussion: [findings](../findings.md).", "", "![](figures.png)", "",
        f"Left: the paper's Fig. 7 for {result['dynamics']['images']} images per test set. Right: its Fig. 9, a linear "
        f"classifier on the states of {result['probe']['images']} images of the final test set, half of them for "
        "training.", "", "## More steps (Fig. 10)", "",
        f"The same {result['steps']['images']} seeds, final weights. *Bad*: malformed or with a stray piece.", "",
        "| steps | bad, % | still bad, % of those bad at 25 steps |", "|---|---|---|",
    ]  # fmt: skip
    for number, row in result["steps"]["by_steps"].items():
        lines.append(f"| {number} | {_text(row['bad'])} | {_text(row['still_bad'])} |")
    lines += [
        "", "Images that are bad at 25 steps; rows: 25, 50, 100, 250 and 1000 steps.", "", "![](figures-steps.jpg)", "",
        "## The effect of a false alarm (Fig. 12)", "",
        "Images without a stray piece that ASCED corrected. *Change*: mean absolute difference on a scale of 0 to 255. "
        "*Distance*: between features of the original and the corrected image, and for comparison of the original and "
        "another hand that shows the same digit.", "",
        "| test set | images | change inside | outside | distance | to another hand | new stray, % "
        "| new malformed, % |", "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for test_set, row in result["harmlessness"].items():
        if test_set == "images":
            continue
        cells = [_text(row[key], 1, 2) for key in ("change_inside", "change_outside", "feature_distance",
                                                  "feature_distance_to_another")]  # fmt: skip
        cells += [_text(row[key]) for key in ("new_stray", "new_malformed")]
        lines.append(f"| {test_set} | {row['images']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use few images and leave docs unchanged")
    parser.add_argument("--only", choices=list(PARTS), help="measure one part and leave docs unchanged")
    args = parser.parse_args()
    torch.set_num_threads(1)
    DOCS.mkdir(parents=True, exist_ok=True)
    if args.only:
        print(json.dumps(measured(args.only, args.quick)))
        return
    result = {name: measured(name, args.quick) for name in PARTS}
    text = as_markdown(result)
    print(text)
    if not args.quick:
        plot(result)
        (DOCS / "figures.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (DOCS / "figures.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
