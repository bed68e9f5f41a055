"""Where tasks lie: measures of their data alone, next to what the arms' models made of them.

A *predictor* is taken from the geometry that a `fit` record carries: the training rows before any model. An *outcome*
is measured on the fitted models. Differences between arms are taken seed by seed, on equal rows; a task has the
median over its seeds. What does not exist (the R2 of a reward that never varies) is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from benchmark.diagnosis.advice import PAYS
from benchmark.diagnosis.signatures import RELEVANT
from benchmark.records.store import DIAGNOSTICS, Record
from benchmark.suite.load import load_suite

ARMS = ("mbpo", "norm-only", "direct-only", "ftfl")
BODIES = ("humanoid", "hopper", "walker", "cheetah", "ant")
"""Bodies that occur under several names or in both suites; any other task's domain is its name up to the hyphen."""
RESCUED = 0.2
"""Share of the reward's variance that normalization must add for the raw model to count as collapsed."""
LEAST_SHARE, LEAST_STD = 1e-12, 1e-6
"""What stands for a reward share or standard deviation of zero, on scales that are logarithms."""
PREDICTORS = {
    "reward_share_delta": "log10 reward share of delta targets",
    "reward_share_next_obs": "log10 reward share of next_obs targets",
    "reward_std": "log10 reward std",
    "reward_sparsity": "log10 reward std / mean",
    "increment_median": "median increment ratio",
    "increment_mean_log": "mean log increment ratio",
    "increment_overall": "log overall increment ratio",
    "increment_max": "largest increment ratio",
    "increment_above_1": "share of increment ratios above 1",
    "carry_distance": "median distance of fitted carry from 1",
    "kurtosis": "median log increment kurtosis",
    "zero_increments": "share of zero increments",
    "scale_spread_delta": "log10 spread of increment scales",
    "scale_spread_next_obs": "log10 spread of next_obs scales",
    "above_ceiling": "share of increments beyond the variance ceiling",
    "obs_dim": "number of observations",
}
OUTCOMES = {
    "reward_gain": "reward R2, norm-only less mbpo",
    "norm_error": "log error, norm-only / mbpo",
    "direct_error_raw": "log error, direct-only / mbpo",
    "direct_error_norm": "log error, ftfl / norm-only",
    "target_drop": "log variance in target space, norm-only less ftfl",
    "raw_drop": "log variance in raw units, norm-only less ftfl",
    "inflation": "log calibration of mbpo",
}
CHOICES = {
    "collapses": "whether normalization rescues the reward",
    "direct_raw": "lower error of mbpo and direct-only",
    "direct_norm": "lower error of norm-only and ftfl",
    "target_lower": "whether ftfl lowers variance in target space",
    "raw_lower": "whether ftfl lowers variance in raw units",
    "best_reward": "best of four in reward R2",
    "best_error": "best of four in error",
}


def domain(task: str) -> str:
    """The body of a task: 'humanoid' for every humanoid of either suite and any observation."""
    name = task.rpartition(":")[2].lower()
    return next((body for body in BODIES if body in name), name.split("-")[0])


def last(record: Record) -> dict[str, np.ndarray]:
    """The record's final measures: scalars ``()``, those per dimension ``(O,)`` or ``(D,)``."""
    step, measure, dim, value = (record.diagnostics[name].to_numpy() for name in DIAGNOSTICS)
    ends = step == step.max()
    code, names = pd.factorize(measure[ends], sort=True)
    dim, value = dim[ends], value[ends]
    order, first = np.lexsort((dim, code)), np.unique(code, return_index=True)[1]
    parts = np.split(value[order], np.cumsum(np.bincount(code))[:-1])
    return {
        str(name): np.asarray(value[one] if dim[one] < 0 else part)
        for name, one, part in zip(names, first, parts, strict=True)
    }


Fits = Mapping[tuple[str, int], Mapping[str, Mapping[str, np.ndarray]]]
"""Per task and seed, the final measures of each arm."""


