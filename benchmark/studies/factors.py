"""The grid's two factors and its rivals: fits with their levels, and effects paired seed by seed.

Arms of one seed were fitted on the same rows, so an effect is a difference within a seed, averaged over the levels of
the other factor, and its estimate is the Hodges-Lehmann centre of those differences with the exact signed-rank
interval: at five seeds from the least to the largest of them (coverage 93.75 %), below five without bounds.
A level's own figure is the median over seeds with the interval of the exact sign test, of the same coverage.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats as sps

from benchmark.judging.signed_rank import paired_interval
from benchmark.judging.stats import Interval
from benchmark.records.store import Record

CONFIDENCE = 0.90
"""Nominal, two-sided: each bound is a one-sided one of 5 %, as in the claims."""
NORMALIZE = ("none", "reward", "obs", "both")
PREDICT = ("delta", "next_obs", "fitted")
RIVALS = {
    "mbpo-learned-bounds": "learned bounds",
    "mbpo-wide-bounds": "wide bounds",
    "mbpo-bootstrap": "bootstrap",
    "mbpo-wide": "wide model",
    "mbpo-reward-head": "reward head",
}
"""What else might have cured the raw residual model; all other arms differ in their target alone."""
Scale = Literal["difference", "log ratio"]
SCALES: dict[str, Scale] = {
    "reward_r2": "difference",
    "reward_unexplained": "log ratio",
    "reward_std_ratio": "log ratio",
    "error_over_delta": "log ratio",
    "logvar_target": "difference",
    "logvar_raw": "difference",
    "calibration_obs": "log ratio",
    "miscalibration_obs": "difference",
    "calibration_reward": "log ratio",
    "at_floor": "difference",
    "at_ceiling": "difference",
}
"""How two arms are compared in each measure. ``reward_unexplained`` is 1 - R2, the share of the reward's variance that
the model misses, for R2 alone is ruled by its worst values; ``miscalibration_obs`` is |ln calibration_obs|.
``error_over_next_obs`` is not among them: its ratios are those of ``error_over_delta``."""
Cell = tuple[str, str]  # normalize, predict
Contrast = Literal["normalize reward", "normalize obs", "next_obs for delta", "fitted for the better"]
CONTRASTS: tuple[Contrast, ...] = ("normalize reward", "normalize obs", "next_obs for delta", "fitted for the better")
NORMALIZED: tuple[Contrast, ...] = CONTRASTS[:2]
AVERAGE, INTERACTION = "average", "interaction"


@dataclass(frozen=True)
class Fit:
    """The last measures of one record: scalars ``()``, those per dimension ``(O,)`` or ``(D,)``."""

    task: str
    source: str
    method: str
    normalize: str
    predict: str
    rival: str  # empty for an arm of the grid
    seed: int
    values: Mapping[str, np.ndarray]


def gather(records: Sequence[Record]) -> list[Fit]:
    """The fits among the records, in their order.

    Raises `ValueError` where one arm, task, source and seed has two records: runs of two protocols are not to be mixed.
    """
    fits: dict[tuple[str, str, str, int], Fit] = {}
    for record in records:
        spec = record.spec
        if spec.kind != "fit" or spec.fit is None or spec.drop:
            continue
        place = (spec.task, spec.fit.source_name, spec.method, spec.seed)
        if place in fits:
            raise ValueError(f"two records of {spec.label}: give those of one protocol")
        target = spec.constants.target
        rival = RIVALS.get(spec.method, "")
        task, source, method, seed = place
        fits[place] = Fit(task, source, method, target.normalize, target.predict, rival, seed, _last(record))
    return list(fits.values())


def _last(record: Record) -> dict[str, np.ndarray]:
    table = record.diagnostics
    step, dim, values = (table[name].to_numpy() for name in ("step", "dim", "value"))
    codes, names = pd.factorize(table["measure"])
    order = np.lexsort((dim, codes))
    order = order[step[order] == step.max()]
    starts = np.searchsorted(codes[order], np.arange(len(names) + 1))
    found: dict[str, np.ndarray] = {}
    for name, start, stop in zip(names, starts, starts[1:], strict=False):
        rows = order[start:stop]
        if len(rows):
            found[str(name)] = np.asarray(values[rows[0]] if dim[rows[0]] < 0 else values[rows], float)
    if "reward_r2" in found:
        found["reward_unexplained"] = 1.0 - found["reward_r2"]
    if "calibration_obs" in found:
        found["miscalibration_obs"] = np.abs(np.log(found["calibration_obs"]))
    return found


def scalars(fits: Sequence[Fit], names: Sequence[str]) -> pd.DataFrame:
    """``task, source, method, normalize, predict, rival, seed, measure, value``; NaN where it does not exist."""
    rows = [
        (f.task, f.source, f.method, f.normalize, f.predict, f.rival, f.seed, name, float(f.values[name]))
        for f in fits
        for name in names
        if name in f.values
    ]
    columns = ["task", "source", "method", "normalize", "predict", "rival", "seed", "measure", "value"]
    return pd.DataFrame(rows, columns=columns)


def level_interval(values: ArrayLike) -> tuple[Interval, int]:
    """Median of the finite ones of ``values (S,)`` with the sign test's interval, and how many they are."""
    finite = np.sort(np.asarray(values, float)[np.isfinite(values)])
    n = len(finite)
    if not n:
        return Interval(math.nan, math.nan, math.nan), 0
    outside = _outside(n)
    if outside == 0:
        return Interval(float(np.median(finite)), -math.inf, math.inf), n
    return Interval(float(np.median(finite)), float(finite[outside - 1]), float(finite[-outside])), n


