"""Tests of where an arm lies that hold their level when one arm spreads further than the other.

The exact Mann-Whitney test promises its level for arms that differ in location alone. Where one arm spreads ten times
as far and the other sits in its middle, all five of its seeds lie above the other arm's by chance once in 2^5, which
the exact test calls p = 1/252. So a shift of the typical seed is confirmed only if two tests agree: the exact
Mann-Whitney test, and one that knows of unequal spreads, which is either

* Welch's test with the far tail drawn in, and Brunner and Munzel's, both. Drawn in: whatever lies further from its
  arm's median than that arm's extreme on the side of the other arm counts as that extreme, so that a wild success
  cannot hide a shift by widening the spread; one degree of freedom an arm is paid for it, and one more in all. Few
  seeds need this test; with many seeds of lopsided arms it takes a difference of shapes for a shift, and Brunner and
  Munzel's, which is Welch's test on the shares of pairs that each seed wins, does not; or
* the Mann-Whitney count at its least favourable: with one arm wide and the other a point, it is a sign test.

For means, Welch's test itself, over strata where tasks are pooled; for shares of seeds, Fisher's exact test, which is
Mann-Whitney's on zeros and ones. `studies/calibration` simulates how well all of them hold: at a level of 5 %, a false
confirmation in at most 7.4 % of families for scores with one peak, and 9.1 % for means over tasks of which one arm is
lopsided and ten times as wide as the other, where any test by means and variances errs.

No test can see that half of an arm's seeds fail where, by chance, none of the seeds at hand did. `blind_spot` is how
often that confirms something false.

Sources: Mann & Whitney 1947; Welch 1947; Satterthwaite 1946; Tukey & McLaughlin 1963 (winsorized t); Brunner & Munzel
2000; Fisher 1935.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy import stats as sps

from benchmark.judging.stats import (
    Alternative,
    Array,
    Interval,
    _sample,
    mann_whitney,
    shift_interval,
    untied_cdf,
)

Strata = Sequence[tuple[Array, Array]]
"""Both arms' scores on every task of a pool."""


# A typical seed


def typical_test(x: ArrayLike, y: ArrayLike, alternative: Alternative = "greater") -> float:
    """One-sided p that a typical seed of `x` (n,) lies above (below) one of `y` (m,), whatever the spreads."""
    x, y = _sample(x), _sample(y)
    if alternative == "less":
        x, y = -x, -y
    return max(mann_whitney(x, y).p, float(_spread_p(*_wins(x, y), x, y)))


def typical_p(x: Array, y: Array) -> Array:
    """`typical_test` of many samples (..., n) and (..., m) at once; ties count one half, rounded against the claim."""
    won, lost = _wins(x, y)
    n, m = x.shape[-1], y.shape[-1]
    ranks = untied_cdf(n, m)[np.ceil(n * m - won.sum(axis=-1)).astype(int)]
    return np.asarray(np.maximum(ranks, _spread_p(won, lost, x, y)))


def typical_interval(x: ArrayLike, y: ArrayLike, confidence: float = 0.90) -> Interval:
    """Hodges-Lehmann shift and the interval of shifts that `typical_test` does not reject on either side."""
    x, y = _sample(x), _sample(y)
    estimate, low, high = shift_interval(x, y, confidence)
    level = (1 - confidence) / 2
    return Interval(estimate, min(low, _spread_bound(x, y, level)), max(high, -_spread_bound(-x, -y, level)))


def blind_spot(n: int, m: int, tasks: int = 1) -> float:
    """Largest chance that arms with P(x above y) = 1/2 show all `n` seeds above all `m`, on any of so many tasks.

    Seeds taken in pairs are independent, so the chance on one task is at most 2^-min(n, m), whatever the shapes of the
    scores; an arm half of whose seeds fail, against one that never does, reaches it.
    """
    return float(1 - (1 - 0.5 ** min(n, m)) ** tasks)


