"""Tables as files: CSV, Markdown and TeX of one data frame."""

from __future__ import annotations

import math
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
    """Write ``name.csv`` to ten digits, ``name.md`` and ``name.tex`` to fewer."""
    paths = [write_csv(frame, folder, name), folder / f"{name}.md", folder / f"{name}.tex"]
    paths[1].write_text(markdown(frame) + "\n", encoding="utf-8")
    paths[2].write_text(latex(frame) + "\n", encoding="utf-8")
    return paths


def write_csv(frame: pd.DataFrame, folder: Path, name: str) -> Path:
    """Write ``name.csv`` to ten digits: processors differ in the last bits of a sum, the bytes are to be the same."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.csv"
    rounded = {name: frame[name].map(_to_ten_digits) for name in frame.select_dtypes(["float64", "object"])}
    frame.assign(**rounded).to_csv(path, index=False, lineterminator="\n")
    return path


def _to_ten_digits(value: object) -> object:
    return float(f"{value:.10g}") if isinstance(value, float) else value


def latex(frame: pd.DataFrame) -> str:
    """A `tabular` with booktabs rules; numbers to three digits and to the right."""
    numeric = _numeric(frame)
    lines = ["\\begin{tabular}{" + "".join("r" if right else "l" for right in numeric) + "}", "\\toprule"]
    lines.append(" & ".join(_tex(str(column).replace("_", " ")) for column in frame) + " \\\\")
    lines.append("\\midrule")
    for row in frame.itertuples(index=False):
        cells = [_tex(_cell(value, right)) for value, right in zip(row, numeric, strict=True)]
        lines.append(" & ".join(cells) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


def _tex(text: str) -> str:
    """The text with what TeX would read as commands made plain."""
    return text.replace("\\|", "|").translate(str.maketrans(TEX))


def _numeric(frame: pd.DataFrame) -> list[bool]:
    return [pd.api.types.is_numeric_dtype(frame[column]) and frame[column].dtype != bool for column in frame]


def markdown(frame: pd.DataFrame) -> str:
    """A pipe table; numbers to three digits and to the right."""
    numeric = _numeric(frame)
    lines = ["| " + " | ".join(str(column).replace("_", " ") for column in frame) + " |"]
    lines.append("|" + "|".join("--:" if right else "---" for right in numeric) + "|")
    for row in frame.itertuples(index=False):
        cells = [no_tags(_cell(value, right)) for value, right in zip(row, numeric, strict=True)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: Any, numeric: bool) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return DASH
    if numeric:
        return number(float(value))
    return str(value).replace("|", "\\|").replace("\n", " ")
