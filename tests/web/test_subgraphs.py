"""The subgraph blueprint: ComfyUI offers it, it keeps its values, and it runs as one node."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request

from .conftest import ROOT

BLUEPRINT = ROOT / "subgraphs" / "Best of Many Seeds (ASCED).json"
# The blueprint as the only node of a graph, with the demo model; returns its widgets by name.
CONNECT = """(values) => {
  const node = app.graph.nodes[0]
  const demo = LiteGraph.createNode('ASCED_DemoModel')
  const empty = LiteGraph.createNode('EmptyLatentImage')
  const show = LiteGraph.createNode('PreviewImage')
  for (const one of [demo, empty, show]) app.graph.add(one)
  demo.widgets[0].value = '4'
  const into = (name) => node.inputs.findIndex((i) => i.name === name)
  demo.connect(0, node, into('model'))
  demo.connect(1, node, into('vae'))
  demo.connect(2, node, into('positive'))
  demo.connect(3, node, into('negative'))
  empty.connect(0, node, into('latent_image'))
  node.connect(node.outputs.findIndex((o) => o.name === 'IMAGE'), show, 0)
  const before = Object.fromEntries(node.widgets.map((w) => [w.name, w.value]))
  for (const w of node.widgets) if (w.name in values) w.value = values[w.name]
  return before
}"""
SHOWN = "() => app.graph.nodes.find((n) => n.type === 'PreviewImage').imgs?.map((i) => i.naturalWidth)"


def test_comfyui_offers_the_blueprint(server):
    offered = server.get("/global_subgraphs")
    own = {name: entry for name, entry in offered.items() if entry["info"]["node_pack"] == "custom_nodes.asced"}
    assert [entry["name"] for entry in own.values()] == [BLUEPRINT.stem]
    (key,) = own
    with urllib.request.urlopen(f"{server.url}/global_subgraphs/{urllib.parse.quote(key)}", timeout=30) as answer:
        assert json.loads(json.loads(answer.read())["data"]) == json.loads(BLUEPRINT.read_text(encoding="utf-8"))


def test_its_node_inside_fits_the_schema(node_info):
    (subgraph,) = json.loads(BLUEPRINT.read_text(encoding="utf-8"))["definitions"]["subgraphs"]
    for node in subgraph["nodes"]:
        info = node_info[node["type"]]
        known = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert {slot["name"] for slot in node["inputs"]} == set(known), node["type"]
        assert [slot["type"] for slot in node["outputs"]] == info["output"], node["type"]


def test_it_runs_as_one_node(page):
    page.errors.clear()
    page.load(json.loads(BLUEPRINT.read_text(encoding="utf-8")))
    before = page.page.evaluate(CONNECT, {"drafts": 4, "keep": 2, "steps": 12, "cfg": 2.0})
    assert before == {
        "seed": 0, "drafts": 8, "keep": 1, "steps": 25, "cfg": 8, "sampler_name": "euler", "scheduler": "normal",
        "denoise": 1, "also_finish": "",
    }  # fmt: skip
    assert page.run() == "success"
    assert page.page.evaluate(SHOWN) == [64, 64]
    assert any("4 drafts compared after step 4 of 12" in text for text in page.texts().values())
    assert page.errors == []
