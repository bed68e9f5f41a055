"""Halves, folds and resamples of whole domains, because tasks of one body are alike.

Source: Field & Welsh 2007 (resampling whole clusters).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmark.judging.stats import Interval

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
    members = [np.flatnonzero(np.asarray(domains) == domain) for domain in sorted(set(domains))]
    estimate, repetitions = float(statistic(np.arange(len(domains)))), repetitions or REPETITIONS
    if not members:
        return Interval(estimate, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    draws = np.array([
        statistic(np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]))
        for _ in range(repetitions)
    ])  # fmt: skip
    draws = draws[~np.isnan(draws)]
    if len(draws) < 0.8 * repetitions:
        return Interval(estimate, math.nan, math.nan)
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high))
