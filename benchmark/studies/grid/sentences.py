"""What the grid's tables say, in words: where an effect's interval is clear of zero, which way, and how large.

An effect counts as clear on a task if its 90 % interval leaves zero out, task by task and without a correction for
their number; too few seeds leave it open. The size that is told is that of the task in the middle, with its own
interval, so that no average over unlike tasks is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from benchmark.studies.factors import AVERAGE, INTERACTION, RIVALS
from benchmark.studies.grid.groups import telling
from benchmark.words import TIMES, number, task_name

STRATA = {"normalize reward": 6, "normalize obs": 6, "next_obs for delta": 4, "fitted for the better": 4}
OPEN = "leaves its sign open"


def sentences(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """One for each question that the tables can speak to, the sources side by side."""
    contrasts, rivals = tables["contrasts"], tables["rivals"]
    error, better = "the model's error", "a fitted carry in place of the better of delta and next_obs"
    told = [
        _contrast(contrasts, "normalize reward", "reward_r2", "normalizing the reward", "its held-out R\u00b2")
        + _together(contrasts),
        _contrast(contrasts, "normalize obs", "error_over_delta", "normalizing the observations", error),
        _units(contrasts),
        _contrast(contrasts, "next_obs for delta", "error_over_delta", "direct prediction", error),
        _contrast(contrasts, "fitted for the better", "error_over_delta", better, error),
        _cures(rivals, "reward_unexplained", "the share of the reward's variance that stays unexplained"),
        _cures(rivals, "miscalibration_obs", "the miscalibration of observations, |ln(predicted / actual error)|,"),
        _carriers(tables["groups"]),
    ]
    return [text for text in told if text]


def on(source: str) -> str:
    """'on random data', 'on the sac replay at 100,000 steps'."""
    return "on random data" if source == "random" else f"on the {source} steps"


def listed(names: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def size(row: pd.Series) -> str:
    """An effect with its interval and n: '+0.31 [0.25, 0.40], n = 5'; a factor where ratios were compared."""
    values = [float(row[name]) for name in ("effect", "low", "high")]
    ratio = row["scale"] == "log ratio"
    if ratio:
        values = [math.exp(value) for value in values]
    effect = f"{TIMES}{number(values[0])}" if ratio else ("+" if values[0] > 0 else "") + number(values[0])
    return effect + _bounds(values[1], values[2], row)


def _bounds(low: float, high: float, row: pd.Series) -> str:
    if not np.isfinite([row["low"], row["high"]]).all():
        return f" (n = {row['n']}, too few for an interval)"
    return f" [{number(low)}, {number(high)}], n = {row['n']}"


def moves(rows: pd.DataFrame, noun: str) -> str:
    """'raises R2 on 4 of 7 tasks (names), lowers it on 1 (name) and leaves its sign open on 2 (names); ...'.

    Then the task in the middle with its size. `rows` has an effect a task.
    """
    sides = {
        "raises": rows[rows["low"] > 0],
        "lowers": rows[rows["high"] < 0],
        OPEN: rows[(rows["low"] <= 0) & (rows["high"] >= 0)],
    }
    parts: list[str] = []
    for verb, here in sides.items():
        if len(here):
            what = f"{verb} {'it' if parts else noun}" if verb != OPEN else (verb if parts else _opening(noun))
            parts.append(f"{what} on {_where(here, rows, first=not parts)}")
    middle = _middle(rows)
    return f"{listed(parts)}; the middle task is {task_name(middle['task'])} with {size(middle)}"


def _opening(noun: str) -> str:
    return f"leaves open whether {noun} rises or falls"


def _where(here: pd.DataFrame, rows: pd.DataFrame, first: bool) -> str:
    """'3 of 7 tasks (names)', '2 (names)', 'all 7 tasks'."""
    if len(here) == len(rows) > 1:
        return f"all {len(rows)} tasks"
    names = ", ".join(_name(row, rows) for _, row in here.iterrows())
    return f"{len(here)}{f' of {len(rows)} tasks' if first else ''} ({names})" if len(rows) > 1 else names


def _name(row: pd.Series, rows: pd.DataFrame) -> str:
    """The task, with its n where others have more."""
    return task_name(row["task"]) + (f" with n = {row['n']}" if row["n"] < rows["n"].max() else "")


def _middle(rows: pd.DataFrame) -> pd.Series:
    return rows.sort_values("effect", kind="stable").iloc[(len(rows) - 1) // 2]


def _contrast(contrasts: pd.DataFrame, contrast: str, measure: str, act: str, noun: str) -> str:
    chosen = contrasts[(contrasts["contrast"] == contrast) & (contrasts["measure"] == measure)]
    chosen = chosen[(chosen["stratum"] == AVERAGE) & (chosen["n"] > 0)]
    if chosen.empty:
        return ""
    text = _sentence([f"{on(source)}, {act} {moves(rows, noun)}" for source, rows in _sources(chosen)])
    lacking = chosen[chosen["strata"] < STRATA[contrast]]
    if len(lacking):
        names = ", ".join(dict.fromkeys(task_name(task) for task in lacking["task"]))
        text += f" Cells are missing on {names}: the average there is over those that are there."
    return text


def _together(contrasts: pd.DataFrame) -> str:
    """Whether normalizing the reward pays more where observations are normalized as well."""
    chosen = contrasts[(contrasts["contrast"] == "normalize reward") & (contrasts["measure"] == "reward_unexplained")]
    chosen = chosen[(chosen["stratum"] == INTERACTION) & (chosen["n"] > 0)]
    clauses = [
        f"{on(source)}, normalizing the observations as well makes its cut of the unexplained variance clearly deeper "
        f"on {_below(rows)} tasks and shallower on {int((rows['low'] > 0).sum())} ({_told(rows)})"
        for source, rows in _sources(chosen)
    ]
    return f" {_sentence(clauses)}" if clauses else ""


def _units(contrasts: pd.DataFrame) -> str:
    """Direct prediction between normalized targets: its variance as the paper plots it, and in the task's own units."""
    chosen = contrasts[(contrasts["contrast"] == "next_obs for delta") & (contrasts["stratum"] == "both")]
    clauses = []
    for source, here in _sources(chosen[chosen["n"] > 0]):
        acts = [
            f"{lead} {moves(rows, f'log-variance in {unit}')}"
            for measure, unit, lead in (
                ("logvar_target", "target space", "direct prediction of normalized targets"),
                ("logvar_raw", "raw units", "it"),
            )
            if len(rows := here[here["measure"] == measure])
        ]
        if acts:
            clauses.append(f"{on(source)}, {'; '.join(acts)}")
    return _sentence(clauses)


