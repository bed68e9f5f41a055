"""Wilcoxon's signed-rank test, counted exactly, and the interval that inverts it: the paired fellow of Mann-Whitney.

Sources: Wilcoxon 1945; Streitberg & Roehmel 1986 (exact under ties); Hodges & Lehmann 1963 (Walsh averages).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as sps

from benchmark.judging.stats import Alternative, Interval


def signed_rank(differences: ArrayLike, alternative: Alternative = "greater") -> float:
    """Exact one-sided p of differences ``(n,)`` centred above 0 (or below).

    Every assignment of signs to the observed midranks is counted; a difference of exactly 0 speaks against.

    Raises:
        ValueError: no differences, or one that is not finite.
    """
    d = _checked(differences) if alternative == "greater" else -_checked(differences)
    doubled = np.rint(2 * sps.rankdata(np.abs(d))).astype(int)
    counts = _sign_counts(doubled)
    return float(counts[int(doubled[d > 0].sum()) :].sum() / counts.sum())


def paired_interval(differences: ArrayLike, confidence: float = 0.90) -> Interval:
    """Hodges-Lehmann centre of differences ``(n,)`` and the interval of centres that the test does not reject.

    Bounds are infinite where so few pairs can reject nothing.
    """
    d = _checked(differences)
    n = len(d)
    walsh = np.sort(np.add.outer(d, d)[np.triu_indices(n)] / 2)
    below = np.cumsum(_sign_counts(np.arange(1, n + 1))) / 2.0**n
    rejected = int(np.searchsorted(below, (1 - confidence) / 2 + 1e-12, side="right"))
    estimate = float(np.median(walsh))
    if rejected == 0:
        return Interval(estimate, -np.inf, np.inf)
    return Interval(estimate, float(walsh[rejected - 1]), float(walsh[-rejected]))


def _sign_counts(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many of the 2^n subsets of `ranks` have each sum: index is the sum."""
    counts = np.zeros(int(ranks.sum()) + 1)
    counts[0] = 1.0
    for rank in ranks:
        shifted = np.zeros_like(counts)
        shifted[rank:] = counts[: len(counts) - rank]
        counts = counts + shifted
    return counts


def _checked(differences: ArrayLike) -> NDArray[np.float64]:
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or d.size == 0 or not np.isfinite(d).all():
        raise ValueError("differences are a 1-D array of at least one finite number")
    return d
