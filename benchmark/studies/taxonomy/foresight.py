"""What a rule foresees: every outcome of the atlas predicted from data alone, on tasks that the rule has not seen.

Contenders: a *fitted* rule (`rules.fit_monotone`, `rules.fit_stump`), one written down from *physics* with nothing to
fit, for the reward its *share alone*, and for choices the *majority* of the tasks in the fit. Three designs: the one
declared split into halves; many random halves, which share tasks, so that their range is a spread and no confidence
interval; and every domain left out once, where `rule` is the one fitted on all tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmark.judging import stats
from benchmark.studies.taxonomy import domains, rules
from benchmark.studies.taxonomy.atlas import CHOICES, OUTCOMES, PREDICTORS
from mbpo.config import ModelConfig

SPLITS = 100
"""Random splits into halves."""
LEAST_FIT, LEAST_SCORED = 4, 3
"""Tasks without which nothing is fitted, or scored."""
DESIGNS = ("declared half", "random halves", "domains left out")
FLOOR_STD = math.exp(0.5 * ModelConfig.model_fields["min_logvar"].default)
"""Least standard deviation that the paper's model can put on a raw target."""
Predict = Callable[[np.ndarray], np.ndarray]  # tasks in the fit (n,) bool -> predictions for all of them (n,)


def equal_skill(tasks: pd.DataFrame) -> np.ndarray:
    """Log error of direct over residual if both explain the same share of their own target's variance."""
    return np.asarray(-0.5 * tasks["increment_overall"], float)


def rescaling(tasks: pd.DataFrame) -> np.ndarray:
    """Drop of log variance in target space that follows from dividing by a larger scale alone."""
    return np.asarray(-tasks["increment_mean_log"] * tasks["obs_dim"] / (tasks["obs_dim"] + 1), float)


PHYSICS: Mapping[str, Callable[[pd.DataFrame], np.ndarray]] = {
    "reward_gain": lambda tasks: np.asarray(-tasks["reward_std"], float),
    "direct_error_raw": equal_skill,
    "direct_error_norm": equal_skill,
    "target_drop": rescaling,
    "raw_drop": lambda tasks: -rescaling(tasks),
    "collapses": lambda tasks: np.where(tasks["reward_std"] < math.log10(FLOOR_STD), "collapses", "holds"),
    "direct_raw": lambda tasks: np.where(equal_skill(tasks) > 0, "mbpo", "direct-only"),
    "direct_norm": lambda tasks: np.where(equal_skill(tasks) > 0, "norm-only", "ftfl"),
    "target_lower": lambda tasks: np.where(rescaling(tasks) > 0, "lower", "not lower"),
    "raw_lower": lambda tasks: np.where(rescaling(tasks) > 0, "not lower", "lower"),
    "best_reward": lambda tasks: np.where(equal_skill(tasks) > 0, "norm-only", "ftfl"),
    "best_error": lambda tasks: np.where(equal_skill(tasks) > 0, "norm-only", "ftfl"),
}
"""What follows for each outcome without fitting: predicted orders, and predicted choices.

A reward is out of reach where its standard deviation is below what the model's least variance allows (`FLOOR_STD`).
Direct prediction errs more where values vary more than increments do, if a network explains the same share of either.
In target space its variance is then lower for free, and in raw units higher by as much.
"""


def scores(tasks: pd.DataFrame, splits: int | None = None) -> pd.DataFrame:
    """One row an outcome, contender and design: how well it foresaw, with what interval, on how many tasks."""
    rows = []
    splits_of_all = _halves(tasks, SPLITS if splits is None else splits)
    for outcome, has, known in _measured(tasks):
        halves = [half[has] for half in splits_of_all]
        for contender, predict in _contenders(known, outcome).items():
            about = {"outcome": outcome, "contender": contender}
            judged = [_score(known, outcome, predict, half) for half in halves]
            texts = [rule_text(known, outcome, fit) for fit in (halves[0], np.ones(len(known), bool))]
            texts = texts if contender == "fitted" else [""] * 2
            rows.append(
                about | {"design": DESIGNS[0], "rule": texts[0]} | _declared(known, outcome, predict, halves[0])
            )
            rows.append(about | {"design": DESIGNS[1], "rule": ""} | _spread(judged[1:], outcome))
            rows.append(about | {"design": DESIGNS[2], "rule": texts[1]} | _left_out(known, outcome, predict))
    if not rows:
        return pd.DataFrame(columns=["outcome", "contender", "design", "estimate"])
    return pd.DataFrame(rows).astype({"n_fit": "Int64", "n_scored": "Int64"})


