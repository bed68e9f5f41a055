"""Pictures of change and of all tasks together: variance over training, intervals, profiles, the ratio sweep.

Each function takes tidy frames and a width in inches and returns a matplotlib figure, as in `figures`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.drawing.axes import stretch
from benchmark.drawing.style import SOFT, WIDE, canvas, color, legend, striped_rows, styled
from benchmark.words import minus, task_name

SUITES = {"dmc": "DeepMind Control", "gym": "Gym"}
AGGREGATES = {"iqm": "interquartile mean", "median": "median", "optimality_gap": "optimality gap (less is better)"}


@styled
def progress(
    frame: pd.DataFrame,
    tasks: Sequence[str],
    methods: Sequence[str],
    units: Mapping[str, str],
    width: float = WIDE,
    foot: str = "updates of the model",
) -> Figure:
    """A measure against steps: `frame` has ``task, method, seed, step, measure, value``; a panel per task and unit.

    `units` gives each measure its words, `foot` the steps theirs. A thin line is a seed, a thick one their mean; their
    median where values span orders of magnitude, and the axis is stretched to show them.
    """
    per_row = len(units) * (2 if width > 6 else 1)
    cells = [(task, measure) for task in tasks for measure in units]
    rows = math.ceil(len(cells) / per_row)
    figure, axes = canvas(width, rows, per_row, 1.25, left=0.5, gap=0.42, title=0.36, below=0.3)
    for axis, (task, measure) in zip(axes, cells, strict=False):
        here = frame[(frame["task"] == task) & (frame["measure"] == measure)]
        axis.set_title(f"{task_name(task)}\n{units[measure]}", pad=4, fontsize=7.5)
        stretched = stretch(axis, here["value"])
        for method in methods:
            _seeds_and_mean(axis, here[here["method"] == method], "step", "value", method, median=stretched)
        axis.set_xlim(0, None)
        axis.grid(axis="y", zorder=0)
        axis.locator_params(axis="x", nbins=4)
        if not stretched:
            axis.locator_params(axis="y", nbins=4)
            axis.yaxis.set_major_formatter(lambda v, _: minus(f"{v:g}"))
    _label_feet(axes, len(cells), per_row, foot)
    legend(figure, methods, lines=True)
    return figure


@styled
def intervals(frame: pd.DataFrame, width: float = WIDE) -> Figure:
    """Rliable's aggregates: a row per suite and method, a panel per aggregate."""
    lines = list(dict.fromkeys(zip(frame["suite"], frame["method"], strict=True)))
    beside = width > 6
    columns, rows = (len(AGGREGATES), 1) if beside else (1, len(AGGREGATES))
    height = 0.3 * len(lines) + 0.1
    figure, axes = canvas(width, rows, columns, height, left=1.35, gap=0.3, title=0.26, head=0.1, foot=0.65, below=0.7)
    for index, (axis, (name, words)) in enumerate(zip(axes, AGGREGATES.items(), strict=True)):
        axis.set_title(words, pad=4)
        labels = [f"{method} ({SUITES[suite]})" if len(set(frame["suite"])) > 1 else method for suite, method in lines]
        striped_rows(axis, labels if index == 0 or not beside else [""] * len(lines))
        for y, (suite, method) in enumerate(lines):
            row = frame[(frame["suite"] == suite) & (frame["method"] == method) & (frame["aggregate"] == name)].iloc[0]
            _interval(axis, row["estimate"], row["interval_low"], row["interval_high"], y, color(method))
        axis.grid(axis="x", zorder=0)
        axis.locator_params(axis="x", nbins=4)
        axis.set_xlabel("normalized return\n" + _coverage(frame), loc="left")
    return figure


@styled
def profiles(frame: pd.DataFrame, width: float = WIDE) -> Figure:
    """The share of runs above each normalized score, with pointwise bootstrap bands; a panel per suite."""
    suites = list(dict.fromkeys(frame["suite"]))
    methods = list(dict.fromkeys(frame["method"]))
    columns = len(suites) if width > 6 else 1
    rows = math.ceil(len(suites) / columns)
    figure, axes = canvas(width, rows, columns, 2.0, left=0.62, gap=0.6, title=0.28)
    for axis, suite in zip(axes, suites, strict=False):
        axis.set_title(_coverage(frame[frame["suite"] == suite]), pad=4)
        for method in methods:
            here = frame[(frame["suite"] == suite) & (frame["method"] == method)]
            axis.fill_between(here["score"], here["low"], here["high"], color=color(method), alpha=0.15, linewidth=0)
            axis.plot(here["score"], here["share"], color=color(method), linewidth=1.8, zorder=3)
        axis.set_ylim(-0.02, 1.02)
        axis.set_xlim(left=0)
        axis.grid(axis="y", zorder=0)
    _label_feet(axes, len(suites), columns, "normalized return")
    axes[0].set_ylabel("share of runs above it")
    legend(figure, methods, lines=True)
    return figure


