"""Final returns of all tasks together, by rliable: intervals, performance profiles, probability of improvement.

Returns are normalized per task so that a random policy has 0 and the reference of the suite 1, and never pooled across
suites. Everything here describes; no verdict rests on it.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from benchmark.judging import stats
from benchmark.records.frames import matrix
from benchmark.records.store import RETURN
from benchmark.suite.load import Suite

METHODS = ("sac", "sac-utd20", "mbpo", "ftfl")
"""Those compared over all tasks; every other arm is run on some tasks only."""
FINAL = 0.8
"""Share of training after which evaluations count as final."""
REPETITIONS = 1_000
POINTS = 41
Matrices = dict[str, dict[str, np.ndarray]]


def matrices(curves: pd.DataFrame, suite: Suite) -> Matrices:
    """Per suite and method, normalized final returns (seeds, tasks), of the tasks that all methods there have."""
    found: Matrices = {}
    here = curves[curves["method"].isin(METHODS)]
    for name in ("dmc", "gym") if len(here) else ():
        mine = here[[suite.task(task).suite == name and _scaled(suite, task) for task in here["task"]]]
        methods = [method for method in METHODS if method in set(mine["method"])]
        shared = [t for t in dict.fromkeys(mine["task"]) if set(mine.loc[mine["task"] == t, "method"]) == set(methods)]
        final = _final(mine[mine["task"].isin(shared)], suite)
        made = {method: matrix(final[final["method"] == method], "score") for method in methods}
        if shared and all(len(scores) for scores in made.values()):
            found[name] = made
    return found


def frames(scores: Matrices) -> dict[str, pd.DataFrame]:
    """The three tables below by name; each takes rliable seconds."""
    return {"aggregates": intervals(scores), "improvement": improvements(scores), "profiles": profiles(scores)}


def intervals(scores: Matrices) -> pd.DataFrame:
    """``suite, method, aggregate, estimate, interval_low, interval_high, seeds, tasks``."""
    rows = []
    for suite, made in scores.items():
        for method, found in stats.interval_estimates(made, repetitions=REPETITIONS).items():
            seeds, tasks = made[method].shape
            rows += [(suite, method, name, *found[name], seeds, tasks) for name in ("iqm", "median", "optimality_gap")]
    columns = ["suite", "method", "aggregate", "estimate", "interval_low", "interval_high", "seeds", "tasks"]
    return pd.DataFrame(rows, columns=columns)


def profiles(scores: Matrices) -> pd.DataFrame:
    """``suite, method, score, share, low, high, tasks``: the share of runs above each normalized score."""
    rows = []
    for suite, made in scores.items():
        top = max(1.0, *(float(found.max()) for found in made.values()))
        taus = np.linspace(0, top, POINTS)
        for method, (share, low, high) in stats.performance_profiles(made, taus, repetitions=REPETITIONS).items():
            rows += [
                (suite, method, *point, made[method].shape[1]) for point in zip(taus, share, low, high, strict=True)
            ]
    return pd.DataFrame(rows, columns=["suite", "method", "score", "share", "low", "high", "tasks"])


def improvements(scores: Matrices) -> pd.DataFrame:
    """``suite, method, over, probability, interval_low, interval_high, tasks`` of methods over SAC and each other."""
    rows = []
    for suite, made in scores.items():
        pairs = dict.fromkeys([(b, a) for a, b in pairwise(made)] + [(b, "sac") for b in made if b != "sac"])
        pairs_here = [(x, y) for x, y in pairs if y in made]
        found = stats.improvement_intervals({pair: (made[pair[0]], made[pair[1]]) for pair in pairs_here}, REPETITIONS)
        rows += [(suite, *pair, *interval, made[pair[0]].shape[1]) for pair, interval in found.items()]
    columns = ["suite", "method", "over", "probability", "interval_low", "interval_high", "tasks"]
    return pd.DataFrame(rows, columns=columns)


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
