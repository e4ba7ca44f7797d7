"""Updates the texts in the languages of ComfyUI's page: run ``python tools/locales.py`` after a text changed.

The English texts come from the nodes and from web/text.js. In the other languages, texts whose English is new or has
changed are emptied and listed, because they need a translation. Texts that no longer exist are removed. Needs
ASCED_COMFYUI.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from server import ROOT, ComfyServer

LOCALES = ROOT / "locales"
LANGUAGES = ("en", "zh", "zh-TW", "ja", "ko", "ru", "fr", "es", "pt-BR")  # all of them offered by ComfyUI's page
FILES = ("nodeDefs", "main", "settings")  # .json each, as ComfyUI names them
HEADING = "Artifact map"  # of the settings
PACK = "ASCED"  # title of the templates; the page looks it up by the pack's folder, which depends on how it came there
PACK_FOLDERS = ("asced", "ASCED", *(f"{name}{end}" for name in ("comfyui-asced", "ComfyUI-ASCED", "comfyui_asced",
                "ComfyUI_ASCED") for end in ("", "-main")))  # fmt: skip
Texts = dict[str, Any]


def texts_of(info: dict[str, Any]) -> Texts:
    """A node's texts in the format that the page reads; ``info`` is the server's object_info of the node."""
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


def english(node_info: dict[str, Any]) -> Texts:
    """All texts, by file: of the nodes by node id, of panel and slider by key, of the settings by id."""
    script = (ROOT / "web" / "text.js").read_text(encoding="utf-8")
    texts, settings = (script.split(f"const {name} = {{\n")[1].split("\n}\n")[0] for name in ("ENGLISH", "SETTINGS"))
    entries = re.findall(r'^  "([\w.]+)": \{(.*?)^  \},', settings, re.S | re.M)
    return {
        "nodeDefs": {name: texts_of(info) for name, info in sorted(node_info.items()) if name.startswith("ASCED_")},
        "main": {
            "settingsCategories": {HEADING: HEADING},
            "templateWorkflows": {"category": dict.fromkeys(PACK_FOLDERS, PACK)},
            "asced": _table(texts),
        },
        "settings": {setting.replace(".", "_"): _table(entry) for setting, entry in entries},
    }


def _table(script: str) -> dict[str, str]:
    """Keys and texts of an object literal, a line each."""
    return {key: json.loads(text) for key, text in re.findall(r'^\s+(\w+): (".*"),$', script, re.M)}


def flat(texts: Texts, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """Every text, by its path of keys."""
    out: dict[tuple[str, ...], str] = {}
    for key, value in texts.items():
        out |= flat(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return out


def nested(texts: dict[tuple[str, ...], str]) -> Texts:
    """The inverse of ``flat``."""
    out: Texts = {}
    for path, text in texts.items():
        place = out
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = text
    return out


def read(language: str) -> Texts:
    """The texts in a language, by file; empty if there is none yet."""
    paths = {file: LOCALES / language / f"{file}.json" for file in FILES}
    return {file: json.loads(path.read_text(encoding="utf-8")) for file, path in paths.items() if path.is_file()}


def write(language: str, texts: Texts) -> None:
    """Writes the files of a language."""
    folder = LOCALES / language
    folder.mkdir(parents=True, exist_ok=True)
    for file, own in texts.items():
        (folder / f"{file}.json").write_text(json.dumps(own, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def renewed(now: Texts, before: Texts, translated: Texts) -> Texts:
    """The translation of the current English texts.

    A translation is kept if its English is unchanged, or reused if the same English is translated elsewhere; otherwise
    it is empty.

    Args:
        now: current English.
        before: the English that was translated.
        translated: its translation.
    """
    old, theirs = flat(before), flat(translated)
    known = {text: theirs[path] for path, text in old.items() if theirs.get(path)}
    kept = {path: theirs.get(path, "") if old.get(path) == text else "" for path, text in flat(now).items()}
    return nested({path: kept[path] or known.get(text, "") for path, text in flat(now).items()})


def main() -> int:
    """Writes all files; returns 1 if a translation is missing."""
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder)) as server:
        now = english(server.get("/object_info"))
    before, missing = read("en"), 0
    for language in LANGUAGES[1:]:
        texts = renewed(now, before, read(language))
        write(language, texts)
        empty = [path for path, text in flat(texts).items() if not text]
        missing += len(empty)
        for path in empty:
            print(f"{language}: {' / '.join(path)} needs a translation of: {flat(now)[path]}")
    write("en", now)
    print(f"{len(flat(now))} texts in {len(LANGUAGES)} languages, {missing} missing.")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
