"""The nodes are found by the words that people type, in the page's own search."""

from __future__ import annotations

RESULT_TEXT = (
    "artifact", "glitch", "distortion", "deformed", "hands", "bad hands", "extra finger", "anatomy", "face", "fix",
    "repair", "refine", "detailer", "inpaint",
)  # fmt: skip
BY_NAME = ("artifact", "fix", "fixes artifacts", "asced")  # where the page only searches the names of nodes
FIRST = 12  # results that are seen without scrolling
CROWDED = ("inpaint",)  # many nodes of ComfyUI have it in their names: found further down


def _results(page, word):
    """Names of the nodes that the search box lists for a word, best first."""
    page.page.evaluate("() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    box = page.page.get_by_role("combobox").or_(page.page.get_by_placeholder("Search")).last
    box.wait_for()
    box.fill(word)
    page.page.wait_for_timeout(700)
    listed = page.page.get_by_role("option").all_inner_texts()
    page.page.keyboard.press("Escape")
    page.page.wait_for_timeout(200)
    return listed


def test_an_artists_words_lead_to_the_sampler(page, node_info):
    with_aliases = bool(node_info["ASCED_KSampler"].get("search_aliases"))
    missed = {}
    for word in (*BY_NAME, *RESULT_TEXT) if with_aliases else BY_NAME:
        listed = _results(page, word)
        seen = listed if word in CROWDED else listed[:FIRST]
        if not any("ASCED" in name for name in seen):
            missed[word] = seen
    assert missed == {}
