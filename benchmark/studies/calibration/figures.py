"""Pictures of the calibration: error rates under the null by spread and seeds, power, coverage."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.drawing.style import INK, SOFT, WIDE, canvas, striped_rows, styled

HUES = {0.1: "#7b5ea7", 1: "#2a7fc0", 3: "#2a9d8f", 10: "#e6a117", 30: "#d1495b"}
"""By how many times as wide the arm is as the other."""
SHAPES = {"normal": "o", "bimodal": "s", "heavy-tailed": "^", "lopsided": "D"}


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """The figures by the names of their files."""
    by = {name: rows for name, rows in table.groupby("check", sort=False)}
    return {
        "calibration-null": _rows(
            pd.concat(
                [by["level"], by["looks"], by["not used"].assign(family="not used: " + by["not used"]["family"])]
            ),
            "share of families with a false confirmation (line: the level)",
        ),
        "calibration-power": _power(by["power"]),
        "calibration-coverage": _rows(by["coverage"], "share of intervals that hold the truth (line: nominal)"),
    }


@styled
def _rows(table: pd.DataFrame, words: str) -> Figure:
    """A row per family, a panel per seeds of both arms, a dot per shape and spread of the scores."""
    families = list(dict.fromkeys(table["family"]))
    pairs = sorted(set(zip(table["seeds"], table["against"], strict=True)))
    figure, axes = canvas(WIDE, 1, len(pairs), 0.3 * len(families), left=3.25, gap=0.4, title=0.46)
    low, high = table["observed"].min(), table["observed"].max()
    for index, (axis, (n, m)) in enumerate(zip(axes, pairs, strict=True)):
        axis.set_title(f"{n} against {m} seeds", pad=4)
        striped_rows(axis, families if index == 0 else [""] * len(families))
        for y, family in enumerate(families):
            cell = table[(table["family"] == family) & (table["seeds"] == n) & (table["against"] == m)]
            for row in cell.itertuples(index=False):
                marker, hue = SHAPES[row.scores], HUES[row.ratio]
                axis.plot(row.observed, y, marker, color=hue, markersize=3.6, alpha=0.8, zorder=3, markeredgewidth=0)
            if len(cell):
                axis.plot([cell["nominal"].iloc[0]] * 2, [y - 0.4, y + 0.4], color=SOFT, linewidth=1.2, zorder=2)
        axis.grid(axis="x", zorder=0)
        axis.locator_params(axis="x", nbins=3)
        axis.set_xlim(min(0.0, low) if low < 0.5 else low - 0.02, min(high * 1.08, 1.005))
    axes[0].set_xlabel(words, loc="left")
    spreads = [_key("o", hue, f"{ratio:g} times as wide" if ratio != 1 else "as wide") for ratio, hue in HUES.items()]
    shapes = [_key(marker, INK, name) for name, marker in SHAPES.items()]
    figure.legend(
        handles=[*spreads, *shapes], loc="upper left", ncol=5, frameon=False, handletextpad=0.3, borderaxespad=0.2
    )
    return figure


def _key(marker: str, hue: str, label: str) -> Line2D:
    return Line2D([], [], linestyle="", marker=marker, color=hue, markersize=5, label=label)


@styled
def _power(table: pd.DataFrame) -> Figure:
    """The share of tasks confirmed over how far the truth lies inside the claim, normal scores."""
    families = list(dict.fromkeys(table["family"]))
    figure, axes = canvas(WIDE, 1, len(families), 2.6, left=0.7, gap=0.6, title=0.46)
    lines = {(5, 5): ":", (10, 10): "-", (5, 50): "--"}
    for axis, family in zip(axes, families, strict=True):
        axis.set_title(family, pad=4)
        for (n, m), line in lines.items():
            for ratio in (1, 10):
                rows = table[(table["family"] == family) & (table["scores"] == "normal") & (table["ratio"] == ratio)]
                rows = rows[(rows["seeds"] == n) & (rows["against"] == m)]
                label = f"{n} against {m} seeds" + (f", {ratio} times as wide" if ratio > 1 else "")
                axis.plot(rows["nominal"], rows["observed"], line, color=HUES[ratio], label=label)
        axis.set_ylim(-0.03, 1.03)
        axis.grid(zorder=0)
    axes[0].set_xlabel("spreads by which the claim is true", loc="left")
    axes[0].set_ylabel("share of tasks confirmed")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper left", ncol=3, frameon=False, handletextpad=0.3, borderaxespad=0.2)
    return figure
