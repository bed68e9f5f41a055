"""The measures of one run on one time axis, a panel each, with their limits and where they set in."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.diagnosis.signs import Onset
from benchmark.diagnosis.why import Account
from benchmark.drawing.style import INK, SOFT, WIDE, canvas, color, styled
from benchmark.records.store import RETURN
from benchmark.words import number

ALARM = "#d1495b"


@styled
def course(account: Account, width: float = WIDE) -> Figure:
    """The return, then every sign that could be judged, those that set in first and in time."""
    shown = account.onsets
    columns = 3 if width > 6 else 1
    rows = math.ceil((len(shown) + 1) / columns)
    figure, axes = canvas(width, rows, columns, 0.95, left=0.6, gap=0.62, title=0.3, head=0.1, below=0.3)
    _line(axes[0], account.course[RETURN], "Return", color(account.record.spec.method))
    for axis, sign in zip(axes[1:], shown, strict=False):
        _sign(axis, sign)
    steps = account.course.table.index.to_numpy(float)
    for index, axis in enumerate(axes):
        axis.set_visible(index <= len(shown))
        axis.set_xlim(0, steps[-1] if len(steps) else 1)
        axis.locator_params(axis="x", nbins=4)
        axis.xaxis.set_major_formatter(lambda v, _: f"{v / 1000:g}k" if v else "0")
        if index + columns > len(shown):
            axis.set_xlabel("env steps", loc="left", labelpad=4)
    return figure


def _line(axis: Axes, values: pd.Series, title: str, hue: str) -> None:
    axis.set_title(title, pad=5, fontsize=8)
    axis.plot(values.index, values.to_numpy(), color=hue, linewidth=1.4, marker="o", markersize=2.4, zorder=3)
    axis.locator_params(axis="y", nbins=4)
    axis.yaxis.set_major_formatter(lambda v, _: number(v))
    axis.grid(axis="y", zorder=0)


def _sign(axis: Axes, onset: Onset) -> None:
    """A sign over time, linear up to its limit and logarithmic beyond."""
    values, limit = onset.values.replace([np.inf, -np.inf], np.nan), onset.sign.limit
    _line(axis, values, onset.sign.title, SOFT if onset.at is None else INK)
    highest = max(float(values.max()) if values.notna().any() else 0.0, limit)
    axis.set_yscale("symlog", linthresh=limit, linscale=1.0)
    decades = max(round(math.log10(highest / limit)), 0)
    axis.set_yticks(sorted({0.0, limit, limit * 10.0**decades}))
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(lambda v, _: number(v))
    axis.set_ylim(0.0, highest * 1.4)
    axis.axhline(limit, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    if onset.at is not None:
        axis.axvspan(onset.before, onset.at, color=ALARM, alpha=0.18, linewidth=0, zorder=0)
        axis.plot([onset.at], [min(onset.value, highest)], "o", color=ALARM, markersize=4.5, zorder=4, clip_on=False)
