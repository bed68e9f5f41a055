"""Text of an effect over tasks: where it is clear, its direction, and its size on the median task.

An effect is clear on a task if its 90 % interval excludes zero, task by task and without a correction for their number;
too few seeds leave it open. Effects are not averaged over unlike tasks.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from benchmark.words import TIMES, number, task_name


def over_tasks(rows: pd.DataFrame) -> str:
    """'up on 4 of 7 tasks (names), down on 1 (name) ...; middle task hopper-hop: +0.3 [0.2, 0.4], n = 5'.

    `rows` has one effect per task: ``task, effect, low, high, n``, and `scale` if effects may be log ratios.
    """
    up, down = rows["low"] > 0, rows["high"] < 0
    parts = []
    for direction, mask in (("up", up), ("down", down), ("open", ~(up | down))):
        names = ", ".join(_name(row, rows) for _, row in rows[mask].iterrows())
        if mask.all():
            parts.append(f"{direction} on all {len(rows)} tasks" if len(rows) > 1 else f"{direction} on {names}")
        elif names:
            parts.append(f"{direction} on {mask.sum()}{'' if parts else f' of {len(rows)} tasks'} ({names})")
    size = f"; middle task {median_task(rows)}" if len(rows) > 1 else f": {effect_size(rows.iloc[0])}"
    return ", ".join(parts) + size


def median_task(rows: pd.DataFrame) -> str:
    """The task with the median effect (the lower of two), and the effect."""
    row = rows.sort_values("effect", kind="stable").iloc[(len(rows) - 1) // 2]
    return f"{task_name(row['task'])}: {effect_size(row)}"


def effect_size(row: pd.Series) -> str:
    """An effect with its interval and n: '+0.31 [0.25, 0.40], n = 5'; log ratios become factors."""
    values = [float(row[name]) for name in ("effect", "low", "high")]
    if row.get("scale") == "log ratio":
        effect, low, high = (math.exp(value) for value in values)
        return f"{TIMES}{number(effect)}" + interval_of(low, high, row["n"])
    return ("+" if values[0] > 0 else "") + number(values[0]) + interval_of(values[1], values[2], row["n"])


def interval_of(low: float, high: float, n: int) -> str:
    """The interval and n; too few seeds have infinite bounds (0 and infinity for a factor) and no interval."""
    if not np.isfinite([low, high]).all():
        return f" (n = {n}, too few for an interval)"
    return f" [{number(low)}, {number(high)}], n = {n}"


def _name(row: pd.Series, rows: pd.DataFrame) -> str:
    """The task, with its n if other tasks have more."""
    return task_name(row["task"]) + (f" with n = {row['n']}" if row["n"] < rows["n"].max() else "")
