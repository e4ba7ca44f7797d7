"""Runs ASCED in a real Stable Diffusion WebUI, headless and on the CPU, and prints what came out as a table.

    python tools/webui.py ~/stable-diffusion-webui-forge --python ~/stable-diffusion-webui-forge/venv/bin/python

The checkout must be able to start by itself; the first start of a WebUI fetches what it needs. A random checkpoint and
two extensions are put into it, and removed at the end.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHECKPOINT = "asced-random.safetensors"
FLAGS = ("--skip-prepare-environment", "--skip-torch-cuda-test", "--api", "--nowebui", "--server-name", "127.0.0.1")
SIZE = 128  # of the images, in pixels
KIND_SAMPLER = "Euler a"


@dataclass(frozen=True)
class Outcome:
    """One job: its final latents as fingerprints, the model calls, what ASCED left behind, and what the images say."""

    latents: tuple[str, ...]
    calls: int
    left: int
    infotexts: tuple[str, ...]
    images: int

    def says(self, place: int) -> str:
        """What ASCED wrote into an image."""
        _, found, rest = self.infotexts[place].partition(", ASCED: ")
        return (rest.split('"')[1] if rest.startswith('"') else rest.split(",")[0]) if found else ""


class Webui:
    """The API of a running WebUI."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/sdapi/v1/"

    def ask(self, route: str, body: dict[str, Any] | None = None) -> Any:
        """The answer of a route, as JSON.

        Raises:
            urllib.error.URLError: it does not answer, or refuses.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + route, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=1800) as answer:
            return json.load(answer)

    def job(
        self, route: str = "txt2img", planted: tuple[int, ...] = (), on: bool = False, stop: int = 0, **more: Any
    ) -> Outcome:
        """Runs one job.

        Args:
            route: txt2img or img2img.
            planted: places in the batch that get an artifact.
            on: with ASCED.
            stop: the model call at which the user interrupts; 0 is never.
            more: further fields of the API.
        """
        scripts = {"ASCED probe": {"args": [json.dumps({"planted": planted, "interrupt_at": stop})]}}
        if on:
            scripts["ASCED"] = {"args": [True, 50, True, True]}
        body = {
            "prompt": "a hand",
            "seed": 5,
            "steps": 20,
            "cfg_scale": 1,
            "width": SIZE,
            "height": SIZE,
            "batch_size": 2,
            "sampler_name": KIND_SAMPLER,
            "save_images": False,
            "override_settings": {"sd_vae_decode_method": "Approx cheap"},
            "alwayson_scripts": scripts,
            **more,
        }
        answer = self.ask(route, body)
        info = json.loads(answer["info"])
        facts = json.loads(info["extra_generation_params"]["Probe"])
        facts["latents"] = tuple(facts["latents"])
        return Outcome(**facts, infotexts=tuple(info["infotexts"]), images=len(answer["images"]))


def picture(color: tuple[int, int, int], mask: bool = False) -> str:
    """A PNG as base64: one color, or as a mask its left two thirds."""
    row = b"\0" + b"".join(bytes(color if not mask or x < SIZE * 2 // 3 else (0, 0, 0)) for x in range(SIZE))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(row * SIZE))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")).decode()


def kinds() -> Iterator[tuple[str, dict[str, Any]]]:
    """Jobs of other kinds than plain txt2img, with their fields; the last image gets an artifact."""
    start = {"route": "img2img", "init_images": [picture((90, 120, 150))], "denoising_strength": 0.9}
    yield "img2img", start
    yield "inpaint", {**start, "mask": picture((255, 255, 255), mask=True), "mask_blur": 0, "inpainting_fill": 1}
    larger = {"hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.8, "hr_additional_modules": []}
    yield "hires fix, two passes", {"enable_hr": True, **larger}
    yield "batch of 3", {"batch_size": 3}
    yield "batch count 3", {"batch_size": 1, "n_iter": 3}
    yield "variations of one seed", {"subseed": 9, "subseed_strength": 0.3}
    yield "prompt editing", {"prompt": "a [hand:foot:0.5] on a [red|blue] table", "cfg_scale": 2}


def row(name: str, webui: Webui, fields: dict[str, Any], planted: tuple[int, ...]) -> str:
    """One line of the table."""
    if fields.get("route") == "img2img":
        webui.job(**fields)  # the WebUI encodes the picture with numbers that depend on the job before
    stock, same = webui.job(**fields), webui.job(on=True, **fields)
    without, acted = webui.job(planted=planted, **fields), webui.job(planted=planted, on=True, **fields)
    identical = stock.latents == same.latents and stock.calls == same.calls
    count = len(acted.latents)
    changed = [place for place in range(count) if acted.latents[place] != without.latents[place]]
    marked = [place for place in range(count) if "region" in acted.says(place)]
    corrected = [place for place in range(count) if acted.says(place).endswith(", corrected")]
    only = "–" if not corrected else "yes" if changed == corrected else f"no: {changed} of {corrected}"
    says = acted.says(marked[-1] if marked else count - 1)
    found = "yes" if identical else f"NO: {same.says(0)}; {same.says(-1)}"
    cells = (name, found, f"{without.calls} → {acted.calls}", only, says, "yes" if acted.left == 0 else "NO")
    return f"| {' | '.join(cells)} |"


def interrupted(webui: Webui) -> str:
    """One line of the table: the user interrupts after the correction."""
    out = webui.job(planted=(1,), on=True, stop=15)
    clean = "yes" if out.left == 0 else "NO"
    return f"| interrupted at call 15 | – | {out.calls} | – | {out.says(1)} | {clean} |"


def one_block(layout: str) -> str:
    """The layout of Stable Diffusion 1.5 with the sizes of ``webui_checkpoint.unet``."""
    for usual, ours in (
        ("attention_resolutions: [ 4, 2, 1 ]", "attention_resolutions: [ 1 ]"),
        ("num_res_blocks: 2\n        channel_mult: [ 1, 2, 4, 4 ]", "num_res_blocks: 1\n        channel_mult: [ 1 ]"),
    ):
        layout = layout.replace(usual, ours)
    return layout


@contextmanager
def prepared(checkout: Path, python: str) -> Iterator[None]:
    """Puts the checkpoint and the extensions into a checkout, and takes them out again."""
    extensions, model = checkout / "extensions", checkout / "models" / "Stable-diffusion" / CHECKPOINT
    described, layout = checkout / "configs" / "v1-inference.yaml", model.with_suffix(".yaml")
    own, probe = extensions / "asced-under-test", extensions / "asced-probe"
    probe_scripts = probe / "scripts"
    probe_scripts.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copy(HERE / "webui_probe.py", probe_scripts)
        own.symlink_to(HERE.parent, target_is_directory=True)
        subprocess.run([python, str(HERE / "webui_checkpoint.py"), str(model)], check=True)
        if described.is_file():  # AUTOMATIC1111 reads the sizes of the network from such a file
            layout.write_text(one_block(described.read_text(encoding="utf-8")), encoding="utf-8")
        yield
    finally:
        shutil.rmtree(probe)
        own.unlink(missing_ok=True)
        model.unlink(missing_ok=True)
        layout.unlink(missing_ok=True)


@contextmanager
def running(checkout: Path, python: str, port: int, flags: list[str]) -> Iterator[Webui]:
    """A WebUI that answers; its console goes to webui.log in the current folder."""
    command = [python, "launch.py", *FLAGS, *flags, "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with Path("webui.log").open("w") as log:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            webui = Webui(port)
            wait_for(webui, process)
            yield webui
        finally:
            process.terminate()
            process.wait()


def wait_for(webui: Webui, process: subprocess.Popen[bytes], seconds: int = 600) -> None:
    """Waits until a WebUI answers.

    Raises:
        SystemExit: it ended, or takes longer.
    """
    for _ in range(seconds):
        if process.poll() is not None:
            break
        try:
            webui.ask("samplers")
        except OSError:
            time.sleep(1)
        else:
            return
    sys.exit("The WebUI does not answer; webui.log has its console. It must be able to start by itself first.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="folder of the WebUI")
    parser.add_argument("--python", default=sys.executable, help="the Python that the WebUI runs with")
    parser.add_argument("--port", type=int, default=7861)
    parser.add_argument("--samplers", default="", help="names, separated by commas; default: all that the WebUI has")
    parser.add_argument("--flag", action="append", default=[], help="passed on to the WebUI; may be repeated")
    given = parser.parse_args()
    with prepared(given.checkout, given.python), running(given.checkout, given.python, given.port, given.flag) as webui:
        names = given.samplers.split(",") if given.samplers else [one["name"] for one in webui.ask("samplers")]
        print("| run | nothing found: bit-identical | calls | only corrected images change | says | nothing left |")
        print("|---|---|---|---|---|---|")
        for name in names:
            print(row(name, webui, {"sampler_name": name}, (1,)), flush=True)
        for name, fields in kinds():
            last = fields.get("batch_size", 2) - 1
            print(row(name, webui, fields, (last,)), flush=True)
        print(interrupted(webui), flush=True)


if __name__ == "__main__":
    main()
