"""Templates and help pages against the server's node schemas, without a browser."""

from __future__ import annotations

import re
import urllib.parse
import urllib.request
from itertools import combinations

import pytest
from PIL import Image

from .conftest import ROOT, TEMPLATES, read

DOCS = ROOT / "web" / "docs"
PAGE_ONLY = {"MarkdownNote"}  # drawn by the page, unknown to the server
TITLE = 30  # height of a node's title, above its position
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
MODEL_FILES = ("ckpt_name", "unet_name", "vae_name", "clip_name", "clip_name1", "clip_name2")
WIDEST = 770  # pixels of a help page's picture: one node, or a figure
NOT_CORRECTED = ("dpm_adaptive",)
ASCED_NODES = (
    "ASCED_KSampler", "ASCED_KSamplerAdvanced", "ASCED_SamplerCustomAdvanced",
    "ASCED_ApplyToModel", "ASCED_CollectRun", "ASCED_StitchRuns",
    "ASCED_Detection", "ASCED_Calibrate", "ASCED_Teach", "ASCED_Correction",
    "ASCED_MaskPreview", "ASCED_Overlay", "ASCED_Dynamics", "ASCED_DemoModel",
    "ASCED_PALDetector",
    "ASCED_VLMVerdict", "ASCED_BayesDiff",
    "ASCED_DraftAndPick", "ASCED_Drafts", "ASCED_DraftSheet",
    "ASCED_Compare", "ASCED_Gate", "ASCED_BestOfBatch", "ASCED_SaveReport",
)  # fmt: skip


def _fetch(server, path):
    with urllib.request.urlopen(server.url + urllib.parse.quote(path), timeout=30) as answer:
        return answer.read()


def _inputs(info):
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def _widget_values(info):
    """The input of each value that the page saves for a node; None for the control after a seed."""
    values = []
    for name in [*info["input_order"].get("required", []), *info["input_order"].get("optional", [])]:
        kind, *rest = _inputs(info)[name]
        if isinstance(kind, list) or kind in WIDGETS:
            values.append((name, kind, rest[0] if rest else {}))
            options = rest[0] if rest else {}
            if options.get("control_after_generate", name in ("seed", "noise_seed")):  # as the page does
                values.append(None)
    return values


def test_all_templates_are_listed_and_served(server):
    assert sorted(server.get("/workflow_templates")["asced"]) == TEMPLATES and len(TEMPLATES) == 15
    for name in TEMPLATES:
        assert name.isascii()  # the names are used in URLs and archives
        assert _fetch(server, f"/api/workflow_templates/asced/{name}.json")
        picture = _fetch(server, f"/api/workflow_templates/asced/{name}.jpg")
        assert picture[:3] == b"\xff\xd8\xff"
        assert len(picture) <= 100_000


@pytest.mark.parametrize("name", TEMPLATES)
def test_nodes_inputs_and_values_fit_the_schemas(node_info, name):
    for node in read(name)["nodes"]:
        if node["type"] in PAGE_ONLY:
            continue
        info = node_info[node["type"]]
        module = info["python_module"]
        assert module == "nodes" or module.startswith("comfy_extras.") or module == "custom_nodes.asced", node["type"]
        assert {slot["name"] for slot in node["inputs"]} == set(_inputs(info)), node["type"]
        outputs = [slot["type"] for slot in node["outputs"]]
        known = info["output"] if module == "custom_nodes.asced" else info["output"][: len(outputs)]
        assert outputs == known, node["type"]  # newer versions of ComfyUI add outputs to their own nodes
        expected = _widget_values(info)
        values = node.get("widgets_values") or []
        assert len(values) == len(expected), node["type"]
        for value, widget in zip(values, expected, strict=True):
            if widget is None:
                seeds = "increment" if "another seed" in node.get("title", "") else "fixed"
                assert value == seeds  # fixed unless the title says otherwise
                continue
            label, kind, options = widget
            choices = kind if isinstance(kind, list) else options.get("options")
            if choices:  # model files differ from user to user
                assert value in choices or label in MODEL_FILES, (node["type"], label, value)
            elif kind in ("INT", "FLOAT"):
                assert options.get("min", value) <= value <= options.get("max", value), (node["type"], label, value)


