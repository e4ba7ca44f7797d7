"""Measures every row of docs/compatibility.md again; none may be worse than recorded there.

``make matrix`` runs all rows on every ComfyUI version and writes the tables; ``make test`` runs some of them
(ASCED_MATRIX names a file for the rows and selects all of them).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from .cases import REMEMBERS
from .compatibility import Kit, NotInThisVersion, Row, all_cases, measure

WRITTEN = Path(__file__).resolve().parents[2] / "docs" / "compatibility.json"
OUT = os.environ.get("ASCED_MATRIX", "")
ON_EMBEDDED = ("flow, ModelSamplingFlux", "LazyCache")  # in the smaller model, the artifact is not found there
TABLES = ("samplers", "schedulers", "models", "graphs", "patches")


@pytest.fixture(scope="module")
def kit_of(pack, host, core_node, demo_hands, hands, tmp_path_factory):
    """The parts that a row needs. The tables are written with the embedded model; a smaller one is faster."""
    from asced.asced_core import DetectionSettings
    from asced.asced_core.settings import BASE_SIZE
    from asced.nodes.sampling.options import CorrectionOptions, DetectionOptions
    from asced.nodes.sampling.patch import patch_model

    own = SimpleNamespace(
        patch_model=patch_model,
        DetectionSettings=DetectionSettings,
        DetectionOptions=DetectionOptions,
        CorrectionOptions=CorrectionOptions,
        BASE_SIZE=BASE_SIZE,
    )
    folder = tmp_path_factory.mktemp("checkpoints")
    embedded, small = (Kit(own, host, core_node, model, folder) for model in (demo_hands, hands))
    return lambda name: embedded if OUT or name.startswith(ON_EMBEDDED) else small


@pytest.fixture(scope="module")
def written():
    """The recorded rows for this ComfyUI version."""
    import comfyui_version

    return json.loads(WRITTEN.read_text(encoding="utf-8")).get(comfyui_version.__version__, {})


@pytest.fixture(scope="module")
def rows():
    """The rows of this session, saved to the file that ASCED_MATRIX names."""
    measured: dict[str, dict] = {}
    yield measured
    if OUT:
        import comfyui_version

        Path(OUT).write_text(json.dumps({comfyui_version.__version__: measured}), encoding="utf-8")


@pytest.mark.parametrize("table", TABLES)
def test_no_row_is_worse_than_recorded(kit_of, written, rows, table):
    wrong, known = {}, written.get(table, {})
    measured = rows.setdefault(table, {})
    for case in all_cases():
        if case.table != table or (not OUT and table == "samplers" and case.name.endswith("flow")):
            continue
        try:
            row = measure(case, kit_of(case.name))
        except NotInThisVersion:
            continue
        except Exception as error:
            wrong[case.name] = f"{type(error).__name__}: {error}"
            continue
        measured[case.name] = row.as_dict()
        if not row.clean_identical:
            wrong[case.name] = "not bit-for-bit identical to stock if nothing is found"
        elif row.status != "corrected" and not row.note:
            wrong[case.name] = f"{row.status}, without a reason"
        elif (row.extra_calls > 1 and case.coupling != REMEMBERS) or (row.difference and not case.coupling):
            wrong[case.name] = f"{row}"
        elif case.name in known and row.worse_than(Row(**known[case.name])):
            wrong[case.name] = f"{row}, was {known[case.name]}"
    missing = set() if not OUT else set(known) - set(measured)
    assert not wrong
    assert not missing, "recorded rows that are no longer measured"
