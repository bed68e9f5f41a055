"""The grid's pictures: rewards of all targets, variance in two units, rivals, and observation groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.drawing.marks import limits_of, marked, powers, zeroed
from benchmark.drawing.style import CELL, INK, MARKERS, SOFT, WIDE, canvas, color, legend, striped_rows, styled
from benchmark.studies.factors import NORMALIZE, PREDICT
from benchmark.studies.grid.groups import representative
from benchmark.words import minus, task_name

RAW, TARGET = "environment's units", "target space"
GOOD_TO_BAD = LinearSegmentedColormap.from_list("good-to-bad", ["#b9d9ec", "#ffffff", "#f6d9cf", color("mbpo")])
COMPARED = ("reward-norm", "norm-only", "ftfl", "mbpo-learned-bounds", "mbpo-wide-bounds", "mbpo-bootstrap",
            "mbpo-wide", "mbpo-reward-head")  # fmt: skip
ARM_MARKERS = MARKERS | {"mbpo-learned-bounds": "v", "mbpo-wide-bounds": "^", "mbpo-wide": "X", "mbpo-reward-head": "P"}
LEVELS = {"none": "raw", "reward": "reward norm.", "obs": "obs norm.", "both": "both norm."}
INTERVALS = "Lines are 90 % intervals over seeds; some are narrower than their dot, and below five seeds there is none."


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    """Every picture whose table has rows."""
    measures, contrasts = tables["measures"], tables["contrasts"]
    carry = contrasts[contrasts["contrast"] == "next_obs for delta"]
    units = carry[carry["stratum"].isin(["none", "both"]) & carry["measure"].isin(["logvar_target", "logvar_raw"])]
    rivals = tables["rivals"]
    rescued = rivals[
        (rivals["measure"] == "reward_unexplained") & (rivals["against"] == "mbpo") & rivals["effect"].notna()
    ]
    pictures: dict[str, tuple[Callable[[pd.DataFrame], Figure], pd.DataFrame]] = {
        "rewards": (rewards, measures[(measures["measure"] == "reward_r2") & (measures["rival"] == "")]),
        "variances": (variances, units),
        "rivals": (rivals_figure, rescued),
        "groups": (groups, tables["groups"]),
    }
    return {name: draw(frame) for name, (draw, frame) in pictures.items() if len(frame)}


def source_title(source: str) -> str:
    """'random policy', 'sac replay at 100,000 steps'."""
    return "data of a random policy" if source == "random" else f"{source} steps"


@styled
def rewards(frame: pd.DataFrame) -> Figure:
    """Median held-out R2: rows are tasks, columns targets, panels sources; `frame` is of ``measures``."""
    tasks, sources = _order(frame, "task"), _order(frame, "source")
    figure, axes = canvas(WIDE, 1, len(sources), 0.3 * len(tasks), left=1.35, gap=0.15, title=0.2, head=1.0, foot=0.12)
    columns = [(level, predict) for level in NORMALIZE for predict in PREDICT]
    for axis, source in zip(axes, sources, strict=True):
        fits = frame[frame["source"] == source]
        medians = fits.pivot(index="task", columns=["normalize", "predict"], values="median")
        counts = fits.groupby("task")[["n", "seeds"]].min()
        values = medians.reindex(index=tasks, columns=pd.MultiIndex.from_tuples(columns)).to_numpy(float)
        few = [task in counts.index and counts.loc[task, "n"] < counts.loc[task, "seeds"] for task in tasks]
        _cells(axis, values, few)
        axis.set_yticks(range(len(tasks)), [task_name(task) for task in tasks] if axis is axes[0] else [])
        axis.set_xticks(range(12), [predict for _, predict in columns], rotation=60, ha="left", rotation_mode="anchor")
        axis.tick_params(length=0, labelcolor=INK, top=False, labeltop=True, bottom=False, labelbottom=False)
        for index, level in enumerate(NORMALIZE):
            axis.annotate(
                LEVELS[level], (3 * index + 1, 1), xycoords=("data", "axes fraction"), xytext=(0, 44),
                textcoords="offset points", ha="center", fontsize=7.5, color=SOFT,
            )  # fmt: skip
        axis.annotate(
            source_title(source), (0, 1), xycoords="axes fraction", xytext=(0, 60), textcoords="offset points",
            fontsize=9, color=INK,
        )  # fmt: skip
    figure.set_label(
        "Median held-out R\u00b2 of the reward over seeds, by normalization and target: 1 is perfect, 0 a constant "
        "guess. A dash has no fit or no reward that varies; numbers in italics lack it in some seeds."
    )
    return figure


def _cells(axis: Axes, values: np.ndarray, few: Sequence[bool]) -> None:
    """Cells shaded by R2 from 1 to -1 and below, with numbers; lines between normalizations."""
    shade = np.ma.masked_invalid(np.clip((1.0 - values) / 2.0, 0.0, 1.0))
    axis.imshow(shade, cmap=GOOD_TO_BAD, vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axis.text(
            column, row, short(value), ha="center", va="center", fontsize=6.6,
            color=CELL if np.isfinite(value) else SOFT, style="italic" if few[row] else "normal",
        )  # fmt: skip
    for column in (2.5, 5.5, 8.5):
        axis.axvline(column, color=SOFT, linewidth=0.8)
    for side in axis.spines.values():
        side.set_visible(False)


def short(value: float) -> str:
    """A number in at most four characters: .94, -.35, -2.1, -26, -900, -26k; a dash if it is not finite."""
    if not np.isfinite(value):
        return "\N{EN DASH}"
    size = abs(value)
    if size < 0.995:
        text = f"{value:.2f}".replace("0.", ".", 1)
        text = "0" if float(text) == 0 else text
    elif size < 9.95:
        text = f"{value:.1f}"
    elif size < 999.5:
        text = f"{value:.0f}"
    else:
        text = f"{value / 1000:.0f}k" if size < 999_500 else "<-1M" if value < 0 else ">1M"
    return minus(text)


@styled
def variances(frame: pd.DataFrame) -> Figure:
    """Log-variance of delta less next_obs: rows are tasks, panels units; `frame` is of ``contrasts``."""
    tasks, sources = _order(frame, "task"), _order(frame, "source")
    series = [(source, level) for source in sources for level in ("none", "both")]
    figure, axes = canvas(
        WIDE, 1, 2, (0.14 + 0.11 * len(series)) * len(tasks), left=1.35, gap=0.25, head=0.62, foot=0.5
    )
    # The table has next_obs less delta; drawn is delta less next_obs, so that a larger gain is larger.
    values = -frame["effect"]
    low, high = -frame["high"], -frame["low"]
    limits = limits_of(pd.concat([values, low, high]).to_numpy(float))
    for axis, measure, title in ((axes[0], "logvar_target", TARGET), (axes[1], "logvar_raw", RAW)):
        striped_rows(axis, [task_name(t) for t in tasks] if axis is axes[0] else [""] * len(tasks))
        for index, (source, level) in enumerate(series):
            chosen = (frame["measure"] == measure) & (frame["source"] == source) & (frame["stratum"] == level)
            shift = (index - (len(series) - 1) / 2) * 0.7 / len(series)
            for task, value, least, most in zip(
                frame["task"][chosen], values[chosen], low[chosen], high[chosen], strict=True
            ):
                hollow = source != sources[0]
                marked(axis, value, least, most, tasks.index(task) + shift, _pair_color(level), "os"[hollow], hollow)
        zeroed(axis, limits, f"{title}: log-variance, delta less next_obs")
    handles = [_dot("os"[s != sources[0]], _pair_color(level), s != sources[0]) for s, level in series]
    names = [f"{'raw' if level == 'none' else 'normalized'} targets, {source_title(s)}" for s, level in series]
    _dots_legend(figure, handles, names, 2)
    figure.set_label(
        "How much less variance the model predicts with next_obs as its target than with delta: right of 0, direct "
        f"prediction lowers it. For raw targets the two units are the same. {INTERVALS}"
    )
    return figure


def _pair_color(level: str) -> str:
    return color("direct-only") if level == "none" else color("ftfl")


@styled
def rivals_figure(frame: pd.DataFrame) -> Figure:
    """Unexplained reward variance of mbpo over that of an arm: rows are tasks, panels sources, dots arms."""
    tasks, sources = _order(frame, "task"), _order(frame, "source")
    arms = [arm for arm in COMPARED if (frame["method"] == arm).any()]
    figure, axes = canvas(
        WIDE, 1, len(sources), (0.14 + 0.1 * len(arms)) * len(tasks), left=1.35, gap=0.25, title=0.25, head=0.62
    )
    effect, low, high = (-frame[name] / np.log(10) for name in ("effect", "high", "low"))
    limits = limits_of(pd.concat([effect, low, high]).to_numpy(float))
    for axis, source in zip(axes, sources, strict=True):
        axis.set_title(source_title(source), pad=5)
        striped_rows(axis, [task_name(t) for t in tasks] if axis is axes[0] else [""] * len(tasks))
        chosen = frame["source"] == source
        for task, arm, value, least, most in zip(
            frame["task"][chosen], frame["method"][chosen], effect[chosen], low[chosen], high[chosen], strict=True
        ):
            y = tasks.index(task) + (arms.index(arm) - (len(arms) - 1) / 2) * 0.78 / len(arms)
            marked(axis, value, least, most, y, color(arm), ARM_MARKERS.get(arm, "o"), hollow=arm.startswith("mbpo"))
        zeroed(axis, limits, "1 \N{MINUS SIGN} R\u00b2 of mbpo over that of the arm")
        powers(axis, limits)
    handles = [_dot(ARM_MARKERS.get(arm, "o"), color(arm), arm.startswith("mbpo")) for arm in arms]
    _dots_legend(figure, handles, arms, 4)
    figure.set_label(
        "What cures the reward: how many times less of the reward's variance an arm leaves unexplained than mbpo on "
        f"the same rows. Filled arms normalize targets, hollow ones are the rival explanations. {INTERVALS}"
    )
    return figure


def _dot(marker: str, hue: str, hollow: bool) -> Line2D:
    face = "white" if hollow else hue
    return Line2D([], [], linestyle="", marker=marker, color=hue, markersize=5, markerfacecolor=face)


def _dots_legend(figure: Figure, handles: Sequence[Line2D], names: Sequence[str], columns: int) -> None:
    figure.legend(handles, names, loc="upper left", bbox_to_anchor=(0, 1), ncol=columns, frameon=False,
                  handlelength=1.1, columnspacing=1.4, borderaxespad=0.2)  # fmt: skip


@styled
def groups(frame: pd.DataFrame) -> Figure:
    """Mean raw log-variance of each observation group: columns are tasks, rows sources, dots arms."""
    tasks = representative(frame["task"])
    frame = frame[(frame["measure"] == "logvar_raw") & frame["task"].isin(tasks)]
    sources, arms = _order(frame, "source"), [a for a in MARKERS if (frame["method"] == a).any()]
    max_groups = max(frame[frame["task"] == task]["group"].nunique() for task in tasks)
    figure, axes = canvas(
        WIDE, len(sources), len(tasks), 0.36 * max_groups, left=1.3, gap=1.3, title=0.3, head=0.38, below=0.62, foot=0.5
    )
    for axis, (source, task) in zip(axes, ((s, t) for s in sources for t in tasks), strict=True):
        of_panel = frame[(frame["source"] == source) & (frame["task"] == task)]
        names = _order(frame[frame["task"] == task], "group")
        sizes = dict(zip(of_panel["group"], of_panel["dims"], strict=True))
        striped_rows(axis, [f"{name} ({sizes[name]})" if name in sizes else name for name in names])
        axis.tick_params(axis="y", labelsize=7.5)
        axis.set_title(f"{task_name(task)}, {'random' if source == 'random' else source.split(' at ')[0]}", pad=5)
        for row in of_panel[of_panel["method"].isin(arms)].itertuples():
            y = names.index(row.group) + (arms.index(row.method) - (len(arms) - 1) / 2) * 0.72 / len(arms)
            marked(axis, row.median, row.low, row.high, y, color(row.method), MARKERS[row.method], False)
        axis.locator_params(axis="x", nbins=4)
        axis.grid(axis="x", zorder=0)
        axis.set_axisbelow(True)
        axis.xaxis.set_major_formatter(lambda v, _: minus(f"{v:g}"))
        axis.set_xlabel("log-variance, raw units", loc="left", labelpad=4)
    legend(figure, arms)
    figure.set_label(
        "Predicted log-variance of each observation group in the environment's units, number of observations in "
        f"brackets: delta targets in mbpo and norm-only, next_obs in direct-only and ftfl. {INTERVALS}"
    )
    return figure


def _order(frame: pd.DataFrame, column: str) -> list[str]:
    return list(dict.fromkeys(frame[column]))