def _cures(rivals: pd.DataFrame, measure: str, noun: str) -> str:
    """On how many tasks each arm is clearly below mbpo; of the rivals, the size of the strongest."""
    chosen = rivals[(rivals["measure"] == measure) & (rivals["against"] == "mbpo")]
    clauses = []
    for source, here in _sources(chosen):
        arms = {method: here[here["method"] == method] for method in dict.fromkeys(here["method"])}
        cures = [f"{method} on {_below(rows)} ({_told(rows)})" for method, rows in arms.items() if method not in RIVALS]
        others = {RIVALS[method]: rows for method, rows in arms.items() if method in RIVALS}
        text = listed([*cures, *(f"{name} on {_below(rows)}" for name, rows in others.items())])
        if others:
            best = min(others, key=lambda name: float(_middle(others[name])["effect"]))
            text += f"; of the rivals {best} goes furthest ({_told(others[best])})"
        clauses.append(f"{on(source)}, {noun} is clearly below mbpo's on so many tasks: with {text}")
    return _sentence(clauses)


def _below(rows: pd.DataFrame) -> str:
    return f"{int((rows['high'] < 0).sum())} of {len(rows)}"


def _told(rows: pd.DataFrame) -> str:
    middle = _middle(rows)
    return f"middle task {task_name(middle['task'])} with {size(middle)}"


def _carriers(groups: pd.DataFrame) -> str:
    """The observation group with most of the variance that mbpo predicts, and its share, on one task a body."""
    chosen = groups[(groups["method"] == "mbpo") & (groups["measure"] == "variance_share")]
    chosen = chosen[chosen["task"].isin(telling(chosen["task"]))]
    clauses = []
    for source, here in _sources(chosen):
        parts = []
        for _, row in here.loc[here.groupby("task", sort=False)["median"].idxmax()].iterrows():
            dims = int(here.loc[here["task"] == row["task"], "dims"].sum())
            median, low, high = (100.0 * float(row[name]) for name in ("median", "low", "high"))
            share = f"{number(median)} %{_bounds(low, high, row)}"
            parts.append(f"{row['group']} on {task_name(row['task'])} ({row['dims']} of {dims} observations, {share})")
        lead = "the group with the largest share of the variance that mbpo predicts in raw units is"
        clauses.append(f"{on(source)}, {lead} {listed(parts)}")
    return _sentence(clauses)


def _sources(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for source, here in rows.groupby("source", sort=False):
        yield str(source), here


def _sentence(clauses: Sequence[str]) -> str:
    text = "; ".join(clauses)
    return f"{text[0].upper()}{text[1:]}." if text else ""
