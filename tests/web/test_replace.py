"""KSampler becomes ASCED KSampler by one click, and back, with everything that was on it."""

from __future__ import annotations

import pytest

from .conftest import FIRST, SHOTS, read

RENDERERS = ("canvas", "nodes 2.0")
# What the page's context menu of a node offers, and its entry.
CHOOSE = """([id, what]) => {
  const node = app.graph.getNodeById(id)
  const item = app.canvas.getNodeMenuOptions(node).find((one) => one?.content?.startsWith(what))
  item.callback(item, {}, {}, undefined, node)
}"""
OFFERED = """(id) => app.canvas.getNodeMenuOptions(app.graph.getNodeById(id))
  .map((one) => one?.content ?? '').filter((text) => text.startsWith('Replace with'))"""


def _node(graph, node_id):
    return next(node for node in graph["nodes"] if str(node["id"]) == str(node_id))


def _ends(graph):
    """Every link as its ends: slots by name, because the slots of the two nodes are in another order."""
    nodes = {node["id"]: node for node in graph["nodes"]}
    return sorted(
        (source, output, target, nodes[target]["inputs"][slot]["name"])
        for _, source, output, target, slot, _ in graph["links"]
    )


@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_button_above_a_selected_sampler_replaces_it(page, renderer):
    page.set("Comfy.VueNodes.Enabled", renderer == "nodes 2.0")
    page.load(read(FIRST))
    node_id = next(node["id"] for node in page.graph()["nodes"] if node["type"] == "KSampler")
    page.page.evaluate("(id) => app.canvas.selectItems([app.graph.getNodeById(id)])", node_id)
    button = page.page.locator(".selection-toolbox").locator("button:has(.pi-sync)")
    button.click()
    page.page.wait_for_timeout(500)
    assert _node(page.graph(), node_id)["type"] == "ASCED_KSampler"
    button.click()  # it is selected now
    page.page.wait_for_timeout(500)
    assert _node(page.graph(), node_id)["type"] == "KSampler"


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_ksampler_becomes_an_asced_ksampler_and_back(page, renderer):
    page.set("Comfy.VueNodes.Enabled", renderer == "nodes 2.0")
    template = read("09 Detailer for what is marked")
    old = next(node for node in template["nodes"] if node["type"] == "KSampler")
    old["title"] = "My second pass"
    page.load(template)
    before = page.graph()
    original = _node(before, old["id"])
    assert page.page.evaluate(OFFERED, old["id"]) == ["Replace with ASCED KSampler (fixes artifacts)"]

    page.page.evaluate(CHOOSE, [old["id"], "Replace with"])
    page.page.wait_for_timeout(500)
    page.screenshot(SHOTS / f"replaced, {renderer}.png")
    replaced = page.graph()
    made = _node(replaced, old["id"])
    assert made["type"] == "ASCED_KSampler" and made["title"] == "My second pass" and made["pos"] == original["pos"]
    assert made["widgets_values"] == [*original["widgets_values"], "few marks"]
    assert _ends(replaced) == _ends(before)
    if renderer == "nodes 2.0":  # the page draws the new node
        page.page.locator(f"[data-node-id='{old['id']}']").get_by_text("sensitivity").wait_for()

    page.page.evaluate(CHOOSE, [old["id"], "Replace with KSampler"])
    page.page.wait_for_timeout(500)
    after = page.graph()
    back = _node(after, old["id"])
    for key in ("type", "title", "pos", "mode", "flags", "widgets_values"):
        assert back[key] == original[key], key
    assert _ends(after) == _ends(before)
    assert page.errors == []


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("KSamplerAdvanced", "ASCED_KSamplerAdvanced"), ("SamplerCustomAdvanced", "ASCED_SamplerCustomAdvanced")],
)
def test_the_other_samplers_have_it_too_and_keep_their_values(page, theirs, ours):
    build = """(type) => {
      app.graph.clear()
      const node = LiteGraph.createNode(type)
      app.graph.add(node)
      for (const widget of node.widgets ?? []) if (widget.name === 'cfg') widget.value = 3.5
      return node.id
    }"""
    node_id = page.page.evaluate(build, theirs)
    values = _node(page.graph(), node_id).get("widgets_values") or []
    page.page.evaluate(CHOOSE, [node_id, "Replace with ASCED"])
    made = _node(page.graph(), node_id)
    assert made["type"] == ours and made["widgets_values"] == [*values, "few marks"]
    page.page.evaluate(CHOOSE, [node_id, "Replace with"])
    back = _node(page.graph(), node_id)
    assert back["type"] == theirs and (back.get("widgets_values") or []) == values


def test_other_nodes_are_not_offered_a_replacement(page):
    page.load(read(FIRST))
    others = [node["id"] for node in read(FIRST)["nodes"] if "KSampler" not in node["type"]]
    assert [page.page.evaluate(OFFERED, node_id) for node_id in others] == [[]] * len(others)
