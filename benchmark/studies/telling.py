"""One way to tell an effect over tasks: where it is clear, which way, and how large it is on the task in the middle.

An effect counts as clear on a task if its 90 % interval leaves zero out, task by task and without a correction for
their number; too few seeds leave it open. No average over unlike tasks is taken.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from benchmark.words import TIMES, number, task_name


def moves(rows: pd.DataFrame) -> str:
    """'up on 4 of 7 tasks (names), down on 1 (name) ...; middle task hopper-hop: +0.3 [0.2, 0.4], n = 5'.

    `rows` has an effect a task: ``task, effect, low, high, n``, and `scale` where it may be a log ratio.
    """
    up, down = rows["low"] > 0, rows["high"] < 0
    parts = []
    for side, chosen in (("up", up), ("down", down), ("open", ~(up | down))):
        names = ", ".join(_name(row, rows) for _, row in rows[chosen].iterrows())
        if chosen.all():
            parts.append(f"{side} on all {len(rows)} tasks" if len(rows) > 1 else f"{side} on {names}")
        elif names:
            parts.append(f"{side} on {chosen.sum()}{'' if parts else f' of {len(rows)} tasks'} ({names})")
    return ", ".join(parts) + (f"; middle task {middle(rows)}" if len(rows) > 1 else f": {size(rows.iloc[0])}")


def middle(rows: pd.DataFrame) -> str:
    """The task in the middle with its effect."""
    row = rows.sort_values("effect", kind="stable").iloc[(len(rows) - 1) // 2]
    return f"{task_name(row['task'])}: {size(row)}"


def size(row: pd.Series) -> str:
    """An effect with its interval and n: '+0.31 [0.25, 0.40], n = 5'; a factor where ratios were compared."""
    values = [float(row[name]) for name in ("effect", "low", "high")]
    if row.get("scale") == "log ratio":
        effect, low, high = (math.exp(value) for value in values)
        return f"{TIMES}{number(effect)}" + bounds(low, high, row["n"])
    return ("+" if values[0] > 0 else "") + number(values[0]) + bounds(values[1], values[2], row["n"])


def bounds(low: float, high: float, n: int) -> str:
    """The interval of n seeds, where they are enough for one; the bounds of a ratio without one are 0 and infinite."""
    if not np.isfinite([low, high]).all():
        return f" (n = {n}, too few for an interval)"
    return f" [{number(low)}, {number(high)}], n = {n}"


def _name(row: pd.Series, rows: pd.DataFrame) -> str:
    """The task, with its n where others have more."""
    return task_name(row["task"]) + (f" with n = {row['n']}" if row["n"] < rows["n"].max() else "")
