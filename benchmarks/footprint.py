"""What the pack adds to ComfyUI: server start, page load and script size, measured in pairs.

``python -m benchmarks.footprint`` writes ``docs/benchmarks/footprint.md`` and ``.json``. Needs ComfyUI's folder in
ASCED_COMFYUI, and Chromium for the page.
Server: ComfyUI's loader loads an empty pack and this one, in alternating order, in a fresh process each time, from
bytecode, as at every start but the first. Page:
loaded from two servers, with and without the pack, in alternating order. ``busy`` is the CPU time of the page's
process; other programs on the machine disturb it less than wall time.
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
comfyui, stubs, base, *packs = sys.argv[1:]
sys.path[:0] = [comfyui] + [stubs] * bool(stubs)
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
READY = "() => window.app?.extensionManager && app.graph && LiteGraph.registered_node_types.KSampler"
OUT = ROOT / "docs" / "benchmarks"
GOALS = {"server": 150, "page": 100, "busy": 100}  # ms
NAMES = {
    "server": "server start, ms",
    "page": "page load, ms of wall time",
    "busy": "page load, ms of CPU time",
}
BYTES_GOAL = 150_000


def server_seconds(pairs: int) -> list[float]:
    """Seconds to load this pack minus those for an empty pack, one value per pair."""
    out = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("empty", "custom_nodes"):
            Path(folder, name).mkdir()
        Path(folder, "empty", "__init__.py").write_text(EMPTY)
        packs = [f"{folder}/empty", f"{folder}/asced"]
        Path(packs[1]).symlink_to(ROOT, target_is_directory=True)
        variables = os.environ | {"PYTHONPYCACHEPREFIX": f"{folder}/bytecode", "PYTHONDONTWRITEBYTECODE": ""}
        command = [sys.executable, "-c", LOAD, os.environ["ASCED_COMFYUI"], os.environ.get("ASCED_STUBS", ""), folder]
        subprocess.run([*command, *packs], cwd=folder, env=variables, capture_output=True, check=True)  # compiles
        for i in range(pairs):
            order = packs[:: -1 if i % 2 else 1]
            done = subprocess.run(
                [*command, *order], cwd=folder, env=variables, capture_output=True, text=True, check=True
            )
            took = dict(zip(order, json.loads(done.stdout.splitlines()[-1]), strict=True))
            out.append(took[packs[1]] - took[packs[0]])
    return out


def page_seconds(pairs: int) -> dict[str, list[float]]:
    """Seconds until the page is ready minus those without the pack, one value per pair: ``page`` and ``busy``."""
    sys.path.insert(0, str(ROOT / "tools"))
    browser, server = importlib.import_module("browser"), importlib.import_module("server")
    if reason := browser.missing():
        print(f"Page load is not measured: {reason}.")
        return {}
    out: dict[str, list[float]] = {"page": [], "busy": []}
    with (
        tempfile.TemporaryDirectory() as base,
        server.ComfyServer(Path(base, "with")) as ours,
        server.ComfyServer(Path(base, "without"), pack=False) as stock,
        browser.chromium() as chrome,
    ):
        for running in (ours, stock):
            _load(chrome, running.url)  # warms the caches
        for i in range(pairs):
            took = {running.url: _load(chrome, running.url) for running in ((ours, stock), (stock, ours))[i % 2]}
            for name, with_it, without in zip(out, took[ours.url], took[stock.url], strict=True):
                out[name].append(with_it - without)
    return out


def _load(chrome: Any, url: str) -> tuple[float, float]:
    """Wall time and CPU time until the page is ready, in seconds."""
    page = chrome.new_page()
    page.goto(f"{url}/system_stats")  # starts the page's process
    session = chrome.new_browser_cdp_session()
    worked, start = _processor_seconds(session), time.perf_counter()
    page.goto(url)
    page.wait_for_function(READY, timeout=180_000)
    seconds, worked = time.perf_counter() - start, _processor_seconds(session) - worked
    page.close()
    return seconds, worked


def _processor_seconds(session: Any) -> float:
    """CPU time of the browser's pages so far."""
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return sum(one["cpuTime"] for one in processes if one["type"] == "renderer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=16)
    pairs = parser.parse_args().pairs
    seconds = {"server": server_seconds(pairs), **page_seconds(pairs)}
    size = sum(path.stat().st_size for path in (ROOT / "web").iterdir() if path.suffix in (".js", ".css"))
    rows = [f"| scripts and styles, kB | {size / 1000:.1f} | | | {BYTES_GOAL // 1000} |"]
    for name, found in seconds.items():
        low, middle, high = (1000 * value for value in statistics.quantiles(found, n=4))
        rows.append(f"| {NAMES[name]} | {middle:.0f} | {low:.0f} | {high:.0f} | {GOALS[name]} |")
    table = "\n".join(rows)
    OUT.mkdir(exist_ok=True)
    milliseconds = {name: [round(1000 * one, 1) for one in found] for name, found in seconds.items()}
    (OUT / "footprint.json").write_text(json.dumps({"bytes": size, "milliseconds": milliseconds}, indent=1) + "\n")
    text = f"""# What the pack adds to ComfyUI

Written by `python -m benchmarks.footprint`: server start and page load with and without the pack, in alternating
order, {pairs} pairs. Each figure is the difference within a pair.

| what the pack adds | median | lower quartile | upper quartile | goal, at most |
|---|---|---|---|---|
{table}
"""
    (OUT / "footprint.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
