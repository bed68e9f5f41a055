"""The probes' pictures: bias and return against the share of synthetic rows, and the chain over tasks and arms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.drawing.style import MARKERS, SOFT, WIDE, canvas, color, legend, styled
from benchmark.words import minus, task_name

INTERVALS = "Lines are 90 % intervals over seeds; a dot without one has too few seeds for any."
BIAS = "bias, in reward a step"
GAIN = "return gained"
_PER_ROW = 4


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    """Every picture whose table has rows."""
    frame, points = tables["shares"], tables["points"]
    pictures = {}
    for name, measure, label in (("bias", "bias_per_step", BIAS), ("gain", "gain", GAIN)):
        of_measure = frame[(frame["measure"] == measure) & frame["centre"].notna()]
        if len(of_measure):
            pictures[name] = against_share(of_measure, label)
    if len(points[["reward_unexplained", "shift_per_step", "gain_over_real"]].dropna()):
        pictures["chain"] = chain(points)
    return pictures


@styled
def against_share(frame: pd.DataFrame, label: str) -> Figure:
    """A measure against the share of synthetic rows: panels are tasks, lines arms; `frame` is of ``shares``."""
    tasks, methods = list(dict.fromkeys(frame["task"])), list(dict.fromkeys(frame["method"]))
    columns = min(_PER_ROW, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    figure, axes = canvas(WIDE, rows, columns, 1.45, left=0.62, gap=0.5, title=0.24, below=0.4)
    for axis, task in zip(axes, tasks, strict=False):
        axis.set_title(task_name(task), pad=4)
        for index, method in enumerate(methods):
            of_arm = frame[(frame["task"] == task) & (frame["method"] == method)].sort_values("share")
            _line(axis, of_arm, method, 1.6 * (index - (len(methods) - 1) / 2))
        axis.axhline(0.0, color=SOFT, linewidth=0.9, zorder=1)
        axis.set_xticks(sorted(set(frame["share"])))
        _quiet(axis)
    for axis in axes[len(tasks) :]:
        axis.set_visible(False)
    for index in range(0, len(tasks), columns):
        axes[index].set_ylabel(label, fontsize=7.5)
    for axis in axes[max(0, len(tasks) - columns) : len(tasks)]:
        axis.set_xlabel("synthetic rows, %", loc="left")
    legend(figure, methods)
    subject = {
        BIAS: "Bias of critics of a fixed policy against its soft return, as the reward a step that accounts for it",
        GAIN: "Return of the policy that was reached less that of the policy before",
    }[label]
    figure.set_label(f"{subject}, against the share of synthetic rows in a batch. {INTERVALS}")
    return figure


def _line(axis: Axes, points: pd.DataFrame, method: str, aside: float) -> None:
    """A line of centres with their intervals, shifted by `aside` so that arms do not overlap."""
    x = points["share"].to_numpy(float) + aside
    hue, marker = color(method), MARKERS.get(method, "o")
    axis.plot(x, points["centre"], color=hue, linewidth=1.2, marker=marker, markersize=3.8, markeredgewidth=0, zorder=3)
    for at, low, high in zip(x, points["low"], points["high"], strict=True):
        if np.isfinite([low, high]).all():
            axis.plot([at, at], [low, high], color=hue, linewidth=1.2, alpha=0.55, zorder=2)


@styled
def chain(points: pd.DataFrame) -> Figure:
    """Two links, a dot per task and arm: model against critic, and critic against policy; `points` is the table."""
    methods = list(dict.fromkeys(points["method"]))
    figure, axes = canvas(WIDE, 1, 2, 2.6, left=0.62, gap=0.75, foot=0.55)
    labels = ("1 \N{MINUS SIGN} R\u00b2 of the model's reward", "shift of the critic's bias, in reward a step",
              "return gained beyond real rows")  # fmt: skip
    links: Sequence[tuple[str, str]] = (("reward_unexplained", "shift_per_step"), ("shift_per_step", "gain_over_real"))
    for axis, (cause, effect), (x_label, y_label) in zip(axes, links, pairwise(labels), strict=True):
        for method in methods:
            of_arm = points[points["method"] == method]
            marker, hue = MARKERS.get(method, "o"), color(method)
            axis.plot(of_arm[cause], of_arm[effect], marker, color=hue, markersize=4.6, markeredgewidth=0)
        axis.axhline(0.0, color=SOFT, linewidth=0.9, zorder=1)
        axis.set_xlabel(x_label, loc="left")
        axis.set_ylabel(y_label)
        if cause == "reward_unexplained" and (points[cause].dropna() > 0).all():
            axis.set_xscale("log")
            axis.set_yscale("symlog", linthresh=0.1)
        else:
            axis.set_xscale("symlog", linthresh=0.1)
            _quiet(axis, "y")
        axis.grid(zorder=0)
        axis.set_axisbelow(True)
    legend(figure, methods)
    figure.set_label(
        "The chain from model to critic to policy at the largest share of synthetic rows, a dot a task and arm, "
        "medians over seeds. Left: what the model's reward misses against what the critic shifts. Right: that shift "
        "against the return gained beyond real rows alone."
    )
    return figure


def _quiet(axis: Axes, which: Literal["both", "x", "y"] = "y") -> None:
    axis.grid(axis="y", zorder=0)
    axis.set_axisbelow(True)
    axis.locator_params(axis=which, nbins=4)
    axis.yaxis.set_major_formatter(lambda v, _: minus(f"{v:g}"))
