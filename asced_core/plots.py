"""The paper's figures of one run, as pictures: phases (Fig. 1), dynamics (Fig. 4), abnormal scores (Fig. 7).

matplotlib is loaded when something is drawn, and only its object interface is used: no global state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from .overlay import Picture
from .report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REGION, REST = "#d55e00", "#0072b2"  # Okabe and Ito's colours, told apart by colour-blind eyes
WINDOW = "#f0e442"
COLUMNS = 8  # pictures in a film strip
DPI = 110


def region_curves(report: Report, image: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean |change| at each step of the trace, inside and outside of an image's artifact regions.

    Returns:
        Two float32 [S]; the first is all NaN where the image has no region.
    """
    maps = report.trace[image].astype(np.float32)
    mask = report.masks[image].astype(np.float32)
    size = maps.shape[2], maps.shape[1]
    weight = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), np.float32)

    def mean(w: NDArray[np.float32]) -> NDArray[np.float32]:
        total = w.sum()
        if total == 0:
            return np.full(len(maps), np.nan, np.float32)
        return (maps * w).sum(axis=(1, 2)) / total

    return mean(weight), mean(1 - weight)


def plot_dynamics(report: Report, image: int = 0) -> Picture:
    """Everything about one image: film strips of predictions and changes, acceleration, abnormal scores.

    Args:
        report: of the run.
        image: place in the batch.

    Returns:
        RGB uint8 [H,W,3].

    Raises:
        ValueError: there is no such image, or the run was not watched.
    """
    _check(report, image)
    figure = _figure(11, 6.6)
    film = figure.add_gridspec(2, COLUMNS, left=0.01, right=0.99, top=0.87, bottom=0.42, hspace=0.22, wspace=0.04)
    for row, kind in enumerate(("frames", "trace")):
        _film(figure, [film[row, c] for c in range(COLUMNS)], report, image, kind)
    curves = figure.add_gridspec(1, 2, left=0.08, right=0.99, top=0.35, bottom=0.08, wspace=0.2)
    _acceleration(figure.add_subplot(curves[0]), report, image)
    _abnormal(figure.add_subplot(curves[1]), report, image)
    found = report.images[image]
    state = f"{len(found.regions)} marked, score {found.score:.1f}" if found.flagged else "clean"
    figure.suptitle(f"Image {image}: {state}", fontsize=12, y=0.98)
    return _picture(figure)


def plot_phases(report: Report, image: int = 0) -> Picture:
    """The predicted image over time in the phases Profiling, Mutation and Refinement (paper Fig. 1)."""
    _check(report, image)
    figure = _figure(11, 1.8)
    grid = figure.add_gridspec(1, COLUMNS, left=0.01, right=0.99, top=0.8, bottom=0.02, wspace=0.04)
    _film(figure, [grid[0, c] for c in range(COLUMNS)], report, image, "frames")
    return _picture(figure)


def plot_acceleration(report: Report, image: int = 0) -> Picture:
    """Acceleration of the artifact regions and of the rest over time (paper Fig. 4c)."""
    _check(report, image)
    figure = _figure(6, 3.6, layout="tight")
    _acceleration(figure.add_subplot(), report, image)
    return _picture(figure)


def plot_abnormal(report: Report, image: int = 0) -> Picture:
    """Share of abnormal changes at each step of the window (paper Fig. 7)."""
    _check(report, image)
    figure = _figure(6, 3.6, layout="tight")
    _abnormal(figure.add_subplot(), report, image)
    return _picture(figure)


def phase(report: Report, step: int) -> str:
    """Name of the phase that a step lies in (paper Sec. 3.2)."""
    first, last = report.window
    return "Profiling" if step < first else "Mutation" if step <= last else "Refinement"


def _check(report: Report, image: int) -> None:
    if not 0 <= image < len(report.images):
        raise ValueError(f"There is no image {image}: this run made {len(report.images)}, counted from 0.")
    if not report.trace_steps:
        raise ValueError(f"There are no dynamics to plot. {report.summary()}")


def _figure(width: float, height: float, layout: Literal["tight"] | None = None) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout=layout)


def _picture(figure: Figure) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _film(figure: Figure, cells: list, report: Report, image: int, kind: str) -> None:
    """A row of pictures at about evenly spaced steps; changes share one colour scale."""
    steps = report.frame_steps if kind == "frames" else report.trace_steps
    pictures = (report.frames if kind == "frames" else report.trace)[image].astype(np.float32)
    if not steps:
        axes = figure.add_subplot(cells[0])
        axes.axis("off")
        axes.text(0, 0.5, "This model's latents have no colour preview.", fontsize=8, va="center")
        return
    chosen = np.unique(np.linspace(0, len(steps) - 1, len(cells)).round().astype(int))
    top = float(np.quantile(pictures, 0.995)) or 1.0
    for cell, i in zip(cells, chosen, strict=False):
        axes = figure.add_subplot(cell)
        if kind == "frames":
            axes.imshow(((pictures[i].transpose(1, 2, 0) + 1) / 2).clip(0, 1))
        else:
            axes.imshow(pictures[i], cmap="magma", vmin=0, vmax=top)
        mask = cv2.resize(report.masks[image].astype(np.uint8), pictures[i].shape[:-3:-1], interpolation=cv2.INTER_AREA)
        if mask.any():
            axes.contour(mask, levels=[0.5], colors=[REGION], linewidths=0.9)
        axes.set_xticks([])
        axes.set_yticks([])
        title = f"{phase(report, steps[i])}, step {steps[i] + 1}" if kind == "frames" else f"|Δ| to step {steps[i] + 1}"
        axes.set_title(title, fontsize=7.5)


def _acceleration(axes: Axes, report: Report, image: int) -> None:
    steps = np.array(report.trace_steps[1:]) + 1
    styles = ((REGION, "artifact regions"), (REST, "the rest"))
    for curve, (colour, name) in zip(region_curves(report, image), styles, strict=True):
        if not np.isnan(curve).any():
            axes.plot(steps, np.diff(curve), color=colour, label=name, marker="o", markersize=2.5, linewidth=1.4)
    axes.axhline(0, color="0.6", linewidth=0.8)
    _mark_window(axes, report)
    axes.set_xlabel("step")
    axes.set_ylabel("acceleration  |Δₜ| − |Δₜ₋₁|")
    axes.legend(fontsize=8, frameon=False)


def _abnormal(axes: Axes, report: Report, image: int) -> None:
    share = report.abnormal[image] * 100
    steps = np.array(report.difference_steps) + 1
    axes.bar(steps, share, color=REST, width=0.8, zorder=2)
    _mark_window(axes, report)
    axes.set_xlim(0.5, report.steps + 0.5)
    axes.set_xlabel("step")
    axes.set_ylabel("abnormal cells, %")


def _mark_window(axes: Axes, report: Report) -> None:
    axes.axvspan(
        report.window[0] + 1, report.window[1] + 1, color=WINDOW, alpha=0.3, linewidth=0, label="window", zorder=0
    )
    for step in report.corrected_steps or (() if report.decision is None else (report.decision,)):
        axes.axvline(step + 1, color="0.2", linestyle="--", linewidth=1, label="correction (T_c)")
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.2)
