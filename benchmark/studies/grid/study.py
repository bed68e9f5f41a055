"""Which targets, which arm: all twelve targets and the rival explanations on equal rows.

Tables are of medians and of effects (`factors` says how they are taken), of observation groups (`groups`) and of
shares at the log-variance bounds; pictures and sentences are made of the tables alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd

from benchmark.records.store import Record
from benchmark.studies import factors
from benchmark.studies.factors import AVERAGE, CONTRASTS, RIVALS, SCALES, Fit
from benchmark.studies.grid.figures import figures
from benchmark.studies.grid.groups import groups
from benchmark.studies.grid.sentences import sentences

__all__ = ["figures", "sentences", "tables"]

MEASURES = (*SCALES, "error_over_next_obs")
REFERENCES = {"reward-norm": "reward normalized", "norm-only": "both normalized", "ftfl": "both, next_obs"}
"""Arms that rivals stand beside."""
OF_TARGET = ("error_over_delta", "logvar_target", "logvar_raw", "calibration_obs", "reward_unexplained")
"""Measures whose contrasts are also shown for each normalization by itself."""
OF_RIVALS = ("reward_r2", "reward_unexplained", "reward_std_ratio", "error_over_delta", "logvar_raw", "calibration_obs",
             "miscalibration_obs")  # fmt: skip


def tables(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """``measures, contrasts, rivals, groups, bounds``; `low` and `high` are the 90 % intervals of `factors`."""
    fits = factors.gather(records)
    frame = factors.scalars(fits, MEASURES)
    return {
        "measures": measures(frame),
        "contrasts": contrasts(frame),
        "rivals": rivals(frame),
        "groups": groups(fits),
        "bounds": bounds(fits),
    }


def measures(frame: pd.DataFrame) -> pd.DataFrame:
    """Median over seeds of every arm: `n` seeds of `seeds` have the measure."""
    by = ["task", "source", "method", "normalize", "predict", "rival", "measure"]
    rows = []
    for arm, seeds in frame.groupby(by, sort=False):
        interval, n = factors.level_interval(seeds["value"])
        rows.append((*arm, *interval, n, len(seeds)))
    return pd.DataFrame(rows, columns=[*by, "median", "low", "high", "n", "seeds"])


def contrasts(frame: pd.DataFrame) -> pd.DataFrame:
    """Effects of the factors, paired by seed and averaged over `strata` levels of the other factor.

    Effects on a 'log ratio' are natural logarithms. `strata` is below 6 or 4 where cells are missing.
    """
    rows = []
    grid = frame[frame["rival"] == ""]
    for (task, source), cells in grid[grid["measure"].isin(SCALES)].groupby(["task", "source"], sort=False):
        values = factors.arms(cells, ["normalize", "predict"])
        errors = values.get("error_over_delta", {})
        for contrast, measure in product(CONTRASTS, values):
            for stratum, differences, strata in factors.effects(values[measure], errors, contrast):
                if stratum != AVERAGE and measure not in OF_TARGET:
                    continue
                interval, n = factors.difference_interval(differences)
                mean = float(np.nanmean(differences)) if n else math.nan
                rows.append((task, source, contrast, stratum, measure, SCALES[measure], *interval, mean, n, strata))
    columns = ["task", "source", "contrast", "stratum", "measure", "scale", "effect", "low", "high", "mean", "n"]
    return pd.DataFrame(rows, columns=[*columns, "strata"])


def rivals(frame: pd.DataFrame) -> pd.DataFrame:
    """What each rival, and each cure of the grid, changes against mbpo and against norm-only, paired by seed."""
    rows = []
    for (task, source), fits in frame[frame["measure"].isin(OF_RIVALS)].groupby(["task", "source"], sort=False):
        for measure, arms in factors.arms(fits, "method").items():
            for against, (arm, name) in product(("mbpo", "norm-only"), {**RIVALS, **REFERENCES}.items()):
                if arm == against or arm not in arms or against not in arms:
                    continue
                interval, n = factors.difference_interval(arms[arm] - arms[against])
                if n:
                    rows.append((task, source, arm, name, against, measure, SCALES[measure], *interval, n))
    columns = ["task", "source", "method", "arm", "against", "measure", "scale", "effect", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def bounds(fits: Sequence[Fit]) -> pd.DataFrame:
    """How far each arm's log-variances lie on their bounds: ``task, source, method, measure, median, low, high, n``.

    ``at_floor``, ``at_ceiling``: share of all outputs. Of records that have them by dimension: ``obs_at_...``, share of
    observations of which more than half of the outputs do, and ``reward_at_...``, share of the reward's outputs.
    """
    by = ["task", "source", "method", "measure"]
    flat = [(f.task, f.source, f.method, name, value) for f in fits for name, value in _at_bounds(f)]
    rows = []
    for arm, seeds in pd.DataFrame(flat, columns=[*by, "value"]).groupby(by, sort=False):
        interval, n = factors.level_interval(seeds["value"])
        rows.append((*arm, *interval, n))
    return pd.DataFrame(rows, columns=[*by, "median", "low", "high", "n"])


def _at_bounds(fit: Fit) -> Iterator[tuple[str, float]]:
    for side in ("floor", "ceiling"):
        if f"at_{side}" in fit.values:
            yield f"at_{side}", float(fit.values[f"at_{side}"])
        shares = fit.values.get(f"dim_at_{side}")
        if shares is not None:
            yield f"obs_at_{side}", float((shares[:-1] > 0.5).mean())
            yield f"reward_at_{side}", float(shares[-1])
