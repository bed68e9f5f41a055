"""Pictures of the calibration: error rates under the null, power predicted and found, coverage."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.drawing.style import INK, SOFT, WIDE, canvas, striped_rows, styled

HUES = {"normal": "#2a7fc0", "bimodal": "#d1495b", "heavy-tailed": "#e6a117"}


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """The figures by the names of their files."""
    by = {name: table[table["check"] == name] for name in ("level", "bootstrap", "spread", "power", "coverage")}
    return {
        "calibration-null": _rows(
            pd.concat(
                [by["level"], by["spread"], by["bootstrap"].assign(family="not used: bootstrap of means, 1 task")]
            ),
            "share of families with a false confirmation (line: the level)",
        ),
        "calibration-power": _power(by["power"]),
        "calibration-coverage": _rows(by["coverage"], "share of intervals that hold the truth (line: nominal)"),
    }


@styled
def _rows(table: pd.DataFrame, words: str) -> Figure:
    """A row per family, a panel per number of seeds, a dot per shape of the scores."""
    families = list(dict.fromkeys(table["family"]))
    seeds = [n for n in sorted(set(table["seeds"])) if n != 3]
    figure, axes = canvas(WIDE, 1, len(seeds), 0.3 * len(families), left=3.25, gap=0.4, title=0.26)
    for index, (axis, n) in enumerate(zip(axes, seeds, strict=True)):
        axis.set_title(f"{n} seeds", pad=4)
        striped_rows(axis, families if index == 0 else [""] * len(families))
        for y, family in enumerate(families):
            here = table[(table["family"] == family) & (table["seeds"] == n)]
            for row in here.itertuples(index=False):
                axis.plot(row.observed, y, "o", color=HUES[row.scores], markersize=4.5, alpha=0.8, zorder=3)
            if len(here):
                axis.plot([here["nominal"].iloc[0]] * 2, [y - 0.4, y + 0.4], color=SOFT, linewidth=1.2, zorder=2)
        axis.grid(axis="x", zorder=0)
        axis.locator_params(axis="x", nbins=3)
        low, high = table["observed"].min(), table["observed"].max()
        axis.set_xlim(min(0.0, low) if low < 0.5 else low - 0.02, min(high * 1.08, 1.005))
    axes[0].set_xlabel(words, loc="left")
    handles = [Line2D([], [], linestyle="", marker="o", color=hue, markersize=5) for hue in HUES.values()]
    figure.legend(handles, list(HUES), loc="upper left", ncol=3, frameon=False, handletextpad=0.3, borderaxespad=0.2)
    return figure


@styled
def _power(table: pd.DataFrame) -> Figure:
    """Power as a verdict would print it, against the share of fresh samples that confirm."""
    figure, axes = canvas(4.6, 1, 1, 3.4, left=0.7, gap=0)
    axis = axes[0]
    axis.plot([0, 1], [0, 1], color=SOFT, linewidth=0.9, zorder=1)
    for n, marker in zip(sorted(set(table["seeds"])), "os^", strict=False):
        here = table[table["seeds"] == n]
        (dots,) = axis.plot(here["nominal"], here["observed"], marker, label=f"{n} seeds", color=INK)
        dots.set(alpha=0.7, markersize=5, zorder=3)
    axis.set_xlabel("power predicted from published seeds", loc="left")
    axis.set_ylabel("share of fresh samples confirmed")
    axis.set_xlim(-0.03, 1.03)
    axis.set_ylim(-0.03, 1.03)
    axis.grid(zorder=0)
    figure.legend(loc="upper left", ncol=3, frameon=False, handletextpad=0.3, borderaxespad=0.2)
    return figure
