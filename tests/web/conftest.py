"""Web tests use a real server and, where they need one, its page in a headless browser."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / "workflows"
TEMPLATES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
FIRST = TEMPLATES[0]
SHOTS = ROOT / "output" / "web"  # screenshots of the tests, to look at
# Nothing but one node, selected.
ALONE = """(type) => {
  app.graph.clear()
  const node = LiteGraph.createNode(type)
  node.pos = [600, 300]
  app.graph.add(node)
  app.canvas.selectItems([node])
}"""


def _tool(name):
    """A module of tools/, loaded by path: the checkout stays off sys.path."""
    spec = importlib.util.spec_from_file_location(f"asced_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def read(name):
    return json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    if not os.environ.get("ASCED_COMFYUI"):
        pytest.skip("ASCED_COMFYUI is not set; run the tests with `make test`")
    options = ("--cpu", "--preview-method", "latent2rgb")
    if frontend := os.environ.get("ASCED_FRONTEND"):  # a newer version of the page: its folder "static"
        options += ("--front-end-root", frontend)
    with _tool("server").ComfyServer(tmp_path_factory.mktemp("comfyui"), options=options) as running:
        yield running


@pytest.fixture(scope="session")
def node_info(server):
    """The server's nodes by type."""
    return server.get("/object_info")


@pytest.fixture(scope="session")
def browser(server):
    tool = _tool("browser")
    if reason := tool.missing():
        pytest.skip(reason)
    with tool.chromium() as running:
        yield running


def open_page(server, browser):
    """A page of ComfyUI, for a ``with`` block."""
    return _tool("browser").ComfyPage(browser, server.url, newer="ASCED_FRONTEND" in os.environ)


@pytest.fixture(scope="module")
def kept_page(server, browser):
    """One page for a file of tests: opening one takes longer than most of them."""
    with open_page(server, browser) as opened:
        yield opened


@pytest.fixture
def page(kept_page, request):
    """A page of ComfyUI with an empty canvas; a new one after a test that failed."""
    failed = request.session.testsfailed
    kept_page.clear()
    yield kept_page
    if request.session.testsfailed > failed:
        kept_page.open()
