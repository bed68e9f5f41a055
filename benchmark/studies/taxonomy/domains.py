"""Halves, folds and resamples of whole domains, because tasks of one body are alike.

Source: Field & Welsh 2007 (resampling whole clusters).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmark.judging.stats import Interval, spearman

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
REPETITIONS = 500
"""Resamples behind an interval."""


def declared_half(domains: Sequence[str]) -> Mask:
    """Mask ``(n,)`` of the tasks that a rule is fitted on; the others score it.

    It depends on the names alone: each domain, largest first and then by the hash of its name, joins the smaller half.
    """
    sizes = {domain: list(domains).count(domain) for domain in domains}
    return _deal(domains, sorted(sizes, key=lambda d: (-sizes[d], hashlib.sha256(d.encode()).hexdigest())))


def random_half(domains: Sequence[str], rng: np.random.Generator) -> Mask:
    """As `declared_half`, in random order."""
    return _deal(domains, [str(domain) for domain in rng.permutation(sorted(set(domains)))])


def _deal(domains: Sequence[str], order: Sequence[str]) -> Mask:
    members = np.asarray(domains)
    train, counts = np.zeros(len(members), bool), [0, 0]
    for domain in order:
        to_train = counts[0] <= counts[1]
        train |= (members == domain) & to_train
        counts[0 if to_train else 1] += int((members == domain).sum())
    return train


def folds(domains: Sequence[str]) -> Iterator[tuple[Mask, Mask]]:
    """Leave out every domain once: masks ``(n,)`` of training and of test tasks."""
    members = np.asarray(domains)
    for domain in sorted(set(domains)):
        yield members != domain, members == domain


def over_domains(
    statistic: Callable[[NDArray[np.intp]], float],
    domains: Sequence[str],
    repetitions: int | None = None,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """``statistic(rows)`` with a percentile interval from whole domains drawn with replacement.

    Draws with a statistic of NaN are left out; the bounds are NaN if these are more than one in five.
    """
    estimate, repetitions = float(statistic(np.arange(len(domains)))), repetitions or REPETITIONS
    drawn = _drawn(tuple(domains), repetitions, seed)
    return _interval(estimate, np.array([statistic(rows) for rows in drawn]), repetitions, confidence)


def spearman_over_domains(
    x: Array, y: Array, domains: Sequence[str], repetitions: int | None = None, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """`over_domains` of the rank correlation of ``x, y (n,)``, with all draws ranked at once."""
    repetitions = repetitions or REPETITIONS
    drawn = _drawn(tuple(domains), repetitions, seed)
    table = np.full((len(drawn), max(map(len, drawn), default=0)), -1)
    for row, rows in zip(table, drawn, strict=True):
        row[: len(rows)] = rows
    first, second = (np.where(table >= 0, values[table], math.nan) for values in (x, y))
    return _interval(spearman(x, y), _spearman_rows(first, second), repetitions, confidence)


def _spearman_rows(x: Array, y: Array) -> Array:
    """`stats.spearman` of every row of ``x, y (R, n)``: ``(R,)``."""
    both = ~(np.isnan(x) | np.isnan(y))
    x, y = (_centred_ranks(values, both) for values in (x, y))
    size = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    enough = (size > 1e-12) & (both.sum(1) >= 3)
    return np.asarray(np.divide((x * y).sum(1), size, out=np.full(len(x), math.nan), where=enough))


def _centred_ranks(values: Array, known: Mask) -> Array:
    """Midranks of the known values of every row less their mean; 0 for the others."""
    values = np.where(known, values, math.nan)  # NaN is neither above nor equal to anything
    one, other = values[:, :, None], values[:, None]
    ranks = (one > other).sum(2) + 0.5 * (one == other).sum(2)
    mean = ranks.sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1)
    return np.where(known, ranks - mean, 0.0)


@lru_cache(maxsize=64)
def _drawn(domains: tuple[str, ...], repetitions: int, seed: int) -> list[NDArray[np.intp]]:
    """Rows of whole domains drawn with replacement, as often as `repetitions` says; nothing without domains."""
    members = [np.flatnonzero(np.asarray(domains) == domain) for domain in sorted(set(domains))]
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(members), size=len(members)) for _ in range(repetitions if members else 0))
    return [np.concatenate([members[i] for i in draw]) for draw in draws]


def _interval(estimate: float, draws: Array, repetitions: int, confidence: float) -> Interval:
    draws = draws[~np.isnan(draws)]
    if not len(draws) or len(draws) < 0.8 * repetitions:
        return Interval(estimate, math.nan, math.nan)
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high))
