"""Learning curves of a task's own runs: a table, a table of final returns, a picture and a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmark.drawing import style, tables
from benchmark.drawing.axes import stretch
from benchmark.judging import exporting
from benchmark.records.store import RETURN, Record, Store
from benchmark.running.outcome import LAST, final_return
from benchmark.viewing import runs
from benchmark.viewing.runs import Chosen
from benchmark.words import task_name
from mbpo.config import InputError, nearest


def table(chosen: Chosen, store: Store, measure: str = RETURN) -> pd.DataFrame:
    """``arm, seed, env_steps, value``: the mean return over an evaluation's episodes, or one diagnostic of it.

    Raises `InputError` for a measure that none of the runs has.
    """
    frames, known = [], set()
    for arm, group in chosen.arms.items():
        for spec in group:
            record = store.read(spec)
            known |= set(record.diagnostics["measure"])
            frames.append(_values(record, measure).assign(arm=arm, seed=spec.seed))
    found = pd.concat(frames, ignore_index=True)[["arm", "seed", "env_steps", "value"]]
    if found.empty:
        raise InputError(f"none of these runs has the measure {measure!r}; {nearest(measure, {RETURN, *known})}")
    return found


def _values(record: Record, measure: str) -> pd.DataFrame:
    if measure == RETURN:
        return record.curve.groupby("env_steps")[RETURN].mean().rename("value").reset_index()
    rows = record.diagnostics[(record.diagnostics["measure"] == measure) & (record.diagnostics["dim"] == -1)]
    return rows.rename(columns={"step": "env_steps"})[["env_steps", "value"]]


def exported(chosen: Iterable[Chosen], store: Store) -> pd.DataFrame:
    """The curves in the columns of `export`: ``suite, task, method, seed, env_steps, return``."""
    frames = []
    for each in chosen:
        suite, _, task = each.runs[0].task.partition(":")
        curves = table(each, store).rename(columns={"arm": "method", "value": "return"})
        frames.append(curves.assign(suite=suite, task=task))
    return pd.concat(frames, ignore_index=True)[["suite", "task", "method", "seed", "env_steps", "return"]]


def finals(chosen: Chosen, store: Store) -> pd.DataFrame:
    """``arm, seeds, mean, least, largest`` of the returns in the last fifth of training."""
    rows = []
    for arm, group in chosen.arms.items():
        values = [final_return(store.read(spec)) for spec in group]
        rows.append((arm, len(values), float(np.mean(values)), min(values), max(values)))
    return pd.DataFrame(rows, columns=["arm", "seeds", "mean", "least", "largest"])


@style.styled
def draw(curves: pd.DataFrame, task: str, measure: str = RETURN) -> Figure:
    """One panel: a thin line a seed, a thick one the mean of an arm's seeds."""
    arms = list(dict.fromkeys(curves["arm"]))
    figure, (axis,) = style.canvas(6.4, 1, 1, 3.2, left=0.75, gap=0.0, title=0.25)
    for arm in arms:
        mine = curves[curves["arm"] == arm]
        hue = style.color(arm)
        for _, seed in mine.groupby("seed"):
            axis.plot(seed["env_steps"], seed["value"], color=hue, linewidth=0.7, alpha=0.35)
        mean = mine.groupby("env_steps")["value"].mean()
        axis.plot(mean.index, mean.to_numpy(), color=hue, linewidth=2.0)
    stretch(axis, curves["value"])
    axis.set_title(task_name(task))
    axis.set_xlabel("env steps")
    axis.set_ylabel("return of an episode" if measure == RETURN else measure.replace("_", " "))
    axis.margins(x=0.01)
    style.legend(figure, arms, lines=True)
    return figure


@style.styled
def picture(figure: Figure, path: Path) -> Path:
    """Write the figure to `path`, a .png, .svg or .pdf. Raises `InputError` for another name."""
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"--out {path}: give a name that ends in .png, .svg or .pdf")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)
    return path


def write_page(chosen: Chosen, store: Store, task: str) -> Path:
    """Write ``README.md``, ``returns.csv``, ``curves.csv`` and ``curves.png`` under ``results/tasks/<task>/``."""
    folder = store.results / "tasks" / chosen.runs[0].slug
    folder.mkdir(parents=True, exist_ok=True)
    curves, final = table(chosen, store), finals(chosen, store)
    picture(draw(curves, task), folder / "curves.png")
    curves.to_csv(folder / "curves.csv", index=False, lineterminator="\n")
    final.to_csv(folder / "returns.csv", index=False, lineterminator="\n")
    length = chosen.runs[0].length
    text = [
        f"# {task}",
        "",
        f"Online training over {length:,} env steps, from the records in `{store.results.name}`.",
        *([f"{chosen.note[0].upper()}{chosen.note[1:]}."] if chosen.note else []),
        "",
        "![Learning curves](curves.png)",
        "",
        f"Mean return of the evaluations after {LAST:.0%} of training, over seeds:",
        "",
        tables.markdown(final),
        "",
        "Seeds are few and no test is behind this table: a difference between arms is a verdict only where a claim of",
        "the ledger states it beforehand.",
        "",
    ]
    page = folder / "README.md"
    page.write_text("\n".join(text), encoding="utf-8")
    return page


def page_of(store: Store, task: str) -> Path:
    """Write the page on the online runs of `task` that `runs.of_task` chooses; its path."""
    return write_page(runs.of_task(store, task), store, task)


def export(store: Store, tasks: Sequence[str], path: Path) -> int:
    """Write the curves of the runs that `runs.of_task` chooses for each task, and return their number.

    Raises `InputError` as `exporting.check_writable` does.
    """
    exporting.check_writable(path)
    chosen = [runs.of_task(store, task) for task in tasks]
    frame = exported(chosen, store)
    exporting.write(frame, path)
    return sum(len(each.runs) for each in chosen)
