"""The tables of picking.py."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
NOTE = (
    "Written by `python -m benchmarks.picking`. Hand models and clothes, DDIM with 25 steps and no guidance unless a "
    "table says otherwise. Drafts are compared within a class only. *Sharpness*, *agreement* and *score* are those of "
    "[run_score.py](../../asced_core/detect/run_score.py), read after 7 of 25 model calls; *agreement* takes one more "
    "call per draft; only the last tables have runs with guidance. "
    "*Coarse sharpness* is the root mean square of the "
    "differences between squares of 2x2 cells; *marked area*, *raw* and *blurred change* are those of mode `robust`. "
    "Settings were chosen on seeds from 60000; the reporting half has seeds from 80000. The 95 % interval of a "
    "bootstrap over images is in parentheses. *Wrong*: a classifier sees another class than was asked for. "
    "*Malformed*: MediaPipe's hand presence is below 0.9. *Stray*: a piece of foreground apart from the hand."
)


def _cell(value: Row | None, scale: float = 1, digits: int = 2) -> str:
    if value is None:
        return "–"
    low, high = (f"{value[key] * scale:.{digits}f}" for key in ("low", "high"))
    return f"{value['value'] * scale:.{digits}f} ({low} … {high})"


def _head(columns: list[str]) -> list[str]:
    return ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ranking(part: dict[str, Row]) -> list[str]:
    """One table: signals by test set and outcome, AUROC · average precision."""
    columns = [(bed, outcome) for bed, row in part.items() for outcome in next(iter(row["ranking"].values()))]
    lines = _head(["signal", *(f"{bed}, {outcome}" for bed, outcome in columns)])
    first = next(iter(part.values()))["ranking"]
    for name in first:
        cells = [part[bed]["ranking"][name][outcome] for bed, outcome in columns]
        lines.append(_line([name, *(f"{_cell(c['auroc'])} · {c['ap']}" for c in cells)]))
    rates = [first_row(part[bed])[outcome]["rate"] for bed, outcome in columns]
    return [*lines, _line(["share of bad images", *(f"{rate:.0%}" for rate in rates)])]


def first_row(row: Row) -> Row:
    """The figures of the first signal."""
    return next(iter(row["ranking"].values()))


def _outcomes(row: Row) -> list[str]:
    return [key for key in ("malformed", "wrong", "stray") if key in row]


def _figures(row: Row, outcomes: list[str]) -> list[str]:
    cells = [_cell(row[outcome], 100, 0) for outcome in outcomes] + [_cell(row["fid_ratio"])]
    return [*cells, *(f"{row[key]:.2f} / {row[key + '_random']:.2f}" for key in ("recall", "coverage"))]


def _kept(title: str, rows: dict[str, Row], extra: tuple[str, ...] = ()) -> list[str]:
    if not rows:
        return []
    outcomes = _outcomes(next(iter(rows.values())))
    names = [f"{outcome}, %" for outcome in outcomes]
    columns = ["kept", *extra, *names, "FID / random", "recall / random", "coverage / random"]
    lines = ["", f"**{title}**", "", *_head(columns)]
    for name, row in rows.items():
        lines.append(_line([name, *(f"{row[key]:.2f}" for key in extra), *_figures(row, outcomes)]))
    return lines


def _empty(outcomes: list[str]) -> list[str]:
    """The cells of a row without kept images: its outcomes and the FID."""
    return ["–"] * (len(outcomes) + 1)


def _by_read(bed: str, rows: dict[str, Row]) -> list[str]:
    outcomes = list(next(iter(rows.values()))["score"])
    columns = ["share", *(f"{name}: {' · '.join(outcomes)}" for name in ("sharpness", "agreement", "score"))]
    lines = ["", f"**{bed.capitalize()}**", "", *_head([*columns, "drafts", "price", *outcomes, "FID / random"])]
    for share, row in rows.items():
        cells = [" · ".join(f"{row[name][o]:.2f}" for o in outcomes) for name in ("sharpness", "agreement", "score")]
        best = row["kept"]
        found = [f"{best[o]['value']:.0%}" for o in outcomes] + [_cell(best["fid_ratio"])] if best else _empty(outcomes)
        lines.append(_line([share, *cells, str(row["drafts"]), f"{row['price']:.2f}", *found]))
    return lines


def _varied(bed: str, part: Row) -> list[str]:
    rows = part["rows"]
    outcomes = list(next(iter(rows.values()))["score"])
    columns = ["run", *(f"{name}: {' · '.join(outcomes)}" for name in ("sharpness", "agreement", "score"))]
    title = f"**{bed.capitalize()}, {part['images']} images**"
    lines = ["", title, "", *_head([*columns, *(f"{o}, random → best" for o in outcomes), "FID / random"])]
    for name, row in rows.items():
        cells = [" · ".join(f"{row[key][o]:.2f}" for o in outcomes) for key in ("sharpness", "agreement", "score")]
        found = _empty(outcomes)
        if row["kept"]:
            pairs = [(row["random"][o]["value"], row["kept"][o]["value"]) for o in outcomes]
            found = [f"{a:.0%} → {b:.0%}" for a, b in pairs] + [_cell(row["kept"]["fid_ratio"])]
        lines.append(_line([name, *cells, *found]))
    return lines


def as_markdown(result: Row) -> str:
    """All tables."""
    lines = ["# Which of several drafts to finish", "", NOTE, "", "## About three plain runs per image", ""]
    lines += [
        "Reporting half. *Price*: model calls per kept image, in plain runs; drafts stop after 7 calls, and only the "
        "best goes on. FID is relative to as many random images of the same classes; recall and coverage are given "
        "with theirs. Coverage is not raised by outliers as recall is."
    ]
    for bed, rows in result["equal_compute"].items():
        lines += _kept(bed.capitalize(), rows, ("price",))
    for half in ("reporting", "choosing"):
        part = result[half]
        lines += ["", f"## The best of a few, {half} half"]
        for bed, row in part.items():
            for size, rows in row["kept"].items():
                lines += _kept(f"{bed.capitalize()}, 1 of {size}", rows)
        lines += ["", f"## Ranking within a class, {half} half", "", "AUROC · average precision.", "", *_ranking(part)]
    if "by_eye" in result:
        eye = result["by_eye"]
        lines += ["", "## Judged by eye", ""]
        lines += [f"Final weights, {eye['images']} images, {eye['bad']['value']:.0%} with an artifact; within a class."]
        lines += [
            "AUROC · average precision; *usual background* leaves out the rarer gray one, which is mostly bad.",
            "",
        ]
        lines += _head(["signal", *first_row(eye)])
        for name, row in eye["ranking"].items():
            lines.append(_line([name, *(f"{_cell(cell['auroc'])} · {cell['ap']}" for cell in row.values())]))
    lines += ["", "## When it is read", ""]
    lines += [
        "Choosing half, by the share of the model calls. AUROC within a class; then the best by score of as many "
        "drafts as about three plain runs allow, with the extra call."
    ]
    for bed, rows in result["by_read"].items():
        lines += _by_read(bed, rows)
    lines += ["", "## Samplers, steps and guidance", ""]
    lines += [
        "Seeds of their own, read after 0.28 of the steps. AUROC within a class; then 1 of 4 by score. With guidance, "
        "sharpness is that of the prediction with the label alone, and it is all of the score: agreement tells less "
        "there than it adds in noise."
    ]
    for bed, part in result["varied"].items():
        lines += _varied(bed, part)
    return "\n".join(lines) + "\n"
