"""A run in progress: what is marked so far, and its status text."""

from __future__ import annotations

from .maps import BoolMap
from .report.outcome import plural
from .trajectory import Trajectory


def marked_so_far(trajectory: Trajectory, image: int = 0) -> BoolMap | None:
    """The cells of one image that are marked so far; copies only this map to the CPU.

    In the window: all cells above the threshold, before the size filters. After the decision: the regions that were
    kept.

    Args:
        trajectory: the run.
        image: index in the batch.

    Returns:
        bool [H,W] in cells of the signal; None if there is nothing to show yet.
    """
    if trajectory.detections:
        return trajectory.detections[image].mask
    marks = trajectory.watcher.marks(image)
    return None if marks is None else marks.cpu().numpy()


def status_text(trajectory: Trajectory, step: int) -> str:
    """Status text of a run after a step, for the user; reads nothing from the device.

    Args:
        trajectory: the run.
        step: the last observed step, counted from 0.
    """
    window, total = trajectory.schedule.window, trajectory.schedule.steps
    if window.decision is None:
        return " ".join(window.notes)
    if trajectory.decision is not None:
        return _outcome(trajectory)
    if trajectory.watcher.detector is not None:
        return f"Watching, step {step + 1} of {total}"
    return f"Watching starts at step {window.first + 1} of {total}"


def _outcome(trajectory: Trajectory) -> str:
    decision, correction = trajectory.decision, trajectory.corrector.settings
    assert decision is not None
    regions = plural(sum(len(d.regions) for d in decision.detections), "region")
    if correction.steers:
        return f"{regions}, method {correction.method} acted on every step of the window"
    if decision.acts:
        return f"{regions}, corrected at step {decision.step + 1}"
    if all(d.clean for d in decision.detections):
        return "Clean"
    return f"{regions}, not corrected" if any(d.regions for d in decision.detections) else "No region marked"
