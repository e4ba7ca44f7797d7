"""Screenshots of the nodes for their help pages, the README and the tutorial: ``make screenshots``.

Runs templates in a real ComfyUI and captures its page, so every picture shows what the nodes really do. Needs Chromium
and playwright, like the browser tests.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from browser import ComfyPage, chromium, missing
from graphs import demo_model, node, sampling
from PIL import Image
from server import ROOT, ComfyServer
from thumbnails import WORKFLOWS, read, write_jpeg

if TYPE_CHECKING:
    from playwright.sync_api import Page

HELP = ROOT / "web" / "docs" / "images"
DOCS = ROOT / "docs" / "images"
MAX_BYTES, MAX_SIDE = 60_000, 1200
EDGE, TITLE = 12, 30  # pixels: margin of a picture and gap between nodes, height of a node's title
WIDTH = 310  # minimum width of a node that the page laid out
PLACE = (110, 190)  # position of the first node in the window
WINDOW = (1900, 1300)
OPTIONS = ("--cpu", "--preview-method", "latent2rgb")


@dataclass(frozen=True)
class Shot:
    """What a picture shows.

    Attributes:
        source: beginning of a template's name, after its number; or one of ``graphs``.
        nodes: by type or title, one below the other, because the help panel is narrow; empty for the whole graph, or
            for a dialog over it.
        moments: status texts of the only node; a picture is taken at each, the earlier without the inputs. Empty:
            one picture at the end of the run.
        run: False for nodes that need the user's files or server.
        then: called with the page before the picture is taken.
        vue: use Nodes 2.0.
    """

    source: str
    nodes: tuple[str, ...]
    moments: tuple[str, ...] = ()
    run: bool = True
    then: Callable[[Page], None] = lambda _: None
    vue: bool = False


def _walk_along(page: Page) -> None:
    """Excludes a region, and points at a step of the panel's timeline."""
    page.locator(".asced-region").first.click()
    box = page.locator(".asced-steps").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.38, box["y"] + box["height"] / 2)


def _slide(page: Page) -> None:
    """Moves the slider on the image that it opens at: the first that was changed."""
    page.get_by_label("Divider between before and after").fill("35")


def _open_settings(page: Page) -> None:
    page.evaluate("() => app.extensionManager.command.execute('Comfy.ShowSettingsDialog')")
    page.get_by_role("dialog").get_by_text("ASCED", exact=True).first.click()
    page.wait_for_timeout(500)


WATCHED, CORRECTED = "Watching, step 11", "corrected at step"
SHOTS = {
    HELP / "ASCED_KSampler": Shot("Start here", ("ASCED_KSampler",), (WATCHED, CORRECTED)),
    HELP / "ASCED_DraftAndPick": Shot("Many drafts", ("ASCED_DraftAndPick",)),
    HELP / "ASCED_DraftSheet": Shot("Many drafts", ("ASCED_DraftSheet",)),
    HELP / "ASCED_Drafts": Shot("drafts", ("ASCED_Drafts", "ASCED_KSampler")),
    HELP / "ASCED_KSamplerAdvanced": Shot("advanced", ("ASCED_KSamplerAdvanced",), (CORRECTED,)),
    HELP / "ASCED_SamplerCustomAdvanced": Shot("custom", ("ASCED_SamplerCustomAdvanced",), (CORRECTED,)),
    HELP / "ASCED_ApplyToModel": Shot("patched", ("ASCED_ApplyToModel", "KSampler")),
    HELP / "ASCED_CollectRun": Shot("patched", ("ASCED_ApplyToModel", "KSampler", "ASCED_CollectRun")),
    HELP / "ASCED_StitchRuns": Shot("Tiled upscale", ("ASCED_StitchRuns", "ASCED_Overlay", "All tiles")),
    HELP / "ASCED_Detection": Shot("Any checkpoint", ("ASCED_Detection",), run=False),
    HELP / "ASCED_Calibrate": Shot("Calibrate", ("ASCED_Calibrate", "What was learned")),
    HELP / "ASCED_Teach": Shot("Teach a detector for your checkpoint", ("ASCED_Teach", "What was taught")),
    HELP / "ASCED_Correction": Shot("Any checkpoint", ("ASCED_Correction",), run=False),
    HELP / "ASCED_MaskPreview": Shot("Start here", ("ASCED_MaskPreview",)),
    HELP / "ASCED_Overlay": Shot("Start here", ("ASCED_Overlay", "What was found")),
    HELP / "ASCED_Dynamics": Shot("Start here", ("ASCED_Dynamics", "How it formed")),
    HELP / "ASCED_Compare": Shot("Before and after with a slider", ("ASCED_Compare",), then=_slide),
    HELP / "ASCED_Gate": Shot("Best of a batch", ("ASCED_Gate", "What was found", "Rejected")),
    HELP / "ASCED_BestOfBatch": Shot("Best of a batch", ("ASCED_BestOfBatch", "The best two")),
    HELP / "ASCED_SaveReport": Shot("Best of a batch", ("Kept: saved with their report",)),
    HELP / "ASCED_DemoModel": Shot("Start here", ("ASCED_DemoModel", "Before")),
    HELP / "ASCED_BayesDiff": Shot("Research", ("ASCED_BayesDiff", "BayesDiff: uncertainty")),
    HELP / "ASCED_PALDetector": Shot("Research", ("ASCED_PALDetector",), run=False),
    HELP / "ASCED_VLMVerdict": Shot("Research", ("ASCED_VLMVerdict",), run=False),
    DOCS / "panel": Shot("Start here", ("ASCED_MaskPreview",), then=_walk_along, vue=True),
    DOCS / "slider": Shot("Before and after with a slider", ("ASCED_Compare",), then=_slide, vue=True),
    DOCS / "start-here": Shot("Start here", ()),
    DOCS / "settings": Shot("Start here", (), run=False, then=_open_settings),
}

