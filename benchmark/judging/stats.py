"""Statistics that hold their level at five seeds: rank tests counted exactly, intervals that invert them.

Samples are 1-D arrays of independent per-seed scores. `x` is the arm a claim speaks of, `y` what it is compared
with, and an effect is always ``x - y``. Nothing here knows of claims or records; whatever draws numbers takes a seed.

Sources: Mann & Whitney 1947; Streitberg & Roehmel 1986 (exact null distribution under ties); Hodges & Lehmann 1963 and
Noether 1967 (shift and its interval, conservative under ties); Holm 1979; Agarwal et al. 2021 (rliable's aggregates).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as sps

Array = NDArray[np.float64]
Alternative = Literal["greater", "less"]

EXACT_LIMIT = 66
"""Largest pooled size counted exactly: all counts up to C(66, 33) fit 64-bit integers."""


class RankTest(NamedTuple):
    """`u` counts pairs with x above y, ties as one half; `method` says how `p` was computed."""

    u: float
    p: float
    method: Literal["exact", "normal approximation with tie and continuity correction"]


class Interval(NamedTuple):
    """A point estimate between two bounds; a bound that the sample size cannot give is infinite."""

    estimate: float
    low: float
    high: float


def _sample(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"a sample is a 1-D array of at least one score, not shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("a sample holds a score that is not finite")
    return array


def mann_whitney(x: ArrayLike, y: ArrayLike, alternative: Alternative = "greater") -> RankTest:
    """One-sided Mann-Whitney test of `x` (n,) against `y` (m,).

    Up to `EXACT_LIMIT` pooled scores every arrangement of the observed midranks is counted, ties included, so the
    p-value is exact given them; above, scipy's normal approximation with tie and continuity correction.

    Raises:
        ValueError: if a sample is empty or holds a score that is not finite.
    """
    x, y = _sample(x), _sample(y)
    if alternative == "less":
        reverse = mann_whitney(y, x)
        return RankTest(len(x) * len(y) - reverse.u, reverse.p, reverse.method)
    ranks = sps.rankdata(np.concatenate([x, y]))
    u = float(ranks[: len(x)].sum() - len(x) * (len(x) + 1) / 2)
    if len(ranks) > EXACT_LIMIT:
        p = (
            1.0
            if np.ptp(ranks) == 0
            else float(sps.mannwhitneyu(x, y, alternative="greater", method="asymptotic").pvalue)
        )
        return RankTest(u, p, "normal approximation with tie and continuity correction")
    doubled = np.rint(2 * ranks).astype(int)
    upper = _rank_sum_tail(tuple(sorted(doubled.tolist())), len(x))
    return RankTest(u, upper[int(doubled[: len(x)].sum())], "exact")


@lru_cache(maxsize=4096)
def _rank_sum_tail(doubled: tuple[int, ...], n: int) -> tuple[float, ...]:
    """P(W >= w) for w = 0, 1, ..., where W sums n of the doubled midranks drawn without replacement."""
    counts = np.zeros((n + 1, sum(doubled) + 1), dtype=np.int64)
    counts[0, 0] = 1
    for rank in doubled:
        counts[1:, rank:] = counts[1:, rank:] + counts[:-1, :-rank]
    tail = np.cumsum(counts[n, ::-1])[::-1]
    return tuple(float(count) / math.comb(len(doubled), n) for count in tail.tolist())


@lru_cache(maxsize=256)
def untied_cdf(n: int, m: int) -> Array:
    """P(U <= u) for u = 0 .. n m without ties: the Gaussian binomial coefficient, or its normal limit when large."""
    if n + m > EXACT_LIMIT:
        sd = math.sqrt(n * m * (n + m + 1) / 12)
        return np.asarray(sps.norm.cdf((np.arange(n * m + 1) + 0.5 - n * m / 2) / sd))
    counts = [1] + [0] * (n * m)
    for i in range(1, n + 1):
        for u in range(n * m, m + i - 1, -1):
            counts[u] -= counts[u - m - i]
        for u in range(i, n * m + 1):
            counts[u] += counts[u - i]
    return np.cumsum(np.array(counts, dtype=np.float64)) / math.comb(n + m, n)


def holm(p: ArrayLike) -> Array:
    """Holm's step-down adjusted p-values of families ``(..., n)``: compare each with the family-wise level."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p, axis=-1)
    steps = np.take_along_axis(p, order, -1) * np.arange(p.shape[-1], 0, -1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(1.0, np.maximum.accumulate(steps, axis=-1)), -1)
    return adjusted


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Rank correlation of ``x, y (n,)`` where both are known; NaN below three pairs, or if one does not vary."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    both = ~(np.isnan(x) | np.isnan(y))
    return float(spearman_columns(x[both][:, None], y[both])[0]) if both.sum() >= 3 else math.nan


