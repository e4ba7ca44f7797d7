"""Runs the templates and makes their pictures for ComfyUI's template browser: ``python tools/thumbnails.py``.

Needs ASCED_COMFYUI, Chromium and playwright, like the browser tests.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from browser import ComfyPage, chromium, missing
from PIL import Image, ImageDraw, ImageFont, ImageOps
from server import ComfyServer

WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"
BY_SCREENSHOT = {  # need models that are not shipped; the left part of the graph is shown, up to this x
    "02 Any checkpoint": 1450, "05 SDXL with hires fix": 1850, "06 Flux and other guiders": 1560, "07 Video": 1210,
}  # fmt: skip
PICTURES = {  # titles of the nodes that show them
    "01 Start here - before and after": ("Before", "What was found", "Mask", "After"),
    "12 Latent models - where to look": ("Before", "What was found", "Mask", "After"),
    "08 Inpaint what is marked": ("Before", "Mask", "After"),
    "09 Detailer for what is marked": ("Before", "Mask", "After"),
    "15 Research - compare the corrections": ("Before", "TTC", "State replacement", "Score clipping"),
}
# node, index among its pictures, label; a wide picture fills a row, a single one the sheet
SHEETS = {
    "04 Before and after with a slider": (("ASCED_Compare", 3, ""), ("Side by side", 3, "")),
    "03 Many drafts - finish the best": (("ASCED_DraftSheet", 0, ""),),
    "10 Best of a batch": (
        ("Kept: saved with their report", 0, "Kept"), ("Kept: saved with their report", 1, "Kept"),
        ("Rejected", 0, "Rejected"), ("Rejected", 1, "Rejected"),
    ),
    "13 Calibrate - set the share of marked images": tuple(("One in five is marked", place, "") for place in range(4)),
    "14 Teach a detector for your checkpoint": tuple(("One in five is marked", place, "") for place in range(4)),
    "11 Tiled upscale": (("All tiles", 0, "All tiles"), ("ASCED_MaskPreview", 0, "One mask")),
}  # fmt: skip
SIDE = 512  # the template browser shows squares
MAX_BYTES = 100_000


def read(name: str) -> dict[str, Any]:
    """Reads a template by name."""
    return json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))


def write_jpeg(picture: Image.Image, path: Path, most: int) -> None:
    """Writes a JPEG in the best quality that fits into ``most`` bytes."""
    for quality in range(90, 30, -5):
        out = io.BytesIO()
        picture.convert("RGB").save(out, "JPEG", quality=quality, optimize=True)
        if out.tell() <= most:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(out.getvalue())
            print(f"{path.name}: {out.tell() // 1000} kB")
            return
    raise SystemExit(f"{path.name} does not fit into {most} bytes.")


def save(picture: Image.Image, name: str) -> None:
    """Writes a template's picture."""
    write_jpeg(picture, WORKFLOWS / f"{name}.jpg", MAX_BYTES)


def compare(server: ComfyServer, name: str, prompt: dict[str, Any]) -> Image.Image:
    """A sheet of the pictures for the image with the highest score."""
    outputs = server.run(prompt)
    by_title = {node.get("title", node["type"]): str(node["id"]) for node in read(name)["nodes"]}
    by_title["Mask"] = next(i for i, node in prompt.items() if node["class_type"] == "ASCED_MaskPreview")
    report = json.loads(outputs[by_title["Mask"]]["asced_report"][0])
    scores = [image["score"] for image in report["images"]]
    place = scores.index(max(scores))
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    half = SIDE // 2 - 2
    for i, title in enumerate(PICTURES[name]):
        data = server.view(outputs[by_title[title]]["images"][place])
        picture = Image.open(io.BytesIO(data)).convert("RGB").resize((half, half), Image.Resampling.LANCZOS)
        _label(picture, title)
        sheet.paste(picture, (i % 2 * (half + 4), i // 2 * (half + 4)))
    return sheet


def sheet_of(server: ComfyServer, name: str, prompt: dict[str, Any]) -> Image.Image:
    """A sheet of some pictures that a template shows."""
    outputs = server.run(prompt)
    by_title = {node.get("title", node["type"]): str(node["id"]) for node in read(name)["nodes"]}
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    half, left, top = SIDE // 2 - 2, 0, 0
    for title, place, label in SHEETS[name]:
        picture = Image.open(io.BytesIO(server.view(outputs[by_title[title]]["images"][place]))).convert("RGB")
        if len(SHEETS[name]) == 1:
            return ImageOps.pad(picture, (SIDE, SIDE), Image.Resampling.LANCZOS, color="white")
        wide = picture.width > 1.5 * picture.height
        picture = picture.resize((SIDE if wide else half, half), Image.Resampling.LANCZOS)
        if label:
            _label(picture, label)
        sheet.paste(picture, (left, top))
        left = (left + half + 4) % (SIDE + 4) if not wide else 0
        top += (half + 4) * (left == 0)
    return sheet.crop((0, 0, SIDE, max(half, top - 4 if left == 0 else top + half)))


def _label(picture: Image.Image, text: str) -> None:
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=20)
    box = draw.textbbox((10, 8), text, font=font)
    draw.rounded_rectangle((box[0] - 6, box[1] - 5, box[2] + 6, box[3] + 5), 5, fill=(20, 20, 20))
    draw.text((10, 8), text, fill="white", font=font)


def left_part(page: ComfyPage, name: str, edge: int, work: Path) -> Image.Image:
    """A screenshot of the graph without its note and its empty picture nodes."""
    graph = read(name)
    graph["nodes"] = [node for node in graph["nodes"] if node["type"] != "MarkdownNote" and node["pos"][0] < edge]
    graph["groups"] = [group for group in graph["groups"] if group["bounding"][0] < edge]
    kept = {node["id"] for node in graph["nodes"]}
    graph["links"] = [link for link in graph["links"] if link[1] in kept and link[3] in kept]
    for node in graph["nodes"]:
        for output in node.get("outputs", []):
            output["links"] = [n for n in output.get("links") or [] if n in {link[0] for link in graph["links"]}]
    page.load(graph)
    left, top, width, height = page.screenshot(work / "graph.png")
    shot = (
        Image.open(work / "graph.png").convert("RGB").crop((int(left), int(top), int(left + width), int(top + height)))
    )
    shot.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (SIDE, SIDE), (20, 20, 20))
    square.paste(shot, ((SIDE - shot.width) // 2, (SIDE - shot.height) // 2))
    return square


def main() -> None:
    """Makes the pictures of all templates, or of those named on the command line."""
    if reason := missing():
        sys.exit(f"Thumbnails need a browser: {reason}.")
    names = sys.argv[1:] or [*BY_SCREENSHOT, *PICTURES, *SHEETS]
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder)) as server:
        with chromium() as browser, ComfyPage(browser, server.url, (1500, 1700)) as page:
            prompts = {}
            for name in (name for name in names if name not in BY_SCREENSHOT):
                page.load(read(name))
                prompts[name] = page.prompt()
            for name in (name for name in names if name in BY_SCREENSHOT):
                save(left_part(page, name, BY_SCREENSHOT[name], Path(folder)), name)
        for name, prompt in prompts.items():  # only now: the browser's event loop has to end first
            save((sheet_of if name in SHEETS else compare)(server, name, prompt), name)


if __name__ == "__main__":
    main()
