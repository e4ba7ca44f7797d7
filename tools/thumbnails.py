"""Runs the templates and makes their pictures for ComfyUI's template browser: ``python tools/thumbnails.py``.

Each shows results. Templates for models that are not shipped show the demo model's, and say so.

Needs ASCED_COMFYUI, Chromium and playwright, like the browser tests.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from browser import ComfyPage, chromium, missing
from graphs import node
from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageStat
from server import ComfyServer

WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"
SIDE = 512  # the template browser shows squares
GAP = 4
MAX_BYTES = 100_000
DEMO = "Made with the demo model"


@dataclass(frozen=True)
class Sheet:
    """What a picture shows.

    Attributes:
        tiles: title of a node with an image, place in its batch, label; two fill a row each, four make a square.
        run: number of the template that is run; empty: the template itself.
        values: inputs that are set differently, by name, wherever they are no links.
        label: at the bottom of the sheet.
    """

    tiles: tuple[tuple[str, int, str], ...]
    run: str = ""
    values: dict[str, Any] | None = None
    label: str = ""


def _four(title: str, first: int = 0) -> tuple[tuple[str, int, str], ...]:
    return tuple((title, place, "") for place in range(first, first + 4))


def _pair(place: int = 0) -> tuple[tuple[str, int, str], ...]:
    return (("Before", place, "Before"), ("After", place, "After"))


SHEETS = {
    "01": Sheet(_pair()),
    "02": Sheet((("What was found", 0, ""),), "01", label=DEMO),
    "03": Sheet(_four("The best four, with their report"), label="Best 4 of 16 drafts"),
    "04": Sheet((
        ("Original", 0, "Before"), ("Corrected", 0, "After"), ("Side by side", 0, "Marked"),
        ("Heat map", 0, "Heat map"),
    )),
    "05": Sheet((("Before", 0, "Before"), ("TTC", 0, "After")), "15", label=DEMO),
    "06": Sheet(_four("The best four, with their report"), "03", {"seed": 40, "digit": "5"}, DEMO),
    "07": Sheet(_four("What was found"), "01", {"value": 38, "digit": "each in turn", "cfg": 2}, DEMO),
    "08": Sheet(_pair()),
    "09": Sheet(_four("After"), label="Detailed where marked"),
    "10": Sheet((
        ("Kept: saved with their report", 0, "Kept"), ("Kept: saved with their report", 1, "Kept"),
        ("Rejected", 0, "Rejected"), ("Rejected", 1, "Rejected"),
    )),
    "11": Sheet((("All tiles", 0, ""),), label="Two tiles, one report"),
    "12": Sheet(_four("What was found"), label="Found on latent cells"),
    "13": Sheet(_four("One in five is marked"), label="One in five is marked"),
    "14": Sheet(_four("One in five is marked", 4), label="One in five is marked"),
    "15": Sheet((
        ("Before", 0, "Before"), ("TTC", 0, "TTC"), ("State replacement", 0, "Replaced"), ("SARGD", 0, "SARGD"),
    )),
}  # fmt: skip


def read(name: str) -> dict[str, Any]:
    """Reads a template by name."""
    return json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))


def name_of(number: str) -> str:
    """A template's name, by its number."""
    return next(WORKFLOWS.glob(f"{number} *.json")).stem


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


def pictures(server: ComfyServer, sheet: Sheet, prompt: dict[str, Any], titles: dict[str, str]) -> list[Image.Image]:
    """Runs a template and returns the images of a sheet's tiles; ``titles`` are node ids by title."""
    for one in prompt.values():
        own = {name: value for name, value in (sheet.values or {}).items() if name in one["inputs"]}
        one["inputs"] |= {name: value for name, value in own.items() if not isinstance(one["inputs"][name], list)}
    for title, _, _ in sheet.tiles:
        shown = titles[title]
        inputs = prompt[shown]["inputs"]
        source = inputs.get("images") or (inputs["image"] if "Save" in prompt[shown]["class_type"] else [shown, 0])
        prompt[f"show {title}"] = node("PreviewImage", images=source)
    outputs = server.run(prompt)
    files = [outputs[f"show {title}"]["images"][place] for title, place, _ in sheet.tiles]
    return [Image.open(io.BytesIO(server.view(file))).convert("RGB") for file in files]


def sheet_of(sheet: Sheet, images: list[Image.Image]) -> Image.Image:
    """The tiles on one square, labels at the bottom: newer pages draw a badge over the upper left corner."""
    if len(images) == 2:
        top = _changed_rows(*images)
        images = [image.crop((0, top, image.width, top + image.height // 2)) for image in images]
    half = (SIDE - GAP) // 2
    size = {1: (SIDE, SIDE), 2: (SIDE, half), 4: (half, half)}[len(images)]
    out = Image.new("RGB", (SIDE, SIDE), (120, 120, 120))
    left = top = 0
    for image, (_, _, label) in zip(images, sheet.tiles, strict=True):
        if image.width > 1.5 * image.height:  # side by side: the marked copy is on the right
            image = (
                image.crop((image.width - image.height, 0, image.width, image.height)) if len(images) != 2 else image
            )
        tile = image.resize(size, Image.Resampling.BICUBIC)
        if label:
            _label(tile, label, 8)
        out.paste(tile, (left, top))
        left += size[0] + GAP
        if left >= SIDE:
            left, top = 0, top + size[1] + GAP
    if sheet.label:
        _label(out, sheet.label, None)
    return out


def _changed_rows(before: Image.Image, after: Image.Image) -> int:
    """First row of that half of the image in which most has changed."""
    half, step = before.height // 2, before.height // 16
    change = ImageChops.difference(before, after).convert("L")
    sums = {
        top: ImageStat.Stat(change.crop((0, top, change.width, top + half))).sum[0] for top in range(0, half + 1, step)
    }
    return max(sums, key=lambda top: (sums[top], -abs(top - half // 2)))


def _label(picture: Image.Image, text: str, left: int | None) -> None:
    """Writes into the lower left corner, or right-aligned for ``left`` None."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=20)
    width = draw.textlength(text, font=font)
    x, y = picture.width - width - 14 if left is None else left + 6, picture.height - 34
    draw.rounded_rectangle((x - 6, y - 4, x + width + 6, y + 26), 5, fill=(20, 20, 20))
    draw.text((x, y), text, fill="white", font=font)


def main() -> None:
    """Makes the pictures of all templates, or of those whose numbers are on the command line."""
    if reason := missing():
        sys.exit(f"Thumbnails need a browser: {reason}.")
    numbers = sys.argv[1:] or list(SHEETS)
    prompts, titles = {}, {}
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder)) as server:
        with chromium() as browser, ComfyPage(browser, server.url, (1500, 1700)) as page:
            for number in numbers:
                graph = read(name_of(SHEETS[number].run or number))
                page.load(graph)
                prompts[number] = page.prompt()
                titles[number] = {one.get("title", one["type"]): str(one["id"]) for one in graph["nodes"]}
        for number, prompt in prompts.items():  # only now: the browser's event loop has to end first
            sheet = SHEETS[number]
            images = pictures(server, sheet, prompt, titles[number])
            write_jpeg(sheet_of(sheet, images), WORKFLOWS / f"{name_of(number)}.jpg", MAX_BYTES)


if __name__ == "__main__":
    main()
