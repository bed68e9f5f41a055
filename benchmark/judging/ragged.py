"""Rliable's aggregates of tasks that have different numbers of seeds: none is left out, every task weighs the same.

A run of a task with n seeds weighs 1/n, and the bootstrap draws each task's own n seeds again. Where all tasks have as
many seeds, every estimate is rliable's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from benchmark.judging.stats import AGGREGATES, Array, Interval

Tasks = Sequence[Array]
"""Scores of every task, (seeds,) each."""


def aggregate(tasks: Tasks, name: str) -> Array:
    """The aggregate of one name of `AGGREGATES`; tasks may carry leading axes (..., seeds), which remain."""
    if name == "iqm":
        return _iqm(tasks)
    if name == "optimality_gap":
        return np.asarray(np.mean([1 - np.minimum(scores, 1).mean(axis=-1) for scores in tasks], axis=0))
    means = [scores.mean(axis=-1) for scores in tasks]
    return np.asarray((np.median if name == "median" else np.mean)(means, axis=0))


def _iqm(tasks: Tasks) -> Array:
    """The mean of the middle half of all runs by weight."""
    values = np.concatenate(tasks, axis=-1)
    weights = np.concatenate([np.full(scores.shape[-1], 1 / scores.shape[-1] / len(tasks)) for scores in tasks])
    order = np.argsort(values, axis=-1, kind="stable")
    above = np.cumsum(weights[order], axis=-1)
    cut = _cut(tasks)
    kept = np.clip(np.minimum(above, 1 - cut) - np.maximum(above - weights[order], cut), 0, None)
    return np.asarray((np.take_along_axis(values, order, axis=-1) * kept).sum(axis=-1) / kept.sum(axis=-1))


def _cut(tasks: Tasks) -> float:
    """A quarter; of equal numbers of seeds only whole runs are cut, as scipy's trimmed mean does."""
    sizes = {scores.shape[-1] for scores in tasks}
    runs = len(tasks) * max(sizes)
    return (runs // 4) / runs if len(sizes) == 1 else 0.25


def interval_estimates(
    scores: Mapping[str, Tasks],
    aggregates: Sequence[str] = AGGREGATES,
    repetitions: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, Interval]]:
    """As `stats.interval_estimates`, per method and aggregate."""
    return {
        method: {
            name: _interval(partial(aggregate, name=name), tasks, repetitions, confidence, seed) for name in aggregates
        }
        for method, tasks in scores.items()
    }


def profile(tasks: Tasks, taus: Array, repetitions: int = 1_000, seed: int = 0) -> tuple[Array, Array, Array]:
    """The share of runs above each of `taus`, with pointwise 95 % bounds."""
    drawn = _drawn(tasks, repetitions, np.random.default_rng(seed))
    shares = np.array([[(scores > tau).mean(axis=-1) for scores in drawn] for tau in taus]).mean(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975], axis=1)
    return np.array([np.mean([(scores > tau).mean() for scores in tasks]) for tau in taus]), low, high


def improvement(x: Tasks, y: Tasks, repetitions: int = 1_000, seed: int = 0) -> Interval:
    """The chance that a run of `x` beats one of `y` on a random task, ties one half, with its 95 % interval."""

    def chance(both: Tasks) -> Array:
        pairs = zip(both[: len(x)], both[len(x) :], strict=True)
        return np.asarray(np.mean([_wins(a, b) for a, b in pairs], axis=0))

    return _interval(chance, [*x, *y], repetitions, 0.95, seed)


def _wins(a: Array, b: Array) -> Array:
    gap = a[..., :, None] - b[..., None, :]
    return np.asarray((gap > 0).mean(axis=(-1, -2)) + 0.5 * (gap == 0).mean(axis=(-1, -2)))


def _interval(
    statistic: Callable[[Tasks], Array], tasks: Tasks, repetitions: int, confidence: float, seed: int
) -> Interval:
    draws = statistic(_drawn(tasks, repetitions, np.random.default_rng(seed)))
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(statistic(tasks)), float(low), float(high))


def _drawn(tasks: Tasks, repetitions: int, rng: np.random.Generator) -> list[Array]:
    """Every task's seeds drawn again, (repetitions, seeds) each."""
    return [scores[rng.integers(len(scores), size=(repetitions, len(scores)))] for scores in tasks]
