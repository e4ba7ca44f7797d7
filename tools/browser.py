"""ComfyUI's page in a headless Chromium, for tests, screenshots and thumbnails."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SIZE = (1600, 900)  # a larger window costs a busy CPU half as much again, and hides what a laptop cuts off
OUTSIDE = "api.comfy.org"  # the page queries ComfyUI's registry for every node; unrelated to the pack

# A clean page for pictures: no minimap, no statistics, no source badges.
_SETTINGS = """async () => {
  const set = (name, value) => app.extensionManager.setting.set(name, value)
  await set('Comfy.Minimap.Visible', false)
  await set('Comfy.Graph.CanvasInfo', false)
  await set('Comfy.NodeBadge.NodeSourceBadgeMode', 'None')
  await set('Comfy.VueNodes.Enabled', false)
}"""
_CLEAR = """() => {
  app.graph.clear()
  app.canvas.ds.reset()
  const { sidebarTab } = app.extensionManager
  if (sidebarTab.activeSidebarTabId) sidebarTab.toggleSidebarTab(sidebarTab.activeSidebarTabId)
}"""
_LISTEN = """() => {
  window.ascedRun = { end: null, texts: {}, seen: 0 }
  app.api.addEventListener('execution_start', () => { ascedRun.end = null; ascedRun.texts = {} })
  app.api.addEventListener('execution_success', () => { ascedRun.end = 'success'; ascedRun.seen++ })
  app.api.addEventListener('execution_error', (e) => { ascedRun.end = e.detail.exception_message; ascedRun.seen++ })
  app.api.addEventListener('progress_text', (e) => { ascedRun.texts[e.detail.nodeId] = e.detail.text })
}"""
_RUN = "[data-testid=queue-button]:is(button), [data-testid=queue-button] button"  # older pages: inside the element
_FIX_SEEDS = """() => app.graph.nodes.flatMap((n) => n.widgets ?? []).forEach((w) => {
  if (w.name === 'control_after_generate') w.value = 'fixed'
})"""
# Fits the whole graph into the window below the page's bars.
_FIT = """([left, top, right, bottom]) => {
  const things = [...app.graph.nodes.map((n) => [n.pos[0], n.pos[1] - 30, n.size[0], n.size[1] + 30]),
    ...app.graph.groups.map((g) => [g.pos[0], g.pos[1], g.size[0], g.size[1]])]
  const x0 = Math.min(...things.map((t) => t[0])), x1 = Math.max(...things.map((t) => t[0] + t[2]))
  const y0 = Math.min(...things.map((t) => t[1])), y1 = Math.max(...things.map((t) => t[1] + t[3]))
  const scale = Math.min((right - left) / (x1 - x0), (bottom - top) / (y1 - y0))
  app.canvas.ds.scale = scale
  app.canvas.ds.offset = [left / scale - x0, top / scale - y0]
  app.canvas.setDirty(true, true)
  return [left, top, (x1 - x0) * scale, (y1 - y0) * scale]
}"""


def missing() -> str:
    """The reason why no browser can be started here; empty if one can."""
    if not _executable():
        return f"no browser: none of {', '.join(BROWSERS)} is installed"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "no playwright: pip install playwright"
    return ""


def _executable() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser, closed at the end of the ``with`` block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_executable(), args=list(FLAGS), headless=True)
        try:
            yield browser
        finally:
            browser.close()


class ComfyPage:
    """One page of ComfyUI, closed at the end of the ``with`` block.

    Args:
        browser: of ``chromium``.
        url: of the server.
        size: of the window, in pixels.
        newer: the page is newer than its server, and asks for what that does not have: only the pack's errors count.

    Attributes:
        page: playwright's page.
        errors: errors that the page logged, and uncaught exceptions.
    """

    def __init__(self, browser: Browser, url: str, size: tuple[int, int] = SIZE, newer: bool = False) -> None:
        self.page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        self.errors: list[str] = []
        self._url, self._size, self._newer = url, size, newer

    def __enter__(self) -> ComfyPage:
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self._add(f"{error} {error.stack}"))
        self.open()
        return self

    def open(self) -> None:
        """Loads the page anew."""
        self.page.goto(self._url)
        self.page.wait_for_function(
            "() => !!(window.app?.graph && app.extensionManager && LiteGraph.registered_node_types.ASCED_KSampler)",
            timeout=90_000,
        )
        self.page.get_by_test_id("queue-button").wait_for(timeout=30_000)
        self.page.evaluate(_SETTINGS)
        self.page.evaluate(_LISTEN)

    def clear(self) -> None:
        """Back to an empty canvas with the settings of ``open``; much faster than that. Forgets the errors."""
        self.page.keyboard.press("Escape")  # a dialog
        self.page.evaluate(_SETTINGS)
        self.page.evaluate(_CLEAR)
        self.errors.clear()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.page.close()

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error" and OUTSIDE not in message.text:
            self._add(f"{message.text} ({message.location.get('url', '')})")

    def _add(self, error: str) -> None:
        if not self._newer or "asced" in error.lower():
            self.errors.append(error)

    def set(self, name: str, value: Any) -> None:
        """Changes one of the page's settings."""
        self.page.evaluate("([name, value]) => app.extensionManager.setting.set(name, value)", [name, value])

    def load(self, graph: dict[str, Any]) -> None:
        """Opens a workflow, as the page's Open does."""
        self.page.evaluate("(graph) => app.loadGraphData(graph)", graph)
        self.page.wait_for_timeout(500)

    def load_prompt(self, prompt: dict[str, Any]) -> None:
        """Opens an API graph, laid out by the page; its seeds stay fixed."""
        self.page.evaluate("(prompt) => app.loadApiJson(prompt, 'graph')", prompt)
        self.page.evaluate(_FIX_SEEDS)
        self.page.wait_for_timeout(500)

    def prompt(self) -> dict[str, Any]:
        """The graph in API format, as it would be queued."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def graph(self) -> dict[str, Any]:
        """The workflow, as the page's Save would write it."""
        return self.page.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")

    def run(self, seconds: float = 120) -> str:
        """Presses Run and waits for the end; returns 'success' or the error message."""
        return self.wait_for_end(self.start(), seconds)

    def start(self) -> int:
        """Presses Run; returns the number of runs that had ended before."""
        seen = int(self.page.evaluate("ascedRun.seen"))
        self.page.locator(_RUN).first.click()
        return seen

    def wait_for_end(self, seen: int, seconds: float = 120) -> str:
        """Waits until more than ``seen`` runs have ended."""
        self.page.wait_for_function("(seen) => ascedRun.seen > seen", arg=seen, timeout=seconds * 1000)
        self.page.wait_for_timeout(1500)  # images are fetched and drawn
        return str(self.page.evaluate("ascedRun.end"))

    def texts(self) -> dict[str, str]:
        """Status texts that nodes showed in the last run, by node id."""
        return self.page.evaluate("ascedRun.texts")

    def fit(self) -> tuple[float, float, float, float]:
        """Zooms to the whole graph; returns its left, top, width and height in the window."""
        left, top, width, height = self.page.evaluate(_FIT, [75, 190, self._size[0] - 20, self._size[1] - 60])
        self.page.wait_for_timeout(800)
        return left, top, width, height

    def screenshot(self, path: Path, whole_graph: bool = True) -> tuple[float, float, float, float]:
        """Writes a screenshot; returns left, top, width and height of the graph in it."""
        box = (0.0, 0.0, float(self._size[0]), float(self._size[1]))
        if whole_graph:
            box = self.fit()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(path))
        return box
