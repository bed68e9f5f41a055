"""Final returns of all tasks together, by rliable: intervals, performance profiles, probability of improvement.

Returns are normalized per task so that a random policy has 0 and the reference of the suite 1, and never pooled across
suites. Everything here describes; no verdict rests on it. Where tasks have different numbers of seeds all are kept, and
`ragged` takes rliable's place.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from benchmark.judging import ragged, stats
from benchmark.records.store import RETURN
from benchmark.suite.load import Suite

METHODS = ("sac", "sac-utd20", "mbpo", "ftfl")
"""Those compared over all tasks; every other arm is run on some tasks only."""
FINAL = 0.8
"""Share of training after which evaluations count as final."""
REPETITIONS = 1_000
POINTS = 41
Scores = np.ndarray | list[np.ndarray]
"""(seeds, tasks), or a list of every task's seeds where these are not as many."""
Matrices = dict[str, dict[str, Scores]]


def matrices(curves: pd.DataFrame, suite: Suite) -> Matrices:
    """Per suite and method, normalized final returns, of the tasks that all methods there have."""
    by_suite: Matrices = {}
    compared = curves[curves["method"].isin(METHODS)]
    for name in ("dmc", "gym") if len(compared) else ():
        mine = compared[[suite.task(task).suite == name and _scaled(suite, task) for task in compared["task"]]]
        methods = [method for method in METHODS if method in set(mine["method"])]
        shared = [t for t in dict.fromkeys(mine["task"]) if set(mine.loc[mine["task"] == t, "method"]) == set(methods)]
        final = _final(mine[mine["task"].isin(shared)], suite)
        made = {method: _by_task(final[final["method"] == method], shared) for method in methods}
        if shared and all(len(scores) for scores in made.values()):
            by_suite[name] = made
    return by_suite


def frames(scores: Matrices) -> dict[str, pd.DataFrame]:
    """The three tables below by name; each takes rliable seconds."""
    return {"aggregates": intervals(scores), "improvement": improvements(scores), "profiles": profiles(scores)}


def intervals(scores: Matrices) -> pd.DataFrame:
    """``suite, method, aggregate, estimate, interval_low, interval_high, seeds, tasks``."""
    rows = []
    for suite, made in scores.items():
        whole, rest = _split(made)
        both = stats.interval_estimates(whole, repetitions=REPETITIONS) if whole else {}
        both |= ragged.interval_estimates(rest, repetitions=REPETITIONS)
        for method in made:
            estimates, by_task = both[method], _tasks(made[method])
            seeds, tasks = min(map(len, by_task)), len(by_task)
            rows += [
                (suite, method, name, *estimates[name], seeds, tasks) for name in ("iqm", "median", "optimality_gap")
            ]
    columns = ["suite", "method", "aggregate", "estimate", "interval_low", "interval_high", "seeds", "tasks"]
    return pd.DataFrame(rows, columns=columns)


def profiles(scores: Matrices) -> pd.DataFrame:
    """``suite, method, score, share, low, high, tasks``: the share of runs above each normalized score."""
    rows = []
    for suite, made in scores.items():
        top = max(1.0, *(float(task.max()) for scores in made.values() for task in _tasks(scores)))
        taus = np.linspace(0, top, POINTS)
        whole, rest = _split(made)
        both = stats.performance_profiles(whole, taus, repetitions=REPETITIONS) if whole else {}
        both |= {method: ragged.profile(by_task, taus, REPETITIONS) for method, by_task in rest.items()}
        for method in made:
            share, low, high = both[method]
            tasks = len(_tasks(made[method]))
            rows += [(suite, method, *point, tasks) for point in zip(taus, share, low, high, strict=True)]
    return pd.DataFrame(rows, columns=["suite", "method", "score", "share", "low", "high", "tasks"])


def improvements(scores: Matrices) -> pd.DataFrame:
    """``suite, method, over, probability, interval_low, interval_high, tasks`` of methods over SAC and each other."""
    rows = []
    for suite, made in scores.items():
        pairs = dict.fromkeys([(b, a) for a, b in pairwise(made)] + [(b, "sac") for b in made if b != "sac"])
        pairs_here = [(x, y) for x, y in pairs if y in made]
        whole, _ = _split(made)
        equal = [pair for pair in pairs_here if whole.keys() >= set(pair)]
        both = stats.improvement_intervals({(x, y): (whole[x], whole[y]) for x, y in equal}, REPETITIONS)
        for x, y in pairs_here:
            interval = both.get((x, y)) or ragged.improvement(_tasks(made[x]), _tasks(made[y]), REPETITIONS)
            rows.append((suite, x, y, *interval, len(_tasks(made[x]))))
    columns = ["suite", "method", "over", "probability", "interval_low", "interval_high", "tasks"]
    return pd.DataFrame(rows, columns=columns)


def _by_task(final: pd.DataFrame, tasks: list[str]) -> Scores:
    """One method's scores of every task, in the order of its seeds."""
    by_task = [final.loc[final["task"] == task].sort_values("seed")["score"].to_numpy() for task in tasks]
    return np.column_stack(by_task) if len({len(scores) for scores in by_task}) == 1 else by_task


def _split(made: dict[str, Scores]) -> tuple[dict[str, np.ndarray], dict[str, list[np.ndarray]]]:
    """The methods whose tasks have equal numbers of seeds, and the others."""
    whole = {method: scores for method, scores in made.items() if isinstance(scores, np.ndarray)}
    return whole, {method: scores for method, scores in made.items() if isinstance(scores, list)}


def _tasks(scores: Scores) -> list[np.ndarray]:
    return list(scores.T) if isinstance(scores, np.ndarray) else scores


def _final(curves: pd.DataFrame, suite: Suite) -> pd.DataFrame:
    """``task, method, seed, score``: the normalized mean over the last fifth of training."""
    last = curves.groupby("task")["env_steps"].transform("max")
    means = curves[curves["env_steps"] >= FINAL * last].groupby(["task", "method", "seed"], sort=False)[RETURN].mean()
    table = means.reset_index()
    table["score"] = [suite.task(t).normalize(v) for t, v in zip(table["task"], table[RETURN], strict=True)]
    return table


def _scaled(suite: Suite, task: str) -> bool:
    entry = suite.task(task)
    return entry.random_score is not None and entry.reference_score is not None
