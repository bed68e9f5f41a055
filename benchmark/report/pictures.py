"""Which figure belongs to which claim and chapter, in the two widths of the page and as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmark.drawing import style
from benchmark.drawing.gallery import Drawn, Gallery
from benchmark.judging import aggregates
from benchmark.records.spec import arm
from benchmark.records.store import RETURN
from benchmark.report import figures, panels, toy_costs
from benchmark.report.gather import Data
from benchmark.suite import needs
from benchmark.suite.ledger import Claim
from benchmark.suite.load import load_suite
from benchmark.words import task_name

AXES = {
    "reward_r2": figures.R2,
    "reward_std_ratio": figures.RATIO,
    "calibration_obs": replace(figures.RATIO, label="predicted / actual standard deviation of the error"),
    "error_over_delta": figures.Axis("error, % of the mean increment"),
    "logvar_target": figures.Axis("mean log-variance, in target units"),
    "logvar_raw": figures.Axis("mean log-variance, in the environment's units"),
}


@dataclass(frozen=True)
class Picture:
    """One figure: its `svg` in the two widths of the page; `name` is that of its files."""

    name: str
    caption: str
    wide: str
    narrow: str


def draw_all(data: Data, gallery: Gallery) -> dict[str, list[Picture]]:
    """Figures by the claim or chapter they belong to; written to ``figures/`` on the way."""
    found: dict[str, list[Picture]] = {}
    for name, chapter in data.ledger.chapters.items():
        members = [claim for claim in data.ledger.claims if claim.chapter == name]
        found[name] = [p for figure in chapter.figures for p in _chapter_picture(data, figure, members, gallery)]
    for claim in data.ledger.claims:
        found[claim.id] = _claim_picture(data, claim, gallery)
    return found


def _claim_picture(data: Data, claim: Claim, gallery: Gallery) -> list[Picture]:
    """The claim's two arms, every seed."""
    if claim.kind != "train" and not needs.runs(claim, data.protocol):
        return []
    alone = claim.reference.measure != claim.estimand.measure  # a number of the arm beside another of the same arm
    if alone and claim.kind != "train":
        return []
    arms = list(dict.fromkeys(arm(*side) for side in claim.arms))
    name = claim.id
    if claim.kind == "train":
        measure = RETURN if alone else claim.estimand.measure
        frame, measured = _over_training(data, measure, claim.estimand.name)
        frame = frame[frame["method"].isin(arms)]
        tasks = _tasks(claim, frame)
        windows = [window for window in (claim.estimand.window, claim.reference.window) if window and not alone]
        caption = (
            f"{_told(arms)} in training: a thin line is a seed, a thick one their mean, or their median where the "
            "axis is logarithmic."
        )
        if any(window != (0.0, 1.0) for window in windows):
            caption += " The score is the mean over the shaded part."

        def draw(width: float) -> Figure:
            return figures.curves(frame, tasks, arms, width, windows, measured)

    else:
        frame = data.values(claim.estimand.measure)
        frame = frame[frame["method"].isin(arms) & frame["task"].isin(claim.tasks)]
        tasks = _tasks(claim, frame)
        axis = AXES.get(claim.estimand.measure, figures.Axis(claim.estimand.name))
        caption = f"{_told(arms)}: a dot is a seed, a bar the median."

        def draw(width: float) -> Figure:
            return figures.dots([(frame, axis)], tasks, arms, width)

    return [picture(draw, name, _of(tasks, caption), gallery)] if tasks else []


def _over_training(data: Data, measure: str, name: str) -> tuple[pd.DataFrame, str]:
    """A measure along training, in the columns of curves, and what the axis says: `name`, or that they are returns."""
    if measure == RETURN:
        return data.curves, "return of an episode"
    rows = data.online[data.online["measure"] == measure]
    return rows.rename(columns={"step": "env_steps", "value": RETURN}), name


def _chapter_picture(data: Data, figure: str, members: Sequence[Claim], gallery: Gallery) -> list[Picture]:
    """A figure that several claims share; none where no record speaks of it."""
    named = list(dict.fromkeys(task for claim in members for task in claim.tasks))
    return CHAPTER[figure](data, figure, named, gallery)