# Keeps only some nodes of a graph, in a column of one width.
_COLUMN = """([names, title]) => {
  const kept = names.map((name) => app.graph.nodes.find((n) => n.title === name || n.type === name))
  for (const n of [...app.graph.nodes]) if (!kept.includes(n)) app.graph.remove(n)
  for (const group of [...app.graph.groups]) app.graph.remove(group)
  const width = Math.max(...kept.map((n) => n.size[0]))
  let [x, y] = kept[0].pos
  for (const n of kept) {
    n.pos = [x, y]
    n.setSize([width, n.size[1]])
    y += n.size[1] + title
  }
}"""
_LOOK_AT = """([name, left, top]) => {
  const { pos } = app.graph.nodes.find((n) => n.title === name || n.type === name)
  app.canvas.deselectAll()
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [left - pos[0], top - pos[1]]
  app.canvas.setDirty(true, true)
}"""
# Left, top, right and bottom of each named node in the window; in Nodes 2.0 from its DOM element.
_BOXES = """([names, title]) => names.map((name) => {
  const n = app.graph.nodes.find((n) => n.title === name || n.type === name)
  const drawn = document.querySelector(`[data-node-id="${n.id}"]`)?.getBoundingClientRect()
  if (drawn) return [drawn.left, drawn.top, drawn.right, drawn.bottom]
  const [x, y] = app.canvas.ds.convertOffsetToCanvas(n.pos)
  return [x, y - title, x + n.size[0], y + n.size[1]]
})"""
# Top of a node's status text in the window.
_TEXT = """(name) => {
  const n = app.graph.nodes.find((n) => n.title === name || n.type === name)
  const widget = n.widgets.find((w) => w.name === 'asced_result_text')
  return app.canvas.ds.convertOffsetToCanvas([n.pos[0], n.pos[1] + widget.y])[1]
}"""
_WIDEN = "(width) => app.graph.nodes.forEach((n) => n.setSize([Math.max(width, n.size[0]), n.size[1]]))"
_ID = "(name) => String(app.graph.nodes.find((n) => n.title === name || n.type === name).id)"
_SHOWS = "([id, text]) => ascedRun.texts[id]?.includes(text)"
_NOT_MUTED = (
    "(names) => app.graph.nodes.forEach((n) => { if (names.includes(n.title) || names.includes(n.type)) n.mode = 0 })"
)


def graphs() -> dict[str, dict[str, Any]]:
    """Graphs of nodes that occur only in templates that need the user's models."""
    base, run = demo_model("pixel", 4), sampling(7)
    views = {
        "image": node("VAEDecode", samples=["sampler", 0], vae=["model", 1]),
        "mask": node("ASCED_MaskPreview", report=["sampler", 2], image=["image", 0], grow_px=0, feather_px=0,
                     min_score=0.0, exclude=""),
    }  # fmt: skip
    advanced = {key: value for key, value in run.items() if key not in ("seed", "denoise")}
    guider = {key: run[key] for key in ("model", "positive", "negative", "cfg")}
    return {
        "drafts": demo_model("pixel", 8) | {
            "model": node("ASCED_DemoModel", digit="4", variant="pixel"),
            "drafts": node("ASCED_Drafts", keep=2, decide_at=0.28),
            "sampler": node("ASCED_KSampler", **run, drafts=["drafts", 0]),
            "sheet": node("ASCED_DraftSheet", report=["sampler", 2]),
        },
        "advanced": base | views | {
            "sampler": node("ASCED_KSamplerAdvanced", **advanced, noise_seed=7, add_noise="enable", start_at_step=0,
                            end_at_step=10000, return_with_leftover_noise="disable"),
        },
        "custom": base | views | {
            "noise": node("RandomNoise", noise_seed=7),
            "guider": node("CFGGuider", **guider),
            "method": node("KSamplerSelect", sampler_name=run["sampler_name"]),
            "sigmas": node("BasicScheduler", model=["model", 0], scheduler="normal", steps=run["steps"], denoise=1.0),
            "sampler": node("ASCED_SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0],
                            sampler=["method", 0], sigmas=["sigmas", 0], latent_image=["empty", 0]),
            "mask": node("ASCED_MaskPreview", report=["sampler", 3], image=["image", 0], grow_px=0, feather_px=0,
                         min_score=0.0, exclude=""),
        },
        "patched": base | views | {
            "patch": node("ASCED_ApplyToModel", model=["model", 0]),
            "stock": node("KSampler", **(run | {"model": ["patch", 0]})),
            "sampler": node("ASCED_CollectRun", samples=["stock", 0], run=["patch", 1]),
        },
    }  # fmt: skip


