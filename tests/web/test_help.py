"""The help of a node as the page shows it: in a panel that is about 300 pixels wide."""

from __future__ import annotations

import re

from .conftest import ALONE, FIRST, ROOT, SHOTS, open_page, read

BUTTON = (
    "[data-testid=info-button], button:has([class*=lucide--info]), "
    "button[aria-label='Node Info'], button[aria-label=Info], .help-button"
)
# What reaches beyond the panel; code may be scrolled.
TOO_WIDE = """(root) => {
  const edge = root.getBoundingClientRect().right + 1
  return [...root.querySelectorAll('*')]
    .filter((e) => !e.parentElement.closest('pre') && e.getBoundingClientRect().right > edge)
    .map((e) => `${e.tagName}: ${e.textContent.slice(0, 60)}`)
}"""
LONG = {"ASCED_KSampler", "ASCED_Detection", "ASCED_PALDetector", "ASCED_VLMVerdict"}  # pages


def test_a_node_shows_its_help_page(page):
    page.load(read(FIRST))
    page.page.evaluate("() => app.canvas.selectItems([app.graph.nodes.find((n) => n.type === 'ASCED_KSampler')])")
    page.page.get_by_test_id("info-button").click()
    page.page.get_by_role("heading", name="ASCED KSampler").first.wait_for()
    page.page.get_by_text("dpm_adaptive").first.wait_for()
    page.page.wait_for_timeout(500)
    page.screenshot(SHOTS / "help.png", whole_graph=False)
    assert [error for error in page.errors if "/en.md" not in error] == []  # the page asks for a translation first


def test_every_help_page_fits_and_shows_its_picture(page, node_info):
    seen, content = {}, page.page.locator(".node-help-content")
    for node_id in (name for name in node_info if name.startswith("ASCED_")):
        page.page.evaluate(ALONE, node_id)
        page.page.get_by_test_id("info-button").click()
        picture = page.page.locator(f".node-help-content img[src$='/{node_id}.jpg']")
        picture.wait_for()
        page.page.wait_for_function("(img) => img.complete", arg=picture.element_handle())
        content.get_by_role("heading", name="Inputs").wait_for()
        assert content.bounding_box()["width"] < 450
        wide, known = content.evaluate(TOO_WIDE), picture.evaluate("(i) => i.naturalWidth > 200 && i.alt.length > 10")
        seen[node_id] = [wide, known, content.locator("li").count() > (5 if node_id in LONG else 1)]
        page.screenshot(SHOTS / "help" / f"{node_id}.png", whole_graph=False)
        page.page.get_by_test_id("info-button").click()  # closes it
    assert len(seen) == 24 and {node_id: found for node_id, found in seen.items() if found != [[], True, True]} == {}


def test_help_in_the_language_of_the_page(server, browser):
    translated = (ROOT / "web" / "docs" / "ASCED_Gate" / "ja.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", translated, re.M)
    with open_page(server, browser) as page:
        page.set("Comfy.Locale", "ja")
        page.page.wait_for_timeout(1500)
    with open_page(server, browser) as page:
        try:
            page.page.evaluate(ALONE, "ASCED_Gate")
            page.page.locator(BUTTON).first.dispatch_event("click")
            content = page.page.locator(".node-help-content")
            content.get_by_role("heading", name=headings[0], exact=True).wait_for()
            assert [one.strip() for one in content.locator("h2").all_text_contents()] == headings
            page.screenshot(SHOTS / "help in Japanese.png", whole_graph=False)
        finally:
            page.set("Comfy.Locale", "en")
            page.page.wait_for_timeout(1500)
