"""The toys: how far each arm stays from the optimum that Riccati gives, and which knob turned which measure.

A toy's best return is known in closed form and is its `reference_score`. Returns there are costs, so an arm's cost over
the optimal one is 1 at best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from benchmark.drawing.style import CELL, INK, WIDE, canvas, color, styled
from benchmark.judging import stats
from benchmark.records.frames import matrix
from benchmark.records.store import RETURN
from benchmark.report import figures
from benchmark.suite.load import Suite
from benchmark.words import minus, task_name

FINAL = 0.5
"""Share of training after which evaluations count, as in the claims on toys."""
COST = figures.Axis(
    label="cost over the optimal cost",
    notes=("1 = optimal", "logarithmic"),
    forward=lambda v: np.log10(np.maximum(np.asarray(v, dtype=float), 1e-3)),
    inverse=lambda t: 10.0 ** np.asarray(t, dtype=float),
    ticks=(1, 1.5, 2, 3, 5, 10, 20, 50, 100),
    reference=1.0,
)
BAD = LinearSegmentedColormap.from_list("bad", ["#ffffff", "#f6d9cf", color("mbpo")])


@dataclass(frozen=True)
class Sign:
    """One column block of the signature table: a fit measure, and how bad ``[0, 1]`` its medians are."""

    measure: str
    title: str
    bad: Callable[[np.ndarray], np.ndarray]


SIGNS = (
    Sign("reward_r2", "reward R²", lambda v: np.clip(1 - v, 0, 1)),
    Sign("calibration_obs", "predicted / actual error", lambda v: np.clip(-np.log(v) / np.log(4), 0, 1)),
    Sign(
        "error_over_delta",
        "error, % of the increment",
        lambda v: np.clip(np.log(v / np.fmin.reduce(v)) / np.log(10), 0, 1),
    ),
)
"""One per knob: tiny rewards, variances beyond the ceiling, smooth steps. Errors are shaded by their row's least."""


def costs(curves: pd.DataFrame, suite: Suite) -> pd.DataFrame:
    """``task, method, seed, value``: mean cost over the second half of training, over the optimal cost."""
    best = {t: e.reference_score for t, e in suite.tasks.items() if e.suite == "toy" and e.reference_score is not None}
    here = curves[curves["task"].isin(best)]
    last = here.groupby("task")["env_steps"].transform("max")
    means = here[here["env_steps"] >= FINAL * last].groupby(["task", "method", "seed"], sort=False)[RETURN].mean()
    frame = means.rename("value").reset_index()
    frame["value"] = frame["value"] / frame["task"].map(best)
    return frame


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """``task, method, iqm, interval_low, interval_high, seeds`` of `costs`, the interval rliable's."""
    rows = []
    for task, here in frame.groupby("task", sort=False):
        scores = {method: matrix(part, "value") for method, part in here.groupby("method", sort=False)}
        for method, found in stats.interval_estimates(scores, aggregates=["iqm"], repetitions=1_000).items():
            rows.append((task, method, *found["iqm"], len(scores[method])))
    return pd.DataFrame(rows, columns=["task", "method", "iqm", "interval_low", "interval_high", "seeds"])


@styled
def signatures(scalars: pd.DataFrame, tasks: Sequence[str], methods: Sequence[str], width: float = WIDE) -> Figure:
    """A row per toy, a column per arm, a panel per sign: the median over seeds, shaded by how bad it is.

    `scalars` has ``task, method, seed, measure, value``.
    """
    beside = width > 6
    rows, columns = (1, len(SIGNS)) if beside else (len(SIGNS), 1)
    height = 0.24 * len(tasks) + 0.05
    figure, axes = canvas(width, rows, columns, height, left=1.25, gap=0.15, head=1.35, foot=0.32, below=1.7)
    for index, (axis, sign) in enumerate(zip(axes, SIGNS, strict=True)):
        here = scalars[scalars["measure"] == sign.measure]
        medians = here.pivot_table(index="task", columns="method", values="value", aggfunc="median")
        values = medians.reindex(index=list(tasks), columns=list(methods)).to_numpy(float)
        _cells(axis, values, np.array([sign.bad(row) for row in values]))
        axis.set_yticks(range(len(tasks)), [task_name(t) for t in tasks] if index == 0 or not beside else [])
        axis.set_xticks(range(len(methods)), methods, rotation=90)
        axis.tick_params(length=0, labelcolor=INK, top=False, labeltop=True, bottom=False, labelbottom=False)
        axis.set_xlabel(sign.title, loc="left")
    return figure


def _cells(axis: Axes, values: np.ndarray, bad: np.ndarray) -> None:
    """The matrix as shaded cells with their numbers."""
    axis.imshow(np.ma.masked_invalid(bad), cmap=BAD, vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            axis.text(column, row, _short(value), ha="center", va="center", fontsize=7, color=CELL)
    for side in axis.spines.values():
        side.set_visible(False)


def _short(value: float) -> str:
    """Two digits, whole numbers from ten on; what lies below -99 is as lost as can be."""
    if value <= -99.5:
        return minus("<-99")
    return minus(f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.2g}")