def _reward_by_bin(data: Data, name: str, named: Sequence[str], gallery: Gallery) -> list[Picture]:
    arms = ["mbpo", "norm-only", "ftfl"]
    tasks = [task for task in named if task in set(data.bins["task"])]
    frame = data.bins[data.bins["method"].isin(arms)]

    def draw(width: float) -> Figure:
        return figures.bins(frame, tasks, arms, width)

    caption = (
        "Held-out transitions, sorted by their true reward into ten equal parts (across): the mean true reward of "
        "each part in grey, the mean predicted one (up) as a line per seed. A triangle at the edge is a prediction "
        "beyond the panel."
    )
    return [picture(draw, name, _of(tasks, caption), gallery)] if tasks else []


def _logvar_units(data: Data, name: str, named: Sequence[str], gallery: Gallery) -> list[Picture]:
    both = [data.values("logvar_target"), data.values("logvar_raw")]
    tasks = [task for task in named if task in set(both[0]["task"])]
    frames = [frame[frame["task"].isin(tasks)] for frame in both]

    def draw(width: float) -> Figure:
        return figures.dots(
            list(zip(frames, (AXES["logvar_target"], AXES["logvar_raw"]), strict=True)), tasks, FOUR, width
        )

    caption = (
        "The same predictions in two units: as the model puts them out, and with the scale of the targets "
        "multiplied back in. Residual arms are mbpo and norm-only, direct ones direct-only and ftfl. A dot is a "
        "seed, a bar the median."
    )
    return [picture(draw, name, _of(tasks, caption), gallery)] if tasks else []


def _logvar_training(data: Data, name: str, named: Sequence[str], gallery: Gallery) -> list[Picture]:
    units = {"logvar_target": "log-variance, target units", "logvar_raw": "log-variance, raw units"}
    tasks = [task for task in named if task in set(data.logvars["task"])]
    frame = data.logvars

    def draw(width: float) -> Figure:
        return panels.progress(frame, tasks, FOUR, units, width)

    caption = (
        "The mean log-variance on held-out transitions while the model is fitted, in both units, a pair of panels per "
        "task. A thin line is a seed, a thick one their mean."
    )
    return [picture(draw, name, _of(tasks, caption), gallery)] if tasks else []


def _onset(data: Data, name: str, named: Sequence[str], gallery: Gallery) -> list[Picture]:
    units = {"temperature": "temperature", "critic_bias": "critic less soft return"}
    here = data.online[data.online["method"].isin(ONSET)]
    tasks = [task for task in named if {"sac-same-utd", "mbpo"} <= set(here.loc[here["task"] == task, "method"])]

    def draw(width: float) -> Figure:
        return panels.progress(here, tasks, ONSET, units, width, foot="env steps")

    caption = (
        "The temperature, and the critic's value less the soft return that its policy then collects, while agents "
        "learn; the first 5,000 env steps are random. Axes are logarithmic away from zero where values span orders of "
        "magnitude. A thin line is a seed, a thick one their median. Rewards in [0, 1] can be worth 100 at most."
    )
    return [picture(draw, name, _of(tasks, caption), gallery)] if tasks else []


def _aggregates(data: Data, name: str, named: Sequence[str], gallery: Gallery) -> list[Picture]:
    told = {
        "aggregates": "Final returns of all tasks that every method here has, normalized, with rliable's 95 % "
        "bootstrap intervals. They describe; at so few seeds they are too narrow to decide.",
        "profiles": "The share of runs, over seeds and tasks, that end above each normalized return; bands are "
        "rliable's pointwise 95 %.",
        "improvement": "The chance that a run of the first method ends above one of the second on a task drawn at "
        "random, with rliable's 95 % interval.",
    }
    make = {"aggregates": panels.intervals, "profiles": panels.profiles, "improvement": panels.improvements}[name]
    made = data.together[name]
    return [picture(lambda width: make(made, width), name, told[name], gallery)] if len(made) else []


