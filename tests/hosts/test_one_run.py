"""The same seed, model and sampler in every host: the same regions, the same images. ComfyUI is a real server."""

import pytest

from asced_core import CorrectionSettings
from benchmarks import hosts


@pytest.fixture(scope="module")
def rows():
    return hosts.compared(CorrectionSettings())


@pytest.mark.parametrize("name", list(hosts.HOSTS))
def test_one_run_has_the_same_regions_and_images_in_every_host(rows, name):
    row = rows[name]
    assert row["regions"] == 4 and row["same_regions"] and row["changed"] == row["marked"]
    assert max(row["stock_apart"], row["corrected_apart"]) < hosts.CLOSE
    assert row["added"] == 1


def test_the_page_has_what_was_measured():
    """In the order of the hosts, which the text of the page names."""
    page = (hosts.DOCS / "hosts.md").read_text(encoding="utf-8")
    assert [page.count(f"| {name} |") for name in hosts.HOSTS] == [2] * len(hosts.HOSTS)