def gather(records: Sequence[Record]) -> Fits:
    """The fits of `ARMS` on random data with all observations; a seed counts once it has every arm.

    Raises `ValueError` where one arm, task and seed has two records: runs of two protocols are not to be mixed.
    """
    found: dict[tuple[str, int], dict[str, Mapping[str, np.ndarray]]] = {}
    for record in records:
        spec = record.spec
        if spec.kind != "fit" or spec.method not in ARMS or spec.drop:
            continue
        if spec.fit is None or spec.fit.source != "random":
            continue
        arms = found.setdefault((spec.task, spec.seed), {})
        if spec.method in arms:
            raise ValueError(f"two records of {spec.label}: give those of one protocol")
        arms[spec.method] = last(record)
    return {place: arms for place, arms in sorted(found.items()) if len(arms) == len(ARMS)}


def tasks(records: Sequence[Record]) -> pd.DataFrame:
    """One row a task: its domain, seeds, predictors, outcomes, choices and figures of the four arms."""
    suite, fits = load_suite(), gather(records)
    ceilings = {r.spec.task: _ceiling(r) for r in records if r.spec.kind == "fit"}
    rows = []
    for task in dict.fromkeys(task for task, _ in fits):
        seeds = [arms for (name, _), arms in fits.items() if name == task]
        geometry = _median([_geometry(arms, ceilings[task]) for arms in seeds])
        outcomes, figures = (_median([measure(arms) for arms in seeds]) for measure in (_outcomes, _figures))
        known = suite.tasks.get(task)
        about = {
            "task": task,
            "domain": domain(task),
            "seeds": len(seeds),
            "paper_seven": bool(known and known.paper_seven),
        }
        rows.append(about | geometry.to_dict() | outcomes.to_dict() | _choices(outcomes, figures) | figures.to_dict())
    columns = ["task", "domain", "seeds", "paper_seven", *PREDICTORS, *OUTCOMES, *CHOICES]
    return pd.DataFrame(rows, columns=None if rows else columns)


def _median(seeds: Sequence[Mapping[str, float]]) -> pd.Series:
    """Of each measure over the seeds that have it; NaN where fewer than half do."""
    frame = pd.DataFrame(list(seeds))
    return frame.median().where(frame.notna().mean() >= 0.5)


def _ceiling(record: Record) -> float:
    assert record.spec.constants.model is not None
    return math.exp(0.5 * record.spec.constants.model.max_logvar)


def _geometry(arms: Mapping[str, Mapping[str, np.ndarray]], ceiling: float) -> dict[str, float]:
    """`PREDICTORS` of one data set: the same in every arm's record, but for the scales, which the arms name."""
    one = arms["ftfl"]
    next_std, delta_std = scales(arms)
    ratio, carry = one["increment_ratio"], one["fitted_carry"]
    share = float(one["reward_share_delta"])
    reward_std = max(float(one["dim_scale"][-1]), LEAST_STD) if share > 0 else LEAST_STD
    mean, std = float(one["reward_true_mean"]), float(one["reward_true_std"])
    known = ratio[~np.isnan(ratio) & (ratio > 0)]
    return {
        "reward_share_delta": math.log10(max(share, LEAST_SHARE)),
        "reward_share_next_obs": math.log10(max(float(one["reward_share_next_obs"]), LEAST_SHARE)),
        "reward_std": math.log10(reward_std),
        "reward_sparsity": math.log10(std / abs(mean)) if std > 0 and mean else math.nan,
        "increment_median": float(np.nanmedian(ratio)),
        "increment_mean_log": float(np.log(known).mean()),
        "increment_overall": float(np.log(np.nansum(delta_std**2) / np.nansum(next_std**2))),
        "increment_max": float(np.nanmax(ratio)),
        "increment_above_1": float((ratio[~np.isnan(ratio)] > 1).mean()),
        "carry_distance": float(np.nanmedian(np.abs(1 - carry))),
        "kurtosis": float(np.nanmedian(np.log(one["increment_kurtosis"] + 3.0))),
        "zero_increments": float(one["zero_increments"].mean()),
        "scale_spread_delta": float(np.log10(np.nanmax(delta_std) / np.nanmin(delta_std))),
        "scale_spread_next_obs": float(np.log10(np.nanmax(next_std) / np.nanmin(next_std))),
        "above_ceiling": float((delta_std[~np.isnan(delta_std)] > ceiling).mean()),
        "obs_dim": float(len(ratio)),
    }