def spearman_columns(x: Array, y: Array) -> Array:
    """Of every column of ``x (n, P)`` with ``y (n,)``: ``(P,)``, NaN where either does not vary."""
    ranks, other = _midranks(x), _midranks(y[:, None])[:, 0]
    ranks, other = ranks - ranks.mean(0), other - other.mean()
    size = np.sqrt((ranks**2).sum(0) * (other**2).sum())
    return np.asarray(np.divide(other @ ranks, size, out=np.full(len(size), math.nan), where=size > 1e-12))


def _midranks(x: Array) -> Array:
    """How many of the n rows of ``x (n, P)`` lie below each, ties as one half; scipy's takes ten times as long."""
    return np.asarray((x[:, None] > x).sum(1) + 0.5 * (x[:, None] == x).sum(1))


def shift_interval(x: ArrayLike, y: ArrayLike, confidence: float = 0.90) -> Interval:
    """Hodges-Lehmann shift ``x - y`` and the two-sided interval of all shifts that the exact test does not reject.

    Each bound is a one-sided one of level (1 - confidence) / 2, so a 90 % interval agrees with one-sided tests at 5 %.
    Bounds are infinite where so few seeds can reject nothing. Under ties the closed interval is conservative.
    """
    x, y = _sample(x), _sample(y)
    differences = np.sort(np.subtract.outer(x, y).ravel())
    estimate = float(np.median(differences))
    rejected = int(np.searchsorted(untied_cdf(len(x), len(y)), (1 - confidence) / 2 + 1e-12, side="right"))
    if rejected == 0:
        return Interval(estimate, -math.inf, math.inf)
    return Interval(estimate, float(differences[rejected - 1]), float(differences[-rejected]))


def shift_test(x: ArrayLike, y: ArrayLike, margin: float, alternative: Alternative = "greater") -> RankTest:
    """Test that ``x - y`` lies above (or below) `margin`; non-inferiority is a negative margin and "greater"."""
    return mann_whitney(_sample(x) - margin, y, alternative)


@contextmanager
def _global_rng(seed: int) -> Iterator[None]:
    """Numpy's global generator seeded inside the block and as it was after it."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


AGGREGATES = ("median", "iqm", "mean", "optimality_gap")


def iqm(scores: Array) -> float:
    """The mean of the middle half of all scores: rliable's to the bit, without scipy's checks at every draw."""
    cut = scores.size // 4
    return float(np.partition(scores.ravel(), (cut, scores.size - cut - 1))[cut : scores.size - cut].mean())


def interval_estimates(
    scores: Mapping[str, NDArray[np.float64]],
    *,
    aggregates: Sequence[str] = AGGREGATES,
    repetitions: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, Interval]]:
    """The median, IQM, mean and optimality gap of rliable, with stratified bootstrap intervals.

    Args:
        scores: per method a (runs x tasks) matrix of normalized scores.
        aggregates: those wanted of `AGGREGATES`.
        repetitions: bootstrap draws.
        confidence: of the percentile intervals.
        seed: rliable ignores its own `random_state` and draws from numpy's global generator, which is therefore
            seeded for the call and given back untouched.

    Returns:
        Per method and aggregate, the `Interval`.
    """
    from rliable import library, metrics  # arch takes a second to import

    measures = [iqm if name == "iqm" else getattr(metrics, f"aggregate_{name}") for name in aggregates]

    def aggregate(matrix: Array) -> Array:
        return np.array([measure(matrix) for measure in measures])

    with _global_rng(seed):
        points, bounds = library.get_interval_estimates(
            dict(scores), aggregate, reps=repetitions, confidence_interval_size=confidence
        )
    return {
        method: {
            name: Interval(float(points[method][i]), *map(float, bounds[method][:, i]))
            for i, name in enumerate(aggregates)
        }
        for method in scores
    }


def performance_profiles(
    scores: Mapping[str, NDArray[np.float64]], taus: Array, *, repetitions: int = 1_000, seed: int = 0
) -> dict[str, tuple[Array, Array, Array]]:
    """Rliable's share of runs above each of `taus`, with pointwise 95 % bootstrap bounds, per method."""
    from rliable import library

    with _global_rng(seed):
        shares, bounds = library.create_performance_profile(dict(scores), taus, reps=repetitions)
    return {method: (shares[method], bounds[method][0], bounds[method][1]) for method in scores}


def improvement_intervals(
    pairs: Mapping[tuple[str, str], tuple[Array, Array]], repetitions: int = 1_000, seed: int = 0
) -> dict[tuple[str, str], Interval]:
    """Rliable's chance that a run of the first method beats one of the second on a random task, with 95 % intervals.

    Each value is a pair of (runs x tasks) matrices of the same tasks.
    """
    from rliable import library, metrics

    named = {f"{x},{y}": matrices for (x, y), matrices in pairs.items()}
    if not named:
        return {}
    with _global_rng(seed):
        points, bounds = library.get_interval_estimates(named, metrics.probability_of_improvement, reps=repetitions)
    return {
        (x, y): Interval(float(points[f"{x},{y}"]), *(float(b) for b in np.ravel(bounds[f"{x},{y}"]))) for x, y in pairs
    }
