"""The paper's figures for one run: phases (Fig. 1), dynamics (Fig. 4), abnormal scores (Fig. 7).

matplotlib is imported only when something is drawn, and only its object-oriented API is used: no global state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ..maps import Picture, without_nan
from ..report.outcome import plural
from ..report.report import Report
from .notice import notice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REGION, REST = "#d55e00", "#0072b2"  # from the color-blind-safe palette of Okabe and Ito
WINDOW = "#f0e442"
COLUMNS = 8  # images in a film strip
WIDTH = 11  # inches
EDGE = 4  # points per cell side, so that outlines have sharp corners
MAX_ASPECT = 1.5  # height / width that a film strip leaves room for; taller images get narrower
REST_OF_PLOT = 3.5  # inches: the title and the curves
DPI = 110


def region_curves(report: Report, image: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean |change| at each step of the trace, inside and outside an image's artifact regions.

    Returns:
        Two float32 [S], NaN at a step whose changes are not finite; the first is all NaN if the image has no region.
    """
    maps = report.trace[image].astype(np.float32)
    maps[~np.isfinite(maps).all(axis=(1, 2))] = np.nan
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
    """All dynamics of one image: film strips of predictions and changes, acceleration, abnormal scores.

    Args:
        report: the run's report.
        image: index in the batch, from 0.

    Returns:
        RGB uint8 [H,W,3]; for a report without steps, a picture that says why.

    Raises:
        ValueError: there is no such image.
    """
    _check(report, image)
    if why := why_no_dynamics(report):
        return notice(why, int(DPI * (2 * _strip(1) + REST_OF_PLOT)), WIDTH * DPI)
    height, width = report.trace.shape[2:]
    strip = _strip(height / width)
    tall = 2 * strip + REST_OF_PLOT
    figure = _figure(WIDTH, tall)
    film = figure.add_gridspec(
        2, COLUMNS, left=0.01, right=0.95, top=1 - 0.62 / tall, bottom=1 - (0.4 + 2 * strip) / tall,
        hspace=0.22, wspace=0.04,
    )  # fmt: skip
    for row, kind in enumerate(("frames", "trace")):
        _film(figure, [film[row, c] for c in range(COLUMNS)], report, image, kind)
    curves = figure.add_gridspec(1, 2, left=0.075, right=0.985, top=2.3 / tall, bottom=0.5 / tall, wspace=0.18)
    _acceleration(figure.add_subplot(curves[0]), report, image)
    _abnormal(figure.add_subplot(curves[1]), report, image)
    found = report.images[image]
    marked = f"{plural(len(found.regions), 'region')}, score {found.score:.1f}"
    state = marked if found.state == "marked" else found.state.replace("_", " ")
    figure.suptitle(f"Image {image + 1}: {state}", fontsize=12, y=1 - 0.08 / tall, va="top")
    return _picture(figure)


def _strip(aspect: float) -> float:
    """Inches for a film strip of images with this height / width, and its titles."""
    return WIDTH / COLUMNS * min(MAX_ASPECT, aspect) + 0.28


def why_no_dynamics(report: Report) -> str:
    """Why a report has no steps to plot, as sentences; empty if it has some."""
    return "" if report.trace_steps else f"There are no dynamics to plot. {report.summary()}"


def _check(report: Report, image: int) -> None:
    if not 0 <= image < len(report.images):
        raise ValueError(
            f"There is no image {image + 1}: this run has {plural(len(report.images), 'image')}, counted from 1."
        )


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white")


