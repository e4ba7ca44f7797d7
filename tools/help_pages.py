"""Keeps the help pages in other languages true: ``python tools/help_pages.py``, after an English page changed.

A translated page is ``web/docs/NODE/LANGUAGE.md``; without one, ComfyUI's page shows the English ``web/docs/NODE.md``.
A translation whose English has changed since is deleted and listed, because no page is better than a wrong one.
``--add FOLDER`` takes new translations of the current pages from ``FOLDER/LANGUAGE/NODE.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "web" / "docs"
LOCALES = ROOT / "locales"


def pages() -> dict[str, str]:
    """The English pages by node, each as the first digits of its SHA-256."""
    return {path.stem: _digest(path) for path in sorted(PAGES.glob("*.md"))}


def translated(language: str) -> dict[str, str]:
    """Which English page each translation of a language is of, as ``pages`` has them."""
    path = _record(language)
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return known


def languages() -> list[str]:
    """All languages besides English."""
    return sorted(path.name for path in LOCALES.iterdir() if path.is_dir() and path.name != "en")


def place_of(node: str, language: str) -> Path:
    """Where ComfyUI's page looks for a translation."""
    return PAGES / node / f"{language}.md"


def outdated(language: str) -> list[str]:
    """The nodes whose English page has changed since it was translated, or is gone."""
    now = pages()
    return [node for node, digest in translated(language).items() if now.get(node) != digest]


def add(language: str, folder: Path) -> int:
    """Takes a language's translations of the current pages from a folder; returns how many there were."""
    known, now = translated(language), pages()
    found = [path for path in sorted(folder.glob("*.md")) if path.stem in now]
    for path in found:
        place = place_of(path.stem, language)
        place.parent.mkdir(exist_ok=True)
        place.write_text(path.read_text(encoding="utf-8").strip() + "\n", encoding="utf-8")
        known[path.stem] = now[path.stem]
    _write(language, known)
    return len(found)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_text(encoding="utf-8").encode()).hexdigest()[:12]


def _record(language: str) -> Path:
    return LOCALES / language / "help_pages.json"


def _write(language: str, known: dict[str, str]) -> None:
    _record(language).write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Adds or deletes translations; returns 1 if some were deleted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", type=Path, metavar="FOLDER", help="of new translations, LANGUAGE/NODE.md")
    args = parser.parse_args()
    lost = 0
    for language in languages():
        if args.add:
            print(f"{language}: {add(language, args.add / language)} pages added.")
            continue
        gone = outdated(language)
        for node in gone:
            place_of(node, language).unlink(missing_ok=True)
        _write(language, {node: digest for node, digest in translated(language).items() if node not in gone})
        lost += len(gone)
        if gone:
            print(f"{language}: deleted, please translate again: {', '.join(gone)}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