def predictions(tasks: pd.DataFrame) -> pd.DataFrame:
    """The declared half that scores: predicted and measured, per outcome, contender and task; and the rule's text."""
    rows = []
    (declared,) = _halves(tasks, 0)
    for outcome, has, known in _measured(tasks):
        half = declared[has]
        for contender, predict in _contenders(known, outcome).items():
            found = predict(half)
            text = rule_text(known, outcome, half) if contender == "fitted" else ""
            for i in np.flatnonzero(~half):
                rows.append((outcome, contender, known["task"][i], found[i], known[outcome][i], text))
    return pd.DataFrame(rows, columns=["outcome", "contender", "task", "predicted", "measured", "rule"])


def _measured(tasks: pd.DataFrame) -> Iterator[tuple[str, np.ndarray, pd.DataFrame]]:
    """Every outcome that enough tasks have, which those are ``(tasks,)`` bool, and their rows."""
    for outcome in [*OUTCOMES, *CHOICES]:
        has = tasks[outcome].notna().to_numpy()
        known = tasks[has].reset_index(drop=True)
        if _enough(known):
            yield outcome, has, known


def _enough(known: pd.DataFrame) -> bool:
    return len(known) >= LEAST_FIT + LEAST_SCORED and known["domain"].nunique() >= 4


def _halves(tasks: pd.DataFrame, splits: int) -> list[np.ndarray]:
    """The declared half, then random ones: those in the fit, of all tasks, whichever have the outcome."""
    bodies, rng = tasks["domain"].tolist(), np.random.default_rng(0)
    return [domains.declared_half(bodies), *(domains.random_half(bodies, rng) for _ in range(splits))]


