"""The paper's headline figure, redrawn from its numbers, with our own points beside where there are any."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.drawing.style import MARKERS, SOFT, WIDE, canvas, color, legend, striped_rows, styled
from benchmark.words import task_name

LINEAR, TOP = 10.0, 40_000.0
"""Percent: the axis is linear up to the first and logarithmic from there to the second, where words have room."""
TICKS = (0, 10, 100, 1000)
SUITES = {"dmc": "DeepMind Control", "gym": "Gym"}


@styled
def headline(published: pd.DataFrame, ours: pd.DataFrame, methods: Mapping[str, str], width: float = WIDE) -> Figure:
    """Percent of SAC's final return: a row per task, a panel per suite, the paper's filled, ours hollow.

    Args:
        published: ``suite, task, method, percent``.
        ours: ``task, method, percent, low, high``: a ratio and what single seeds span; without rows a task says so.
        methods: the name of each method in the figure.
        width: in inches.
    """
    suites = list(dict.fromkeys(published["suite"]))
    beside = width > 6
    rows, columns = (1, len(suites)) if beside else (len(suites), 1)
    most = max(published[published["suite"] == suite]["task"].nunique() for suite in suites)
    figure, axes = canvas(
        width, rows, columns, 0.36 * most, left=1.5, gap=1.75, title=0.24, head=0.3 if beside else 0.62, below=0.55
    )
    for axis, suite in zip(axes, suites, strict=True):
        shown = published[published["suite"] == suite]
        tasks = list(dict.fromkeys(shown["task"]))
        striped_rows(axis, [task_name(task).removesuffix(" (Gym)") for task in tasks])
        axis.set_title(SUITES.get(suite, suite), pad=5)
        for y, task in enumerate(tasks):
            _row(axis, y, shown[shown["task"] == task], ours[ours["task"] == task], list(methods))
        _scaled(axis)
    hollow = Line2D([], [], linestyle="", marker="o", color=SOFT, markerfacecolor="white", markersize=5)
    legend(
        figure,
        list(methods),
        extra=[("ours, at the steps in the table", hollow), ("SAC", Line2D([], [], color=SOFT, linewidth=1))],
    )
    for text, method in zip(figure.legends[0].get_texts(), methods, strict=False):
        text.set_text(methods[method])
    return figure


def _row(axis: Axes, y: int, shown: pd.DataFrame, ours: pd.DataFrame, methods: list[str]) -> None:
    """One task: a filled mark a method, and a hollow one with the span of its seeds where we have runs."""
    for index, method in enumerate(methods):
        at = y + (index - (len(methods) - 1) / 2) * 0.24
        marker = MARKERS.get(method, "o")
        for percent in shown.loc[shown["method"] == method, "percent"]:
            axis.plot([percent], [at], marker, color=color(method), markersize=5.5, markeredgewidth=0, zorder=4)
        for row in ours[ours["method"] == method].itertuples(index=False):
            axis.plot([row.low, row.high], [at, at], color=color(method), linewidth=1.1, alpha=0.7, zorder=2)
            axis.plot(
                [row.percent], [at], marker, color=color(method), markerfacecolor="white", markersize=4.6,
                markeredgewidth=1.0, zorder=3,
            )  # fmt: skip
    if ours.empty:
        axis.text(TOP, y, "no run yet ", ha="right", va="center", fontsize=7, color=SOFT)


def _scaled(axis: Axes) -> None:
    axis.set_xscale("symlog", linthresh=LINEAR, linscale=0.6)
    axis.set_xlim(-2.5, TOP)
    axis.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS])
    axis.minorticks_off()
    axis.axvline(100.0, color=SOFT, linewidth=1.0, zorder=1)
    axis.grid(axis="x", zorder=0)
    axis.set_axisbelow(True)
    axis.set_xlabel("% of SAC, logarithmic from 10", loc="left", labelpad=5)