def _sweep(data: Data, name: str, named: Sequence[str], gallery: Gallery) -> list[Picture]:
    """Final return by synthetic share, where at least two of the swept methods have runs beside SAC's."""
    suite = load_suite()
    swept = {m: 1 - float(suite.methods[m].constants["real_ratio"].value) for m in SWEPT}
    shares = {"sac-utd20": 0.0, **swept, "mbpo": 0.95}
    here = data.curves[data.curves["method"].isin(shares) & data.curves["task"].isin(named)]
    if not set(SWEPT) & set(here["method"]):
        return []
    last = here.groupby("task")["env_steps"].transform("max")
    final = here[here["env_steps"] >= aggregates.FINAL * last]
    frame = final.groupby(["task", "method", "seed"], sort=False)[RETURN].mean().rename("value").reset_index()
    frame["share"] = frame["method"].map(shares)
    tasks = [task for task in named if task in set(frame["task"])]
    caption = (
        "Mean return over the last fifth of training by the share of each batch that is synthetic; zero is SAC with as "
        "many updates. A dot is a seed, the line joins medians."
    )
    return [picture(lambda width: panels.sweep(frame, tasks, width), name, _of(tasks, caption), gallery)]


def _toy_costs(data: Data, name: str, named: Sequence[str], gallery: Gallery) -> list[Picture]:
    """Cost over the optimal cost, an arm in each row of a toy."""
    frame = toy_costs.costs(data.curves[data.curves["task"].isin(named)], load_suite())
    tasks = [task for task in named if task in set(frame["task"])]
    arms = [method for method in style.COLORS if method in set(frame["method"])]
    caption = (
        "The mean cost of an episode over the second half of training, divided by that of the policy which scipy's "
        "Riccati solver gives. A dot is a seed, a bar the median."
    )

    def draw(width: float) -> Figure:
        return figures.dots([(frame, toy_costs.COST)], tasks, arms, width)

    return [picture(draw, name, _of(tasks, caption), gallery)] if tasks else []


def _toy_signatures(data: Data, name: str, named: Sequence[str], gallery: Gallery) -> list[Picture]:
    """The measures that the knobs should turn, of every arm on every toy."""
    frame = data.scalars[data.scalars["task"].isin(named)]
    tasks = [task for task in named if task in set(frame["task"])]
    arms = [method for method in style.COLORS if method in set(frame["method"])]
    caption = (
        "Medians over seeds of held-out measures, a toy per row and an arm per column; the redder the worse. The error "
        "is shaded by how far it lies above the least in its row."
    )
    return (
        [picture(lambda width: toy_costs.signatures(frame, tasks, arms, width), name, caption, gallery)]
        if tasks
        else []
    )


FOUR = ["mbpo", "direct-only", "norm-only", "ftfl"]
ONSET = [
    *("sac-same-utd", "ftfl", "mbpo", "norm-only", "mbpo-oracle-reward"),
    *("mbpo-layer-norm", "norm-only-layer-norm", "ftfl-layer-norm"),
]
SWEPT = ("mbpo-ratio-50", "mbpo-ratio-75")
CHAPTER: dict[str, Callable[[Data, str, Sequence[str], Gallery], list[Picture]]] = {
    "reward-by-bin": _reward_by_bin,
    "logvar-both-units": _logvar_units,
    "logvar-over-training": _logvar_training,
    "onset-critics": _onset,
    "aggregates": _aggregates,
    "profiles": _aggregates,
    "improvement": _aggregates,
    "ratio-sweep": _sweep,
    "toy-costs": _toy_costs,
    "toy-signatures": _toy_signatures,
}


def picture(draw: Callable[[float], Figure], name: str, caption: str, gallery: Gallery) -> Picture:
    """The figure `name`; `draw` gets all its numbers when it is made, and holds nothing else."""

    def make(folder: Path) -> dict[str, Drawn]:
        wide = draw(style.WIDE)
        style.save(wide, folder, name)
        narrow = style.svg(draw(style.NARROW), f"{name}-n", caption)
        return {name: Drawn(caption, (style.svg(wide, f"{name}-w", caption), narrow))}

    drawn = gallery.draw("figures", name, (draw, caption), make)[name]
    return Picture(name, caption, *drawn.elements)


def _of(tasks: Sequence[str], caption: str) -> str:
    """The caption, with the task before it where the figure is about one alone."""
    return f"{task_name(tasks[0])}. {caption}" if len(tasks) == 1 else caption


def _told(arms: Sequence[str]) -> str:
    return " and ".join(arms)


def _tasks(claim: Claim, frame: pd.DataFrame) -> list[str]:
    here = set(frame["task"])
    return [task for task in claim.tasks if task in here]
