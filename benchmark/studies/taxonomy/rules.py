"""Small rules that predict an outcome of a task from measures of its data, and scores of such rules.

The unit is the task: ``x (n, P)`` holds P predictors of n tasks, NaN where one does not exist, ``y (n,)`` an outcome. A
rule is chosen by leaving out one domain at a time among its training tasks.

Sources: Holte 1993 (one-attribute rules); Wilson 1927.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats as sps

from benchmark.judging.stats import Interval, spearman_columns
from benchmark.studies.taxonomy.domains import Mask, folds

Array = NDArray[np.float64]
SECOND_GAIN = 0.1
"""Least gain in rank correlation, on tasks left out of the fit, for a rule to use a second predictor."""


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation ``(P,)`` of each predictor over the tasks in a fit."""

    mean: Array
    std: Array

    def standard(self, x: Array) -> Array:
        """``x (n, P)`` in standard deviations from the mean; 0 where it is NaN or did not vary in the fit."""
        varies = self.std > 1e-12
        return np.asarray(np.nan_to_num(np.where(varies, (x - self.mean) / np.where(varies, self.std, 1.0), 0.0)))


def _scale(x: Array) -> Scale:
    known = ~np.isnan(x)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, x, 0.0).sum(0) / count
    return Scale(mean, np.sqrt(np.where(known, (x - mean) ** 2, 0.0).sum(0) / count))


@dataclass(frozen=True)
class Monotone:
    """The sum of one or two predictors, each in its own standard deviations and with its sign."""

    columns: tuple[int, ...]
    signs: tuple[float, ...]
    scale: Scale

    def predict(self, x: Array) -> Array:
        """``x (n, P)`` to scores ``(n,)``; only their order means anything."""
        columns = list(self.columns)
        return np.asarray((self.scale.standard(x)[:, columns] * np.asarray(self.signs)).sum(1))

    def text(self, names: Sequence[str]) -> str:
        """'+ increment ratio', '- reward share and + obs dim'."""
        terms = [f"{'+' if sign > 0 else '-'} {names[c]}" for c, sign in zip(self.columns, self.signs, strict=True)]
        return " and ".join(terms)


def fit_monotone(x: Array, y: Array, domains: Sequence[str]) -> Monotone:
    """The predictor that orders left-out domains best, or the best two if they gain `SECOND_GAIN`.

    ``x (n, P)``, ``y (n,)`` without NaN.
    """
    pairs = [(i, i) for i in range(x.shape[1])] + list(combinations(range(x.shape[1]), 2))
    first, second = np.array(pairs).T
    predictions = np.empty((len(y), len(pairs)))
    for train, test in folds(domains):
        scale = _scale(x[train])
        signed = _signs(x[train], y[train], scale) * scale.standard(x[test])
        predictions[test] = signed[:, first] + signed[:, second]
    scores = np.nan_to_num(spearman_columns(predictions, y), nan=-1.0)
    best_single = int(scores[: x.shape[1]].argmax())
    best = int(scores.argmax())
    pair = pairs[best] if scores[best] >= scores[best_single] + SECOND_GAIN else (best_single, best_single)
    columns, scale = tuple(dict.fromkeys(pair)), _scale(x)
    return Monotone(columns, tuple(float(s) for s in _signs(x, y, scale)[list(columns)]), scale)


def _signs(x: Array, y: Array, scale: Scale) -> Array:
    correlations = np.nan_to_num(spearman_columns(scale.standard(x), y))
    return np.where(correlations < 0, -1.0, 1.0)


@dataclass(frozen=True)
class Stump:
    """One class at or below the threshold of a predictor, another above; one class for all if `column` is None."""

    column: int | None
    threshold: float
    below: str
    above: str
    otherwise: str  # where the predictor does not exist

    def predict(self, x: Array) -> NDArray[np.str_]:
        """``x (n, P)`` to classes ``(n,)``."""
        if self.column is None:
            return np.full(len(x), self.otherwise)
        value = x[:, self.column]
        return np.where(np.isnan(value), self.otherwise, np.where(value > self.threshold, self.above, self.below))

    def text(self, names: Sequence[str]) -> str:
        """'ftfl where increment ratio > 0.5, else norm-only'."""
        if self.column is None:
            return f"always {self.otherwise}"
        return f"{self.above} where {names[self.column]} > {self.threshold:.3g}, else {self.below}"


def fit_stump(x: Array, classes: Sequence[str], domains: Sequence[str]) -> Stump:
    """The stump that is right most often on left-out domains; the majority class unless a stump beats it there."""
    labels = np.asarray(classes, str)
    right = np.zeros(x.shape[1])
    right_common = 0
    for train, test in folds(domains):
        if not train.any():
            continue
        common = majority(labels[train].tolist())
        threshold, below, above = _cuts(x[train], labels[train], common)
        predicted = np.where(np.isnan(x[test]), common, np.where(x[test] > threshold, above, below))
        right += (predicted == labels[test][:, None]).sum(0)
        right_common += int((labels[test] == common).sum())
    common, best = majority(labels.tolist()), int(right.argmax())
    if right[best] <= right_common:
        return Stump(None, math.nan, common, common, common)
    threshold, below, above = _cuts(x, labels, common)
    return Stump(best, float(threshold[best]), str(below[best]), str(above[best]), common)


def _cuts(x: Array, labels: NDArray[np.str_], common: str) -> tuple[Array, NDArray[np.str_], NDArray[np.str_]]:
    """For each column the threshold with the fewest errors, and the classes below and above it: ``(P,)`` each.

    A threshold lies between two neighbors; of ties the lowest is taken. A constant column has `common` on both sides.
    """
    names = np.unique(labels)
    order = np.argsort(x, axis=0, kind="stable")  # NaN last
    value = np.take_along_axis(x, order, 0)
    counts = ((labels[:, None] == names)[order] & ~np.isnan(value)[..., None]).cumsum(0)  # (n, P, classes)
    below, above = counts[:-1], counts[-1] - counts[:-1]
    apart = np.diff(value, axis=0) > 0
    if not len(apart):
        return np.full(x.shape[1], math.nan), np.full(x.shape[1], common), np.full(x.shape[1], common)
    cut = np.where(apart, below.max(2) + above.max(2), -1).argmax(0)
    columns = np.arange(x.shape[1])
    varies = apart.any(0)
    threshold = np.where(varies, (value[cut, columns] + value[cut + 1, columns]) / 2, math.nan)
    sides = (np.where(varies, names[side[cut, columns].argmax(1)], common) for side in (below, above))
    return threshold, next(sides), next(sides)


def majority(classes: Sequence[str]) -> str:
    """The most frequent class; of ties the first in the alphabet."""
    names, counts = np.unique(np.asarray(classes, str), return_counts=True)
    return str(names[counts.argmax()])


def auc(score: Array, label: Mask) -> float:
    """Probability that a marked task has the larger score, ties as one half; NaN if all or none are marked."""
    known = ~np.isnan(score)
    marked, unmarked = score[known & label], score[known & ~label]
    if not len(marked) or not len(unmarked):
        return math.nan
    return float((np.sign(np.subtract.outer(marked, unmarked)).mean() + 1) / 2)


def wilson(right: int, n: int, confidence: float = 0.95) -> Interval:
    """Share ``right / n`` of tasks with Wilson's interval, which assumes independent tasks."""
    if not n:
        return Interval(math.nan, math.nan, math.nan)
    bounds = sps.binomtest(right, n).proportion_ci(confidence, method="wilson")
    return Interval(right / n, float(bounds.low), float(bounds.high))