def _picture(figure: Figure) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _film(figure: Figure, cells: list, report: Report, image: int, kind: str) -> None:
    """A row of images at roughly evenly spaced steps; changes share one color scale, shown on the right."""
    steps = report.frame_steps if kind == "frames" else report.trace_steps
    pictures = without_nan((report.frames if kind == "frames" else report.trace)[image])
    if not steps:
        axes = figure.add_subplot(cells[0])
        axes.axis("off")
        axes.text(0, 0.5, "This model's latents have no color preview.", fontsize=8, va="center")
        return
    columns = np.linspace(0, report.steps - 1, len(cells))
    chosen = np.unique([int(np.abs(np.array(steps) - step).argmin()) for step in columns])
    top = float(np.quantile(pictures, 0.995)) or 1.0
    drawn: list[Axes] = []
    for cell, i in zip(cells, chosen, strict=False):
        axes = figure.add_subplot(cell)
        if kind == "frames":
            axes.imshow(((pictures[i].transpose(1, 2, 0) + 1) / 2).clip(0, 1))
        else:
            axes.imshow(pictures[i], cmap="magma", vmin=0, vmax=top)
        drawn.append(axes)
        _outline(axes, report.masks[image], (pictures[i].shape[-2], pictures[i].shape[-1]))
        axes.set_xticks([])
        axes.set_yticks([])
        what = f"{report.phase(steps[i])}," if kind == "frames" else r"$|\Delta|$ to"
        axes.set_title(f"{what} step {steps[i] + 1}", fontsize=8, pad=3)
    if kind == "trace":
        scale = drawn[-1].inset_axes((1.06, 0, 0.07, 1))
        figure.colorbar(drawn[-1].images[0], cax=scale).ax.tick_params(labelsize=7)


def _outline(axes: Axes, mask: NDArray[np.bool_], size: tuple[int, int]) -> None:
    """Outlines the cells of a mask over the same image at another size (height, width)."""
    if not mask.any():
        return
    fine = np.pad(mask.repeat(EDGE, 0).repeat(EDGE, 1), 1).astype(np.float32)
    down, across = (
        ((np.arange(cells * EDGE + 2) - 0.5) / (cells * EDGE)) * length - 0.5
        for cells, length in zip(mask.shape, size, strict=True)
    )
    axes.contour(across, down, fine, levels=[0.5], colors=[REGION], linewidths=0.9)
    axes.set_xlim(-0.5, size[1] - 0.5)
    axes.set_ylim(size[0] - 0.5, -0.5)


def _acceleration(axes: Axes, report: Report, image: int) -> None:
    steps = np.array(report.trace_steps[1:]) + 1
    styles = ((REGION, "artifact regions"), (REST, "rest of the image"))
    for curve, (color, name) in zip(region_curves(report, image), styles, strict=True):
        if np.isfinite(curve).any():
            axes.plot(steps, np.diff(curve), color=color, label=name, marker="o", markersize=2.5, linewidth=1.4)
    axes.axhline(0, color="0.6", linewidth=0.8)
    _mark_window(axes, report)
    axes.set_ylabel(r"acceleration  $|\Delta_t| - |\Delta_{t-1}|$")


def _abnormal(axes: Axes, report: Report, image: int) -> None:
    first, last = report.window
    steps = np.array(report.trace_steps)
    compared = (first < steps) & (steps <= last)  # the window's first prediction has no predecessor
    share = without_nan(report.single_steps(image)[1] * 100)
    axes.bar(steps[compared] + 1, share[compared], color=REST, width=0.8, zorder=2, label="above the threshold")
    _mark_window(axes, report)
    axes.set_ylabel("abnormal cells (%)")


def _mark_window(axes: Axes, report: Report) -> None:
    """Marks T_d, T_c and the correction; steps are at the bottom axis, their noise levels at the top."""
    first, last = (step + 1 for step in report.window)
    axes.axvspan(first, last, color=WINDOW, alpha=0.3, linewidth=0, label="watched, T_d to T_c", zorder=0)
    if report.decision is not None:
        label = "correction at T_c" if report.corrected_steps else "decision at T_c"
        axes.axvline(report.decision + 1, color="0.2", linestyle="--", linewidth=1, label=label)
    axes.set_xlim(0.5, report.steps + 0.5)
    axes.set_xlabel("step")
    interval = max(1, round(report.steps / 8))
    ticks = list(range(interval, report.steps + 1, interval))
    axes.set_xticks(ticks)
    above = axes.secondary_xaxis("top")
    above.set_xticks(ticks, [f"{report.sigmas[step - 1]:.2g}" for step in ticks])
    above.set_xlabel(r"noise level $\sigma$", fontsize=8, labelpad=3)
    above.tick_params(labelsize=7)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.2)
    axes.legend(fontsize=7.5, framealpha=0.85, edgecolor="none")