@styled
def improvements(frame: pd.DataFrame, width: float = WIDE) -> Figure:
    """The chance that a run of one method beats one of another on a random task; a row per pair."""
    several = len(set(frame["suite"])) > 1
    labels = [
        f"{row.method} over {row.over}" + (f" ({SUITES[row.suite]})" if several else "")
        for row in frame.itertuples(index=False)
    ]
    figure, axes = canvas(width, 1, 1, 0.32 * len(frame) + 0.1, left=1.75, gap=0, head=0.1, foot=0.8)
    axis = axes[0]
    striped_rows(axis, labels)
    for y, row in enumerate(frame.itertuples(index=False)):
        _interval(axis, row.probability, row.interval_low, row.interval_high, y, color(row.method))
    axis.axvline(0.5, color=SOFT, linewidth=0.9, zorder=1)
    axis.set_xlim(-0.02, 1.02)
    axis.grid(axis="x", zorder=0)
    between = " " if width > 6 else "\n"
    named = between.join(["probability of improvement", "(0.5 = no difference)"])
    axis.set_xlabel(f"{named}\n{_coverage(frame)}", loc="left")
    return figure


@styled
def sweep(frame: pd.DataFrame, tasks: Sequence[str], width: float = WIDE) -> Figure:
    """Final return against the synthetic share: `frame` has ``task, share, method, seed, value``; a dot is a seed."""
    columns = 3 if width > 6 else 2
    rows = math.ceil(len(tasks) / columns)
    figure, axes = canvas(width, rows, columns, 1.5, left=0.62, gap=0.5, title=0.3, head=0.2)
    for axis, task in zip(axes, tasks, strict=False):
        here = frame[frame["task"] == task]
        axis.set_title(task_name(task), pad=4)
        means = here.groupby("share")["value"].median()
        axis.plot(means.index * 100, means, color=SOFT, linewidth=1.2, zorder=2)
        for method, dots in here.groupby("method", sort=False):
            axis.plot(dots["share"] * 100, dots["value"], "o", color=color(method), markersize=4, alpha=0.75, zorder=3)
        axis.set_xlim(-6, 101)
        axis.set_xticks([0, 50, 75, 95])
        axis.grid(axis="y", zorder=0)
        axis.locator_params(axis="y", nbins=4)
    for axis in axes[len(tasks) :]:
        axis.set_visible(False)
    _label_feet(axes, len(tasks), columns, "synthetic share, %")
    axes[0].set_ylabel("final return")
    return figure


def _coverage(frame: pd.DataFrame) -> str:
    """Over how many tasks each suite is taken, since one task is no aggregate."""
    counts = frame.groupby("suite", sort=False)["tasks"].max()
    return ", ".join(f"{SUITES[s]}: " + ("1 task only" if n == 1 else f"{n} tasks") for s, n in counts.items())


def _seeds_and_mean(axis: Axes, here: pd.DataFrame, x: str, y: str, method: str, median: bool = False) -> None:
    wide = here.pivot(index=x, columns="seed", values=y)
    for seed in wide.columns:
        axis.plot(wide.index, wide[seed], color=color(method), linewidth=0.6, alpha=0.4, zorder=2)
    if len(wide):
        middle = wide.median(axis=1) if median else wide.mean(axis=1)
        axis.plot(wide.index, middle, color=color(method), linewidth=1.7, zorder=3)


def _interval(axis: Axes, middle: float, low: float, high: float, y: float, hue: str) -> None:
    axis.plot([low, high], [y, y], color=hue, linewidth=4, alpha=0.45, solid_capstyle="butt", zorder=2)
    axis.plot([middle, middle], [y - 0.22, y + 0.22], color=hue, linewidth=2, zorder=3)


def _label_feet(axes: Sequence[Axes], count: int, columns: int, words: str) -> None:
    for index, axis in enumerate(axes):
        axis.set_visible(index < count)
        if index < count <= index + columns:
            axis.set_xlabel(words, loc="left", labelpad=4)