def test_every_node_appears_in_a_template(node_info):
    used = {node["type"] for name in TEMPLATES for node in read(name)["nodes"]}
    assert {name for name in node_info if name.startswith("ASCED_")} - used == set()


def test_any_checkpoint_holds_the_defaults(node_info):
    for node in read("02 Any checkpoint")["nodes"]:
        if node["type"] in ("ASCED_Detection", "ASCED_Correction"):
            widgets = _widget_values(node_info[node["type"]])
            assert node["widgets_values"] == [options["default"] for _, _, options in widgets]


@pytest.mark.parametrize("name", TEMPLATES)
def test_links_connect_matching_sockets(name):
    graph = read(name)
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"])
    assert max(nodes) <= graph["last_node_id"]
    for link, source, output, target, slot, kind in graph["links"]:
        out, into = nodes[source]["outputs"][output], nodes[target]["inputs"][slot]
        assert link in out["links"] and into["link"] == link and link <= graph["last_link_id"]
        assert out["type"] == kind and into["type"] in (kind, "*")
    linked = {link[0] for link in graph["links"]}
    assert {s["link"] for n in nodes.values() for s in n["inputs"] if s.get("link") is not None} == linked


@pytest.mark.parametrize("name", TEMPLATES)
def test_nothing_overlaps(name):
    graph = read(name)
    boxes = {n["id"]: (n["pos"][0], n["pos"][1] - TITLE, n["pos"][0] + n["size"][0], n["pos"][1] + n["size"][1])
             for n in graph["nodes"]}  # fmt: skip
    groups = {g["title"]: (*g["bounding"][:2], g["bounding"][0] + g["bounding"][2], g["bounding"][1] + g["bounding"][3])
              for g in graph["groups"]}  # fmt: skip
    for some in (boxes, groups):
        for (i, a), (j, b) in combinations(some.items(), 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (i, j)
    for i, a in boxes.items():
        inside = [g for g in groups.values() if a[0] >= g[0] and a[1] >= g[1] and a[2] <= g[2] and a[3] <= g[3]]
        outside = [g for g in groups.values() if a[2] <= g[0] or g[2] <= a[0] or a[3] <= g[1] or g[3] <= a[1]]
        assert len(inside) + len(outside) == len(groups), f"node {i} lies across a group's edge"


def test_each_node_has_a_help_page_and_each_page_a_node(node_info):
    assert {name for name in node_info if name.startswith("ASCED_")} == set(ASCED_NODES)
    assert {path.stem for path in DOCS.glob("*.md")} == set(ASCED_NODES)


@pytest.mark.parametrize("node_id", ASCED_NODES)
def test_help_page_names_all_inputs_and_outputs(server, node_info, node_id):
    text = _fetch(server, f"/extensions/asced/docs/{node_id}.md").decode()
    assert text == (DOCS / f"{node_id}.md").read_text(encoding="utf-8")
    info = node_info[node_id]
    assert text.startswith(f"# {info['display_name']}\n")
    named = [re.findall(r"^- `([^`]+)`: ", part, re.M) for part in (_part(text, "Inputs"), _part(text, "Outputs"))]
    assert named == [list(_inputs(info)), info["output_name"]]


def _part(text, heading):
    """What is below a heading, up to the next one."""
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("node_id", ASCED_NODES)
def test_help_page_fits_the_narrow_panel(node_id):
    """Newer pages show help at 250 to 350 pixels: no room for three columns, or for nodes side by side."""
    text = (DOCS / f"{node_id}.md").read_text(encoding="utf-8")
    assert not re.findall(r"^\|(?:[^|\n]+\|){3,}$", text, re.M)
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    width, height = Image.open(DOCS / picture).size
    assert width <= WIDEST and height <= 1200


def test_the_sampler_page_names_the_samplers_that_are_not_corrected():
    text = (DOCS / "ASCED_KSampler.md").read_text(encoding="utf-8")
    for sampler in NOT_CORRECTED:
        assert f"`{sampler}`" in text
