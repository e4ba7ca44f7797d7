"""What is known of a run while it goes on: where it looks suspicious up to now, and a sentence."""

from __future__ import annotations

from .maps import BoolMap
from .trajectory import Trajectory


def marked_so_far(trajectory: Trajectory, image: int = 0) -> BoolMap | None:
    """Where an image of the batch was marked up to now; costs one small copy to the host, of this map alone.

    Within the window: the cells with a change above its threshold, before the filters of size (paper Eq. 4, over
    the steps so far). After the decision: the regions that were kept.

    Args:
        trajectory: of the run.
        image: place in the batch.

    Returns:
        bool [H,W] in cells of the signal; None where there is nothing to tell yet.
    """
    bank = trajectory.bank
    if bank is not None and bank.differences:
        marked: BoolMap = (bank.result().ratio[image] > 0).cpu().numpy()
        return marked
    found = trajectory.detections
    return found[image].mask if found else None


def state_in_words(trajectory: Trajectory, step: int) -> str:
    """Where a run stands after a step, in words for the person who waits; reads nothing from the device.

    Args:
        trajectory: of the run.
        step: that it has observed, from 0.
    """
    window, total = trajectory.window, len(trajectory.sigmas) - 1
    if not window.decisions:
        return " ".join(window.notes)
    found, parts = trajectory.detections, []
    if found:
        parts.append(_outcome(trajectory, sum(len(d.regions) for d in found)))
    if trajectory.bank is not None:
        parts.append(f"watching, step {step + 1} of {total}")
    elif not found:
        parts.append(f"watching starts at step {window.first + 1} of {total}")
    text = "; ".join(parts)
    return text[0].upper() + text[1:]


def _outcome(trajectory: Trajectory, regions: int) -> str:
    steps = " and ".join(str(step + 1) for step in trajectory.corrected_steps)
    if regions == 0 and not steps:
        return "clean"
    return f"{regions} region{'s' * (regions != 1)}, {f'corrected at step {steps}' if steps else 'only watched'}"
