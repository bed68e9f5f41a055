"""Fits beside the agents whose replays they were made on: what those return, and models along a growing replay."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.drawing import tables as drawing_tables
from benchmark.drawing.gallery import Gallery
from benchmark.drawing.style import canvas, color, legend, styled
from benchmark.judging.gate import not_learned
from benchmark.judging.replayed import final_return
from benchmark.judging.verdicts import read
from benchmark.records import frames
from benchmark.records.spec import RunSpec, unique
from benchmark.records.store import Store
from benchmark.report.pictures import Picture, picture
from benchmark.suite.entries import Protocol
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite, specs
from benchmark.suite.needs import runs
from benchmark.words import DASH, minus, number, task_name

NAME = "mature"
"""The protocol, and the chapter of its claims."""
TRAJECTORY = {
    "reward_error_over_replay": "reward error / spread of rewards",
    "logvar_target": "log-variance, target units",
    "logvar_raw": "log-variance, raw units",
}
MEASURES = (
    *("reward_r2", "reward_error_over_replay", "reward_slope", "reward_pred_mean", "reward_true_mean"),
    *("reward_true_std", "logvar_target", "logvar_raw", "error_over_delta"),
)
AGENTS = ["protocol", "task", "method", "steps", "seeds", "mean_return", "low", "high", "random_return", "learned"]


def section(store: Store, gallery: Gallery) -> dict[str, Any]:
    """What the templates read; writes ``tables/{replays,mature}`` and the trajectory's figure in the gallery."""
    folder = gallery.folder
    agents, fits = replays(store), [spec for spec in _fits() if store.has(spec)]
    drawing_tables.write(agents, folder / "tables", "replays")
    drawing_tables.write(medians(store, fits), folder / "tables", NAME)
    along = trajectories(store, fits)
    return {
        "agents": [_agent(row._asdict()) for row in agents.itertuples(index=False)],
        "pictures": [_picture(along, gallery)] if len(along) else [],
        "fits": len(fits),
    }


def replays(store: Store) -> pd.DataFrame:
    """What the agents return whose replays some protocol's fits are made on, in the columns `AGENTS`."""
    suite, rows = load_suite(), []
    for protocol in suite.protocols.values():
        if protocol.replay is None:
            continue
        for step in sorted({protocol.replay.step, *protocol.replay.more_steps}):
            for task in _tasks(protocol, step):
                rows += _returns(store, protocol, task, step)
    return pd.DataFrame(rows, columns=AGENTS)


def _tasks(protocol: Protocol, step: int) -> list[str]:
    """The tasks of the claims that read a replay cut off there."""
    assert protocol.replay is not None
    named = [claim for claim in load_ledger().claims if protocol.name in claim.protocols and claim.data != "random"]
    cut = [claim for claim in named if (claim.step or protocol.replay.step) == step]
    return list(dict.fromkeys(task for claim in cut for task in claim.tasks))


def _returns(store: Store, protocol: Protocol, task: str, step: int) -> list[tuple[Any, ...]]:
    """One row where at least one of the agents has a record."""
    wanted = specs("fit", [task], ["mbpo"], protocol, source="replay", step=step)
    agents = [run for spec in wanted if (run := spec.source_run) is not None and store.has(run)]
    if not agents:
        return []
    values, entry = [final_return(read(store, run), step) for run in agents], load_suite().task(task)
    spread = (sum(values) / len(values), min(values), max(values))
    reason = not_learned(entry, values)
    return [(protocol.name, task, agents[0].method, step, len(agents), *spread, entry.random_score, reason or "yes")]


def _fits() -> list[RunSpec]:
    """Every fit that a claim of the protocol needs."""
    protocol = load_suite().protocol(NAME)
    return unique(spec for claim in load_ledger().claims for spec in runs(claim, protocol))


