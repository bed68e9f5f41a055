"""The measures per dimension by observation group: which sensors carry the variance.

A group's raw values are in its own units, so they compare arms but not groups. Its shares compare groups as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from benchmark.studies.factors import Fit, difference_interval, level_interval
from mbpo.envs import task_info

ARMS = ("mbpo", "direct-only", "norm-only", "ftfl")
DATA = "data"
"""The arm of values that belong to the data alone."""
DIFFERENCES = {"mbpo less direct-only": ("mbpo", "direct-only"), "norm-only less ftfl": ("norm-only", "ftfl")}
"""Delta less next_obs, raw and normalized, paired by seed."""
REPRESENTATIVE = ("dmc:humanoid-stand", "dmc:quadruped-walk", "dmc:hopper-hop")
"""One task per body, where there is room for few."""
COLUMNS = ["task", "source", "method", "group", "dims", "measure", "median", "low", "high", "n"]


def groups(fits: Sequence[Fit]) -> pd.DataFrame:
    """A row per task, source, arm, group and measure, with its interval over seeds; `dims` is the size of the group.

    ``logvar_target``, ``logvar_raw``: mean over the group. ``calibration``: geometric mean. ``variance_share``,
    ``error_share``: share of the predicted variance, and of the squared error, of all observations, raw units.
    ``at_floor``, ``at_ceiling``: share of outputs. Of the data: ``increment_ratio``, geometric mean, and
    ``fitted_carry``, mean. In rows of `DIFFERENCES` the two log-variances are differences.
    """
    rows = []
    for task, source in dict.fromkeys((f.task, f.source) for f in fits):
        in_stratum = [f for f in fits if (f.task, f.source) == (task, source) and f.method in ARMS]
        for group, (start, stop) in task_info(task).groups.items():
            for (method, measure), values in _values(in_stratum, start, stop).items():
                interval, n = (difference_interval if method in DIFFERENCES else level_interval)(values)
                if n:
                    rows.append((task, source, method, group, stop - start, measure, *interval, n))
    return pd.DataFrame(rows, columns=COLUMNS)


def representative(tasks: Iterable[str]) -> list[str]:
    """Three of the tasks: first those of `REPRESENTATIVE`, then the others in order."""
    present = list(tasks)
    return list(dict.fromkeys([*(task for task in REPRESENTATIVE if task in present), *present]))[:3]


def _values(fits: Sequence[Fit], start: int, stop: int) -> dict[tuple[str, str], list[float]]:
    """Values by arm and measure, one per seed."""
    seeds: dict[str, dict[int, dict[str, float]]] = {}
    for fit in fits:
        seeds.setdefault(fit.method, {})[fit.seed] = of_group(fit.values, start, stop)
        seeds.setdefault(DATA, {}).setdefault(fit.seed, _of_data(fit.values, start, stop))
    by_arm: dict[tuple[str, str], list[float]] = {}
    for method, of_seed in seeds.items():
        for values in of_seed.values():
            for measure, value in values.items():
                by_arm.setdefault((method, measure), []).append(value)
    for name, (first, second) in DIFFERENCES.items():
        one, other = seeds.get(first, {}), seeds.get(second, {})
        both = [(one[seed], other[seed]) for seed in one if seed in other]
        for measure in ("logvar_target", "logvar_raw"):
            by_arm[name, measure] = [a[measure] - b[measure] for a, b in both if measure in a and measure in b]
    return by_arm


def of_group(values: Mapping[str, np.ndarray], start: int, stop: int) -> dict[str, float]:
    """Values of one fit's observations ``[start, stop)``, as far as the fit has the measures."""
    measures = {
        name: float(values[f"dim_{name}"][start:stop].mean())
        for name in ("logvar_target", "logvar_raw", "at_floor", "at_ceiling")
        if f"dim_{name}" in values
    }
    if {"dim_calibration", "dim_error_std"} <= values.keys():
        calibration, error = values["dim_calibration"][:-1], values["dim_error_std"][:-1]
        measures["calibration"] = _geometric(calibration[start:stop])
        measures["error_share"] = _share(error**2, start, stop)
        measures["variance_share"] = _share((calibration * error) ** 2, start, stop)
    return measures


def _of_data(values: Mapping[str, np.ndarray], start: int, stop: int) -> dict[str, float]:
    measures = {}
    if "increment_ratio" in values:
        measures["increment_ratio"] = _geometric(values["increment_ratio"][start:stop])
    if "fitted_carry" in values:
        carry = values["fitted_carry"][start:stop]
        measures["fitted_carry"] = float(carry[np.isfinite(carry)].mean()) if np.isfinite(carry).any() else np.nan
    return measures


def _geometric(values: np.ndarray) -> float:
    """Geometric mean of the positive values; NaN without any."""
    positive = values[np.isfinite(values) & (values > 0)]
    return float(np.exp(np.log(positive).mean())) if len(positive) else np.nan


def _share(squares: np.ndarray, start: int, stop: int) -> float:
    """Share of ``[start, stop)`` in the sum of `squares`; NaN counts as 0, and a sum of 0 gives NaN."""
    total = np.nansum(squares)
    return float(np.nansum(squares[start:stop]) / total) if total > 0 else np.nan
