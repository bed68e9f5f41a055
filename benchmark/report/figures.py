"""Pictures of scores: every seed a dot or a line.

Each function takes tidy frames of records and a width in inches and returns a matplotlib figure. Nothing here reads
records or verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.drawing.axes import stretch
from benchmark.drawing.style import BAND, MARKERS, SOFT, TRUE, WIDE, canvas, color, legend, striped_rows, styled
from benchmark.words import minus, task_name


@dataclass(frozen=True)
class Axis:
    """How values lie on a line: `forward` to linear position, which ticks to offer, what a reference line marks."""

    label: str
    notes: tuple[str, ...] = ()
    forward: Callable[[Any], Any] = np.asarray
    inverse: Callable[[Any], Any] = np.asarray
    ticks: tuple[float, ...] | None = None
    reference: float | None = None
    tick: Callable[[float], str] = "{:g}".format


R2 = Axis(
    label="held-out reward R²",
    notes=("0 = a constant guess, 1 = perfect", "logarithmic in 1 \N{MINUS SIGN} R²"),
    forward=lambda v: -np.log10(np.maximum(1 - np.asarray(v, dtype=float), 1e-4)),
    inverse=lambda t: 1 - 10.0 ** -np.asarray(t, dtype=float),
    ticks=(-10_000, -1_000, -100, -10, -1, 0, 0.5, 0.9, 0.99, 0.999),
    reference=0.0,
    tick=lambda v: minus(f"{v:g}"),
)
RATIO = Axis(
    label="spread of predicted / spread of true rewards",
    notes=("1 = right", "logarithmic"),
    forward=lambda v: np.log10(np.maximum(np.asarray(v, dtype=float), 1e-9)),
    inverse=lambda t: 10.0 ** np.asarray(t, dtype=float),
    ticks=(0.001, 0.01, 0.1, 0.5, 1, 2, 10, 100, 1_000),
    reference=1.0,
    tick=lambda v: f"{v:,g}",
)


@styled
def dots(
    panels: Sequence[tuple[pd.DataFrame, Axis]], tasks: Sequence[str], methods: Sequence[str], width: float = WIDE
) -> Figure:
    """One row per task, one dot per seed, a bar at the median; one panel per frame ``task, method, seed, value``.

    Panels lie side by side where the width allows, else below each other; all span the same values.
    """
    beside = width > 6
    row = 0.13 + 0.13 * len(methods)
    height = row * len(tasks)
    columns, rows = (len(panels), 1) if beside else (1, len(panels))
    foot = 0.5 if beside else 0.5 + 0.14 * max(len(scale.notes) for _, scale in panels)
    left = 1.45 if beside else 1.12
    figure, axes = canvas(width, rows, columns, height, left=left, gap=0.25, foot=foot, below=foot + 0.12)
    values = np.concatenate([frame["value"].to_numpy(float) for frame, _ in panels])
    for axis, (frame, scale) in zip(axes, panels, strict=True):
        labels = [_label(task, frame) for task in tasks]
        striped_rows(axis, labels if axis is axes[0] or not beside else [""] * len(tasks))
        for position, task in enumerate(tasks):
            for index, method in enumerate(methods):
                y = position + (index - (len(methods) - 1) / 2) * 0.72 / len(methods)
                here = frame.loc[(frame["task"] == task) & (frame["method"] == method), "value"].to_numpy(float)
                _seeds(axis, scale.forward(here[np.isfinite(here)]), y, method)
        _scaled(axis, scale, values, (width - 1.5) / columns)
    legend(figure, methods)
    return figure


@styled
def bins(frame: pd.DataFrame, tasks: Sequence[str], methods: Sequence[str], width: float = WIDE) -> Figure:
    """Predicted reward by tenth of the true one, a panel per task: true thick and grey, a thin line per seed.

    A panel holds all true rewards and the middle nine tenths of the predictions; those beyond are triangles.
    """
    columns = 3 if width > 6 else 2
    rows = math.ceil(len(tasks) / columns)
    figure, axes = canvas(width, rows, columns, 1.45, left=0.66, gap=0.62, title=0.3)
    for axis, task in zip(axes, tasks, strict=False):
        here = frame[frame["task"] == task]
        low, high = _span(here)
        axis.set_title(task_name(task), pad=5)
        true = here.groupby("bin")["true"].mean()
        axis.plot(true.index + 1, true, color=TRUE, linewidth=4.5, alpha=0.55, zorder=2, solid_capstyle="round")
        for method in methods:
            for _, seed in here[here["method"] == method].groupby("seed"):
                _within(axis, seed["bin"].to_numpy(float) + 1, seed["predicted"].to_numpy(float), low, high, method)
        axis.set_xlim(0.7, 10.3)
        axis.set_xticks([1, 4, 7, 10])
        axis.set_ylim(low, high)
        axis.locator_params(axis="y", nbins=4)
        axis.grid(axis="y", zorder=0)
        axis.yaxis.set_major_formatter(lambda v, _: minus(f"{v:g}"))
    for axis in axes[len(tasks) :]:
        axis.set_visible(False)
    _outer_labels(axes, len(tasks), columns, "tenth of the true reward", "reward")
    marks = [
        ("true", Line2D([], [], color=TRUE, linewidth=4, alpha=0.55)),
        ("beyond the panel", Line2D([], [], linestyle="", marker="^", color=SOFT, markersize=4)),
    ]
    legend(figure, methods, lines=True, extra=marks)
    return figure


def _within(axis: Axes, x: Any, y: Any, low: float, high: float, method: str) -> None:
    """A line that stays in the panel, and a triangle wherever it would have left."""
    axis.plot(x, np.clip(y, low, high), color=color(method), linewidth=1.0, alpha=0.75, zorder=3)
    look: dict[str, Any] = {
        "color": color(method),
        "markersize": 3.5,
        "markeredgewidth": 0,
        "clip_on": False,
        "zorder": 4,
    }
    axis.plot(x[y > high], np.full((y > high).sum(), high), "^", **look)
    axis.plot(x[y < low], np.full((y < low).sum(), low), "v", **look)


@styled
def curves(
    frame: pd.DataFrame,
    tasks: Sequence[str],
    methods: Sequence[str],
    width: float = WIDE,
    windows: Iterable[tuple[float, float]] = (),
    measured: str = "return of an episode",
) -> Figure:
    """A measure against env steps: every seed a thin line, their mean a thick one, `windows` of the score shaded.

    Where values span orders of magnitude the axis is stretched and the thick line is the median.
    """
    columns = min(len(tasks), 3 if width > 6 else 1)
    rows = math.ceil(len(tasks) / columns)
    height = 2.5 if columns == 1 else 1.9
    figure, axes = canvas(width, rows, columns, height, left=0.62, gap=0.55, title=0.3)
    for axis, task in zip(axes, tasks, strict=False):
        here = frame[frame["task"] == task]
        last = here["env_steps"].max()
        axis.set_title(task_name(task), pad=5)
        stretched = stretch(axis, here["episode_return"])
        for low, high in windows:
            if (low, high) != (0.0, 1.0) and high > low:
                axis.axvspan(low * last, high * last, color=BAND, zorder=0, linewidth=0)
        for method in methods:
            wide = here[here["method"] == method].pivot(index="env_steps", columns="seed", values="episode_return")
            for seed in wide.columns:
                axis.plot(wide.index, wide[seed], color=color(method), linewidth=0.7, alpha=0.4, zorder=2)
            if len(wide):
                middle = wide.median(axis=1) if stretched else wide.mean(axis=1)
                axis.plot(wide.index, middle, color=color(method), linewidth=2, zorder=3, solid_capstyle="round")
        axis.set_xlim(0, last)
        axis.grid(axis="y", zorder=0)
        axis.xaxis.set_major_formatter(lambda v, _: f"{v / 1000:g}k" if v else "0")
        axis.locator_params(axis="x", nbins=5)
        if not stretched:
            axis.locator_params(axis="y", nbins=5)
            axis.yaxis.set_major_formatter(lambda v, _: minus(f"{v:,g}"))
    for axis in axes[len(tasks) :]:
        axis.set_visible(False)
    _outer_labels(axes, len(tasks), columns, "env steps", measured)
    legend(figure, methods, lines=True)
    return figure


def _seeds(axis: Axes, positions: np.ndarray, y: float, method: str) -> None:
    if not len(positions):
        return
    marker = MARKERS.get(method, "o")
    axis.plot(
        positions,
        np.full(len(positions), y),
        marker,
        color=color(method),
        markersize=4.2,
        alpha=0.7,
        markeredgewidth=0,
        zorder=3,
    )
    axis.plot([float(np.median(positions))] * 2, [y - 0.09, y + 0.09], color=color(method), linewidth=1.6, zorder=4)


def _label(task: str, frame: pd.DataFrame) -> str:
    """The task, and how many seeds have the number where not all do."""
    rows = frame[frame["task"] == task]
    lacking = rows.loc[~np.isfinite(rows["value"].astype(float)), "seed"].nunique()
    seeds = rows["seed"].nunique()
    return task_name(task) + (f"\nonly {seeds - lacking} of {seeds} seeds" if lacking else "")


def _scaled(axis: Axes, scale: Axis, values: np.ndarray, width: float) -> None:
    """Ticks of the scale inside the data, thinned to the width, and the reference line."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        finite = np.array([scale.reference or 0.0])
    marks = np.append(finite, [] if scale.reference is None else [scale.reference])
    low, high = float(np.min(scale.forward(marks))), float(np.max(scale.forward(marks)))
    margin = 0.06 * (high - low) or 0.5
    axis.set_xlim(low - margin, high + margin)
    if scale.ticks is not None:
        inside = [t for t in scale.ticks if low - margin <= scale.forward(t) <= high + margin]
        inside = _apart(scale, inside, 0.38 * (high - low + 2 * margin) / width)
        axis.set_xticks([float(scale.forward(t)) for t in inside], [scale.tick(t) for t in inside])
    else:
        axis.locator_params(axis="x", nbins=max(3, int(width * 1.3)))
        axis.xaxis.set_major_formatter(lambda v, _: minus(f"{v:g}"))
    axis.grid(axis="x", zorder=0)
    axis.set_axisbelow(True)
    if scale.reference is not None:
        axis.axvline(float(scale.forward(scale.reference)), color=SOFT, linewidth=0.9, zorder=1)
    between = "\n" if width < 3.5 else ", "
    axis.set_xlabel(between.join([scale.label, *scale.notes]), loc="left", labelpad=5)


def _apart(scale: Axis, ticks: Sequence[float], gap: float) -> list[float]:
    """Those of the ticks whose labels keep `gap` from each other; the nearest to the reference come first."""
    kept: list[float] = []
    for tick in sorted(ticks, key=lambda t: abs(scale.forward(t) - scale.forward(scale.reference or 0.0))):
        if all(abs(scale.forward(tick) - scale.forward(other)) >= gap for other in kept):
            kept.append(tick)
    return sorted(kept)


def _span(here: pd.DataFrame) -> tuple[float, float]:
    """Limits that hold every true reward and the middle nine tenths of the predictions."""
    low, high = (
        min(here["true"].min(), here["predicted"].quantile(0.05)),
        max(here["true"].max(), here["predicted"].quantile(0.95)),
    )
    margin = 0.1 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _outer_labels(axes: Sequence[Axes], count: int, columns: int, below: str, beside: str) -> None:
    """Axis names once per column and row."""
    for index, axis in enumerate(axes[:count]):
        if index + columns >= count:
            axis.set_xlabel(below, loc="left", labelpad=4)
        if index % columns == 0:
            axis.set_ylabel(beside, labelpad=4)
