"""Pictures of cost and of precisions compared."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.drawing.style import BAND, INK, SOFT, WIDE, canvas, color, striped_rows, styled
from benchmark.words import minus

AXES = {"runs": "runs in lockstep", "threads": "CPU threads", "obs_dim": "observations"}
MEASURED = "#2a7fc0"


@styled
def scaling(frame: pd.DataFrame, width: float = WIDE) -> Figure:
    """Seconds of an env step of one run along each axis, and of its arithmetic at the speed of torch's product.

    `frame` is of `scaling.table`.
    """
    axis_names = [axis for axis in AXES if (frame["axis"] == axis).sum() > 1]
    columns = len(axis_names) if width > 6 else 1
    rows = 1 if width > 6 else max(len(axis_names), 1)
    figure, axes = canvas(width, rows, max(columns, 1), 1.9, left=0.62, gap=0.5, title=0.1, below=0.55)
    for axis, name in zip(axes, axis_names, strict=False):
        points = frame[frame["axis"] == name].sort_values("value")
        axis.plot(points["value"], points["counted"], color=SOFT, linewidth=1.2, zorder=2)
        axis.plot(points["value"], points["seconds"], "o-", color=MEASURED, markersize=4, linewidth=1.6, zorder=3)
        _logarithmic(axis, sorted(set(points["value"])))
        axis.set_ylim(0, float(max(points["seconds"].max(), points["counted"].max())) * 1.12)
        axis.grid(axis="y", zorder=0)
        axis.set_xlabel(AXES[name], loc="left")
    axes[0].set_ylabel("s per env step per run")
    handles = [
        Line2D([], [], color=MEASURED, marker="o", markersize=4, linewidth=1.6),
        Line2D([], [], color=SOFT, linewidth=1.2),
    ]
    labels = ["measured", "its arithmetic at the speed of torch's product in the same process"]
    figure.legend(handles, labels, loc="upper left", ncol=2 if width > 6 else 1, frameon=False, borderaxespad=0.2)
    return figure


def _logarithmic(axis: Axes, values: list[int]) -> None:
    axis.set_xscale("log", base=2)
    ticks = [value for i, value in enumerate(values) if i == 0 or value >= 1.3 * values[i - 1]]
    axis.set_xticks(ticks, [f"{value}" for value in ticks])
    axis.minorticks_off()


@styled
def precision(frame: pd.DataFrame, width: float = WIDE) -> Figure:
    """Each comparison's shift and interval in units of its margin; inside the band the precisions are equivalent.

    `frame` is of `precision.figure_rows`; bounds beyond the picture end at its edge.
    """
    labels = list(dict.fromkeys(frame["label"]))
    beyond = 2.0
    figure, axes = canvas(width, 1, 1, 0.2 * len(labels) + 0.1, left=2.6 if width > 6 else 1.9, gap=0, head=0.3)
    axis = axes[0]
    striped_rows(axis, labels)
    axis.axvspan(-1, 1, color=BAND, linewidth=0, zorder=0)
    for bound in (-1, 1):
        axis.axvline(bound, color=SOFT, linewidth=0.9, zorder=1)
    methods = list(dict.fromkeys(frame["method"]))
    for row in frame.itertuples(index=False):
        y = labels.index(row.label) + 0.22 * (methods.index(row.method) - (len(methods) - 1) / 2) * 1.6
        low, middle, high = (
            min(max(float(value) / float(row.margin), -beyond), beyond) for value in (row.low, row.effect, row.high)
        )
        axis.plot([low, high], [y, y], color=color(row.method), linewidth=2.2, alpha=0.5, zorder=2)
        axis.plot(middle, y, "o", color=color(row.method), markersize=3.6, zorder=3)
    axis.set_xlim(-beyond, beyond)
    axis.set_xticks([-2, -1, 0, 1, 2], [minus(f"{tick}") for tick in (-2, -1, 0, 1, 2)])
    axis.tick_params(axis="y", labelsize=7)
    axis.set_xlabel("shift between the precisions, in margins", loc="left")
    handles = [Line2D([], [], color=color(m), marker="o", markersize=4, linewidth=2) for m in methods]
    figure.legend(handles, methods, loc="upper left", ncol=4, frameon=False, borderaxespad=0.2, labelcolor=INK)
    return figure
