"""Our numbers beside the predecessor's, with a verdict for each row.

Our n seeds give the interval of one more run in 95 of 100 cases (mean +- t s sqrt(1 + 1/n)), on the log scale for
positive measures. `MARGIN` of the centre and the rounding of the predecessor's number widen it. The table shows the
interval, because agreement within a wide one is weak evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.judging.placing import prediction_interval
from benchmark.judging.stats import Interval
from benchmark.running import provenance
from benchmark.studies.parity import study
from mbpo.config import NUMERICS_VERSIONS, InputError

REFERENCE = Path(__file__).parents[3] / "results" / "published" / "parity" / "stfl.csv"
QUICK = {"sac": 2_000, "model": 1_000}
"""Updates of a quick comparison, by learner."""
MARGIN = 0.05
"""Share of our centre by which two faithful programs may differ beyond their seeds: order of sums, epsilons."""
CONFIDENCE = 0.95
LOG_FROM: dict[str, float] = {"q_mean": 1_000, "temperature": 0, "state_mse": 0, "logvar": math.inf}
"""Updates from which on a measure is compared on the log scale. Q is negative at first; a log-variance is a log."""


def tolerated(ours: Sequence[float], log: bool, rounding: float = 0.0, margin: float = MARGIN) -> Interval:
    """The range that agrees with ours ``(S,)``; NaN if they are not finite, or not positive on a log scale."""
    values = np.asarray(ours, dtype=np.float64)
    if not np.isfinite(values).all() or (log and values.min() <= 0):
        return Interval(math.nan, math.nan, math.nan)
    values = np.log(values) if log else values
    center, low, high = prediction_interval(float(values.mean()), float(values.std(ddof=1)), len(values), 1, CONFIDENCE)
    if log:
        reach = math.log1p(margin)
        return Interval(math.exp(center), math.exp(low - reach) - rounding, math.exp(high + reach) + rounding)
    reach = margin * abs(center) + rounding
    return Interval(center, low - reach, high + reach)


def reference(path: Path = REFERENCE) -> pd.DataFrame:
    """The predecessor's numbers: ``learner, measure, updates, value, rounding``."""
    return pd.read_csv(path)


def compare(theirs: pd.DataFrame, ours: Mapping[tuple[str, int], Sequence[float]]) -> pd.DataFrame:
    """A row for each number of `theirs` that `ours` has values for, with the verdict `agrees` or `differs`."""
    rows = []
    for row in theirs.itertuples():
        values = ours.get((row.measure, row.updates))
        if values is None:
            continue
        log = row.updates >= LOG_FROM[row.measure]
        agreed = tolerated(values, log, row.rounding)
        rows.append({
            "learner": row.learner, "measure": row.measure, "updates": row.updates, "predecessor": row.value,
            "ours": agreed.estimate, "low": agreed.low, "high": agreed.high, "scale": "log" if log else "plain",
            "verdict": "agrees" if agreed.low <= row.value <= agreed.high else "differs",
            "seeds": len(values), "by_seed": " ".join(f"{value:.6g}" for value in values),
        })  # fmt: skip
    return pd.DataFrame(rows)


def save(table: pd.DataFrame, versions: str, path: Path) -> Path:
    """Write `table` with six digits to `path`, with the `versions` of our code in each row."""
    rounded = {name: [f"{value:.6g}" for value in table[name]] for name in ("predecessor", "ours", "low", "high")}
    text = table.assign(**rounded, margin=f"{MARGIN:g}", versions=versions).to_csv(index=False, lineterminator="\n")
    draft = path.with_suffix(".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    return path


def build(results: Path, seeds: int, quick: bool, say: study.Say) -> tuple[pd.DataFrame, Path]:
    """Train, compare and write; returns the table and its path. A quick comparison has its own file.

    Raises `InputError` for a folder that cannot be written, before anything is trained.
    """
    path = results / "parity" / ("quick.csv" if quick else "parity.csv")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"the results folder {str(results)!r} cannot be written ({reason}); give another") from None
    theirs = reference()
    if quick:
        theirs = theirs[theirs.updates <= theirs.learner.map(QUICK)]
    ours: dict[tuple[str, int], list[float]] = {}
    for learner, learn in (("sac", study.learn_sac), ("model", study.learn_model)):
        marks = sorted(set(theirs.updates[theirs.learner == learner].tolist()))
        ours |= learn(range(seeds), marks, say=say)
    table = compare(theirs, ours)
    return table, save(table, _versions(), path)


def _versions() -> str:
    """Commit, numerics version and packages in one line."""
    code, packages = provenance.code(), provenance.versions()
    commit = "no commit" if code["commit"] is None else f"commit {code['commit'][:10]}{'+' if code['dirty'] else ''}"
    pinned = [f"{name} {packages[name]}" for name in ("torch", "mujoco", "dm_control")]
    return "; ".join([commit, f"numerics {NUMERICS_VERSIONS['train']}", *pinned])
