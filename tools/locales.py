"""Words of the nodes in the languages of ComfyUI's page: ``python tools/locales.py`` after a node's words changed.

English is taken from the nodes themselves. Of the other languages, words whose English is new or has changed are
emptied and named: they want a translation. Words that are gone go. Needs ASCED_COMFYUI.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from server import ROOT, ComfyServer

LOCALES = ROOT / "locales"
LANGUAGES = ("en", "zh", "ja", "ko", "fr", "de", "es", "ru")
FILE = "nodeDefs.json"
Words = dict[str, Any]


def words_of(info: dict[str, Any]) -> Words:
    """What a node says, in the form that the page reads; ``info`` is the server's about the node."""
    inputs = {}
    for kind in ("required", "optional"):
        for name in info["input_order"].get(kind, []):
            inputs[name] = {"name": name, "tooltip": info["input"][kind][name][1]["tooltip"]}
    outputs = {
        str(place): {"name": name, "tooltip": tooltip}
        for place, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))
    }
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": inputs,
        **({"outputs": outputs} if outputs else {}),
    }


def english(node_info: dict[str, Any]) -> Words:
    """The words of all nodes of the pack, by node id."""
    return {name: words_of(info) for name, info in sorted(node_info.items()) if name.startswith("ASCED_")}


def flat(words: Words, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """Every text by its path of keys."""
    out: dict[tuple[str, ...], str] = {}
    for key, value in words.items():
        out |= flat(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return out


def nested(texts: dict[tuple[str, ...], str]) -> Words:
    """The other way round."""
    out: Words = {}
    for path, text in texts.items():
        place = out
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = text
    return out


def read(language: str) -> Words:
    """The words in a language; none if it has no file yet."""
    path = LOCALES / language / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write(language: str, words: Words) -> None:
    """Writes the file of a language."""
    path = LOCALES / language / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(words, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def renewed(now: Words, before: Words, translated: Words) -> Words:
    """The translation for today's English: kept where the English stayed, or is translated elsewhere; or else empty.

    Args:
        now: today's English.
        before: the English that was translated.
        translated: the translation of that.
    """
    old, theirs = flat(before), flat(translated)
    known = {text: theirs[path] for path, text in old.items() if theirs.get(path)}
    kept = {path: theirs.get(path, "") if old.get(path) == text else "" for path, text in flat(now).items()}
    return nested({path: kept[path] or known.get(text, "") for path, text in flat(now).items()})


def main() -> int:
    """Writes all files; 1 if a translation is missing."""
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder)) as server:
        now = english(server.get("/object_info"))
    before, missing = read("en"), 0
    for language in LANGUAGES[1:]:
        words = renewed(now, before, read(language))
        write(language, words)
        empty = [path for path, text in flat(words).items() if not text]
        missing += len(empty)
        for path in empty:
            print(f"{language}: {' / '.join(path)} wants a translation of: {flat(now)[path]}")
    write("en", now)
    print(f"{len(flat(now))} texts in {len(LANGUAGES)} languages, {missing} missing.")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
