"""From model to critic to policy: what a share of synthetic rows does to both, arm by arm.

A run has critics and policies at every share from one start, and the arms of a seed have that start in common, so all
effects are differences within a seed; `factors` says how their intervals are taken. The chain is read over tasks and
arms: does a model that knows the reward less shift the critic more, and does the shifted critic lead to less?
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmark.judging.stats import Interval, spearman
from benchmark.records.store import Record
from benchmark.studies import factors
from benchmark.studies.probe.figures import figures
from benchmark.studies.probe.sentences import sentences

__all__ = ["figures", "sentences", "tables"]

OF_SHARES = ("bias", "bias_per_step", "shift", "shift_per_step", "gain", "gain_over_real")
"""Measures of a run at one share of synthetic rows. ``bias``: Q less the Monte-Carlo soft return; ``shift``: that bias
less the one at the smallest share; ``*_per_step``: times 1 - discount, the reward a step that would account for it;
``gain``: return of the policy that was reached less that of the policy before; ``gain_over_real``: less the gain at the
smallest share."""
LINKS = (
    ("reward_unexplained", "shift_per_step"),
    ("shift_per_step", "gain_over_real"),
    ("reward_unexplained", "gain_over_real"),
)
"""Cause and effect of the chain, at the largest share. ``reward_unexplained`` is 1 - R2 of the model's reward."""
_DRAWS = 2_000


def tables(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """``runs, shares, arms, points, links``; `low` and `high` are 90 % intervals."""
    frame = runs(records)
    medians = points(frame)
    return {"runs": frame, "shares": shares(frame), "arms": arms(frame), "points": medians, "links": links(medians)}


def runs(records: Sequence[Record]) -> pd.DataFrame:
    """One row a run and share: ``task, method, seed, share``, `OF_SHARES`, and what does not depend on the share.

    ``reward_part, entropy_part`` are means of the Monte-Carlo soft return, ``before`` the return of the policy, and
    ``reward_unexplained, reward_std_ratio, logvar_raw`` measures of the model on held-out rows.
    """
    rows = [row for record in records if record.spec.kind == "probe" for row in _of_run(record)]
    names = ["task", "method", "seed", "share", *OF_SHARES, "before", "reward_part", "entropy_part"]
    return pd.DataFrame(rows, columns=[*names, "reward_unexplained", "reward_std_ratio", "logvar_raw"])


def _of_run(record: Record) -> list[dict[str, float | str]]:
    table, spec = record.diagnostics, record.spec
    biases = table[table["measure"] == "critic_bias"]
    bias = biases[biases["step"] == biases["step"].max()].set_index("dim")["value"].sort_index()
    returns = record.curve.groupby(["share", "updates"])["episode_return"].mean().unstack()
    gain = returns[returns.columns.max()] - returns[0]
    part = record.last("mc_reward_part")
    steps = 1.0 / (1.0 - spec.constants.sac.discount)
    shared = {
        "task": spec.task, "method": spec.arm, "seed": spec.seed, "before": float(returns[0].iloc[0]),
        "reward_part": part, "entropy_part": record.last("mc_entropy_part"),
        "reward_unexplained": 1.0 - record.last("reward_r2"),
        **{name: record.last(name) for name in ("reward_std_ratio", "logvar_raw")},
    }  # fmt: skip
    of_shares = pd.DataFrame({"share": bias.index.astype(int), "bias": bias, "shift": bias - bias.iloc[0]})
    of_shares["bias_per_step"], of_shares["shift_per_step"] = of_shares["bias"] / steps, of_shares["shift"] / steps
    of_shares["gain"], of_shares["gain_over_real"] = gain, gain - gain.iloc[0]
    return [shared | row for row in of_shares.to_dict("records")]


def shares(frame: pd.DataFrame) -> pd.DataFrame:
    """Centre over seeds of each measure at each share: ``task, method, share, measure, centre, low, high, n``."""
    rows = []
    for (task, method, share), seeds in frame.groupby(["task", "method", "share"], sort=False):
        for name in OF_SHARES:
            interval, n = factors.difference_interval(seeds[name])
            rows.append((task, method, share, name, *interval, n))
    return pd.DataFrame(rows, columns=["task", "method", "share", "measure", "centre", "low", "high", "n"])


def arms(frame: pd.DataFrame, against: str = "mbpo") -> pd.DataFrame:
    """Every arm less `against` at the largest share, seed by seed: ``task, method, measure, effect, low, high, n``."""
    rows = []
    top = frame[frame["share"] == frame["share"].max()]
    for task, of_task in top.groupby("task", sort=False):
        for name in ("shift", "shift_per_step", "gain"):
            wide = of_task.pivot(index="seed", columns="method", values=name)
            for method in [m for m in dict.fromkeys(of_task["method"]) if m != against and against in wide]:
                interval, n = factors.difference_interval(wide[method] - wide[against])
                rows.append((task, method, name, *interval, n))
    return pd.DataFrame(rows, columns=["task", "method", "measure", "effect", "low", "high", "n"])


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """The chain's points: medians over seeds at the largest share, one row a task and arm."""
    top = frame[frame["share"] == frame["share"].max()]
    names = ["reward_unexplained", "shift_per_step", "gain_over_real", "before"]
    arms = top.groupby(["task", "method"], sort=False)
    return arms[names].median().reset_index().assign(seeds=arms["seed"].nunique().to_numpy())


def links(points: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of each link: ``cause, effect, scope, rho, low, high, points, tasks``.

    ``all`` ranks the points of all tasks together, ``within tasks`` those of each task by themselves, so that what
    differs between tasks counts for nothing. Intervals are bootstraps over whole tasks, which alone are independent;
    without bounds below five of them.
    """
    rows = []
    for cause, effect in LINKS:
        both = points[["task", cause, effect]].dropna()
        within = both.assign(**{name: _centred_ranks(both, name) for name in (cause, effect)})
        for scope, ranked in (("all", both), ("within tasks", within)):
            interval = _over_tasks(ranked, cause, effect)
            rows.append((cause, effect, scope, *interval, len(both), both["task"].nunique()))
    return pd.DataFrame(rows, columns=["cause", "effect", "scope", "rho", "low", "high", "points", "tasks"])


def _centred_ranks(frame: pd.DataFrame, name: str) -> pd.Series:
    ranks = frame.groupby("task")[name].rank()
    return ranks - ranks.groupby(frame["task"]).transform("mean")


def _over_tasks(frame: pd.DataFrame, cause: str, effect: str) -> Interval:
    """Spearman's correlation, with the percentile bootstrap over tasks."""
    rho = spearman(frame[cause].to_numpy(float), frame[effect].to_numpy(float))
    pieces = [rows[[cause, effect]].to_numpy(float) for _, rows in frame.groupby("task", sort=False)]
    if len(pieces) < 5 or math.isnan(rho):
        return Interval(rho, -math.inf, math.inf)
    rng = np.random.default_rng(0)
    draws = []
    for chosen in rng.integers(len(pieces), size=(_DRAWS, len(pieces))):
        x, y = np.concatenate([pieces[i] for i in chosen]).T
        draws.append(spearman(x, y))
    tail = (1 - factors.CONFIDENCE) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return Interval(rho, float(low), float(high))
