"""Rows of files as curves, a run each: values checked one by one, and episodes put on a stated grid of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.judging import reading
from benchmark.judging.columns import Names, known_methods, suggestion, task_alias, unknown_task
from benchmark.suite.load import load_suite
from mbpo.config import InputError

Runs = Mapping[tuple[str, str, int], pd.DataFrame]
"""Per task, method and seed, the rows ``env_steps, return`` in order."""
MOST = 10**12
"""Env steps that no run has: more is a fault of the file."""


def read_runs(paths: Path | Sequence[Path], names: Names | None = None, every: int | None = None) -> Runs:
    """Someone's runs; with `every`, the mean over the episodes that end in each interval of so many env steps.

    Raises `InputError` with file, line and value for anything but whole rows of known names, each step of a run once.
    """
    names = names or Names()
    listed = reading.files([paths] if isinstance(paths, Path) else list(paths))
    frame = pd.concat([reading.table(path, names) for path in listed], ignore_index=True)
    tasks = {(suite, task): _task(suite, task, frame, names) for suite, task in _distinct(frame, "suite", "task")}
    methods = {name: _method(name, frame, names) for (name,) in _distinct(frame, "method")}
    frame["task"] = [tasks[pair] for pair in zip(frame["suite"], frame["task"], strict=True)]
    frame["method"] = [methods[name] for name in frame["method"]]
    for column in ("seed", "env_steps"):
        frame[column] = [_whole(v, column, p) for v, p in zip(frame[column], frame[reading.PLACE], strict=True)]
    frame["return"] = [_number(v, p) for v, p in zip(frame["return"], frame[reading.PLACE], strict=True)]
    if every is None:
        _refuse_twice(frame)
    groups = frame.sort_values("env_steps", kind="stable").groupby(["task", "method", "seed"], sort=True)
    runs = {(str(t), str(m), int(s)): run[["env_steps", "return"]].reset_index(drop=True) for (t, m, s), run in groups}
    return runs if every is None else {run: _binned(run, rows, every) for run, rows in runs.items()}


def _distinct(frame: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return list(frame[list(columns)].drop_duplicates().itertuples(index=False, name=None))


def _place(frame: pd.DataFrame, **values: str) -> str:
    same = pd.Series(True, index=frame.index)
    for column, value in values.items():
        same &= frame[column] == value
    return str(frame.loc[same, reading.PLACE].iloc[0])


def _task(suite: str, text: str, frame: pd.DataFrame, names: Names) -> str:
    where = _place(frame, suite=suite, task=text)
    task = names.tasks.get(text) or (task_alias(f"{suite}:{text}") if suite else None) or task_alias(text)
    if task is None:
        known = {name.partition(":")[2] for name in load_suite().tasks}
        shown = f"{suite}:{text}" if suite else text
        advice = unknown_task(text)
        if suite in ("dmc", "gym") and "another version" not in advice:
            advice = suggestion(text, known)
        raise InputError(f"{where}: unknown task {shown!r}; {advice}")
    if suite and task.partition(":")[0] != suite:
        if suite not in ("dmc", "gym"):
            raise InputError(
                f"{where}: unknown task {f'{suite}:{text}'!r}; its suite would be {task.partition(':')[0]!r}"
            )
        raise InputError(f"{where}: suite {suite!r} does not have {task!r}; it is {task.partition(':')[0]!r}")
    return task


def _method(text: str, frame: pd.DataFrame, names: Names) -> str:
    method = names.methods.get(text, text)
    if method not in known_methods():
        advice = suggestion(text, known_methods())
        raise InputError(
            f"{_place(frame, method=text)}: unknown method {text!r}; {advice}; or say which of ours it stands for, "
            f"such as --method {text or 'THEIRS'}=mbpo"
        )
    return method


def _whole(text: str, name: str, where: str) -> int:
    value = str(text).strip().removesuffix(".0")
    if not (value.isascii() and value.isdecimal()):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (number >= 0 and number.is_integer()):
            raise InputError(f"{where}: {name} = {text!r} is not a whole number of at least 0")
        value = str(int(number))
    if len(value) > 18 or (name == "env_steps" and int(value) > MOST):
        raise InputError(
            f"{where}: {name} = {text!r} is too large: at most {MOST if name == 'env_steps' else 10**18:,}"
        )
    return int(value)


def _number(text: str, where: str) -> float:
    """A return; NaN and empty are kept, for the verdict to name them."""
    try:
        return float(text) if str(text).strip() else math.nan
    except ValueError:
        comma = "; decimals have a point, not a comma" if "," in str(text) else ""
        raise InputError(f"{where}: return = {text!r} is not a number{comma}") from None


def _refuse_twice(frame: pd.DataFrame) -> None:
    run = ["task", "method", "seed", "env_steps"]
    again = frame.duplicated(run)
    if not again.any():
        return
    row = frame[again].iloc[0]
    first = frame[(frame[run] == row[run]).all(axis=1)].iloc[0][reading.PLACE]
    origin = row[reading.PLACE]
    file, _, line = str(first).partition(" line ")
    first = f"line {line}" if str(origin).startswith(f"{file} line ") else first
    raise InputError(
        f"{origin}: {row['method']} on {row['task']} seed {row['seed']} has env_steps {row['env_steps']} on {first} "
        "already; every seed counts once (rows that are single episodes are averaged by --every N)"
    )


def _binned(run: tuple[str, str, int], rows: pd.DataFrame, every: int) -> pd.DataFrame:
    """The mean return of each interval ``((k - 1) every, k every]``, at its end; step 0 stands for itself."""
    ends = -(-rows["env_steps"] // every) * every
    means = rows["return"].groupby(ends).agg(lambda values: values.mean(skipna=False))
    grid = range(int(means.index.min()), int(means.index.max()) + 1, every)
    empty = [end for end in grid if end not in means.index]
    if empty:
        task, method, seed = run
        raise InputError(
            f"--every {every}: {method} on {task} seed {seed} has no row between {empty[0] - every:,} and "
            f"{empty[0]:,} env steps; give a larger interval"
        )
    return pd.DataFrame({"env_steps": [int(end) for end in means.index], "return": means.to_numpy()})
