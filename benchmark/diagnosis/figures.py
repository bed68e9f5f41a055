"""Pictures of one diagnosis: what the arms predict, in which units, and what the data look like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.diagnosis.signatures import Measured
from benchmark.drawing.style import BAND, INK, MARKERS, SOFT, TRUE, WIDE, canvas, color, legend, styled
from benchmark.words import minus

SHOWN = ("mbpo", "norm-only", "direct-only", "ftfl")
"""Arms of the pictures by dimension: all corners of the paper's two changes."""
Groups = Mapping[str, Sequence[int]]


@styled
def rewards(m: Measured, width: float = WIDE) -> Figure:
    """Predicted against true reward, a panel an arm, a line a seed, a dot a tenth of the held-out transitions."""
    arms = list(m.values)
    columns = 3 if width > 6 else 2
    rows = math.ceil(len(arms) / columns)
    figure, axes = canvas(width, rows, columns, 1.6, left=0.7, gap=0.62, title=0.3, head=0.3)
    true = np.concatenate([m.of(arm, "reward_true_bin") for arm in arms])
    low, high = float(true.min()), float(true.max())
    margin = 0.35 * (high - low) or 0.5
    for axis, arm in zip(axes, arms, strict=False):
        axis.set_title(arm, pad=5)
        axis.plot([low, high], [low, high], color=TRUE, linewidth=4, alpha=0.5, zorder=2, solid_capstyle="round")
        for x, y in zip(m.of(arm, "reward_true_bin"), m.of(arm, "reward_pred_bin"), strict=True):
            _inside(axis, x, y, low - margin, high + margin, arm)
        axis.set_ylim(low - margin, high + margin)
        axis.set_xlim(low - 0.06 * (high - low + 1e-12), high + 0.06 * (high - low + 1e-12))
        axis.locator_params(axis="y", nbins=4)
        axis.locator_params(axis="x", nbins=4 if width > 6 else 1)
        axis.grid(axis="y", zorder=0)
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_formatter(lambda v, _: minus(f"{v:.3g}"))
    for index, axis in enumerate(axes):
        axis.set_visible(index < len(arms))
        if index % columns == 0:
            axis.set_ylabel("predicted", labelpad=4)
        if index + columns >= len(arms):
            axis.set_xlabel("true reward", loc="left", labelpad=4)
    marks = [("right", TRUE, "", 4.0), ("beyond the panel", SOFT, "^", 0.0)]
    handles = [Line2D([], [], color=c, marker=k, markersize=4, linewidth=w, alpha=0.8) for _, c, k, w in marks]
    figure.legend(handles, [name for name, *_ in marks], loc="upper left", bbox_to_anchor=(0, 1), ncol=2,
                  frameon=False, handlelength=1.1, borderaxespad=0.2)  # fmt: skip
    return figure


def _inside(axis: Axes, x: Any, y: Any, low: float, high: float, arm: str) -> None:
    """A line that stays in the panel, dots where the values are, triangles where they are beyond."""
    look: dict[str, Any] = {"color": color(arm), "markeredgewidth": 0, "clip_on": False, "zorder": 4, "alpha": 0.8}
    axis.plot(x, np.clip(y, low, high), color=color(arm), linewidth=1.0, alpha=0.6, zorder=3)
    for which, marker in ((y > high, "^"), (y < low, "v"), ((y >= low) & (y <= high), "o")):
        axis.plot(x[which], np.clip(y[which], low, high), marker, markersize=3.4, **look)


