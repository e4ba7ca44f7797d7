"""Help pages in other languages: of the current English page, and of the same form."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "web" / "docs"
TRANSLATED = sorted(path.relative_to(PAGES).with_suffix("").as_posix() for path in PAGES.glob("*/*.md"))


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("help_pages", ROOT / "tools" / "help_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FENCED = re.compile(r"^```.*?^```$", re.M | re.S)


def _form(text):
    """What no translation changes: headings by level, items, inputs and outputs, targets of links, and code."""
    plain = FENCED.sub("", text)
    return {
        "headings": re.findall(r"^#+", plain, re.M),
        "items": len(re.findall(r"^\s*(?:-|\d+\.) ", plain, re.M)),
        "targets": re.findall(r"\]\(([^)]+)\)", plain),
        "sockets": [re.findall(r"^- `([^`]+)`", part, re.M) for part in plain.split("\n## ")[1:3]],
        "fenced": FENCED.findall(text),
        "code": re.findall(r"`([^`\n]+)`", plain),
    }


def test_every_language_has_every_page_or_shows_the_english_one(tool):
    for language in tool.languages():
        known = tool.translated(language)
        assert set(known) == {path.split("/")[0] for path in TRANSLATED if path.endswith(f"/{language}")}, language
        assert not tool.outdated(language), f"{language}: run python tools/help_pages.py"


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translated_page_has_the_form_of_the_english_one(page):
    node, language = page.split("/")
    english, other = ((PAGES / name).read_text(encoding="utf-8") for name in (f"{node}.md", f"{node}/{language}.md"))
    assert other != english
    now, before = _form(other), _form(english)
    assert set(before.pop("code")) <= set(now.pop("code"))
    assert now == before


def test_a_page_whose_english_changed_is_deleted(tool, tmp_path, monkeypatch):
    pages, locales = tmp_path / "docs", tmp_path / "locales"
    for folder in (pages, locales / "en", locales / "fr", tmp_path / "new" / "fr"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(tool, "PAGES", pages)
    monkeypatch.setattr(tool, "LOCALES", locales)
    for node in ("one", "two"):
        (pages / f"{node}.md").write_text("# English\n", encoding="utf-8")
        (tmp_path / "new" / "fr" / f"{node}.md").write_text("# Français\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["help_pages", "--add", str(tmp_path / "new")])
    assert tool.main() == 0
    monkeypatch.setattr("sys.argv", ["help_pages"])
    assert tool.main() == 0
    (pages / "two.md").write_text("# Other English\n", encoding="utf-8")
    assert tool.main() == 1
    assert (pages / "one" / "fr.md").is_file() and not (pages / "two" / "fr.md").exists()
    assert list(tool.translated("fr")) == ["one"]
