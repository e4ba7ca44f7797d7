"""The list of a batch: prompts and seeds from a text file, a .jsonl or a .csv."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIELDS = ("prompt", "seed", "negative", "name")
LARGEST_SEED = 2**64 - 1
SLUG = 40  # characters of the prompt in a file's name


@dataclass(frozen=True)
class Job:
    """One image to make.

    Attributes:
        prompt: what it shows.
        seed: of its noise, 0 to 2^64 - 1.
        negative: what it must not show; None leaves that to the pipeline or the graph.
        given_name: of its files, chosen by the user; empty makes one.
    """

    prompt: str
    seed: int
    negative: str | None = None
    given_name: str = ""

    @property
    def name(self) -> str:
        """The name of its files, which depends on the job alone.

        Seed and prompt; and six digits of a hash, if the prompt does not fit into a name or a negative one is added.
        """
        if self.given_name:
            return self.given_name
        slug = re.sub(r"[\W_]+", "-", self.prompt.lower())[:SLUG].strip("-")
        if slug.replace("-", " ") == self.prompt and not self.negative:
            return f"{self.seed}-{slug}"
        whole = json.dumps([self.prompt, self.negative]).encode()
        return "-".join(filter(None, (str(self.seed), slug, hashlib.sha256(whole).hexdigest()[:6])))


def parse_seeds(text: str) -> list[int]:
    """Seeds given as numbers and ranges, such as ``0-7`` or ``0,1,5``.

    Raises:
        ValueError: this is no such list.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,20})\s*(?:-\s*(\d{1,20})\s*)?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last or last > LARGEST_SEED:
            raise ValueError(f"Seeds must look like 0-7 or 0,1,5, and be {LARGEST_SEED} at most; got {text!r}.")
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


def read_jobs(file: Path, seeds: Sequence[int] | None = None) -> list[Job]:
    """The jobs of a list, in order and each one once.

    Args:
        file: a .jsonl or .csv with the fields ``prompt``, ``seed``, ``negative`` and ``name``, all but the first
            optional; any other file holds one prompt per line, where empty lines and those that begin with # are
            skipped.
        seeds: for each prompt without a seed of its own; None is seed 0.

    Raises:
        ValueError: the file cannot be read or says something else; the text names the line.
    """
    rows = {".jsonl": _rows_of_json, ".csv": _rows_of_csv}.get(file.suffix.lower(), _rows_of_text)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Could not read the list {file}: {error}.") from error
    jobs: dict[str, Job] = {}
    for line, row in rows(text, file.name):
        for job in _jobs_of(row, [0] if seeds is None else seeds, f"{file.name}, line {line}"):
            key = job.name.casefold()  # some file systems do not tell cases apart
            if jobs.setdefault(key, job) != job:
                raise ValueError(
                    f"{file.name}, line {line}: another job is named {job.name}, too; give each its own name."
                )
    if not jobs:
        raise ValueError(f"{file} holds no prompt: write one per line.")
    return list(jobs.values())


def _rows_of_text(text: str, _name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, {"prompt": line.strip()}


def _rows_of_json(text: str, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{name}, line {number}: this is not JSON ({error.msg}); write one object per line."
            ) from None
        if not isinstance(row, dict):
            raise ValueError(f'{name}, line {number}: expected an object such as {{"prompt": "a cat", "seed": 7}}.')
        yield number, row


def _rows_of_csv(text: str, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(text.splitlines(keepends=True), restkey="", restval="", skipinitialspace=True)
    for row in reader:
        if "" in row:
            raise ValueError(f'{name}, line {reader.line_num}: too many columns; put a prompt with commas in "quotes".')
        yield reader.line_num, {field.strip(): value.strip() for field, value in row.items() if value.strip()}


def _jobs_of(row: dict[str, Any], seeds: Sequence[int], place: str) -> Iterator[Job]:
    if unknown := [field for field in row if field not in FIELDS]:
        raise ValueError(f"{place}: unknown field {unknown[0]!r}; the fields are {', '.join(FIELDS)}.")
    if "prompt" not in row:
        raise ValueError(f"{place}: the field prompt is missing.")
    for field in ("prompt", "negative", "name"):
        if not isinstance(row.get(field, ""), str):
            raise ValueError(f"{place}: {field} must be text, got {row[field]!r}.")
    given = row.get("name", "")
    if given and not re.fullmatch(r"[\w-]{1,100}", given):
        raise ValueError(f"{place}: a name may have letters, digits, - and _, 100 at most; got {given!r}.")
    own = [_seed(row["seed"], place)] if "seed" in row else seeds
    for seed in own:
        name = f"{given}-{seed}" if given and len(own) > 1 else given
        yield Job(row["prompt"], seed, row.get("negative"), name)


def _seed(value: Any, place: str) -> int:
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,20}", text) or int(text) > LARGEST_SEED:
        raise ValueError(f"{place}: seed must be a whole number from 0 to {LARGEST_SEED}, got {value!r}.")
    return int(text)