def rule_text(tasks: pd.DataFrame, outcome: str, fit: np.ndarray) -> str:
    """The fitted rule in words."""
    return _fit(_arrays(tasks, outcome), fit).text(list(PREDICTORS.values()))


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Predictors ``(n, P)``, an outcome ``(n,)``, numbers or words, and domains ``(n,)``."""


def _arrays(tasks: pd.DataFrame, outcome: str) -> Arrays:
    kind = str if outcome in CHOICES else float
    return tasks[list(PREDICTORS)].to_numpy(float), tasks[outcome].to_numpy(kind), tasks["domain"].to_numpy(str)


def _fit(arrays: Arrays, fit: np.ndarray, columns: Sequence[int] | None = None) -> rules.Monotone | rules.Stump:
    x, y, bodies = (values[fit] for values in arrays)
    x = x if columns is None else x[:, list(columns)]
    if y.dtype.kind == "U":
        return rules.fit_stump(x, y.tolist(), bodies.tolist())
    return rules.fit_monotone(x, y, bodies.tolist())


def _contenders(tasks: pd.DataFrame, outcome: str) -> dict[str, Predict]:
    arrays = _arrays(tasks, outcome)
    x = arrays[0]
    found: dict[str, Predict] = {"fitted": lambda fit: _fit(arrays, fit).predict(x)}
    if outcome in PHYSICS:
        found["physics"] = lambda fit: PHYSICS[outcome](tasks)
    if outcome == "reward_gain":
        found["share alone"] = lambda fit: -tasks["reward_share_delta"].to_numpy(float)
    if outcome == "collapses":
        share = [list(PREDICTORS).index("reward_share_delta")]
        found["share alone"] = lambda fit: _fit(arrays, fit, share).predict(x[:, share])
    return found


def _score(tasks: pd.DataFrame, outcome: str, predict: Predict, fit: np.ndarray) -> tuple[float, float]:
    """Rank correlation, or accuracy, on the tasks that are not in the fit; and the accuracy of their majority guess."""
    if fit.sum() < LEAST_FIT or (~fit).sum() < LEAST_SCORED:
        return math.nan, math.nan
    truth, found = tasks[outcome][~fit], predict(fit)[~fit]
    if outcome not in CHOICES:
        return stats.spearman(found.astype(float), truth.to_numpy(float)), math.nan
    guess = rules.majority(tasks[outcome][fit].tolist())
    return float((found == truth.to_numpy(str)).mean()), float((truth == guess).mean())


def _row(
    measure: str, found: Sequence[float], kind: str, n: tuple[int | None, int | None], rest: Sequence[float]
) -> dict:
    names = ("majority", "gain", "gain_low", "gain_high")
    told: dict[str, Any] = {"measure": measure, "estimate": found[0], "low": found[1], "high": found[2]}
    return told | {"interval": kind, "n_fit": n[0], "n_scored": n[1]} | dict(zip(names, rest, strict=True))


def _judge(
    tasks: pd.DataFrame, outcome: str, found: np.ndarray, guess: np.ndarray, n: tuple[int, int], wilson: bool
) -> dict[str, Any]:
    """Score ``found`` against the tasks' own outcome, and against ``guess`` where it is a choice."""
    bodies = tasks["domain"].tolist()
    if outcome not in CHOICES:
        order, truth = found.astype(float), tasks[outcome].to_numpy(float)
        bounds = domains.over_domains(lambda rows: stats.spearman(order[rows], truth[rows]), bodies)
        return _row("spearman", bounds, "domains drawn again", n, [math.nan] * 4)
    right, right_guess = found == tasks[outcome].to_numpy(str), guess == tasks[outcome].to_numpy(str)
    bounds = domains.over_domains(lambda rows: float(right[rows].mean()), bodies)
    kind = "domains drawn again"
    if wilson:
        bounds, kind = rules.wilson(int(right.sum()), len(right)), "Wilson"
    gain = domains.over_domains(lambda rows: float(right[rows].mean() - right_guess[rows].mean()), bodies)
    return _row("accuracy", bounds, kind, n, [float(right_guess.mean()), *gain])


def _declared(tasks: pd.DataFrame, outcome: str, predict: Predict, fit: np.ndarray) -> dict[str, Any]:
    scored = tasks[~fit].reset_index(drop=True)
    guess = np.full(len(scored), rules.majority(tasks[outcome][fit].tolist()) if outcome in CHOICES else "")
    n = (int(fit.sum()), len(scored))
    return _judge(scored, outcome, predict(fit)[~fit], guess, n, wilson=True)


def _spread(judged: Sequence[tuple[float, float]], outcome: str) -> dict[str, Any]:
    """Median and 5 to 95 % of the random halves."""
    found, guess = np.array(judged).T if len(judged) else np.full((2, 1), math.nan)

    def range_of(values: np.ndarray) -> list[float]:
        known = values[~np.isnan(values)]
        return [float(q) for q in np.quantile(known, [0.5, 0.05, 0.95])] if len(known) else [math.nan] * 3

    rest = [range_of(guess)[0], *range_of(found - guess)]
    counted = int((~np.isnan(found)).sum())
    measure = "accuracy" if outcome in CHOICES else "spearman"
    return _row(measure, range_of(found), f"5 to 95 % of {counted} splits", (None, None), rest)


def _left_out(tasks: pd.DataFrame, outcome: str, predict: Predict) -> dict[str, Any]:
    found = np.full(len(tasks), "" if outcome in CHOICES else math.nan, object)
    guess = np.full(len(tasks), "", object)
    for kept, left in domains.folds(tasks["domain"].tolist()):
        found[left] = predict(kept)[left]
        if outcome in CHOICES:
            guess[left] = rules.majority(tasks[outcome][kept].tolist())
    return _judge(tasks, outcome, found, guess, (len(tasks), len(tasks)), wilson=False)
