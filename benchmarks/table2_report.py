"""Table 2 as Markdown, see table2.py."""

from __future__ import annotations

from typing import Any

FIRST_SET, BY_CLASS = "judged.json", "judged_by_class.json"
TITLES = {
    FIRST_SET: "{0} images with an artifact and {0} without, judged by eye",
    BY_CLASS: "{0} images with an artifact and {0} without, as many of each digit, judged by eye within the digit",
}


def _cell(value: dict[str, float]) -> str:
    return f"{value['value']:.2f} ({value['low']:.2f} … {value['high']:.2f})"


def as_markdown(eyes: dict[str, Any], planted: dict[str, Any], images: int, judged: dict[str, int]) -> str:
    """All tables."""
    lines = [
        "# Which systems find artifacts",
        "",
        "Written by `make bench`; the 95 % interval of a bootstrap over images is in parentheses. *Supervised* is a "
        "small detector trained on planted artifacts; it stands in for PAL. *Taught* is the detector that ships with "
        "the demo model, at the threshold that marks 33 % (few) or 67 % (many) of its held-out runs. LLaVA is not run "
        "here: no weights; the paper reports an accuracy of 63.1, 91.1, 75.9, 59.5 and 72.2 % for it on FFHQ, "
        "ImageNet, bedrooms, cats and horses. Discussion: [findings](../findings.md).",
        "",
        "*AUROC* is the chance that of a bad and a good image **of one class** the bad one has the higher score; *AP* "
        "is the average precision within classes. The digit alone predicts the verdicts of the first set, so figures "
        "over all classes would flatter. Scores are uncut: a mode's is the mean over all cells of what it compares "
        "with its threshold, BayesDiff's its mean uncertainty; the trained detector and the rule have no score but "
        "their marked area.",
        "",
    ]
    for file, eye in eyes.items():
        lines += [
            f"## {TITLES[file].format(judged[file])}",
            "",
            f"Final weights. [{file}](../../benchmarks/{file}) holds seeds, verdicts, boxes and protocol.",
            "",
            "| system | accuracy of its flags | artifacts flagged | clean flagged | boxes touched | AUROC | AP |",
            "|---|---|---|---|---|---|---|",
        ]
        keys = ("accuracy", "found", "false_alarms", "boxes_hit", "auroc")
        lines += [
            f"| {name} | " + " | ".join(_cell(row[key]) for key in keys) + f" | {row['ap'] or 0:.2f} |"
            for name, row in eye.items()
        ]
        lines.append("")
    lines += [
        "## Planted artifacts",
        "",
        f"{images} images per cell. A patch of one color is added to the predictions from the middle of the window on, "
        "at half strength in its first step. Contrast low, middle, high: 0.15, 0.4, 1 on a scale of -1 to 1; radius "
        "small, middle, large: 3, 6, 10 of 64 pixels. Cells: IoU · share of patches at least half marked · AUROC over "
        "pixels. The trained detector sees the patch in the final image, BayesDiff in the states after its first step.",
        "",
    ]
    cells = list(next(iter(planted.values())))
    lines += ["| system | " + " | ".join(cells) + " |", "|---" * (len(cells) + 1) + "|"]
    for name, row in planted.items():
        text = [f"{row[c]['iou']['value']:.2f} · {row[c]['found']['value']:.0%} · {row[c]['auroc']:.2f}" for c in cells]
        lines.append(f"| {name} | " + " | ".join(text) + " |")
    return "\n".join(lines) + "\n"