@styled
def variances(m: Measured, groups: Groups, bounds: tuple[float, float], width: float = WIDE) -> Figure:
    """Mean log-variance of each observation in target space, above, and in the environment's units, below."""
    figure, axes = canvas(width, 2, 1, 1.75, left=0.62, gap=0.3, title=0.3, foot=_foot(groups), below=0.25)
    for axis, measure, title in (
        (axes[0], "dim_logvar_target", "log-variance in target space"),
        (axes[1], "dim_logvar_raw", "log-variance in the environment's units"),
    ):
        axis.set_title(title, pad=5)
        _by_dimension(axis, m, groups, measure, named=axis is axes[1])
        axis.yaxis.set_major_formatter(lambda v, _: minus(f"{v:g}"))
        axis.grid(axis="y", zorder=0)
    for bound in bounds:
        axes[0].axhline(bound, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    legend(figure, SHOWN, extra=[("bounds", Line2D([], [], color=SOFT, linewidth=0.9, linestyle=(0, (4, 3))))])
    return figure


@styled
def calibration(m: Measured, groups: Groups, width: float = WIDE) -> Figure:
    """Predicted standard deviation over actual error of each observation: 1 is calibrated."""
    figure, axes = canvas(width, 1, 1, 1.9, left=0.62, gap=0.3, foot=_foot(groups))
    _by_dimension(axes[0], m, groups, "dim_calibration", named=True)
    _ratio_axis(axes[0])
    legend(figure, SHOWN)
    return figure


@styled
def increments(m: Measured, groups: Groups, width: float = WIDE) -> Figure:
    """Var(next - now) / Var(next) of each observation, a row a group: above 1 the increment varies more."""
    names = [name for name, dims in groups.items() if m.varies[list(dims)].any()]
    left = 0.35 + 0.075 * max([len(name) for name in names] or [4])
    figure, axes = canvas(width, 1, 1, 0.3 * max(len(names), 1) + 0.1, left=left, gap=0.3, head=0.15)
    axis, ratios = axes[0], m.geometry["increment_ratio"]
    for row, name in enumerate(names):
        for seed in ratios:
            x = seed[[i for i in groups[name] if m.varies[i]]]
            axis.plot(
                x[x > 0], np.full((x > 0).sum(), row), "o", color=INK, markersize=3.8, alpha=0.35, markeredgewidth=0
            )
        if row % 2:
            axis.axhspan(row - 0.5, row + 0.5, color=BAND, linewidth=0, zorder=0)
    axis.set_xscale("log")
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.axvline(1.0, color=SOFT, linewidth=0.9, zorder=1)
    axis.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axis.minorticks_off()
    axis.set_xlabel("variance of the increment / variance of the next observation", loc="left", labelpad=5)
    return figure


def _by_dimension(axis: Axes, m: Measured, groups: Groups, measure: str, named: bool) -> None:
    """One column an observation, in the order of groups; the median over seeds of each arm."""
    position = 0
    centres: list[tuple[str, float]] = []
    for index, (name, members) in enumerate(groups.items()):
        varying = [i for i in members if m.varies[i]]
        if index % 2 and varying:
            axis.axvspan(position - 0.5, position + len(varying) - 0.5, color=BAND, linewidth=0, zorder=0)
        for shift, arm in zip((-0.24, -0.08, 0.08, 0.24), SHOWN, strict=True):
            y = np.median(m.of(arm, measure), axis=0)[varying]
            x = np.arange(position, position + len(varying)) + shift
            axis.plot(x, y, MARKERS[arm], color=color(arm), markersize=3.2, alpha=0.85, markeredgewidth=0, zorder=3)
        if varying:
            centres.append((name, position + (len(varying) - 1) / 2))
        position += len(varying)
    axis.set_xlim(-0.8, max(position, 1) - 0.2)
    axis.tick_params(axis="x", length=0, labelcolor=INK)
    slanted = len(centres) > 1
    axis.set_xticks(
        [centre for _, centre in centres], [name if named else "" for name, _ in centres],
        rotation=28 if slanted else 0, ha="right" if slanted else "center",
    )  # fmt: skip


@styled
def trials(check: Mapping[str, Any], width: float = WIDE) -> Figure:
    """Learning curves with and without the advice: a thin line a seed, a thick one a side's mean."""
    figure, (axis,) = canvas(width, 1, 1, 2.4, left=0.75, gap=0.0, title=0.1)
    hues = dict(zip(check["arms"], (color("mbpo"), color("ftfl"), color("sac")), strict=True))
    for name, arm in check["arms"].items():
        for curve in arm["curves"]:
            axis.plot(arm["env_steps"], curve, color=hues[name], linewidth=0.7, alpha=0.4, zorder=2)
        axis.plot(arm["env_steps"], np.mean(arm["curves"], axis=0), color=hues[name], linewidth=2.0, zorder=3)
        axis.plot([], [], color=hues[name], linewidth=2.0, label=name)
    axis.axhline(check["random"]["mean"], color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axis.set_xlabel("env steps", loc="left")
    axis.set_ylabel("return of an episode")
    axis.yaxis.set_major_formatter(lambda v, _: minus(f"{v:.3g}"))
    axis.grid(axis="y", zorder=0)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=3 if width > 6 else 1, frameon=False)
    return figure


def _foot(groups: Groups) -> float:
    """Inches below the axis for slanted names of groups."""
    return 0.22 + (0.03 * max(len(name) for name in groups) if len(groups) > 1 else 0.1)


def _ratio_axis(axis: Axes) -> None:
    axis.set_yscale("log")
    axis.axhline(1.0, color=SOFT, linewidth=0.9, zorder=1)
    for bound in (0.5, 2.0):
        axis.axhline(bound, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    low, high = axis.get_ylim()
    low, high = min(low, 0.3), max(high, 3.0)
    axis.set_ylim(low, high)
    axis.set_yticks([tick for tick in (0.001, 0.01, 0.1, 0.5, 1, 2, 10, 100, 1_000) if low <= tick <= high])
    axis.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axis.minorticks_off()
    axis.set_ylabel("predicted / actual", labelpad=4)