def scales(arms: Mapping[str, Mapping[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of next_obs and of the increments ``(O,), (O,)``; NaN where they do not vary."""
    never = np.isnan(arms["ftfl"]["increment_ratio"])
    still = never | np.isnan(arms["ftfl"]["increment_kurtosis"])
    next_std, delta_std = arms["ftfl"]["dim_scale"][:-1], arms["norm-only"]["dim_scale"][:-1]
    return np.where(never, math.nan, next_std), np.where(still, math.nan, delta_std)


def _outcomes(arms: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, float]:
    """`OUTCOMES` of one data set."""

    def less(one: str, other: str, measure: str) -> float:
        return float(arms[one][measure] - arms[other][measure])

    def log_ratio(one: str, other: str) -> float:
        return float(np.log(arms[one]["error_over_delta"] / arms[other]["error_over_delta"]))

    return {
        "reward_gain": less("norm-only", "mbpo", "reward_r2"),
        "norm_error": log_ratio("norm-only", "mbpo"),
        "direct_error_raw": log_ratio("direct-only", "mbpo"),
        "direct_error_norm": log_ratio("ftfl", "norm-only"),
        "target_drop": less("norm-only", "ftfl", "logvar_target"),
        "raw_drop": less("norm-only", "ftfl", "logvar_raw"),
        "inflation": float(np.log(arms["mbpo"]["calibration_obs"])),
    }


def _figures(arms: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, float]:
    return {
        f"{measure} {arm}": float(arms[arm][measure]) for measure in ("reward_r2", "error_over_delta") for arm in ARMS
    }


def _choices(outcomes: pd.Series, figures: pd.Series) -> dict[str, str | None]:
    """`CHOICES` of one task from its medians; None where there is nothing to choose by."""

    def two(value: float, above: str, below: str) -> str | None:
        return None if math.isnan(value) else above if value > 0 else below

    def best(measure: str, sign: float) -> str | None:
        values = {arm: sign * figures[f"{measure} {arm}"] for arm in ARMS}
        return None if any(map(math.isnan, values.values())) else max(ARMS, key=lambda arm: values[arm])

    return {
        "collapses": two(outcomes["reward_gain"] - RESCUED, "collapses", "holds"),
        "direct_raw": two(outcomes["direct_error_raw"], "mbpo", "direct-only"),
        "direct_norm": two(outcomes["direct_error_norm"], "norm-only", "ftfl"),
        "target_lower": two(outcomes["target_drop"], "lower", "not lower"),
        "raw_lower": two(outcomes["raw_drop"], "lower", "not lower"),
        "best_reward": best("reward_r2", 1.0),
        "best_error": best("error_over_delta", -1.0),
    }


def dimensions(records: Sequence[Record]) -> pd.DataFrame:
    """One row an observation that varies: its increment ratio, and the target that errs less with normalization.

    As `diagnose` judges it: a target counts as better if every seed shows `PAYS` less error, and only where an error
    exceeds `RELEVANT` of what there is to predict.
    """
    fits = gather(records)
    rows = []
    for task in dict.fromkeys(task for task, _ in fits):
        seeds = [arms for (name, _), arms in fits.items() if name == task]
        ratio = np.stack([arms["ftfl"]["increment_ratio"] for arms in seeds])
        errors = np.stack([[arms[arm]["dim_error_std"][:-1] for arm in ("ftfl", "norm-only")] for arms in seeds])
        signal = np.stack([np.fmin(*scales(arms)) for arms in seeds])  # (S, O); errors (S, 2, O)
        for i in np.flatnonzero(~np.isnan(ratio + signal).any(0)):
            least = np.maximum(1e-3 * signal[:, i], 1e-12)
            log_ratio = np.log(np.maximum(errors[:, 0, i], least) / np.maximum(errors[:, 1, i], least))
            matters = bool((errors[:, :, i].max(1) > RELEVANT * signal[:, i]).any())
            target = "either"
            if matters and (log_ratio < math.log(1 - PAYS)).all():
                target = "next_obs"
            elif matters and (log_ratio > math.log(1 + PAYS)).all():
                target = "delta"
            rows.append((task, i, float(np.median(ratio[:, i])), float(np.median(log_ratio)), target))
    return pd.DataFrame(rows, columns=["task", "dim", "increment_ratio", "log_error_ratio", "better"])
