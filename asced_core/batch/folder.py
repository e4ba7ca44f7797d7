"""The folder of a batch: which jobs are done, their files, and the index."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .farm import Failed, write
from .jobs import Job
from .pictures import Made

SETTINGS = "batch.json"
INDEX = "index.jsonl"
FAILURES = "failed.log"


@dataclass(frozen=True)
class Totals:
    """Numbers of images: in all, marked, corrected and without a report; and of failed jobs."""

    images: int = 0
    marked: int = 0
    corrected: int = 0
    unknown: int = 0
    failed: int = 0

    def __str__(self) -> str:
        words = [f"{self.images} image{'' if self.images == 1 else 's'}"]
        if self.unknown < self.images or not self.images:
            words += [f"{self.marked} marked", f"{self.corrected} corrected"]
        if self.unknown:
            words.append(f"{self.unknown} without a report")
        return ", ".join([*words, f"{self.failed} failed"])


class Folder:
    """Where a batch writes.

    Args:
        path: of the folder; made if missing.
        settings: what the images depend on besides their job, as JSON values.

    Raises:
        ValueError: it holds images made with other settings, or cannot be written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        own = json.loads(json.dumps(settings))
        file = path / SETTINGS
        try:
            path.mkdir(parents=True, exist_ok=True)
            before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else own
            if before != own and any(path.glob("*.png")):
                changed = sorted(key for key in {*before, *own} if before.get(key) != own.get(key))
                raise ValueError(
                    f"{path} holds images made with another {' and '.join(changed)}: choose another --out, or delete "
                    f"{file.name} there to mix them."
                )
            write(file, _json(own, indent=1))
        except OSError as error:
            raise ValueError(f"Could not write to the folder {path}: {error}.") from error

    def is_done(self, job: Job) -> bool:
        """True if all of its files are there."""
        return self._file(job, 1, "png").is_file()

    def save(self, job: Job, made: Sequence[Made]) -> None:
        """Writes the files of a job, its first image last."""
        for number, one in reversed(list(enumerate(made, start=1))):
            if one.report is not None:
                write(self._file(job, number, "json"), one.report.encode())
            if one.mask is not None:
                write(self._file(job, number, "mask.png"), one.mask)
            write(self._file(job, number, "png"), one.picture)

    def finish(self, jobs: Sequence[Job], failures: Mapping[Job, Failed]) -> Totals:
        """Writes the index of all jobs that are done or failed, and what failed; returns the totals."""
        rows = [self._row(job, failures.get(job)) for job in jobs if self.is_done(job) or job in failures]
        write(self.path / INDEX, b"".join(_json(row) for row in rows))
        log = "\n".join(f"{job.name}\n{failed.reason}\n{failed.trace}" for job, failed in failures.items())
        if log:
            write(self.path / FAILURES, log.encode())
        else:
            (self.path / FAILURES).unlink(missing_ok=True)
        images = [image for row in rows for image in row["images"]]
        return Totals(
            images=len(images),
            marked=sum(bool(image["marked"]) for image in images),
            corrected=sum(bool(image["corrected"]) for image in images),
            unknown=sum(image["marked"] is None for image in images),
            failed=len(failures),
        )

    def _row(self, job: Job, failed: Failed | None) -> dict[str, Any]:
        row = {"name": job.name, "prompt": job.prompt, "seed": job.seed, "negative": job.negative}
        if failed is not None:
            return {**row, "images": [], "error": failed.reason}
        images: list[dict[str, Any]] = []
        while (file := self._file(job, len(images) + 1, "png")).is_file():
            images.append(_image(file, self._file(job, len(images) + 1, "json")))
        return {**row, "images": images}

    def _file(self, job: Job, number: int, kind: str) -> Path:
        return self.path / f"{job.name}{'' if number == 1 else f'.{number}'}.{kind}"


def _image(file: Path, report: Path) -> dict[str, Any]:
    if not report.is_file():
        return {"file": file.name, "marked": None, "corrected": None}
    images = json.loads(report.read_text(encoding="utf-8"))["images"]
    return {
        "file": file.name,
        "marked": any(image["flagged"] for image in images),
        "corrected": any(image["corrected"] for image in images),
    }


def _json(values: Any, indent: int | None = None) -> bytes:
    return f"{json.dumps(values, indent=indent, ensure_ascii=False)}\n".encode()
