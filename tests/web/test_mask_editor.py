"""From the panel of ASCED Mask Preview into ComfyUI's mask editor, and with the painted mask back into the graph."""

from __future__ import annotations

import io
import re
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image

from .conftest import SHOTS
from .test_views import BUILD, NODE, RENDERERS, SETTING

LAY_OUT = f"""() => {{
  ({NODE})('VAEDecode').pos = [330, 900] // newer renderers move it over the panel
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [90, 200]
  app.canvas.setDirty(true, true)
}}"""
# What a detailer would use: the image and the mask of the Load Image node.
USE = f"""() => {{
  const loader = ({NODE})('LoadImage')
  const add = (type) => {{
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    return node
  }}
  const [mask, seen, image] = ['MaskToImage', 'PreviewImage', 'PreviewImage'].map(add)
  loader.connect(1, mask, 0)
  mask.connect(0, seen, 0)
  loader.connect(0, image, 0)
  return [seen.id, image.id].map(String)
}}"""
LOADERS = "() => app.graph.nodes.filter((n) => n.type === 'LoadImage').map((n) => n.widgets[0].value)"
OUTPUT = "(id) => app.nodeOutputs[id].images"


@pytest.fixture(params=RENDERERS)
def view(kept_page, request):
    page = kept_page
    page.page.evaluate(SETTING, ["Comfy.VueNodes.Enabled", request.param == "nodes 2.0"])
    page.renderer = request.param
    page.page.evaluate(BUILD, [2, False])
    page.page.wait_for_timeout(500)
    page.page.evaluate(LAY_OUT)
    assert page.run() == "success"
    page.page.evaluate(LAY_OUT)
    page.page.wait_for_timeout(300)
    return page


def _picture(server, file):
    query = urllib.parse.urlencode(file)
    with urllib.request.urlopen(f"{server.url}/view?{query}", timeout=30) as answer:
        return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB")).astype(int)


def _edited(view):
    """Opens the editor and saves; returns the index of the image."""
    page = view.page
    shown = page.locator(".asced-panel > .asced-pager .asced-text").inner_text()
    page.get_by_role("button", name="Edit mask").click()
    save = page.locator("button:visible").filter(has_text=re.compile(r"^\s*Save\s*$"))
    save.wait_for()
    page.wait_for_timeout(1500)  # the editor loads its layers
    view.screenshot(SHOTS / f"mask editor, {view.renderer}.png", whole_graph=False)
    save.click()
    save.wait_for(state="hidden", timeout=20_000)
    page.wait_for_timeout(500)
    return int(shown.split()[1]) - 1


def test_the_mask_is_edited_in_the_mask_editor_and_used_downstream(view, server):
    page = view.page
    index = _edited(view)
    (value,) = page.evaluate(LOADERS)
    assert "clipspace-painted-masked-" in value  # saved by the editor; older ones use a folder
    seen, image = page.evaluate(USE)
    assert view.run() == "success"
    masks = page.evaluate(OUTPUT, page.evaluate(f"String(({NODE})('ASCED_MaskPreview').id)"))
    expected = _picture(server, masks[index])
    assert expected.any() and not expected.all()
    assert np.array_equal(_picture(server, page.evaluate(OUTPUT, seen)[0]), expected)
    decoded = _picture(server, page.evaluate(OUTPUT, image)[0])
    assert decoded.shape == expected.shape
    hidden = decoded[expected[..., 0] == 255]
    assert hidden.std() > 5  # the pixels under the mask are kept


def test_an_outdated_mask_is_made_again_before_it_is_edited(view):
    page = view.page
    edit, again = (page.get_by_role("button", name=name) for name in ("Edit mask", "Run again"))
    assert edit.is_visible() and not again.is_visible()
    page.locator(".asced-region").first.click()
    assert again.is_visible() and not edit.is_visible()
    runs = int(page.evaluate("ascedRun.seen"))
    again.click()
    assert view.wait_for_end(runs) == "success"
    _edited(view)
    (first,) = page.evaluate(LOADERS)
    _edited(view)
    (second,) = page.evaluate(LOADERS)  # in the same node
    assert first != second


def test_without_the_decoded_images_there_is_nothing_to_edit(view):
    page = view.page
    node = f"({NODE})('ASCED_MaskPreview')"
    page.evaluate(f"() => {{ {node}.disconnectInput({node}.findInputSlot('image')) }}")
    assert view.run() == "success"
    assert page.locator(".asced-region").count()
    assert not page.get_by_role("button", name="Edit mask").is_visible()