@lru_cache(maxsize=64)
def _outside(n: int) -> int:
    """The rank of the bound: how many of n values may lie beyond it at the level."""
    return int(np.searchsorted(sps.binom.cdf(np.arange(n), n, 0.5), (1 - CONFIDENCE) / 2 + 1e-12, side="right"))


def difference_interval(differences: ArrayLike) -> tuple[Interval, int]:
    """As `level_interval` for differences within seeds ``(S,)``, by the signed-rank test."""
    finite = np.asarray(differences, float)[np.isfinite(differences)]
    if not len(finite):
        return Interval(math.nan, math.nan, math.nan), 0
    return paired_interval(finite, CONFIDENCE), len(finite)


def arms(frame: pd.DataFrame, by: str | Sequence[str]) -> dict[str, dict[Hashable, np.ndarray]]:
    """Per measure and arm, as columns `by` name it, the values of one task and source: ``(S,)``, on their scale.

    Seeds are in order, the same for all; NaN where a value is missing, does not exist or has no logarithm.
    """
    by = [by] if isinstance(by, str) else list(by)
    wide = frame.pivot(index="seed", columns=["measure", *by], values="value").sort_index()
    found: dict[str, dict[Hashable, np.ndarray]] = {}
    for (measure, *arm), values in zip(wide.columns, wide.to_numpy(float).T, strict=True):
        if SCALES[measure] == "log ratio":
            values = np.log(np.where(values > 0, values, math.nan))
        found.setdefault(measure, {})[tuple(arm) if len(arm) > 1 else arm[0]] = values
    return found


def pairs(contrast: Contrast, errors: Mapping[Hashable, np.ndarray]) -> Iterator[tuple[str, Cell, Cell]]:
    """The strata of a contrast: name, the cell with, the cell without.

    `errors` has the errors of each cell, a value a seed; the fitted carry is set against that of delta and next_obs
    whose median is lower, and is left out where one of the two is not there.
    """
    if contrast in NORMALIZED:
        steps = (("none", "reward"), ("obs", "both"))
        if contrast == "normalize obs":
            steps = (("none", "obs"), ("reward", "both"))
        for without, level in steps:
            for predict in PREDICT:
                yield f"{without} to {level}, {predict}", (level, predict), (without, predict)
        return
    for level in NORMALIZE:
        if contrast == "next_obs for delta":
            yield level, (level, "next_obs"), (level, "delta")
        elif all((level, predict) in errors for predict in PREDICT):
            better = min(PREDICT[:2], key=lambda predict: np.nanmedian(errors[level, predict]))
            yield level, (level, "fitted"), (level, better)


def effects(
    values: Mapping[Hashable, np.ndarray], errors: Mapping[Hashable, np.ndarray], contrast: Contrast
) -> Iterator[tuple[str, np.ndarray, int]]:
    """Differences of one measure on one task and source: stratum, a value a seed ``(S,)``, number of strata averaged.

    `values` and `errors` are of `arms`, by cell. First the average over the strata that any seed has, NaN for seeds
    that lack one of them. Then every normalization by itself, averaged over targets; and of the effects of normalizing
    the interaction: how much larger they are where the other half is normalized too.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for stratum, one, other in pairs(contrast, errors):
        if one in values and other in values and np.isfinite(values[one] - values[other]).any():
            level, _, predict = stratum.partition(", ")
            found.setdefault(level, {})[predict] = values[one] - values[other]
    if not found:
        return
    flat = [differences for level in found.values() for differences in level.values()]
    yield AVERAGE, np.mean(flat, axis=0), len(flat)
    for level, strata in found.items():
        yield level, np.mean(list(strata.values()), axis=0), len(strata)
    both = list(found.values())
    shared = [predict for predict in both[0] if len(both) == 2 and predict in both[1]]
    if contrast in NORMALIZED and shared:
        yield INTERACTION, np.mean([both[1][predict] - both[0][predict] for predict in shared], axis=0), len(shared)