def _spread_p(won: Array, lost: Array, x: Array, y: Array) -> Array:
    """The better of the two tests that know of unequal spreads; `won` and `lost` are the `_wins` of `x` and `y`."""
    n, m = x.shape[-1], y.shape[-1]
    apart = np.maximum(_tamed_p(x, y), _share_p(won / m, lost / n))
    return np.minimum(apart, least_favourable_p(won.sum(axis=-1), n, m))


def _wins(x: Array, y: Array) -> tuple[Array, Array]:
    """How many of `y` each of `x` (..., n) lies above, and how many of `x` lie above each of `y` (..., m).

    Ties count one half.
    """
    leading = np.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    won, lost = np.zeros((*leading, x.shape[-1])), np.zeros((*leading, y.shape[-1]))
    for column in range(y.shape[-1]):  # one column at a time fits a small memory
        gap = x - y[..., column : column + 1]
        above = (gap > 0) + 0.5 * (gap == 0)
        won += above
        lost[..., column] = above.sum(axis=-1)
    return won, lost


def _share_p(won: Array, lost: Array) -> Array:
    """Brunner and Munzel's one-sided p of a chance above 1/2 to win a pair, from the shares that each seed wins."""
    gap, error, freedom = _welch([(won, 1 - lost)], lost=1)
    return _tail(gap / 2, error, freedom)  # the shares' means lie twice as far apart as either from 1/2


def least_favourable_p(ahead: Array, n: int, m: int) -> Array:
    """P of so many pairs `ahead` were one arm infinitely wide around the other: the worse of the two sign tests."""
    return np.maximum(_sign_tail(n)[_whole(ahead / m)], _sign_tail(m)[_whole(ahead / n)])


@lru_cache(maxsize=256)
def _sign_tail(n: int) -> Array:
    """P(at least k heads of n) for k = 0 .. n."""
    return np.asarray(sps.binom.sf(np.arange(n + 1) - 1, n, 0.5))


def _whole(seeds: Array) -> Array:
    """Only seeds ahead of the whole other arm count as heads."""
    return np.floor(np.asarray(seeds) + 1e-9).astype(int)


def _drawn_in(x: Array, y: Array) -> tuple[Array, Array]:
    """Scores no further from their median on the far side than on the side of the other arm; `x` is the upper arm."""
    x_top = 2 * _median(x) - x.min(axis=-1, keepdims=True)
    y_bottom = 2 * _median(y) - y.max(axis=-1, keepdims=True)
    return np.minimum(x, x_top), np.maximum(y, y_bottom)


