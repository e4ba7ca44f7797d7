"""Templates in the real page: they load, keep their values and run, and errors are readable."""

from __future__ import annotations

import itertools
import re

import pytest

from .conftest import FIRST, SHOTS, TEMPLATES, WORKFLOWS, read

# By the titles of the nodes that show pictures, and how many of which widths.
RUNS = {
    "09 Detailer for what is marked": {"Before": [256] * 4, "After": [256] * 4, "ASCED Mask Preview": [64] * 4},
    "08 Inpaint what is marked": {"Before": [256] * 4, "After": [256] * 4, "ASCED Mask Preview": [64] * 4},
    "12 Latent models - where to look": {"Before": [256] * 4, "After": [256] * 4},
    "15 Research - compare the corrections": {"Before": [256] * 4, "TTC": [256] * 4, "SARGD": [256] * 4},
    "04 Before and after with a slider": {"ASCED Compare": [], "Heat map": [256] * 4, "Side by side": [516] * 4},
    "10 Best of a batch": {"The best two": [256] * 2},
    "03 Many drafts - finish the best": {
        "ASCED Draft and Pick": [828],
        "ASCED Draft Sheet": [1100],
        "The best four, with their report": [256] * 4,
    },
    "13 Calibrate - set the share of marked images": {"One in five is marked": [256] * 8},
    "14 Teach a detector for your checkpoint": {"One in five is marked": [256] * 8},
    "11 Tiled upscale": {"All tiles": [256], "ASCED Mask Preview": [128]},
}
PICTURES_LOADED = "() => [...document.querySelectorAll('[role=dialog] img')].every((img) => img.complete)"
SET_WIDGET = """([type, name, value]) => {
  app.graph.nodes.find((n) => n.type === type).widgets.find((w) => w.name === name).value = value
}"""
ADD_DETECTION = """() => {
  const detection = LiteGraph.createNode('ASCED_Detection')
  app.graph.add(detection)
  const sampler = app.graph.nodes.find((n) => n.type === 'ASCED_KSampler')
  detection.connect(0, sampler, sampler.inputs.findIndex((i) => i.name === 'detection'))
}"""
PICTURES = "() => app.graph.nodes.map((n) => [n.title, (n.imgs ?? []).map((i) => i.naturalWidth)])"
# Newer pages mark a loader whose model file is not there.
FAULTY = """() => app.graph.nodes.filter(
  (n) => n.has_errors && !n.widgets?.some((w) => /^(ckpt|unet|vae|clip)_name/.test(w.name))).map((n) => n.type)"""
TOO_SMALL = "() => app.graph.nodes.filter((n) => n.computeSize()[1] > n.size[1] + 1).map((n) => n.title)"

# Title, left, top, right and bottom of each node, title bar included, and of each group.
BOXES = """() => app.graph.nodes.map(({ title, pos: [x, y], size: [w, h] }) => [title, x, y - 30, x + w, y + h])"""
BOXES_IN_NODES_2 = """() => {
  const { scale, offset: [left, top] } = app.canvas.ds
  const canvas = app.canvas.canvas.getBoundingClientRect()
  return [...document.querySelectorAll('.lg-node[data-node-id]')].map((element) => {
    const box = element.getBoundingClientRect()
    const [x, y] = [(box.left - canvas.left) / scale - left, (box.top - canvas.top) / scale - top]
    return [app.graph.getNodeById(element.dataset.nodeId).title, x, y, x + box.width / scale, y + box.height / scale]
  })
}"""
GROUPS = "() => app.graph.groups.map(({ title, pos: [x, y], size: [w, h] }) => [title, x, y, x + w, y + h])"
SLACK = 1  # rounding of the page, in units of the graph


def _values(graph):
    return {node["id"]: node.get("widgets_values") or [] for node in graph["nodes"]}


def _overlaps(page, count, nodes_2=False):
    """Titles of boxes that meet; a node may lie inside of a group."""
    if nodes_2:
        page.fit()  # the page draws only what can be seen
    boxes = page.page.evaluate(BOXES_IN_NODES_2 if nodes_2 else BOXES)
    groups = page.page.evaluate(GROUPS)
    assert len(boxes) == count
    pairs = [*itertools.combinations(boxes, 2), *itertools.combinations(groups, 2)]
    pairs += [(box, group) for box in boxes for group in groups if not _within(box, group)]
    return [(one[0], other[0]) for one, other in pairs if _meet(one, other)]


def _meet(one, other):
    (_, left, top, right, bottom), (_, x, y, far, low) = one, other
    return left < far - SLACK and x < right - SLACK and top < low - SLACK and y < bottom - SLACK


def _within(one, other):
    (_, left, top, right, bottom), (_, x, y, far, low) = one, other
    return left >= x - SLACK and top >= y - SLACK and right <= far + SLACK and bottom <= low + SLACK


def _open_by_hand(page, name):
    page.page.get_by_role("button", name="Templates").first.click()
    page.page.get_by_role("dialog").get_by_text("ASCED", exact=True).first.click()  # below Extensions
    card = page.page.get_by_test_id(f"template-workflow-{name}")
    card.wait_for()
    page.page.wait_for_function(PICTURES_LOADED)  # until then, the cards move
    page.page.wait_for_timeout(500)
    page.screenshot(SHOTS / "templates.png", whole_graph=False)
    page.errors.clear()  # ComfyUI's, about its own templates that may not be installed
    card.click()
    page.page.wait_for_function("(n) => app.graph.nodes.length === n", arg=len(read(name)["nodes"]))
    page.page.wait_for_timeout(500)


