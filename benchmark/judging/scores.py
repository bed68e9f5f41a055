"""Records reduced to numbers: one score per run, for the verdicts.

A score is the mean over a stated window, never the best. A window is two shares of training, so that one claim reads
the same under a short and a long protocol: ``[0.8, 1]`` holds all evaluations of the last fifth, ``[0, 0]`` the one
before the first update. A `fit` run is read at its end; a window ``[0.8, 1]`` averages its last fifth, for measures
that oscillate from look to look by as much as seeds differ.
"""

from __future__ import annotations

import math

from benchmark.judging import engines
from benchmark.judging.evidence import Score
from benchmark.records.frames import scalar_rows
from benchmark.records.store import RETURN, Record
from benchmark.suite.criterion import NEED_VARYING_REWARD, Estimand


def score(record: Record, estimand: Estimand) -> Score:
    """The run's one number, with what decides whether it may be compared with others."""
    low, high = estimand.window or (1.0, 1.0)
    if estimand.measure == RETURN:
        rows = record.curve.rename(columns={"env_steps": "step", RETURN: "value"})
    else:
        rows = scalar_rows(record, estimand.measure)
    if record.spec.budget is not None:
        total = record.spec.budget.env_steps
        rows = rows[(rows["step"] >= low * total) & (rows["step"] <= high * total)]
    else:
        since = record.spec.length * estimand.window[0] if estimand.window else rows["step"].max()
        rows = rows[rows["step"] >= since]
    value = float(rows["value"].mean(skipna=False)) if len(rows) else math.nan
    if estimand.transform == "abs":
        value = abs(value)
    elif estimand.transform == "abs-log":
        value = abs(math.log(value)) if value > 0 else math.nan
    elif estimand.transform == "log10":
        value = math.log10(value) if value > 0 else math.nan
    still = estimand.measure in NEED_VARYING_REWARD and math.isnan(value) and record.last("reward_true_std") == 0
    undefined = "the held-out rewards do not vary, so more transitions are needed" if still else ""
    return Score(record.spec.seed, value, len(rows), engine(record), diverged(record), undefined)


def engine(record: Record) -> str:
    """What computed the run, as `judging.engines` names it. Unequal ones are never pooled."""
    return engines.name(record.provenance)


def diverged(record: Record) -> bool:
    """Whether training stopped because numbers left all bounds."""
    rows = scalar_rows(record, "diverged")
    return bool((rows["value"] > 0).any())
