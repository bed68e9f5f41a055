"""The picture of the study: every environment's scores without and with the advice."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from benchmark.diagnosis.trial import WITH, WITHOUT
from benchmark.drawing.style import INK, WIDE, canvas, striped_rows, styled

HUES = {WITHOUT: "#2a7fc0", WITH: "#d1495b"}


def draw(scores: pd.DataFrame, table: pd.DataFrame) -> dict[str, Figure]:
    """The figures by the names of their files."""
    return {"scores": by_case(scores, table)}


@styled
def by_case(scores: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """A row an environment, a dot a seed: blue without the advice, red with it."""
    names = list(table["case"])
    figure, (axis,) = canvas(WIDE, 1, 1, 0.24 * len(names), left=1.9, head=0.08, gap=0.35, title=0.3)
    axis.set_title("score: 0 random actions or none, 1 a controller by hand", pad=4)
    striped_rows(axis, names)
    for y, name in enumerate(names):
        for side, shift in ((WITHOUT, -0.16), (WITH, 0.16)):
            mine = scores[(scores["case"] == name) & (scores["side"] == side)]["score"]
            axis.plot(mine, [y + shift] * len(mine), "o", color=HUES[side], markersize=3.6, markeredgewidth=0, zorder=3)
    for level in (0.0, 1.0):
        axis.axvline(level, color=INK, linewidth=0.8, zorder=2)
    axis.margins(x=0.05)
    axis.grid(axis="x", zorder=0)
    figure.set_label(
        "Scores of every environment of the study on the advice, a dot a seed: as it is (blue) and as advised (red). "
        "0 is the better of random actions and none, 1 a controller by hand that "
        "sees the true state; cut to -1 and "
        "1.2."
    )
    return figure