def test_the_names_are_in_the_order_of_a_tour_and_safe_everywhere():
    numbers = [name[:3] for name in TEMPLATES]
    assert numbers == [f"{number:02d} " for number in range(1, len(TEMPLATES) + 1)]
    for name in TEMPLATES:  # no character that Windows or a URL treats in its own way
        assert re.fullmatch(r"\d\d [A-Z][A-Za-z]*( (- )?[A-Za-z]+)*", name), name
        assert (WORKFLOWS / f"{name}.jpg").is_file()


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_loads_and_keeps_its_values(page, name):
    template = read(name)
    page.load(template)
    page.screenshot(SHOTS / f"{name}.png")
    assert page.page.evaluate(FAULTY) == []
    assert page.page.get_by_text("missing node", exact=False).count() == 0
    assert page.page.evaluate(TOO_SMALL) == []
    assert _overlaps(page, len(template["nodes"])) == []
    saved = page.graph()
    assert [(n["id"], n["type"]) for n in saved["nodes"]] == [(n["id"], n["type"]) for n in template["nodes"]]
    assert _values(saved) == _values(template)
    assert sorted(saved["links"]) == sorted(template["links"])
    assert page.errors == []
    page.set("Comfy.VueNodes.Enabled", True)
    page.load(template)
    page.page.wait_for_timeout(500)
    assert _overlaps(page, len(template["nodes"]), nodes_2=True) == []
    page.screenshot(SHOTS / f"{name}, nodes 2.0.png")


def test_the_first_template_opens_and_runs_by_hand(page):
    _open_by_hand(page, FIRST)
    assert page.run() == "success"
    page.screenshot(SHOTS / f"{FIRST}, run.png")
    assert _overlaps(page, len(read(FIRST)["nodes"])) == []
    widths = dict(page.page.evaluate(PICTURES))
    for title in ("Before", "What was found", "After", "ASCED Mask Preview"):
        assert widths[title] == [256] * 4, title
    assert len(widths["How it formed"]) == 1
    types = {str(node["id"]): node["type"] for node in read(FIRST)["nodes"]}
    texts = {types[node]: text for node, text in page.texts().items()}
    assert set(texts) == {"ASCED_KSampler", "ASCED_MaskPreview"}
    assert "of 4 images" in texts["ASCED_KSampler"]
    shown = """() => app.graph.nodes.find((n) => n.type === 'ASCED_KSampler').widgets.find(
      (w) => w.name === 'asced_result_text').element.innerText"""
    assert page.page.evaluate(shown) == texts["ASCED_KSampler"]  # stays on the node after the run has ended
    before, after = _values(read(FIRST)), _values(page.graph())
    for node, values in before.items():  # the page saves the status text after a node's own values
        assert after[node][: len(values)] == values
    assert page.errors == []


@pytest.mark.parametrize("name", RUNS)
def test_a_template_of_the_demo_models_runs(page, name):
    page.load(read(name))
    assert page.run() == "success"
    page.screenshot(SHOTS / f"{name}, run.png")
    count = len(read(name)["nodes"])
    assert _overlaps(page, count) == []  # a node grows with its status text and its preview
    widths = dict(page.page.evaluate(PICTURES))
    for title, expected in RUNS[name].items():
        assert widths[title] == expected, title
    assert " image" in " ".join(page.texts().values())
    assert page.errors == []
    page.set("Comfy.VueNodes.Enabled", True)
    page.page.wait_for_timeout(1000)
    assert _overlaps(page, count, nodes_2=True) == []
    page.screenshot(SHOTS / f"{name}, run in nodes 2.0.png")


def test_the_gate_of_best_of_batch_splits_the_batch(page):
    page.load(read("10 Best of a batch"))
    for share, kept in ((0.0, 8), (50.0, 4)):
        page.page.evaluate(SET_WIDGET, ["ASCED_Gate", "drop_worst_percent", share])
        assert page.run() == "success"
        widths = dict(page.page.evaluate(PICTURES))
        assert len(widths["Kept: saved with their report"]) == kept
        if kept < 8:  # nothing rejected: the node is not run
            assert len(widths["Rejected"]) == 8 - kept
        texts = page.texts().values()
        assert any(f"{kept} kept (run score " in text and f", {8 - kept} rejected" in text for text in texts), texts


def test_the_drafts_stay_on_the_node_when_nothing_is_computed_again(page):
    page.load(read("03 Many drafts - finish the best"))
    page.page.evaluate(SET_WIDGET, ["ASCED_DraftAndPick", "seed", 8])  # not in the server's cache yet
    for _ in range(2):
        assert page.run() == "success"
        assert dict(page.page.evaluate(PICTURES))["ASCED Draft and Pick"] == [828]


def test_an_invalid_setting_gets_one_clear_error_and_the_next_run_works(page):
    page.load(read(FIRST))
    page.page.evaluate(ADD_DETECTION)
    page.page.evaluate(SET_WIDGET, ["ASCED_Detection", "start_percent", 0.7])
    sentence = "start_percent (0.7) must be smaller than end_percent (0.5): watching must start before it ends."
    assert page.run().strip() == sentence
    page.screenshot(SHOTS / "error.png", whole_graph=False)
    details = page.page.get_by_role("button", name="View details")
    if details.count():  # newer pages: a panel with the whole log, in place of a dialog
        details.click()
        page.page.get_by_test_id("runtime-error-panel").get_by_text(sentence).wait_for()
    else:
        dialog = page.page.get_by_role("dialog")
        assert dialog.get_by_text(sentence).count() == 1
        assert "Traceback" not in dialog.inner_text()
        page.page.keyboard.press("Escape")
        dialog.wait_for(state="hidden")
    page.page.evaluate(SET_WIDGET, ["ASCED_Detection", "start_percent", 0.2])
    assert page.run() == "success"
    assert page.errors == []
