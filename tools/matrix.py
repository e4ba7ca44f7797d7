"""Writes docs/compatibility.json and .md from the rows that the tests measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HEAD = (
    "# Compatibility\n\n"
    "Made by `make matrix`, which measures every row in a real ComfyUI and fails if one got worse; not written by hand."
    "\n\nEach row samples the same graph three times: without ASCED, with a detector that finds nothing, and with one "
    "that finds an artifact planted into image 0.\n\n"
    "- **status**: *corrected*, *observed only* (mask and report, the image as it is) or *not watched* (passes "
    "through; the node says why).\n"
    "- **clean = stock**: where nothing is found, every bit of the image is that of ComfyUI alone, and so is the "
    "global random generator.\n"
    "- **others**: largest change in the images of the batch that were not flagged; *0* is every bit the same, *–* is "
    "a batch of one.\n"
    "- **extra calls**: evaluations of the model that the correction cost.\n"
)
TITLES = {
    "samplers": "Samplers",
    "schedulers": "Schedulers",
    "models": "Models and predictions",
    "graphs": "Graphs",
    "patches": "Together with other patches",
}


def write_tables(files: list[Path], docs: Path) -> None:
    """Merges rows of one or more versions of ComfyUI into those that are there.

    Args:
        files: JSON of {version: {table: {row: values}}}.
        docs: folder of the JSON, which later runs are compared with, and of the page.
    """
    written = docs / "compatibility.json"
    measured: dict[str, Any] = json.loads(written.read_text(encoding="utf-8")) if written.is_file() else {}
    for file in files:
        measured |= json.loads(file.read_text(encoding="utf-8"))
    newest_first = sorted(measured, key=lambda version: [int(part) for part in version.split(".")], reverse=True)
    measured = {version: measured[version] for version in newest_first}
    written.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    parts = [HEAD, *_versions(measured)]
    for table, title in TITLES.items():
        parts += [f"## {title}\n", *_rows(table, measured)]
    (docs / "compatibility.md").write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def _versions(measured: dict[str, Any]) -> list[str]:
    out = ["## Versions\n", "| ComfyUI | rows | corrected | observed only | not watched |", "|---|---|---|---|---|"]
    for version, tables in measured.items():
        rows = [row["status"] for table in tables.values() for row in table.values()]
        counts = [str(rows.count(status)) for status in ("corrected", "observed only", "not watched")]
        out.append(f"| {version} | {len(rows)} | {' | '.join(counts)} |")
    return [*out, ""]


def _rows(table: str, measured: dict[str, Any]) -> list[str]:
    """The rows of a table; a version that measured something else gets a line of its own below."""
    out = ["| | status | clean = stock | others | extra calls | |", "|---|---|---|---|---|---|"]
    names: dict[str, None] = {}
    for tables in measured.values():
        names |= dict.fromkeys(tables.get(table, {}))
    for name in names:
        lines: dict[str, list[str]] = {}
        for version, tables in measured.items():
            if name in tables.get(table, {}):
                lines.setdefault(_cells(tables[table][name]), []).append(version)
        for cells, versions in lines.items():
            where = "" if len(versions) == len(measured) else f" ({', '.join(versions)})"
            out.append(f"| {name}{where} | {cells} |")
    return [*out, ""]


def _cells(row: dict[str, Any]) -> str:
    difference = row["difference"]
    others = "–" if difference is None else "0" if difference == 0 else f"{difference:.1g}"
    clean = "yes" if row["clean_identical"] else "no"
    return f"{row['status']} | {clean} | {others} | {row['extra_calls']} | {row['note']}"
