"""What is known of a run while it goes on: where it looks suspicious so far, and its status in a sentence."""

from __future__ import annotations

from .maps import BoolMap
from .report.report import plural
from .trajectory import Trajectory


def marked_so_far(trajectory: Trajectory, image: int = 0) -> BoolMap | None:
    """Where an image of the batch is marked so far; costs one small copy to the CPU, of this map alone.

    Within the window: the cells that exceed the threshold, before the filters of size. After the decision: the regions
    that were kept.

    Args:
        trajectory: of the run.
        image: place in the batch.

    Returns:
        bool [H,W] in cells of the signal; None where there is nothing to show yet.
    """
    if trajectory.detections:
        return trajectory.detections[image].mask
    marks = trajectory.watcher.marks(image)
    return None if marks is None else marks.cpu().numpy()


def status_text(trajectory: Trajectory, step: int) -> str:
    """Where a run stands after a step, in a sentence for the person who waits; reads nothing from the device.

    Args:
        trajectory: of the run.
        step: that it has observed, from 0.
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
        return f"{regions[0].upper()}{regions[1:]}, method {correction.method} acted on every step of the window"
    if decision.acts:
        return f"{regions}, corrected at step {decision.step + 1}"
    return "Clean" if not any(d.regions for d in decision.detections) else f"{regions}, only watched"
