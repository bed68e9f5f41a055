"""Which sensors carry the variance: the measures per dimension, gathered by observation group.

A group's raw figures are in its own units, and comparable between arms rather than between groups; its shares are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from benchmark.studies.factors import Fit, difference_interval, level_interval
from mbpo.envs import task_info

ARMS = ("mbpo", "direct-only", "norm-only", "ftfl")
DATA = "data"
"""Stands for the arm where a figure is of the data alone."""
LESS = {"mbpo less direct-only": ("mbpo", "direct-only"), "norm-only less ftfl": ("norm-only", "ftfl")}
"""Delta less next_obs, raw and normalized, paired by seed."""
TELLING = ("dmc:humanoid-stand", "dmc:quadruped-walk", "dmc:hopper-hop")
"""One task a body, where there is room for few."""
COLUMNS = ["task", "source", "method", "group", "dims", "measure", "median", "low", "high", "n"]


def groups(fits: Sequence[Fit]) -> pd.DataFrame:
    """A row a task, source, arm, group and measure, with its interval over seeds; `dims` is the size of the group.

    ``logvar_target``, ``logvar_raw``: mean over the group. ``calibration``: geometric mean. ``variance_share``,
    ``error_share``: share of the predicted variance, and of the squared error, of all observations, raw units.
    ``at_floor``, ``at_ceiling``: share of outputs. Of the data: ``increment_ratio``, geometric mean, and
    ``fitted_carry``, mean. In rows of `LESS` the two log-variances are differences.
    """
    rows = []
    for task, source in dict.fromkeys((f.task, f.source) for f in fits):
        here = [f for f in fits if (f.task, f.source) == (task, source) and f.method in ARMS]
        for group, (start, stop) in task_info(task).groups.items():
            for (method, measure), values in _figures(here, start, stop).items():
                interval, n = (difference_interval if method in LESS else level_interval)(values)
                if n:
                    rows.append((task, source, method, group, stop - start, measure, *interval, n))
    return pd.DataFrame(rows, columns=COLUMNS)


def telling(tasks: Iterable[str]) -> list[str]:
    """Three of the tasks: those of `TELLING` that are among them, then the others in order."""
    there = list(dict.fromkeys(tasks))
    return ([task for task in TELLING if task in there] + [task for task in there if task not in TELLING])[:3]


def _figures(fits: Sequence[Fit], start: int, stop: int) -> dict[tuple[str, str], list[float]]:
    """Per arm and measure, one figure a seed."""
    seeds: dict[str, dict[int, dict[str, float]]] = {}
    for fit in fits:
        seeds.setdefault(fit.method, {})[fit.seed] = of_group(fit.values, start, stop)
        seeds.setdefault(DATA, {}).setdefault(fit.seed, _of_data(fit.values, start, stop))
    found: dict[tuple[str, str], list[float]] = {}
    for method, of_seed in seeds.items():
        for values in of_seed.values():
            for measure, value in values.items():
                found.setdefault((method, measure), []).append(value)
    for name, (one, other) in LESS.items():
        both = [(seeds[one][seed], seeds[other][seed]) for seed in seeds.get(one, {}) if seed in seeds.get(other, {})]
        for measure in ("logvar_target", "logvar_raw"):
            found[name, measure] = [a[measure] - b[measure] for a, b in both if measure in a and measure in b]
    return found


def of_group(values: Mapping[str, np.ndarray], start: int, stop: int) -> dict[str, float]:
    """The figures of one fit's observations ``[start, stop)``; only those whose measures it has."""
    found = {
        name: float(values[f"dim_{name}"][start:stop].mean())
        for name in ("logvar_target", "logvar_raw", "at_floor", "at_ceiling")
        if f"dim_{name}" in values
    }
    if {"dim_calibration", "dim_error_std"} <= values.keys():
        calibration, error = values["dim_calibration"][:-1], values["dim_error_std"][:-1]
        found["calibration"] = _geometric(calibration[start:stop])
        found["error_share"] = _share(error**2, start, stop)
        found["variance_share"] = _share((calibration * error) ** 2, start, stop)
    return found


def _of_data(values: Mapping[str, np.ndarray], start: int, stop: int) -> dict[str, float]:
    found = {}
    if "increment_ratio" in values:
        found["increment_ratio"] = _geometric(values["increment_ratio"][start:stop])
    if "fitted_carry" in values:
        carry = values["fitted_carry"][start:stop]
        found["fitted_carry"] = float(carry[np.isfinite(carry)].mean()) if np.isfinite(carry).any() else np.nan
    return found


def _geometric(values: np.ndarray) -> float:
    """Geometric mean of the positive ones; NaN without any."""
    positive = values[np.isfinite(values) & (values > 0)]
    return float(np.exp(np.log(positive).mean())) if len(positive) else np.nan


def _share(squares: np.ndarray, start: int, stop: int) -> float:
    """NaN if there is nothing to share; a dimension without a figure counts as 0."""
    whole = np.nansum(squares)
    return float(np.nansum(squares[start:stop]) / whole) if whole > 0 else np.nan
