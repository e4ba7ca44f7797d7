"""Pictures of the templates for ComfyUI's template browser, made by running them: ``python tools/thumbnails.py``.

Needs what the browser tests need: ASCED_COMFYUI, a Chromium and playwright.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from browser import ComfyPage, chromium, missing
from PIL import Image, ImageDraw, ImageFont
from server import ComfyServer

WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"
ANY_CHECKPOINT = "ASCED - any checkpoint"
PICTURES = {  # by the titles of the nodes that show them
    "ASCED - first look": ("Before", "What was found", "Mask", "After"),
    "ASCED - latent space": ("Before", "What was found", "Mask", "After"),
    "ASCED - inpaint the mask": ("Before", "Mask", "After"),
    "ASCED - detailer": ("Before", "Mask", "After"),
    "ASCED - rivals": ("Before", "TTC", "State replacement", "Score clipping"),
}
SIDE = 512  # the template browser shows squares
MAX_BYTES = 100_000


def read(name: str) -> dict[str, Any]:
    """A template by its name."""
    return json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))


def save(picture: Image.Image, name: str) -> None:
    """Writes a template's picture, as well as its size allows."""
    for quality in range(90, 30, -10):
        out = io.BytesIO()
        picture.convert("RGB").save(out, "JPEG", quality=quality, optimize=True)
        if out.tell() <= MAX_BYTES:
            (WORKFLOWS / f"{name}.jpg").write_bytes(out.getvalue())
            print(f"{name}.jpg: {out.tell() // 1000} kB")
            return
    raise SystemExit(f"{name}.jpg would be larger than {MAX_BYTES} bytes.")


def compare(server: ComfyServer, name: str, prompt: dict[str, Any]) -> Image.Image:
    """The pictures of the image with the highest score."""
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


def _label(picture: Image.Image, text: str) -> None:
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=20)
    box = draw.textbbox((10, 8), text, font=font)
    draw.rounded_rectangle((box[0] - 6, box[1] - 5, box[2] + 6, box[3] + 5), 5, fill=(20, 20, 20))
    draw.text((10, 8), text, fill="white", font=font)


def any_checkpoint(page: ComfyPage, work: Path) -> Image.Image:
    """A screenshot of the graph without its note and its empty pictures."""
    graph = read(ANY_CHECKPOINT)
    graph["nodes"] = [node for node in graph["nodes"] if node["type"] != "MarkdownNote" and node["pos"][0] < 1450]
    graph["groups"] = [group for group in graph["groups"] if group["bounding"][0] < 1450]
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
    """Makes all pictures."""
    if reason := missing():
        sys.exit(f"Thumbnails need a browser: {reason}.")
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder)) as server:
        with chromium() as browser, ComfyPage(browser, server.url, (1500, 1700)) as page:
            prompts = {}
            for name in PICTURES:
                page.load(read(name))
                prompts[name] = page.prompt()
            save(any_checkpoint(page, Path(folder)), ANY_CHECKPOINT)
        for name, prompt in prompts.items():  # the browser's event loop has ended
            save(compare(server, name, prompt), name)


if __name__ == "__main__":
    main()
