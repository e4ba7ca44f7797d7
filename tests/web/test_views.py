"""What the frontend part shows: live preview, panel, slider and settings, in both of the page's renderers."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from .conftest import ROOT, SHOTS, open_page

RENDERERS = ("canvas", "nodes 2.0")
# A graph of the demo model in the page; the detector is sensitive enough to mark several regions.
BUILD = """([batch, compare]) => {
  app.graph.clear()
  const made = {}
  const add = (name, type, pos, size, widgets = {}) => {
    const node = LiteGraph.createNode(type)
    node.pos = pos
    app.graph.add(node)
    if (size) node.setSize(size)
    for (const [key, value] of Object.entries(widgets)) node.widgets.find((w) => w.name === key).value = value
    made[name] = node
  }
  const link = (from, output, to, input) => {
    const [a, b] = [made[from], made[to]]
    const slot = (list, name) => list.findIndex((s) => s.name === name)
    a.connect(slot(a.outputs, output), b, slot(b.inputs, input))
  }
  add('model', 'ASCED_DemoModel', [0, 0], null)
  add('empty', 'EmptyLatentImage', [0, 220], null, { width: 512, height: 512, batch_size: batch })
  const looks = { preset: 'custom', mode: 'robust', threshold: 1.5, min_area: 20, min_width: 0 }
  add('detection', 'ASCED_Detection', [0, 400], null, looks)
  const run = { seed: 7, steps: 25, cfg: 2, sampler_name: 'ddim', scheduler: 'normal' }
  add('sampler', 'ASCED_KSampler', [330, 0], [300, 420], run)
  made.sampler.widgets.find((w) => w.name === 'control_after_generate').value = 'fixed'
  add('decode', 'VAEDecode', [330, 520], null)
  add('preview', 'ASCED_MaskPreview', [680, 0], [360, 620])
  link('model', 'MODEL', 'sampler', 'model')
  link('model', 'positive', 'sampler', 'positive')
  link('model', 'negative', 'sampler', 'negative')
  link('empty', 'LATENT', 'sampler', 'latent_image')
  link('detection', 'DETECTION', 'sampler', 'detection')
  link('sampler', 'LATENT', 'decode', 'samples')
  link('model', 'VAE', 'decode', 'vae')
  link('sampler', 'REPORT', 'preview', 'report')
  link('decode', 'IMAGE', 'preview', 'image')
  if (compare) {
    add('invert', 'ImageInvert', [680, 700], null)
    add('compare', 'ASCED_Compare', [1080, 0], [360, 520])
    link('decode', 'IMAGE', 'invert', 'image')
    link('decode', 'IMAGE', 'compare', 'before')
    link('invert', 'IMAGE', 'compare', 'after')
  }
}"""
# Counts the blue pixels of each picture by node, and collects the status texts by node, in order.
RECORD = """() => {
  window.ascedSeen = { blue: {}, texts: [] }
  app.api.addEventListener('b_preview_with_metadata', async ({ detail }) => {
    const of = (ascedSeen.blue[detail.nodeId] ??= [])
    const place = of.push(0) - 1
    const bitmap = await createImageBitmap(detail.blob)
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d')
    context.drawImage(bitmap, 0, 0)
    const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height)
    for (let i = 0; i < data.length; i += 4) of[place] += data[i] < 60 && data[i + 1] < 60 && data[i + 2] > 180
  })
  app.api.addEventListener('progress_text', ({ detail }) => ascedSeen.texts.push([String(detail.nodeId), detail.text]))
}"""
NODE = "(type) => app.graph.nodes.find((n) => n.type === type)"
WIDGET = f"([type, name]) => ({NODE})(type).widgets.find((w) => w.name === name).value"
SET = f"([type, name, value]) => {{ ({NODE})(type).widgets.find((w) => w.name === name).value = value }}"
SETTING = "([id, value]) => app.extensionManager.setting.set(id, value)"
MASK = f"""async () => {{
  const file = app.nodeOutputs[({NODE})('ASCED_MaskPreview').id].images[1]
  const answer = await fetch(app.api.apiURL('/view?' + new URLSearchParams(file)))
  const bitmap = await createImageBitmap(await answer.blob())
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height)
  const context = canvas.getContext('2d')
  context.drawImage(bitmap, 0, 0)
  const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height).data
  return pixels.filter((value, i) => i % 4 === 0 && value > 127).length
}}"""


HIDDEN = "(paths) => paths.map((path) => path.style.display === 'none')"


@pytest.fixture
def view(kept_page, request):
    """The page in the renderer of the test's parameter; the classic one by default. It keeps the last test's nodes:
    a page that goes over to Nodes 2.0 without any draws the first ones too small."""
    page = kept_page
    renderer = getattr(request, "param", RENDERERS[0])
    page.page.evaluate(SETTING, ["Comfy.VueNodes.Enabled", renderer == "nodes 2.0"])
    page.errors.clear()  # from before the pack was loaded
    page.renderer = renderer
    yield page
    assert page.errors == []
    for name, value in (("ASCED.Live", True), ("ASCED.Color", "ff4000"), ("ASCED.Opacity", 0.45)):
        page.page.evaluate(SETTING, [name, value])


def _build(view, batch=2, compare=False):
    view.page.evaluate(BUILD, [batch, compare])
    view.page.wait_for_timeout(300)
    view.page.evaluate(
        "() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [90, 200]; app.canvas.setDirty(true, true) }"
    )


def test_live_preview_shows_map_and_status_until_it_is_switched_off(view):
    _build(view)
    sampler = str(view.page.evaluate(f"({NODE})('ASCED_KSampler').id"))
    view.page.evaluate(RECORD)
    view.page.evaluate(SET, ["ASCED_KSampler", "seed", 8])
    view.page.evaluate(SETTING, ["ASCED.Color", "0000ff"])
    view.page.evaluate(SETTING, ["ASCED.Opacity", 1])
    view.page.wait_for_timeout(300)
    assert view.run() == "success"
    seen = view.page.evaluate("ascedSeen")
    blue = seen["blue"][sampler]
    assert blue.count(0) == 25  # ComfyUI's own, one per step; the hands themselves are not blue
    assert blue[0] == 0 and max(blue) > 0  # ours follow where anything is marked
    texts = [text for node, text in seen["texts"] if node == sampler]
    assert texts[0] == "Watching starts at step 6 of 25"
    assert texts[1:8] == [f"Watching, step {step} of 25" for step in range(6, 13)]
    assert texts[8].endswith(", corrected at step 13")
    assert "corrected at step 13 of 25. Confidence " in texts[9] and len(texts) == 10  # the node's own final status
    view.page.evaluate(SETTING, ["ASCED.Live", False])
    view.page.wait_for_timeout(300)
    view.page.evaluate("() => { ascedSeen.blue = {}; ascedSeen.texts = [] }")
    view.page.evaluate(SET, ["ASCED_KSampler", "seed", 9])
    assert view.run() == "success"
    seen = view.page.evaluate("ascedSeen")
    assert seen["blue"][sampler] == [0] * 25
    assert len([text for node, text in seen["texts"] if node == sampler]) == 1


@pytest.mark.parametrize("view", RENDERERS, indirect=True)
def test_the_result_stays_on_its_nodes(view):
    page = view.page
    _build(view)
    page.evaluate(SET, ["ASCED_KSampler", "seed", 20 + RENDERERS.index(view.renderer)])
    assert view.run() == "success"
    sampler = page.evaluate(f"({NODE})('ASCED_KSampler').id")
    result = view.texts()[str(sampler)]
    assert "corrected at step 13 of 25" in result
    shown = page.get_by_text(result, exact=True).filter(visible=True)
    assert shown.count() == 2  # once on the sampler, once on Mask Preview
    for place in range(2):
        text, frame = (shown.nth(place).locator(path).bounding_box() for path in ("xpath=.", "xpath=.."))
        assert text["height"] > 20 and text["height"] <= frame["height"] + 1  # all lines can be read
    view.screenshot(SHOTS / f"result text, {view.renderer}.png", whole_graph=False)
    saved = view.graph()
    page.evaluate("() => app.graph.clear()")
    assert shown.count() == 0
    view.load(saved)
    assert shown.count() == 2
    assert view.run() == "success"  # from ComfyUI's cache
    assert shown.count() == 2
    send = "([name, detail]) => app.api.dispatchEvent(new CustomEvent(name, { detail }))"
    page.evaluate(send, ["progress_text", {"nodeId": str(sampler), "text": "Watching, step 7 of 25"}])
    assert page.get_by_text("Watching, step 7 of 25").filter(visible=True).count() == 1 and shown.count() == 1
    page.evaluate(send, ["execution_interrupted", {}])
    assert shown.count() == 2


@pytest.mark.parametrize("view", RENDERERS, indirect=True)
def test_an_error_is_read_on_the_node_that_has_it(view):
    """Newer pages say no more than that a node threw an error; the sentence is in a dialog of its own."""
    page = view.page
    _build(view)
    page.evaluate(SET, ["ASCED_MaskPreview", "exclude", "left hand"])
    message = view.run().strip()
    assert message.startswith("exclude contains 'left'")
    page.keyboard.press("Escape")  # the dialog of older pages
    shown = page.locator(".asced-result", has_text=message).filter(visible=True)
    assert shown.count() == 1
    page.evaluate(SET, ["ASCED_MaskPreview", "exclude", ""])
    assert view.run() == "success"
    assert shown.count() == 0


@pytest.mark.parametrize("view", RENDERERS, indirect=True)
def test_regions_are_excluded_by_click_and_by_key_and_it_is_saved(view):
    page = view.page
    _build(view)
    page.get_by_text("Run to see regions and steps.").wait_for()
    assert view.run() == "success"
    regions = page.locator(".asced-region")
    assert regions.count() >= 2
    again = page.get_by_role("button", name="Run again")
    assert not again.is_visible()
    view.screenshot(SHOTS / f"panel, {view.renderer}.png", whole_graph=False)
    whole = page.evaluate(MASK)
    first, second = (regions.nth(i).get_attribute("data-name") for i in (0, 1))
    regions.first.click()
    assert first == "1:1" or first == "2:1"  # the image with the highest score is shown
    assert page.evaluate(WIDGET, ["ASCED_MaskPreview", "exclude"]) == first
    assert page.locator(".asced-mask path").evaluate_all(HIDDEN) == [True] + [False] * (regions.count() - 1)
    assert again.is_visible()
    assert regions.first.get_attribute("aria-pressed") == "true"
    assert "excluded from the mask" in regions.first.get_attribute("aria-label")
    regions.nth(1).focus()
    page.keyboard.press("Enter")
    assert page.evaluate(WIDGET, ["ASCED_MaskPreview", "exclude"]) == f"{first}, {second}"
    page.keyboard.press("Enter")
    assert page.evaluate(WIDGET, ["ASCED_MaskPreview", "exclude"]) == first
    shown = int(page.evaluate(f"({NODE})('ASCED_MaskPreview').id"))  # newer pages: a string, and a number in files
    assert view.prompt()[str(shown)]["inputs"]["exclude"] == first
    runs = int(page.evaluate("ascedRun.seen"))
    again.click()
    assert view.wait_for_end(runs) == "success"
    assert not again.is_visible()
    assert 0 < page.evaluate(MASK) < whole
    assert regions.first.get_attribute("aria-pressed") == "true"
    view.screenshot(SHOTS / f"panel left out, {view.renderer}.png", whole_graph=False)
    saved = view.graph()
    view.load(saved)
    before, after = ({n["id"]: n.get("widgets_values") for n in g["nodes"]} for g in (saved, view.graph()))
    assert after[shown][:4] == [0, 0, 0, first]
    for node, values in after.items():  # the page saves its status text after a node's own values
        assert (before[node] or [])[: len(values or [])] == (values or [])
    assert view.run() == "success"  # the panel of the loaded node is the one that is seen
    assert regions.first.get_attribute("aria-pressed") == "true"
    regions.first.click()
    assert page.evaluate(WIDGET, ["ASCED_MaskPreview", "exclude"]) == ""


@pytest.mark.parametrize("view", RENDERERS, indirect=True)
def test_steps_are_browsed_by_pointer_and_keys(view):
    page = view.page
    _build(view)
    assert view.run() == "success"
    steps, words = page.locator(".asced-steps"), page.locator(".asced-panel > .asced-text")
    change = page.locator(".asced-change")
    assert change.is_hidden()
    box = steps.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.38, box["y"] + box["height"] / 2)
    assert "forming" in words.inner_text() and "% above it" in words.inner_text()
    assert change.is_visible()
    assert page.evaluate("(e) => getComputedStyle(e).backgroundImage", change.element_handle()).startswith("url(")
    view.screenshot(SHOTS / f"panel at a step, {view.renderer}.png", whole_graph=False)
    page.mouse.move(5, 500)
    assert change.is_hidden()
    steps.focus()
    first = int(steps.get_attribute("aria-valuenow"))
    page.keyboard.press("ArrowRight")
    assert int(steps.get_attribute("aria-valuenow")) == first + 1
    page.keyboard.press("End")
    assert steps.get_attribute("aria-valuetext").startswith("Step 25, details")
    page.keyboard.press("Escape")
    assert change.is_hidden()
    first = page.locator(".asced-panel .asced-pager .asced-text").inner_text()
    page.get_by_label("Next image").click()
    assert page.locator(".asced-panel .asced-pager .asced-text").inner_text() != first


def test_a_removed_node_takes_its_panel_along(view):
    page = view.page
    _build(view)
    assert view.run() == "success"
    assert page.locator(".asced-region").count()
    page.evaluate(f"() => {{ app.graph.remove(({NODE})('ASCED_MaskPreview')) }}")
    page.wait_for_timeout(300)
    assert page.locator(".asced-panel").count() == 0


def test_the_settings_page_and_the_about_page_show_asced(view):
    page = view.page
    page.evaluate("() => app.extensionManager.command.execute('Comfy.ShowSettingsDialog')")
    page.get_by_role("dialog").get_by_text("ASCED", exact=True).first.click()
    for name in ("Show the artifact map while sampling", "Color of the artifact map", "Opacity of the artifact map"):
        page.get_by_text(name).wait_for()
    view.screenshot(SHOTS / "settings.png", whole_graph=False)
    page.get_by_role("dialog").get_by_text("About", exact=True).first.click()
    badge = page.get_by_role("dialog").locator("a[href*='comfyui-asced']")
    badge.wait_for()
    assert badge.inner_text().strip() == "ASCED"
    page.keyboard.press("Escape")
    page.evaluate(SETTING, ["ASCED.Color", "0072b2"])
    page.evaluate(SETTING, ["ASCED.Opacity", 0.8])
    style = "(name) => document.documentElement.style.getPropertyValue(name)"
    assert page.evaluate(style, "--asced-color") == "#0072b2"
    assert page.evaluate(style, "--asced-opacity") == "80%"


@pytest.mark.parametrize("view", RENDERERS, indirect=True)
def test_the_slider_moves_by_pointer_and_keys(view, node_info):
    if "ASCED_Compare" not in node_info:
        pytest.skip("no ASCED_Compare")
    page = view.page
    _build(view, compare=True)
    page.get_by_text("Run to compare.").wait_for()
    assert view.run() == "success"
    slider, frame = page.get_by_label("Divider between before and after"), page.locator(".asced-compare")
    page.wait_for_function("() => document.querySelector('.asced-before').naturalWidth > 0")
    # of a node that is 360 wide: nothing else takes its room
    page.wait_for_function("() => document.querySelector('.asced-compare input').getBoundingClientRect().height > 280")
    shown = "(e) => getComputedStyle(e.querySelector('.asced-before')).clipPath"
    middle = page.evaluate(shown, frame.element_handle())
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    assert 20 <= int(slider.input_value()) <= 30
    assert page.evaluate(shown, frame.element_handle()) != middle
    at = int(slider.input_value())
    page.keyboard.press("ArrowRight")
    assert int(slider.input_value()) == at + 1 and slider.get_attribute("aria-valuetext") == f"{at + 1}% before"
    page.keyboard.press("ArrowLeft")
    assert int(slider.input_value()) == at
    page.keyboard.press("End")
    assert slider.input_value() == "100" and slider.get_attribute("aria-valuetext") == "100% before"
    page.keyboard.press("Home")
    assert slider.input_value() == "0"
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Next image"
    slider.fill(str(at))
    view.screenshot(SHOTS / f"slider, {view.renderer}.png", whole_graph=False)
    before = page.locator(".asced-before").get_attribute("src")
    view.fit()  # the node may reach below the window
    page.get_by_label("Next image").last.click()
    assert page.locator(".asced-before").get_attribute("src") != before


def test_the_scripts_are_small_and_served(server):
    import urllib.request

    files = [path for path in (ROOT / "web").iterdir() if path.suffix in (".js", ".css")]
    assert {path.name for path in files} == {
        "asced.js", "dom.js", "mask_editor.js", "panel.js", "replace.js", "result_text.js", "slider.js", "steps.js",
        "text.js", "asced.css",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in files) < 150_000
    for path in files:
        with urllib.request.urlopen(f"{server.url}/extensions/asced/{path.name}", timeout=30) as answer:
            assert answer.read() == path.read_bytes()


def test_the_scripts_are_well_typed():
    if not shutil.which("npx"):
        pytest.skip("no node: the types of the scripts are not checked")
    command = ["npx", "--yes", "-p", "typescript@5.9", "tsc", "-p", "tools/tsconfig.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    if done.returncode and "error TS" not in done.stdout:
        pytest.skip(f"typescript cannot be fetched: {done.stderr[-200:]}")
    assert done.stdout == ""


@pytest.mark.parametrize("language", ["fr", "zh-TW"])
def test_the_panel_speaks_the_language_of_the_page(server, browser, language):
    """pt-BR and others that an older page does not offer are in the same files."""
    texts = json.loads((ROOT / "locales" / language / "main.json").read_text(encoding="utf-8"))["asced"]
    with open_page(server, browser) as page:
        page.set("Comfy.Locale", language)
        page.page.wait_for_timeout(1500)
    with open_page(server, browser) as page:
        try:
            page.page.evaluate(BUILD, [1, False])
            shown = page.page.locator(".asced-panel .asced-pager .asced-text")
            shown.wait_for(timeout=30_000)
            assert shown.inner_text() == texts["panel_empty"]
            assert not [error for error in page.errors if "asced" in error.lower()]
        finally:
            page.set("Comfy.Locale", "en")
            page.page.wait_for_timeout(1500)
