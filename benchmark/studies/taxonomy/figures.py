"""Pictures of the study `taxonomy`: pure functions of its tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from benchmark.drawing.style import CELL, INK, RULE, SOFT, TRUE, WIDE, canvas, color, styled
from benchmark.studies.taxonomy import foresight
from benchmark.studies.taxonomy.atlas import LEAST_SHARE, OUTCOMES, PREDICTORS
from benchmark.words import minus, number, task_name

LOSS = LinearSegmentedColormap.from_list("loss", ["#9fb8c9", "#e6a117", "#8c1c2f"])
SIGNED = LinearSegmentedColormap.from_list("signed", ["#d1495b", "#f6f3ee", "#2a7fc0"])


@styled
def task_map(tasks: pd.DataFrame) -> Figure:
    """Tasks by the reward's share of the targets' variance and by their increment ratio."""
    figure, (axis,) = canvas(WIDE, 1, 1, 4.6, left=0.6, foot=0.5, head=0.5, gap=0.0)
    axis.set_yscale("log")
    axis.axhline(1.0, color=RULE, linewidth=0.8, zorder=0)
    norm = Normalize(0.0, 1.0)
    for failed, marker in ((True, "s"), (False, "o")):
        group = tasks[tasks["paper_seven"] == failed]
        gain = group["reward_gain"].to_numpy(float)
        shade = [TRUE if math.isnan(g) else LOSS(norm(np.clip(g, 0.0, 1.0))) for g in gain]
        axis.scatter(group["reward_share_delta"], group["increment_median"], c=shade, marker=marker, s=46, linewidths=0)
    low = min(tasks["reward_share_delta"].min() - 0.4, -4.0)
    axis.set_xlim(low, 1.6)
    axis.set_xticks([tick for tick in range(-12, 1, 2) if tick > low])
    axis.set_ylim(tasks["increment_median"].min() / 2, max(3.0, tasks["increment_median"].max() * 2))
    _name(axis, tasks["reward_share_delta"], tasks["increment_median"], tasks["task"])
    least = f" ({minus(f'{math.log10(LEAST_SHARE):.0f}')}: a reward that does not vary)"
    axis.set_xlabel("log10 reward share of the summed variance of delta targets" + least)
    axis.set_ylabel("median increment ratio, Var(s' " + minus("-") + " s) / Var(s')")
    figure.text(0.07, 0.955, "Squares: the paper's seven. Color: reward R2 that normalization adds", color=SOFT)
    bar_axes = figure.add_axes((0.72, 0.955, 0.2, 0.022))
    bar = figure.colorbar(ScalarMappable(norm, LOSS), cax=bar_axes, orientation="horizontal")
    bar.set_ticks([0.0, 0.5, 1.0], labels=["0 or less", "0.5", "1 or more"])
    bar.outline.set_visible(False)
    figure.set_label(
        "Tasks by what random data say of them: the reward's share of the variance of delta targets, and the median "
        "ratio of increment to value variance. Squares are the paper's seven; color is the held-out reward R2 that "
        "normalization adds to mbpo, gray where rewards do not vary."
    )
    return figure


def _name(axis: Axes, x: pd.Series, y: pd.Series, names: Sequence[str]) -> None:
    """Labels to the right of their points, pushed apart vertically, with a thin line to each that moved."""
    axis.figure.canvas.draw_idle()
    points = axis.transData.transform(np.column_stack([x, y]))
    labels = [task_name(name) for name in names]
    height = 11.0 * axis.figure.dpi / 72.0
    occupied = [(a - 0.4 * height, a + 0.4 * height, b) for a, b in points]
    for i in np.argsort(-points[:, 1]):
        left, middle = points[i][0] + 0.7 * height, points[i][1]
        right = left + 0.5 * height * len(labels[i])
        for a, b, at in sorted(occupied, key=lambda other: -float(other[2])):
            if left < b and a < right and abs(at - middle) < height:
                middle = at - height
        occupied.append((left, right, middle))
        across, up = axis.transData.inverted().transform((left, middle))
        moved = abs(middle - points[i][1]) > 1.0
        arrow = {"arrowstyle": "-", "color": RULE, "linewidth": 0.6, "shrinkB": 3.0} if moved else None
        axis.annotate(
            labels[i], (x.iloc[i], y.iloc[i]), (across, up), color=INK, fontsize=7, va="center", arrowprops=arrow
        )


@styled
def increments(tasks: pd.DataFrame) -> Figure:
    """Error and variance (in both units) against increments, with the lines of equal skill and equal accuracy."""
    figure, axes = canvas(WIDE, 1, 3, 2.4, left=0.55, foot=0.48, head=0.32, gap=0.6, title=0.22)
    skill, rescaling = foresight.equal_skill(tasks), foresight.rescaling(tasks)
    less, mean = "log variance, norm-only less ftfl", f"mean log Var(s') / Var(s' {minus('-')} s)"
    error, half = "log error, ftfl / norm-only", "half the log of the overall ratio"
    panels = (  # ..., slopes of equal skill and of equal accuracy
        ("Error", skill, "direct_error_norm", error, half, 1.0, 0.0),
        ("Variance, raw units", rescaling, "raw_drop", less, mean, -1.0, 0.0),
        ("Variance, target space", rescaling, "target_drop", less, mean, 0.0, 1.0),
    )
    for axis, (title, x, outcome, y_label, x_label, equal_skill, accuracy) in zip(axes, panels, strict=True):
        ends = np.array([min(float(x.min()), 0.0), float(x.max())])
        axis.plot(ends, equal_skill * ends, color=color("ftfl"), linewidth=1.0, label="equal skill")
        axis.plot(ends, accuracy * ends, color=color("norm-only"), linewidth=1.0, label="equal accuracy")
        axis.scatter(x, tasks[outcome], s=20, color=INK, linewidths=0, alpha=0.75, zorder=3)
        axis.set_title(title)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper left", ncol=2, frameon=False, borderaxespad=0.2)
    figure.set_label(
        "What the increments of random data foretell of direct against residual prediction, both normalized, a point a "
        "task: error, and predicted log variance in either unit. Blue: both explain the same share of their target's "
        "variance. Yellow: both are as accurate in the environment's units."
    )
    return figure


@styled
def foreseen(predictions: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """Measured ranks of the declared half against the ranks predicted by the fitted and the physical rules."""
    outcomes = [outcome for outcome in OUTCOMES if (predictions["outcome"] == outcome).any()]
    rows = math.ceil(len(outcomes) / 4)
    figure, axes = canvas(WIDE, rows, 4, 1.55, left=0.45, foot=0.5, head=0.35, gap=0.35, title=0.42, below=0.3)
    for axis, outcome in zip(axes, outcomes, strict=False):
        correlations = []
        for contender, marker, hue in (("fitted", "o", color("ftfl")), ("physics", "D", color("norm-only"))):
            chosen = predictions[(predictions["outcome"] == outcome) & (predictions["contender"] == contender)]
            if chosen.empty:
                continue
            x, y = (pd.Series(chosen[side].astype(float)).rank() for side in ("predicted", "measured"))
            axis.scatter(x, y, marker=marker, s=17, color=hue, alpha=0.8, linewidths=0, label=contender)
            score = scores[(scores["outcome"] == outcome) & (scores["contender"] == contender)].iloc[0]
            correlations.append(f"{contender} {number(score['estimate'])}")
        last = predictions[predictions["outcome"] == outcome]["task"].nunique()
        axis.plot([1, last], [1, last], color=RULE, linewidth=0.8, zorder=0)
        axis.set_title(f"{OUTCOMES[outcome].replace(', ', ',' + chr(10), 1)}\n{', '.join(correlations)}", fontsize=7)
        axis.set_xticks([1, last])
        axis.set_yticks([1, last])
    for axis in axes[len(outcomes) :]:
        axis.remove()
    for axis in axes[max(len(outcomes) - 4, 0) : len(outcomes)]:
        axis.set_xlabel("rank predicted")
    axes[0].set_ylabel("rank measured")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper left", ncol=2, frameon=False, borderaxespad=0.2)
    figure.set_label(
        "Tasks of the declared half that no rule was fitted on: rank predicted from random data against rank measured, "
        "with the rank correlation."
    )
    return figure


@styled
def heat(predictors: pd.DataFrame, membership: pd.DataFrame) -> Figure:
    """Rank correlation of every predictor with every outcome and the paper's list; bold after Holm's correction."""
    columns = [*OUTCOMES, "paper_seven"]
    table = predictors.pivot(index="predictor", columns="outcome", values="spearman")
    listed = membership[membership["label"] == "paper_seven"].set_index("predictor")["auc"]
    table["paper_seven"] = 2.0 * listed - 1.0
    values = table.loc[list(PREDICTORS), columns].to_numpy(float)
    p_values = predictors.pivot(index="predictor", columns="outcome", values="p_holm")
    figure, (axis,) = canvas(WIDE, 1, 1, 0.27 * len(PREDICTORS), left=3.0, foot=0.1, head=1.0, gap=0.0)
    axis.imshow(np.nan_to_num(values), cmap=SIGNED, vmin=-1.0, vmax=1.0, aspect="auto")
    for i, predictor in enumerate(PREDICTORS):
        for j, outcome in enumerate(columns):
            value = values[i, j]
            text = "" if math.isnan(value) else minus(f"{value:.2f}")
            firm = outcome in OUTCOMES and p_values.loc[predictor, outcome] < 0.05
            axis.text(j, i, text, ha="center", va="center", fontsize=7.5, fontweight="bold" if firm else "normal",
                      color=CELL)  # fmt: skip
    heads = {**OUTCOMES, "paper_seven": "in the paper's seven, 2 AUC less 1"}
    axis.set_xticks(range(len(columns)), [_folded(heads[c]) for c in columns], fontsize=6.5)
    axis.set_yticks(range(len(PREDICTORS)), list(PREDICTORS.values()))
    axis.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0, labelcolor=INK)
    for side in axis.spines.values():
        side.set_visible(False)
    figure.set_label(
        "Rank correlation of each measure of random data with each outcome over all tasks, and with membership in the "
        "paper's list; bold where it survives Holm's correction. Exploratory."
    )
    return figure


def _folded(text: str, width: int = 13) -> str:
    lines = [""]
    for word in text.split():
        lines = [*lines[:-1], f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < width else [*lines, word]
    return "\n".join(line for line in lines if line)
