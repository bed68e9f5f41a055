"""Records reduced to numbers: one score per run, for the verdicts.

A score is the mean over a stated window, never the best: the trapezoid integral over env steps, so that it does not
depend on how densely a run was logged. A window is two shares of training, so that one claim reads the same under a
short and a long protocol: ``[0.8, 1]`` is the last fifth, ``[0, 0]`` the evaluation before the first update. A `fit`
run is read at its end; a window ``[0.8, 1]`` averages its last fifth, for measures that oscillate from look to look by
as much as seeds differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from benchmark.judging import engines
from benchmark.judging.evidence import Curve, Score, transformed
from benchmark.records.frames import scalar_rows
from benchmark.records.store import RETURN, Record
from benchmark.suite.criterion import NEED_VARYING_REWARD, Estimand


def score(record: Record, estimand: Estimand) -> Score:
    """The run's one number, with what decides whether it may be compared with others."""
    if estimand.measure == RETURN:
        rows = record.curve.rename(columns={"env_steps": "step", RETURN: "value"})
    else:
        rows = scalar_rows(record, estimand.measure)
    origin, lost = engine(record), diverged(record)
    if record.spec.budget is not None:
        steps, values = _means(rows)
        made = curve_score(
            record.spec.seed, steps, values, estimand, record.spec.budget.env_steps, origin, lost, failure(record)
        )
        return replace(made, curve=None, undefined=_STILL) if _still(record, estimand, made.value) else made
    since = record.spec.length * estimand.window[0] if estimand.window else rows["step"].max()
    rows = rows[rows["step"] >= since]
    value = float(rows["value"].mean(skipna=False)) if len(rows) else math.nan
    value = transformed(value, estimand.transform)
    undefined = _STILL if _still(record, estimand, value) else ""
    return Score(record.spec.seed, value, len(rows), origin, lost, failure(record), undefined)


_STILL = "the held-out rewards do not vary, so more transitions are needed"


def _still(record: Record, estimand: Estimand, value: float) -> bool:
    """Whether a score does not exist because every held-out reward is the same, at the end or before."""
    if estimand.measure not in NEED_VARYING_REWARD or not math.isnan(value):
        return False
    spread = scalar_rows(record, "reward_true_std")["value"]
    return bool((spread == 0).any())


def failure(record: Record) -> str:
    """When and why the run was lost, as its provenance says."""
    mark = record.provenance.get("failure")
    return f"at step {mark['step']}: {mark['cause']}" if mark else ""


def curve_score(
    seed: int,
    steps: Sequence[int],
    values: Sequence[float],
    estimand: Estimand,
    end: int,
    engine: str = "",
    diverged: bool = False,
    failure: str = "",
) -> Score:
    """The score of any curve over env steps: `values` at `steps`, in order, of a run of `end` env steps.

    Whether two curves may be compared is for `criteria` to say, which sees both arms.
    """
    low, high = estimand.window or (1.0, 1.0)
    curve = Curve(
        tuple(map(int, steps)),
        tuple(map(float, values)),
        low * end,
        high * end,
        end,
        estimand.transform,
        estimand.measure == RETURN,
    )
    return Score(seed, curve.score(), curve.inside(), engine, diverged, failure, curve=curve)


def _means(rows: pd.DataFrame) -> tuple[list[int], list[float]]:
    """The steps in order, and the mean of the values at each; NaN where any is."""
    groups = rows.groupby("step", sort=True)["value"]
    means = groups.mean().where(groups.count() == groups.size())
    return [int(step) for step in means.index], means.tolist()


def engine(record: Record) -> str:
    """What computed the run, as `judging.engines` names it. Unequal ones are never pooled."""
    return engines.name(record.provenance)


def diverged(record: Record) -> bool:
    """Whether training stopped because numbers left all bounds."""
    rows = scalar_rows(record, "diverged")
    return bool((rows["value"] > 0).any())
