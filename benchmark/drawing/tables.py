"""A data frame as CSV, Markdown and TeX."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.words import DASH, TIMES, no_tags, number

TEX: dict[str, str | int | None] = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\N{MINUS SIGN}": "$-$", TIMES: "$\\times$", DASH: "--", "<": "$<$", ">": "$>$"},
    **{"^": "\\textasciicircum{}", "~": "\\textasciitilde{}", "\N{SUPERSCRIPT TWO}": "$^2$"},
}


def write(frame: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """Write ``name.csv`` with ten digits, ``name.md`` and ``name.tex`` with three; returns the paths."""
    paths = [write_csv(frame, folder, name), folder / f"{name}.md", folder / f"{name}.tex"]
    paths[1].write_text(markdown(frame) + "\n", encoding="utf-8")
    paths[2].write_text(latex(frame) + "\n", encoding="utf-8")
    return paths


def write_csv(frame: pd.DataFrame, folder: Path, name: str) -> Path:
    """Write ``name.csv`` with ten digits: processors differ in the last bits of a sum, files must not."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.csv"
    rounded = {name: frame[name].map(_to_ten_digits) for name in frame.select_dtypes(["float64", "object"])}
    frame.assign(**rounded).to_csv(path, index=False, lineterminator="\n")
    return path


def _to_ten_digits(value: object) -> object:
    return float(f"{value:.10g}") if isinstance(value, float) else value


def latex(frame: pd.DataFrame) -> str:
    """A `tabular` with booktabs rules; numbers have three digits and are right-aligned."""
    head, *rows = (" & ".join(map(_tex, row)) + " \\\\" for row in _rows(frame))
    columns = "".join("r" if right else "l" for right in _numeric(frame))
    lines = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule", head, "\\midrule", *rows]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


def _tex(text: str) -> str:
    """`text` with TeX's special characters escaped."""
    return text.replace("\\|", "|").translate(str.maketrans(TEX))


def _numeric(frame: pd.DataFrame) -> list[bool]:
    return [pd.api.types.is_numeric_dtype(frame[column]) and frame[column].dtype != bool for column in frame]


def markdown(frame: pd.DataFrame) -> str:
    """A pipe table; numbers have three digits and are right-aligned."""
    head, *rows = (f"| {' | '.join(map(no_tags, row))} |" for row in _rows(frame))
    rule = "|".join("--:" if right else "---" for right in _numeric(frame))
    return "\n".join([head, f"|{rule}|", *rows])


def _rows(frame: pd.DataFrame) -> Iterator[list[str]]:
    """The cells of the head, then of each row."""
    yield [str(column).replace("_", " ") for column in frame]
    numeric = _numeric(frame)
    for row in frame.itertuples(index=False):
        yield [_cell(value, right) for value, right in zip(row, numeric, strict=True)]


def _cell(value: Any, numeric: bool) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return DASH
    if numeric:
        return number(float(value))
    return str(value).replace("|", "\\|").replace("\n", " ")
