"""The laboratory's pictures: temperature and Q over updates, and where every arm ends."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.drawing.style import INK, SOFT, WIDE, canvas, striped_rows, styled
from benchmark.studies.laboratory.arms import ALONE, CHAIN, ENDED, HEALTHY, KNOWN_TEMPERATURE

HUES = {"chain": "#d1495b", "without": "#2a7fc0", "alone": "#e6a117", "exact": "#2e8b57"}


def draw(curve: pd.DataFrame, table: pd.DataFrame) -> dict[str, Figure]:
    """The figures by the names of their files."""
    return {"temperature": over_updates(curve), "ends": ends(table)}


def hue(arm: str) -> str:
    """One color for the chain, one for exact next states, one for a link taken out, one for a link alone."""
    if arm in (HEALTHY.name, CHAIN.name):
        return HUES[arm]
    return HUES["alone" if arm in {each.name for each in ALONE} else "without"]


@styled
def over_updates(curve: pd.DataFrame) -> Figure:
    """Temperature and size of mean Q over updates, a line a seed: the chain, exact next states, and links taken out."""
    figure, axes = canvas(WIDE, 1, 2, 2.6, left=0.75, head=0.08, gap=0.8, title=0.3)
    order = [arm.name for arm in (*ENDED, *ALONE, HEALTHY, CHAIN)]
    for axis, name, title in zip(axes, ("temperature", "q_mean"), ("temperature", "size of mean Q"), strict=True):
        axis.set_title(title, pad=4)
        for arm in order:
            for _, run in curve[curve["arm"] == arm].groupby("seed"):
                bold = arm in (HEALTHY.name, CHAIN.name)
                axis.plot(run["updates"], run[name].abs(), color=hue(arm), linewidth=1.5 if bold else 0.6,
                          alpha=1.0 if bold else 0.6, zorder=4 if bold else 2)  # fmt: skip
        _logarithmic(axis)
        axis.set_xlabel("updates", loc="left")
    axes[0].axhline(KNOWN_TEMPERATURE, color=SOFT, linewidth=0.9, linestyle="--", zorder=1)
    figure.set_label(
        "Temperature and size of the mean Q over updates, a line a seed: the whole chain (red), exact next states "
        "(green), the chain less one link (blue) and one link forced on exact next states (yellow). Dashed: the "
        "closed form."
    )
    return figure


@styled
def ends(table: pd.DataFrame) -> Figure:
    """Where every arm ends: temperature over the closed form's, Q's distance, and the cost of the policy."""
    names = list(table["arm"])
    figure, axes = canvas(WIDE, 1, 3, 0.22 * len(names), left=1.9, head=0.08, gap=0.35, title=0.3)
    titles = {"over_known": "temperature / known", "q_off": "distance of Q / known Q", "cost": "cost / least cost"}
    for index, (axis, (name, title)) in enumerate(zip(axes, titles.items(), strict=True)):
        axis.set_title(title, pad=4)
        striped_rows(axis, names if index == 0 else [""] * len(names))
        for y, (arm, value) in enumerate(zip(names, table[name], strict=True)):
            axis.plot([value], [y], "o", color=hue(arm), markersize=4.5, markeredgewidth=0, zorder=3)
        axis.axvline(1.0, color=INK, linewidth=0.8, zorder=2)
        axis.set_xscale("log")
        axis.margins(x=0.1)
        axis.grid(axis="x", zorder=0)
    figure.set_label(
        "Where every arm of the laboratory ends, medians over seeds: temperature over its closed form, the distance "
        "of the mean Q from its closed form over that form's size, and the discounted cost of the mean action over the "
        "least possible."
    )
    return figure


def _logarithmic(axis: Axes) -> None:
    axis.set_yscale("log")
    axis.grid(axis="y", zorder=0)
