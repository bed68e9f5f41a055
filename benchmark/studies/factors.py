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
"""Nominal and two-sided: each bound is one-sided at 5 %, as in the claims."""
NORMALIZE = ("none", "reward", "obs", "both")
PREDICT = ("delta", "next_obs", "fitted")
RIVALS = {
    "mbpo-learned-bounds": "learned bounds",
    "mbpo-wide-bounds": "wide bounds",
    "mbpo-bootstrap": "bootstrap",
    "mbpo-wide": "wide model",
    "mbpo-reward-head": "reward head",
}
"""Arms of rival explanations and their names in sentences; all other arms differ in their target alone."""
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
"""The scale on which two arms are compared, by measure. ``reward_unexplained`` is 1 - R2, the share of the reward's
variance that the model misses; R2 itself is dominated by its worst values. ``miscalibration_obs`` is
|ln calibration_obs|. ``error_over_next_obs`` is left out: its ratios are those of ``error_over_delta``."""
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

    Raises:
        ValueError: two records of one arm, task, source and seed, because runs of two protocols must not be mixed.
    """
    fits: dict[tuple[str, str, str, int], Fit] = {}
    for record in records:
        spec = record.spec
        if spec.kind != "fit" or spec.fit is None or spec.drop:
            continue
        key = (spec.task, spec.fit.source_name, spec.method, spec.seed)
        if key in fits:
            raise ValueError(f"two records of {spec.label}: give those of one protocol")
        target = spec.constants.target
        rival = RIVALS.get(spec.method, "")
        task, source, method, seed = key
        fits[key] = Fit(task, source, method, target.normalize, target.predict, rival, seed, _last(record))
    return list(fits.values())


def _last(record: Record) -> dict[str, np.ndarray]:
    table = record.diagnostics
    step, dim, values = (table[name].to_numpy() for name in ("step", "dim", "value"))
    codes, names = pd.factorize(table["measure"])
    order = np.lexsort((dim, codes))
    order = order[step[order] == step.max()]
    starts = np.searchsorted(codes[order], np.arange(len(names) + 1))
    measures: dict[str, np.ndarray] = {}
    for name, start, stop in zip(names, starts, starts[1:], strict=False):
        rows = order[start:stop]
        if len(rows):
            measures[str(name)] = np.asarray(values[rows[0]] if dim[rows[0]] < 0 else values[rows], float)
    if "reward_r2" in measures:
        measures["reward_unexplained"] = 1.0 - measures["reward_r2"]
    if "calibration_obs" in measures:
        measures["miscalibration_obs"] = np.abs(np.log(measures["calibration_obs"]))
    return measures


def scalars(fits: Sequence[Fit], names: Sequence[str]) -> pd.DataFrame:
    """A row per fit and measure: ``task, source, method, normalize, predict, rival, seed, measure, value``."""
    rows = [
        (f.task, f.source, f.method, f.normalize, f.predict, f.rival, f.seed, name, float(f.values[name]))
        for f in fits
        for name in names
        if name in f.values
    ]
    columns = ["task", "source", "method", "normalize", "predict", "rival", "seed", "measure", "value"]
    return pd.DataFrame(rows, columns=columns)


def level_interval(values: ArrayLike) -> tuple[Interval, int]:
    """Median of the finite ``values (S,)`` with the sign test's interval, and their number."""
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
    """Rank of a bound: how many of n values may lie beyond it at `CONFIDENCE`."""
    return int(np.searchsorted(sps.binom.cdf(np.arange(n), n, 0.5), (1 - CONFIDENCE) / 2 + 1e-12, side="right"))


def difference_interval(differences: ArrayLike) -> tuple[Interval, int]:
    """Hodges-Lehmann centre of finite ``differences (S,)`` with the signed-rank interval, and their number."""
    finite = np.asarray(differences, float)[np.isfinite(differences)]
    if not len(finite):
        return Interval(math.nan, math.nan, math.nan), 0
    return paired_interval(finite, CONFIDENCE), len(finite)


def arms(frame: pd.DataFrame, by: str | Sequence[str]) -> dict[str, dict[Hashable, np.ndarray]]:
    """Values ``(S,)`` of one task and source, by measure and arm, on the measure's scale; columns `by` name an arm.

    All arms have the same seeds in the same order; NaN where a value is missing or has no logarithm.
    """
    by = [by] if isinstance(by, str) else list(by)
    wide = frame.pivot(index="seed", columns=["measure", *by], values="value").sort_index()
    by_measure: dict[str, dict[Hashable, np.ndarray]] = {}
    for (measure, *arm), values in zip(wide.columns, wide.to_numpy(float).T, strict=True):
        if SCALES[measure] == "log ratio":
            values = np.log(np.where(values > 0, values, math.nan))
        by_measure.setdefault(measure, {})[tuple(arm) if len(arm) > 1 else arm[0]] = values
    return by_measure


def pairs(contrast: Contrast, errors: Mapping[Hashable, np.ndarray]) -> Iterator[tuple[str, Cell, Cell]]:
    """The strata of a contrast: name, treated cell, reference cell.

    `errors` has the errors ``(S,)`` of each cell. The fitted carry is compared with delta or next_obs, whichever has
    the lower median; a level that lacks one of the three is left out.
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
    """Differences of one measure on one task and source: stratum, values ``(S,)``, number of strata averaged.

    `values` and `errors` come from `arms`, by cell. The first is the average over the strata that any seed has, NaN for
    seeds that lack one of them. Then comes every normalization by itself, averaged over targets. Last, for contrasts of
    normalizing, comes the interaction: how much larger the effect is if the other half is normalized too.
    """
    by_level: dict[str, dict[str, np.ndarray]] = {}
    for stratum, treated, reference in pairs(contrast, errors):
        if treated in values and reference in values and np.isfinite(values[treated] - values[reference]).any():
            level, _, predict = stratum.partition(", ")
            by_level.setdefault(level, {})[predict] = values[treated] - values[reference]
    if not by_level:
        return
    all_strata = [differences for level in by_level.values() for differences in level.values()]
    yield AVERAGE, np.mean(all_strata, axis=0), len(all_strata)
    for level, strata in by_level.items():
        yield level, np.mean(list(strata.values()), axis=0), len(strata)
    levels = list(by_level.values())
    shared = [predict for predict in levels[0] if len(levels) == 2 and predict in levels[1]]
    if contrast in NORMALIZED and shared:
        yield INTERACTION, np.mean([levels[1][predict] - levels[0][predict] for predict in shared], axis=0), len(shared)
