"""The steps of docs/tutorial.md, in their order, in a fresh page of ComfyUI."""

from __future__ import annotations

import re

from .conftest import ROOT, TEMPLATES
from .test_templates import _open_by_hand
from .test_views import NODE, WIDGET

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
RESULT = f"(type) => ({NODE})(type).widgets.find((w) => w.name === 'asced_result_text').element.innerText"
SEE = f"""(type) => {{
  const {{ pos }} = ({NODE})(type)
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [400 - pos[0], 200 - pos[1]]
  app.canvas.setDirty(true, true)
}}"""
SET = f"([type, name, value]) => {{ ({NODE})(type).widgets.find((w) => w.name === name).value = value }}"


def _template(step):
    """The template that a step of the tutorial opens: the first name in bold that is one."""
    part = re.split(r"^## ", TUTORIAL, flags=re.M)[step]
    names = re.findall(r"\*\*([^*]+)\*\*", part)
    words = [name.lower() for name in names if not name.lower().startswith("asced")]
    return next(stem for word in words for stem in TEMPLATES if word in stem.lower())


def test_the_tutorial_can_be_followed(page):
    inner = page.page
    # 2 and 3: open the first template and run it
    _open_by_hand(page, _template(2))
    assert page.run() == "success"
    result = inner.evaluate(RESULT, "ASCED_KSampler")
    assert re.search(r"\d+ regions? in \d of 4 images; .* corrected at step 13 of 25", result), result
    # 4: exclude a region and run again; the sampler does not
    inner.evaluate(SEE, "ASCED_MaskPreview")
    inner.locator(".asced-region").first.click()
    assert inner.evaluate(WIDGET, ["ASCED_MaskPreview", "exclude"])
    inner.evaluate("() => { window.ran = []; app.api.addEventListener('executing', (e) => ran.push(e.detail)) }")
    runs = int(inner.evaluate("ascedRun.seen"))
    inner.get_by_role("button", name="Run again").click()
    assert page.wait_for_end(runs) == "success"
    sampler = inner.evaluate(f"String(({NODE})('ASCED_KSampler').id)")
    ran = [str(node) for node in inner.evaluate("ran")]
    assert ran and sampler not in ran
    assert inner.get_by_role("button", name="Edit mask").is_visible()
    # 4: before and after in one frame
    _open_by_hand(page, _template(4))
    assert page.run() == "success"
    slider = inner.get_by_label("Divider between before and after")
    slider.focus()
    inner.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "51% before"
    # 6: pick among drafts, and finish another one
    _open_by_hand(page, _template(6))
    assert page.run() == "success"
    picked = inner.evaluate(RESULT, "ASCED_DraftAndPick")
    finished = set(re.findall(r"\d+", picked))
    other = next(str(n) for n in range(1, 17) if str(n) not in finished)
    inner.evaluate(SET, ["ASCED_DraftAndPick", "control_after_generate", "fixed"])
    inner.evaluate(SET, ["ASCED_DraftAndPick", "also_finish", other])
    assert page.run() == "success"
    assert inner.evaluate(RESULT, "ASCED_DraftAndPick") != picked