def medians(store: Store, fits: list[RunSpec]) -> pd.DataFrame:
    """``data, task, method, seeds`` and the median over seeds of every measure in `MEASURES`, at the end of the fit."""
    rows = []
    groups: dict[tuple[str, str, str], list[RunSpec]] = {}
    for spec in fits:
        assert spec.fit is not None
        groups.setdefault((spec.fit.source_name, spec.task, spec.method), []).append(spec)
    for (data, task, method), group in groups.items():
        values = frames.scalars(read(store, spec) for spec in group)
        middle = values.groupby("measure")["value"].median()
        rows.append((data, task, method, len(group), *(middle.get(name) for name in MEASURES)))
    return pd.DataFrame(rows, columns=["data", "task", "method", "seeds", *MEASURES])


def trajectories(store: Store, fits: list[RunSpec]) -> pd.DataFrame:
    """``task, method, seed, step, measure, value`` along the refits, the step in env steps of the agent."""
    refitted = [spec for spec in fits if spec.fit is not None and spec.fit.refits > 1]
    along = frames.traces((read(store, spec) for spec in refitted), TRAJECTORY)
    if refitted and len(along):
        fit = refitted[0].fit
        assert fit is not None and not isinstance(fit.source, str)
        along["step"] = along["step"] / refitted[0].length * fit.source.step
    return along


@styled
def draw(frame: pd.DataFrame, width: float) -> Figure:
    """A row per task and a column per measure, or all below each other where it is narrow; a thin line is a seed."""
    tasks, methods = list(dict.fromkeys(frame["task"])), list(dict.fromkeys(frame["method"]))
    cells = [(task, measure) for task in tasks for measure in TRAJECTORY]
    columns = len(TRAJECTORY) if width > 6 else 1
    figure, axes = canvas(width, len(cells) // columns, columns, 1.35, left=0.55, gap=0.55, title=0.36, below=0.3)
    for axis, (task, measure) in zip(axes, cells, strict=True):
        axis.set_title(f"{task_name(task)}\n{TRAJECTORY[measure]}", pad=4, fontsize=7.5)
        shown = frame[(frame["task"] == task) & (frame["measure"] == measure)]
        for method in methods:
            _lines(axis, shown[shown["method"] == method], method)
        axis.set_xlim(0, None)
        axis.grid(axis="y", zorder=0)
        axis.locator_params(nbins=4)
        axis.xaxis.set_major_formatter(lambda v, _: f"{v / 1000:g}k" if v else "0")
        axis.yaxis.set_major_formatter(lambda v, _: minus(f"{v:g}"))
    for axis in axes[-columns:]:
        axis.set_xlabel("env steps of the agent", loc="left", labelpad=4)
    legend(figure, methods, lines=True)
    return figure


def _lines(axis: Axes, rows: pd.DataFrame, method: str) -> None:
    wide = rows.pivot(index="step", columns="seed", values="value")
    for seed in wide.columns:
        axis.plot(wide.index, wide[seed], color=color(method), linewidth=0.7, alpha=0.4, zorder=2)
    if len(wide):
        axis.plot(wide.index, wide.median(axis=1), color=color(method), linewidth=2, zorder=3)


def _picture(along: pd.DataFrame, gallery: Gallery) -> Picture:
    caption = (
        "One model per seed, refitted warm-started while the replay of its SAC agent grows: the held-out reward error "
        "in spreads of the rewards so far, and the mean log-variance in both units. A thin line is a seed, a thick one "
        "their median."
    )
    return picture(partial(draw, along), "mature-trajectory", caption, gallery)


def _agent(row: dict[str, Any]) -> dict[str, Any]:
    spread = f"{number(row['low'])} to {number(row['high'])}"
    learned = row["learned"] == "yes"
    return {
        **row,
        "task": task_name(row["task"]),
        "steps": f"{row['steps']:,}",
        "returned": f"{number(row['mean_return'])} ({spread})",
        "random": DASH if row["random_return"] is None else number(row["random_return"]),
        "learned": learned,
        "why": "" if learned else row["learned"],
    }
