"""The cases of docs/compatibility.md, and how each is measured.

A case samples once, with ASCED where an artist would put it. It runs three times: without ASCED, with a detector
that finds nothing, and with one that finds the planted artifact in image 0. What changes between the three is
its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Patch = Callable[[Any], Any]
STATUS = ("not watched", "observed only", "corrected")  # from worst to best


class NotInThisVersion(Exception):
    """This ComfyUI is too old for the row."""


@dataclass(frozen=True)
class Case:
    """One row to measure.

    Attributes:
        table, name: its place in the tables.
        sample: (kit, asced) -> latent, with ``asced`` applied to the MODEL; the identity for stock.
        coupling: why an unflagged image may change anyway, if something other than ASCED causes it.
    """

    table: str
    name: str
    sample: Callable[[Kit, Patch], Tensor]
    coupling: str = ""


@dataclass(frozen=True)
class Row:
    """What was measured of a case.

    Attributes:
        status: one of STATUS.
        clean_identical: if nothing is found, the latent and the global RNG state are bit-for-bit identical to stock.
        difference: largest change in an unflagged image, in latent units; None if there is no such image.
        extra_calls: evaluations of the model that the correction cost.
        note: the report's notes.
    """

    status: str
    clean_identical: bool
    difference: float | None
    extra_calls: int
    note: str = ""

    def worse_than(self, other: Row) -> bool:
        """True if users get less from it. The change in a coupled image also depends on the size of the regions."""
        exact = (self.difference or 0.0) < (other.difference or 0.0)  # which is worth more than calls
        return (
            STATUS.index(self.status) < STATUS.index(other.status)
            or self.clean_identical < other.clean_identical
            or (self.status == other.status and self.extra_calls > other.extra_calls and not exact)
            or (self.difference or 0.0) > (other.difference or 0.0) * 2
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Kit:
    """What the cases are made of: models, conditioning, ComfyUI's nodes."""

    def __init__(
        self, pack: SimpleNamespace, host: Any, core_node: Callable[..., tuple], hands: Any, folder: Path
    ) -> None:
        self._pack, self.host, self.core, self.hands, self.folder = pack, host, core_node, hands, folder
        self.positive, self.negative = hands.positive, hands.negative

    def sample(self, model: Any, latent: dict[str, Any] | None = None, **change: Any) -> Tensor:
        """ComfyUI's KSampler, 12 steps of euler on two images of 32x32 cells."""
        given = {
            "seed": 3, "steps": 12, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal",
            "positive": self.positive, "negative": self.negative, **change,
        }  # fmt: skip
        return self.host.common_ksampler(model, latent=latent or self.latent(), **given)[0]["samples"]

    def latent(self, batch: int = 2, height: int = 32, width: int = 32, channels: int = 4) -> dict[str, Any]:
        return {"samples": torch.zeros(batch, channels, height, width)}

    def sigmas(self, model: Any, steps: int = 12) -> Tensor:
        import comfy.samplers

        return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", steps)

    def noise(self, seed: int = 3) -> Any:
        import comfy.sample

        return SimpleNamespace(seed=seed, generate_noise=lambda x: comfy.sample.prepare_noise(x["samples"], seed))

    def asced(self, model: Any, reports: list[Any], sees: bool = True) -> Any:
        """A watched MODEL; ``sees`` is False for a detector that finds nothing."""
        pack = self._pack
        detection = pack.DetectionSettings(
            space="auto",
            mad_scale=3.75 if sees else 20.0, min_area=1200, max_area=10000, min_width=32 if sees else 250,
            base_size=pack.BASE_SIZE,
        )  # fmt: skip
        chosen = pack.DetectionOptions(detection), pack.CorrectionOptions()
        return pack.patch_model(model, *chosen, lambda _, report, original: reports.append(report))


def measure(case: Case, kit: Kit) -> Row:
    """Runs a case and measures its row."""
    stock = case.sample(kit, lambda model: model)
    state = torch.get_rng_state()
    blind_reports: list[Any] = []
    blind = case.sample(kit, lambda model: kit.asced(model, blind_reports, sees=False))
    identical = torch.equal(blind, stock) and torch.equal(torch.get_rng_state(), state)
    reports: list[Any] = []
    out = case.sample(kit, lambda model: kit.asced(model, reports))
    identical &= torch.equal(torch.get_rng_state(), state)
    if not torch.isfinite(out).all() or not reports:
        raise AssertionError(f"{case.name}: no finite image, or no report")
    watched = [report for report in reports if report.decision is not None]
    if not watched:
        same = torch.equal(out, stock)
        return Row("not watched", identical and same, None, 0, " ".join(reports[-1].notes))
    (report,), (blind_report,) = watched, [r for r in blind_reports if r.decision is not None]
    if any(image.flagged for image in blind_report.images) or not report.images[0].flagged:
        raise AssertionError(f"{case.name}: the artifact was not found, or the blind detector found it")
    corrected = report.images[0].corrected and not torch.equal(out[0], stock[0])
    frames = report.run.frames
    clean = [i for i in range(len(out)) if not any(f.flagged for f in report.images[i * frames : (i + 1) * frames])]
    difference = float((out[clean] - stock[clean]).abs().max()) if clean else None
    extra = report.run.model_calls - blind_report.run.model_calls
    status = "corrected" if corrected else "observed only"
    notes = [*report.notes, case.coupling] if difference else report.notes
    return Row(status, identical, difference, extra, " ".join(notes))


def all_cases() -> Iterator[Case]:
    """Every row of every table; ComfyUI must be loaded."""
    from . import cases

    for table in (cases.samplers, cases.schedulers, cases.models, cases.graphs, cases.patches):
        yield from table()
