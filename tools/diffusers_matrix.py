"""Measures every kind of pipeline and scheduler of diffusers: docs/diffusers.json, and its part of compatibility.md.

It runs on a Python that has diffusers; ``python tools/dev.py matrix`` sets one up. The rows are those of tests/hosts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matrix import write_tables

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SOURCES = ("current", "previous")
STATUSES = ("not watched", "observed only", "corrected")  # from worst to best


def main() -> int:
    """Writes the tables if no row got worse."""
    sys.path.insert(0, str(ROOT))
    import diffusers

    from tests.hosts.families import FAMILIES, SCHEDULERS
    from tests.hosts.rows import measured

    diffusers.utils.logging.set_verbosity_error()
    pipelines = {name: _row(measured(family)) for name, family in FAMILIES.items()}
    tried = FAMILIES["PixArt-α"]
    schedulers = {name: _row(measured(tried, make(), **more)) for name, (make, more) in SCHEDULERS.items()}
    now = {"version": diffusers.__version__, "pipelines": pipelines, "schedulers": schedulers}
    written = DOCS / "diffusers.json"
    before = json.loads(written.read_text(encoding="utf-8")) if written.is_file() else {}
    if worse := _worse(before, now):
        print("Worse than before, so the tables stay as they are: " + ", ".join(worse))
        return 1
    written.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_tables([], DOCS)
    return 0


def _row(measured: dict[str, Any]) -> dict[str, Any]:
    """What the table shows of a row."""
    done = all(any(measured[source]["corrected"]) for source in SOURCES)
    status = "corrected" if done else "observed only" if measured["watched"] else "not watched"
    return {
        "status": status,
        "identical": measured["identical"],
        "others": all(measured[source]["others"] and measured[source]["generator"] for source in SOURCES),
        "extra": [measured[source]["reported"] for source in SOURCES],
        "note": measured["note"],
    }


def _worse(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names of the rows that are worse than before, or that change what they must not."""
    names = []
    for table in ("pipelines", "schedulers"):
        for name, row in now[table].items():
            old = before.get(table, {}).get(name, row)
            fell = STATUSES.index(row["status"]) < STATUSES.index(old["status"])
            if fell or sum(row["extra"]) > sum(old["extra"]) or not row["identical"] or not row["others"]:
                names.append(name)
    return names


if __name__ == "__main__":
    sys.exit(main())
