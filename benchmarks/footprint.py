"""What the pack adds to ComfyUI: start of the server, load of the page, size of the scripts; in pairs.

``python -m benchmarks.footprint`` prints a table. Needs ComfyUI's folder in ASCED_COMFYUI, and a Chromium for the page.
Server: the host's own loader takes in an empty pack and this one, turn about, each time in a fresh process. Page: the
same page with and without the pack's scripts in the server's list, turn about.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EMPTY = """from comfy_api.latest import ComfyExtension
class Empty(ComfyExtension):
    async def get_node_list(self):
        return []
async def comfy_entrypoint():
    return Empty()
"""
LOAD = """
import asyncio, json, os, sys, time
host, stubs, base, *packs = sys.argv[1:]
sys.path[:0] = [host] + [stubs] * bool(stubs)
sys.argv = sys.argv[:1]
from comfy.cli_args import args
args.cpu, args.base_directory = True, base
import nodes
asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
seconds = []
for pack in packs:
    start = time.perf_counter()
    assert asyncio.run(nodes.load_custom_node(pack)), pack
    seconds.append(time.perf_counter() - start)
print(json.dumps(seconds))
"""
READY = "() => window.app?.extensionManager && app.graph && LiteGraph.registered_node_types.ASCED_KSampler"


def server_seconds(pairs: int) -> list[float]:
    """Seconds that this pack takes to load beyond an empty one, pair by pair."""
    out = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("empty", "custom_nodes"):
            Path(folder, name).mkdir()
        Path(folder, "empty", "__init__.py").write_text(EMPTY)
        packs = [f"{folder}/empty", f"{folder}/asced"]
        Path(packs[1]).symlink_to(ROOT, target_is_directory=True)
        for i in range(pairs):
            order = packs[:: -1 if i % 2 else 1]
            command = [sys.executable, "-c", LOAD, os.environ["ASCED_COMFYUI"], os.environ.get("ASCED_STUBS", "")]
            done = subprocess.run([*command, folder, *order], cwd=folder, capture_output=True, text=True, check=True)
            took = dict(zip(order, json.loads(done.stdout.splitlines()[-1]), strict=True))
            out.append(took[packs[1]] - took[packs[0]])
    return out


def page_seconds(pairs: int) -> list[float]:
    """Seconds that the page takes to get ready beyond one without the pack's scripts, pair by pair."""
    sys.path.insert(0, str(ROOT / "tools"))
    browser, server = importlib.import_module("browser"), importlib.import_module("server")
    if reason := browser.missing():
        print(f"The page is not measured: {reason}.")
        return []
    out = []
    with tempfile.TemporaryDirectory() as base, server.ComfyServer(Path(base)) as running, browser.chromium() as chrome:
        _load(chrome, running.url, True)  # fills the caches
        for i in range(pairs):
            took = {scripts: _load(chrome, running.url, scripts) for scripts in ((True, False), (False, True))[i % 2]}
            out.append(took[True] - took[False])
    return out


def _load(chrome: Any, url: str, scripts: bool) -> float:
    page = chrome.new_page()
    if not scripts:
        page.route("**/api/extensions", _without_the_pack)
    start = time.perf_counter()
    page.goto(url)
    page.wait_for_function(READY, timeout=180_000)
    seconds = time.perf_counter() - start
    page.close()
    return seconds


def _without_the_pack(route: Any) -> None:
    answer = route.fetch()
    route.fulfill(response=answer, json=[path for path in answer.json() if "/asced/" not in path])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    pairs = parser.parse_args().pairs
    print(f"| what the pack adds | median of {pairs} pairs | least | most |\n|---|---|---|---|")
    for name, measure in (("start of the server, ms", server_seconds), ("load of the page, ms", page_seconds)):
        if found := measure(pairs):
            middle, least, most = (1000 * f(found) for f in (statistics.median, min, max))
            print(f"| {name} | {middle:.0f} | {least:.0f} | {most:.0f} |", flush=True)
    size = sum(path.stat().st_size for path in (ROOT / "web").iterdir() if path.suffix in (".js", ".css"))
    print(f"| scripts and style, kB | {size / 1000:.1f} | | |")


if __name__ == "__main__":
    main()
