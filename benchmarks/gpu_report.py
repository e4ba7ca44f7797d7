"""The tables of ``python -m benchmarks.gpu``."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

ENOUGH = 6  # rounds; fewer have no 95% interval


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """Median of the rounds with its 95% interval by order statistics; below 6 rounds the interval is their range."""
    ordered, count = sorted(values), len(values)
    tails = [sum(math.comb(count, i) for i in range(k + 1)) / 2**count for k in range(count)]
    out = max((k for k, tail in enumerate(tails) if 2 * tail <= 0.05), default=0)  # values left out on each side
    return statistics.median(ordered), ordered[out], ordered[-1 - out]


def _ratio(above: Sequence[float], below: Sequence[float], low: float, high: float) -> str:
    """Ratios of paired rounds, with the verdict on a goal from ``low`` to ``high``."""
    at, least, most = middle([a / b for a, b in zip(above, below, strict=True)])
    met = "met" if low <= least and most <= high else "missed" if most < low or least > high else "open"
    met = "open" if len(above) < ENOUGH else met
    return f"{at:.4f} ({least:.4f} to {most:.4f}), {met}"


def _runs(row: Any) -> list[str]:
    seconds, peak = row["seconds"], row["peak"]
    stock, watched, corrected = (seconds[name] for name in ("stock", "watched", "corrected"))
    whole = 1 + row["added"] / row["steps"]
    rest = [(c - w - s * (whole - 1)) / c for s, w, c in zip(stock, watched, corrected, strict=True)]
    second = "{:+.2%} ({:+.2%} to {:+.2%})".format(*middle(rest))
    fastest = f"{min(watched) / min(stock):.4f}, {min(corrected) / (whole * min(stock)):.4f}"
    latents = [f"{(peak[name] - peak['stock']) / row['latent']:+.1f}" for name in ("watched", "corrected")]
    memory = [f"{peak['stock'] / 2**30:.3f}", *latents] if peak["stock"] else ["–"] * 3
    return [
        f"{statistics.median(stock):.3f}", _ratio(watched, stock, 0, 1.005),
        _ratio(corrected, [whole * one for one in stock], 0.99, 1.01), fastest, str(row["added"]), second, *memory,
        "yes" if row["same"] else "no" if row["repeats"] else "no, nor is stock to itself", str(len(stock)),
    ]  # fmt: skip


def _drafts(row: Any) -> list[str]:
    drafted, every, one = (row["seconds"][name] for name in ("drafted", "all", "one"))
    share, peak = row["share"], row["peak"]
    expected = [share * a + (1 - share) * b + row["added"] / row["steps"] * b for a, b in zip(every, one, strict=True)]
    memory = f"{(peak['drafted'] - peak['all']) / row['latent']:+.1f}" if peak["all"] else "–"
    ratio = "{:.3f} ({:.3f} to {:.3f})".format(*middle([a / b for a, b in zip(drafted, every, strict=True)]))
    return [str(row["drafts"]), f"{statistics.median(every):.3f}", ratio, _ratio(drafted, expected, 0, 1.02), memory]


def _waits(row: Any) -> list[str]:
    at = row["decision"]
    more = [ours - stock for stock, ours in zip(row["stock"], row["watched"], strict=False)]
    met = "met" if not any(more[:at]) else "missed"
    places = ", ".join(f"{place} ({times})" for place, times in row["places"].items())
    before = f"{sum(more[:at])} in {at} steps, {met}"
    return [f"{statistics.mean(row['stock']):.1f}", before, str(more[at]), str(sum(more[at + 1 :])), places or "–"]


TABLES: tuple[tuple[str, Callable[[Any], list[str]], tuple[str, ...]], ...] = (
    ("runs", _runs, (
        "stock, s", "watched / stock, goal ≤ 1.005", "corrected / (stock + added calls), goal 0.99 to 1.01",
        "both by the fastest runs", "added calls", "second run's own share", "stock's peak, GiB",
        "watched: more latents, goal ≤ 3", "corrected: more latents, goal ≤ 3", "watched = stock, bit for bit",
        "rounds",
    )),
    ("drafts", _drafts, (
        "drafts", "all finished, s", "one finished / all", "one finished / arithmetic, goal ≤ 1.02",
        "more latents than all",
    )),
    ("waits", _waits, (
        "stock, each step", "added before T_c, goal 0", "added at T_c", "added after it", "where the pack waits",
    )),
)  # fmt: skip
TEXT = """# Speed on a GPU

Written by `make bench-gpu`: the architectures as published with random weights, in the real ComfyUI, euler, one image
or video a run unless the row says otherwise. Ratios are medians of paired rounds in one process, with the 95% interval
of the median; below 6 rounds it is their range, and a goal stays open. It is met or missed if the whole interval says
so. Where rounds vary by more than a goal allows, the fastest run of each kind tells more: what disturbs a run only
makes it slower. *Added calls* are the model calls that the correction makes, and each is taken to cost what a step of
stock does; *second run's own share* is what is left of a corrected run without them and a watched run. Latents are
those of all images of a run, with drafts those of one image, in float32. The arithmetic of drafts: all images up to the
decision, and one image from there on. *Waits* are calls of the device's runtime that stop the program until the device
is ready, by the profiler. inductor and cudagraphs are backends of ComfyUI's TorchCompileModel. A fast card waits for
Python when it samples one image with a U-Net, and such a row compares Python with Python; four images or a large
transformer keep it busy. A row that is missing was not measured.
"""


def as_markdown(machines: dict[str, dict[str, Any]], models: Sequence[str]) -> str:
    """The tables of all machines, and why rows are missing."""
    lines = [TEXT]
    for machine, rows in machines.items():
        known = sorted(((*key.split(" | "), row) for key, row in rows.items()), key=lambda k: models.index(k[0]))
        lines += [f"## {machine}", ""]
        for name, cells, heads in TABLES:
            found = [(model, form, part, row) for model, form, part, row in known
                     if part.split(" ")[0] == name and "error" not in row]  # fmt: skip
            if found:
                lines += [
                    "| " + " | ".join((name, "weights", "previews", *heads)) + " |",
                    "|---" * (len(heads) + 3) + "|",
                ]
            for _, form, part, row in found:
                title = row["title"] + (", partly offloaded" if row["offloaded"] else "")
                first = [title, form, "on" if part.endswith("previews") else "off"]
                lines.append("| " + " | ".join([*first, *cells(row)]) + " |")
            lines += [""] * bool(found)
        failed = [
            f"| {model} | {form} | {part} | {row['error']} |" for model, form, part, row in known if "error" in row
        ]
        lines += ["| not measured | weights | what | why |", "|---|---|---|---|", *failed, ""] if failed else []
    return "\n".join(lines)
