"""Marks that pictures of effects share: a dot on its interval, and axes about no effect."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from benchmark.drawing.style import SOFT
from benchmark.words import minus


def marked(axis: Axes, value: float, low: float, high: float, y: float, hue: str, marker: str, hollow: bool) -> None:
    """A dot on its interval; without a line where a bound is infinite."""
    if np.isfinite([low, high]).all():
        axis.plot([low, high], [y, y], color=hue, linewidth=1.3, alpha=0.65, zorder=2, solid_capstyle="round")
    face = "white" if hollow else hue
    axis.plot([value], [y], marker, color=hue, markerfacecolor=face, markersize=4.2, markeredgewidth=1.0, zorder=3)


def limits_of(values: np.ndarray) -> tuple[float, float]:
    """Of all finite values and 0, with a margin."""
    finite = np.append(values[np.isfinite(values)], 0.0)
    margin = 0.05 * float(np.ptp(finite)) or 0.5
    return float(finite.min()) - margin, float(finite.max()) + margin


def zeroed(axis: Axes, limits: tuple[float, float], label: str) -> None:
    """An axis with a rule at no effect and its name below."""
    axis.set_xlim(*limits)
    axis.axvline(0.0, color=SOFT, linewidth=0.9, zorder=1)
    axis.grid(axis="x", zorder=0)
    axis.set_axisbelow(True)
    axis.xaxis.set_major_formatter(lambda v, _: minus(f"{v:g}"))
    axis.set_xlabel(label, loc="left", labelpad=5)


def powers(axis: Axes, limits: tuple[float, float]) -> None:
    """Ticks of a base-10 logarithm in plain numbers, few enough for the panel."""
    span = limits[1] - limits[0]
    steps: tuple[float, ...] = (1, 2, 5) if span < 1.8 else (1, 3) if span < 3 else (1,)
    marks = [m * 10.0**e for e in range(-6, 9) for m in steps if limits[0] <= np.log10(m * 10.0**e) <= limits[1]]
    axis.set_xticks([float(np.log10(m)) for m in marks], [f"{m:,g}" for m in marks])