def _median(x: Array) -> Array:
    """The median along the last axis, which is kept; numpy's takes ten times as long for a few seeds."""
    ordered, n = np.sort(x, axis=-1), x.shape[-1]
    return np.asarray((ordered[..., [(n - 1) // 2]] + ordered[..., [n // 2]]) / 2)


def _tamed_welch(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """`_welch` of the scores drawn in, with one degree of freedom fewer an arm and one more in all."""
    gap, error, freedom = _welch([_drawn_in(x, y)], lost=2)
    return gap, error, np.maximum(freedom - 1, 1.0)


def _tamed_p(x: Array, y: Array) -> Array:
    """Welch's one-sided p of the scores drawn in."""
    return _tail(*_tamed_welch(x, y))


def _spread_bound(x: Array, y: Array, level: float) -> float:
    """The largest shift below which `_spread_p` rejects."""
    gap, error, freedom = _tamed_welch(x, y)
    welch = float(gap + special.stdtrit(freedom, level) * error) if error > 0 else float(gap)
    n, m = len(x), len(y)
    pairs = np.sort(np.subtract.outer(x, y).ravel())
    enough = np.flatnonzero(least_favourable_p(np.arange(n * m + 1.0), n, m) <= level + 1e-12)
    sign = float(pairs[n * m - enough[0]]) if len(enough) else -math.inf
    return max(sign, _share_bound(x, y, pairs, min(welch, float(pairs[-1])), level)) if welch > sign else sign


def _share_bound(x: Array, y: Array, pairs: Array, most: float, level: float, at_once: int = 256) -> float:
    """The largest shift, up to `most`, below which `_share_p` rejects; it is constant between two of the `pairs`."""
    edges = np.unique(pairs[pairs < most])
    for first in range(0, len(edges), at_once):
        part = edges[first : first + at_once]
        after = np.append(edges, most)[first + 1 : first + 1 + len(part)]
        won, lost = _wins(x - ((part + after) / 2)[:, None], y[None])
        kept = np.flatnonzero(_share_p(won / len(y), lost / len(x)) > level + 1e-12)
        if len(kept):
            return float(part[kept[0]])
    return most


# The mean


def mean_test(strata: Strata, alternative: Alternative = "greater") -> float:
    """One-sided p of Welch's test that the mean of `x` lies above (below) that of `y`, averaged over the strata."""
    return float(mean_p([(x, y) if alternative == "greater" else (-x, -y) for x, y in strata]))


def mean_p(strata: Strata) -> Array:
    """`mean_test` of many samples at once: a pair (..., n), (..., m) for every stratum."""
    return _tail(*_welch(strata, lost=1))


def mean_interval(strata: Strata, confidence: float = 0.90) -> Interval:
    """The difference of means, averaged over the strata, with Welch's interval."""
    gap, error, freedom = (float(part) for part in _welch(strata, lost=1))
    if math.isnan(freedom):
        return Interval(gap, -math.inf, math.inf)
    reach = float(sps.t.ppf((1 + confidence) / 2, freedom)) * error if error > 0 else 0.0
    return Interval(gap, gap - reach, gap + reach)


def _welch(strata: Strata, lost: int) -> tuple[Array, Array, Array]:
    """Mean difference over the strata, its standard error, and Satterthwaite's degrees of freedom; NaN where none."""
    share = 1 / len(strata)
    gaps, parts, weights = [], [], []
    for pair in strata:
        means = [values.mean(axis=-1) for values in pair]
        gaps.append(means[0] - means[1])
        for values, mean in zip(pair, means, strict=True):
            n = values.shape[-1]
            # The sum of squares of `values.var`, whose mean is known already.
            squares = ((values - mean[..., None]) ** 2).sum(axis=-1)
            part = share**2 * (squares / (n - 1)) / n if n > 1 else np.full(values.shape[:-1], math.nan)
            parts.append(part)
            weights.append(part**2 / max(n - lost, 1))
    variance, below = np.sum(parts, axis=0), np.sum(weights, axis=0)
    freedom = np.where(np.isnan(variance), math.nan, 1.0)
    freedom = np.divide(variance**2, below, out=freedom, where=below > 0)
    return np.mean(gaps, axis=0), np.sqrt(variance), freedom


def _tail(gap: Array, error: Array, freedom: Array) -> Array:
    """Upper tail of Student's t; arms without any spread are apart or they are not."""
    sure = np.where(gap > 0, 0.0, 1.0)
    t = np.divide(gap, error, out=np.zeros_like(np.asarray(gap, np.float64)), where=error > 0)
    p = np.where(error > 0, special.stdtr(freedom, -t), sure)
    return np.where(np.isnan(error), 1.0, p)


# A share of seeds


def share_test(x: ArrayLike, y: ArrayLike, alternative: Alternative = "greater") -> float:
    """Fisher's exact one-sided p that a larger (smaller) share of `x` than of `y` is one; both hold zeros and ones."""
    return mann_whitney(x, y, alternative).p


def share_interval(x: ArrayLike, y: ArrayLike, confidence: float = 0.90) -> Interval:
    """The difference of shares, with the bounds of two Clopper-Pearson intervals: conservative."""
    x, y = _sample(x), _sample(y)
    level = (1 - confidence) / 4  # each of the four bounds pays for itself
    (a, b), (c, d) = (_clopper_pearson(int(v.sum()), len(v), level) for v in (x, y))
    return Interval(float(x.mean() - y.mean()), a - d, b - c)


def _clopper_pearson(k: int, n: int, level: float) -> tuple[float, float]:
    low = 0.0 if k == 0 else float(sps.beta.ppf(level, k, n - k + 1))
    return low, 1.0 if k == n else float(sps.beta.isf(level, k + 1, n - k))
