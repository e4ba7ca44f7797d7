"""The subgraph blueprints: ComfyUI offers them, they keep their values, and each runs as one node."""

from __future__ import annotations

import io
import json
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image

from .conftest import ROOT

BLUEPRINTS = {path.stem: path for path in sorted((ROOT / "subgraphs").glob("*.json"))}
MANY, SAMPLER, FIX = (
    "Best of Many Seeds (ASCED)", "KSampler with Artifact Fix (ASCED)", "Fix What Is Marked (ASCED)",
)  # fmt: skip
SAMPLING = {"steps": 25, "cfg": 8, "sampler_name": "euler", "scheduler": "normal"}
DEFAULTS = {
    MANY: {"seed": 0, "drafts": 8, "keep": 1, **SAMPLING, "denoise": 1, "also_finish": ""},
    SAMPLER: {"seed": 0, **SAMPLING, "denoise": 1, "sensitivity": "few marks"},
    FIX: {"grow_px": 8, "feather_px": 8, "scale_by": 1, "seed": 0, **SAMPLING, "denoise": 0.5},
}
# Connects the blueprints in the graph with the demo model, with each other, and with nodes that show their pictures.
CONNECT = """(values) => {
  const made = Object.fromEntries(app.graph.nodes.map((n) => [n.title, n]))
  const add = (name, type) => {
    made[name] = LiteGraph.createNode(type)
    made[name].title = name
    app.graph.add(made[name])
    return made[name]
  }
  const link = (from, output, to, input) => {
    const at = to.inputs.findIndex((i) => i.name === input)
    if (at >= 0) from.connect(from.outputs.findIndex((o) => o.name === output), to, at)
  }
  const blueprints = Object.values(made)
  const demo = add('demo', 'ASCED_DemoModel')
  const empty = add('empty', 'EmptyLatentImage')
  demo.widgets[0].value = '4'
  empty.widgets.find((w) => w.name === 'batch_size').value = values.images
  for (const node of blueprints) {
    link(demo, 'MODEL', node, 'model')
    link(demo, 'VAE', node, 'vae')
    for (const name of ['positive', 'negative']) link(demo, name, node, name)
    link(empty, 'LATENT', node, 'latent_image')
    link(node, 'IMAGE', add('show ' + node.title, 'PreviewImage'), 'images')
    for (const w of node.widgets) if (w.name in values) w.value = values[w.name]
  }
  if (blueprints.length > 1) {
    const [sampler, fix] = blueprints
    link(sampler, 'IMAGE', fix, 'image')
    link(sampler, 'REPORT', fix, 'report')
    link(fix, 'MASK', add('mask', 'MaskToImage'), 'mask')
    link(made.mask, 'IMAGE', add('show mask', 'PreviewImage'), 'images')
    link(sampler, 'what was found', add('show found', 'PreviewImage'), 'images')
  }
}"""
WIDGETS = "() => Object.fromEntries(app.graph.nodes[0].widgets.map((w) => [w.name, w.value]))"
SHOWN = """() => Object.fromEntries(app.graph.nodes.filter((n) => n.type === 'PreviewImage').map(
  (n) => [n.title.slice(5), app.nodeOutputs[n.id].images]))"""


def _blueprint(name):
    return json.loads(BLUEPRINTS[name].read_text(encoding="utf-8"))


def _pictures(page, server):
    """The shown pictures by node, RGB float [N,H,W,3]."""
    return {
        title: np.stack([np.asarray(Image.open(io.BytesIO(server.view(file))).convert("RGB"), float) for file in files])
        for title, files in page.page.evaluate(SHOWN).items()
    }


def test_comfyui_offers_the_blueprints(server):
    offered = server.get("/global_subgraphs")
    own = {e["name"]: key for key, e in offered.items() if e["info"]["node_pack"] == "custom_nodes.asced"}
    assert sorted(own) == sorted(DEFAULTS) == list(BLUEPRINTS)
    for name, key in own.items():
        with urllib.request.urlopen(f"{server.url}/global_subgraphs/{urllib.parse.quote(key)}", timeout=30) as answer:
            assert json.loads(json.loads(answer.read())["data"]) == _blueprint(name)


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_the_nodes_inside_fit_the_schema(node_info, name):
    (subgraph,) = _blueprint(name)["definitions"]["subgraphs"]
    for node in subgraph["nodes"]:
        info = node_info[node["type"]]
        known = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert {slot["name"] for slot in node["inputs"]} == set(known), node["type"]
        assert [slot["type"] for slot in node["outputs"]] == info["output"], node["type"]


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_it_opens_with_its_values(page, name):
    page.load(_blueprint(name))
    assert page.page.evaluate(WIDGETS) == DEFAULTS[name]
    assert page.errors == []


def test_many_seeds_run_as_one_node(page, server):
    page.load(_blueprint(MANY))
    page.page.evaluate(CONNECT, {"images": 1, "drafts": 4, "keep": 2, "steps": 12, "cfg": 2.0})
    assert page.run() == "success"
    assert _pictures(page, server)[MANY].shape == (2, 64, 64, 3)
    assert any("4 drafts compared after step 4 of 12" in text for text in page.texts().values())
    assert page.errors == []


def test_what_the_one_marks_the_other_samples_again_and_nothing_else(page, server):
    graph, fix = _blueprint(SAMPLER), _blueprint(FIX)
    fix["nodes"][0] |= {"id": 90, "pos": [500, 0]}
    graph["nodes"] += fix["nodes"]
    graph["definitions"]["subgraphs"] += fix["definitions"]["subgraphs"]
    page.load(graph)
    sampling = {"images": 2, "steps": 20, "cfg": 2.0, "sensitivity": "many marks", "grow_px": 2, "feather_px": 2}
    page.page.evaluate(CONNECT, sampling)
    assert page.run() == "success"
    shown = _pictures(page, server)
    before, after, mask, found = (shown[name] for name in (SAMPLER, FIX, "mask", "found"))
    assert before.shape == after.shape == mask.shape == (2, 64, 64, 3) and found.shape == (2, 256, 256, 3)
    assert (mask == 255).any() and (mask == 0).any()
    assert (found[..., 0] - found[..., 2]).max() > 150  # vermilion
    assert np.array_equal(before[mask == 0], after[mask == 0])
    assert (np.abs(before - after)[mask == 255] > 2).mean() > 0.2
    assert page.errors == []