def main() -> None:
    """Makes all pictures, or those named on the command line."""
    if reason := missing():
        sys.exit(f"Screenshots need a browser: {reason}.")
    chosen = [path for path in SHOTS if not sys.argv[1:] or path.name in sys.argv[1:]]
    with (
        tempfile.TemporaryDirectory() as folder,
        ComfyServer(Path(folder), options=OPTIONS) as server,
        chromium() as browser,
        ComfyPage(browser, server.url, WINDOW) as page,
    ):
        for path in chosen:
            server.post("/free", {"free_memory": True})  # a cached node would show no status text
            shot = taken(page, SHOTS[path])
            shot.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
            write_jpeg(shot, path.with_suffix(".jpg"), MAX_BYTES)


def taken(page: ComfyPage, shot: Shot) -> Image.Image:
    """Runs a graph and returns the picture of some of its nodes."""
    page.set("Comfy.VueNodes.Enabled", shot.vue)
    page.page.mouse.move(WINDOW[0] / 2, WINDOW[1] - 20)  # off the tabs, which show a preview
    if shot.source in (made := graphs()):
        page.load_prompt(made[shot.source])
        page.page.evaluate(_WIDEN, WIDTH)
    else:
        page.load(read(next(WORKFLOWS.glob(f"?? {shot.source}*.json")).stem))
    page.page.evaluate(_NOT_MUTED, list(shot.nodes))
    if shot.moments:
        page.page.evaluate(_LOOK_AT, [shot.nodes[0], *PLACE])
        return in_the_run(page, shot)
    if shot.run and (end := page.run()) != "success":
        raise SystemExit(f"{shot.source}: {end}")
    if shot.nodes:
        page.page.evaluate(_COLUMN, [list(shot.nodes), TITLE + EDGE])
        page.page.evaluate(_LOOK_AT, [shot.nodes[0], *PLACE])
        page.page.wait_for_timeout(1000)
    shot.then(page.page)
    page.page.wait_for_timeout(300)
    return picture(page, shot.nodes)


def in_the_run(page: ComfyPage, shot: Shot) -> Image.Image:
    """The node at its moments, one below the other; of the earlier ones, what is below the inputs."""
    (name,) = shot.nodes
    node_id = page.page.evaluate(_ID, name)
    seen, parts = page.start(), []
    for text in shot.moments:
        page.page.wait_for_function(_SHOWS, arg=[node_id, text])
        part = picture(page, shot.nodes)
        if text != shot.moments[-1]:
            top = page.page.evaluate(_TEXT, name) - page.page.evaluate(_BOXES, [[name], TITLE])[0][1] + EDGE
            part = part.crop((0, int(top), part.width, part.height))
        parts.append(part)
    page.wait_for_end(seen)
    sheet = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)))
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def picture(page: ComfyPage, nodes: tuple[str, ...]) -> Image.Image:
    """A screenshot of some nodes; of the open dialog or the whole graph if none are given."""
    if nodes:
        boxes = page.page.evaluate(_BOXES, [list(nodes), TITLE])
    elif page.page.get_by_role("dialog").count():
        box = page.page.get_by_role("dialog").first.bounding_box()
        assert box is not None
        boxes = [[box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"] / 2]]  # the lower half is empty
    else:
        x, y, width, height = page.fit()
        boxes = [[x, y, x + width, y + height]]
    left, top = (min(box[i] for box in boxes) - EDGE for i in (0, 1))
    right, bottom = (max(box[i] for box in boxes) + EDGE for i in (2, 3))
    shot = page.page.screenshot(clip={"x": left, "y": top, "width": right - left, "height": bottom - top})
    return Image.open(io.BytesIO(shot))


if __name__ == "__main__":
    main()
