"""Writes docs/compatibility.json and compatibility.md from the rows that the tests measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HEAD = (
    "# Compatibility\n\n"
    "Written by `make matrix`, which measures every row in a real ComfyUI and fails if any row got worse. Versions "
    "above 0.3.75 are on no package index: they are measured by hand, with all tests of the nodes and of the page "
    "([how](../CONTRIBUTING.md#newer-versions-of-comfyui)), last on 0.33.0 with frontend 1.58.1.\n\n"
    "Each row samples the same graph three times: without ASCED, with a detector that finds nothing, and with a "
    "detector that finds an artifact planted in image 0.\n\n"
    "- **status**: *corrected*, *observed only* (mask and report, image unchanged) or *not watched* (passes through; "
    "the node states the reason).\n"
    "- **clean = stock**: if nothing is found, the image is bit-for-bit identical to plain ComfyUI's, and so is the "
    "state of the global random generator.\n"
    "- **others**: largest change in the images of the batch that were not flagged; *0* is bit-for-bit identical, *–* "
    "that there are none.\n"
    "- **extra calls**: model evaluations that the correction cost.\n"
)
DIFFUSERS = (
    "## diffusers\n\n"
    "Written by `tools/diffusers_matrix.py`, on diffusers {version}. Each row samples a batch of three with random "
    "weights: without ASCED, with a detector that finds nothing, and with an artifact planted in one image, corrected "
    "with either setting of `x0_source` ([background](diffusers.md)).\n\n"
    "- **clean = stock**: if nothing is found, the latents are bit-for-bit identical to those of the pipeline alone, "
    "with as many calls of the model and the same state of the global random generator.\n"
    "- **others**: the other two images of the batch are bit-for-bit identical in all runs.\n"
    "- **added calls**: model evaluations that the correction cost, with `current` / `previous`.\n"
)
TITLES = {
    "samplers": "Samplers",
    "schedulers": "Schedulers",
    "models": "Models and predictions",
    "graphs": "Graphs",
    "patches": "With other patches",
}


def write_tables(files: list[Path], docs: Path) -> None:
    """Merges the rows of one or more ComfyUI versions into the existing ones.

    Args:
        files: JSON of {version: {table: {row: values}}}.
        docs: folder of the page, and of the JSON that later runs are compared with.
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
    if (docs / "diffusers.json").is_file():
        parts += _diffusers(json.loads((docs / "diffusers.json").read_text(encoding="utf-8")))
    (docs / "compatibility.md").write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def _diffusers(measured: dict[str, Any]) -> list[str]:
    """The tables of diffusers, see diffusers_matrix.py."""
    out = [DIFFUSERS.format(version=measured["version"])]
    for table, title in (("pipelines", "Pipelines"), ("schedulers", "Schedulers, on PixArt-α")):
        out += [f"### {title}\n", "| | status | clean = stock | others | added calls | |", "|---|---|---|---|---|---|"]
        for name, row in measured[table].items():
            same, others = ("yes" if row[key] else "no" for key in ("identical", "others"))
            calls = " / ".join(str(n) for n in row["extra"])
            out.append(f"| {name} | {row['status']} | {same} | {others} | {calls} | {row['note']} |")
        out.append("")
    return out


def _versions(measured: dict[str, Any]) -> list[str]:
    out = ["## Versions\n", "| ComfyUI | rows | corrected | observed only | not watched |", "|---|---|---|---|---|"]
    for version, tables in measured.items():
        rows = [row["status"] for table in tables.values() for row in table.values()]
        counts = [str(rows.count(status)) for status in ("corrected", "observed only", "not watched")]
        out.append(f"| {version} | {len(rows)} | {' | '.join(counts)} |")
    return [*out, ""]


def _rows(table: str, measured: dict[str, Any]) -> list[str]:
    """The rows of a table; a version with a different result gets its own line below."""
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
