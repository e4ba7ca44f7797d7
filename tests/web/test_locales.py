"""Every language has every text of the nodes."""

from __future__ import annotations

import json
import re

import pytest

from .conftest import ROOT, _tool

HAN = r"[\u4e00-\u9fff]"
NOT_LATIN = {"zh": HAN, "zh-TW": HAN, "ja": r"[\u3040-\u30ff\u4e00-\u9fff]", "ko": r"[\uac00-\ud7a3]",
             "ru": r"[\u0400-\u04ff]"}  # fmt: skip


@pytest.fixture(scope="module")
def tool():
    import sys

    sys.modules.setdefault("server", _tool("server"))
    return _tool("locales")


@pytest.fixture(scope="module")
def texts(tool):
    return {language: tool.flat(tool.read(language)) for language in tool.LANGUAGES}


def test_english_equals_the_texts_of_the_nodes(tool, node_info):
    assert tool.read("en") == tool.english(node_info), "run python tools/locales.py"


@pytest.mark.parametrize("language", ["zh", "zh-TW", "ja", "ko", "ru", "fr", "es", "pt-BR"])
def test_a_language_has_all_texts_and_no_others(texts, language):
    assert list(texts[language]) == list(texts["en"])
    for path, text in texts[language].items():
        english = texts["en"][path]
        assert text.strip() == text and text, path
        if path[-1] in ("tooltip", "description"):  # names such as LATENT are the same everywhere
            assert text != english, path
            assert re.search(NOT_LATIN.get(language, ""), text), path
            assert set(re.findall(r"\d+", english)) <= set(re.findall(r"\d+", text)), path
        if path[:2] == ("main", "asced"):
            assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", english)), path
        else:
            assert not set("@{}|") & set(text), f"{path}: the page's translation library reads these as commands"


def test_the_server_passes_them_to_the_page(server, texts):
    served = server.get("/i18n")
    for language in texts:
        assert served[language]["nodeDefs"]["ASCED_Gate"]["display_name"]
        assert served[language]["settings"]["ASCED_Live"]["name"] and served[language]["asced"]["panel"]


def test_changed_texts_are_emptied_and_known_translations_are_reused(tool):
    before = {"A": {"x": "seed", "y": "old"}, "B": {"x": "gone"}}
    translated = {"A": {"x": "Startwert", "y": "alt"}, "B": {"x": "weg"}}
    now = {"A": {"x": "seed", "y": "new"}, "C": {"z": "seed", "w": "unknown"}}
    assert tool.renewed(now, before, translated) == {"A": {"x": "Startwert", "y": ""}, "C": {"z": "Startwert", "w": ""}}


def test_the_files_are_plain_json():
    for path in (ROOT / "locales").glob("*/*.json"):
        json.loads(path.read_text(encoding="utf-8"))
