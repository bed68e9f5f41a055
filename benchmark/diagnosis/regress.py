"""How much of some columns others explain on rows that the fit never saw: ridge regression on a few simple features.

No network is trained: what a linear map of values, products and random cosines explains is enough to tell whether the
past, a clipped action or a sensor says anything at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
PRODUCTS = 24
"""Most columns of which all products are features too."""
COSINES = 150
RIDGE = 1e-3
"""Of a feature's own mean square, added to the diagonal."""


class Features:
    """A map from columns ``(N, C)`` to features ``(N, F)``, standardized by the rows it was made from."""

    def __init__(self, rows: Array) -> None:
        self._mean, spread = rows.mean(0), rows.std(0)
        self._spread = np.where(spread > 0, spread, 1.0)
        rng, columns = np.random.default_rng(0), rows.shape[1]
        self._pairs = np.triu_indices(columns) if columns <= PRODUCTS else None
        self._waves = rng.normal(size=(columns, COSINES)) / np.sqrt(columns)
        self._phases = rng.uniform(0, 2 * np.pi, COSINES)

    def __call__(self, rows: Array) -> Array:
        """``(N, F)``, the first of them 1."""
        z = np.clip((rows - self._mean) / self._spread, -5.0, 5.0)
        parts = [np.ones((len(z), 1)), z, np.cos(z @ self._waves + self._phases)]
        if self._pairs is not None:
            parts.append(z[:, self._pairs[0]] * z[:, self._pairs[1]])
        return np.concatenate(parts, axis=1)


def residuals(train: Array, held: Array, train_y: Array, held_y: Array) -> tuple[Array, Array]:
    """What a fit on the first rows from columns ``(N, C), (M, C)`` leaves of ``train_y (N, D), held_y (M, D)``."""
    features = Features(train)
    a, b = features(train), features(held)
    gram = a.T @ a / len(a)
    damped = gram + np.diag(RIDGE * np.diag(gram) + 1e-9)  # the last, for columns that do not vary
    weights = np.linalg.solve(damped, a.T @ train_y / len(a))
    return train_y - a @ weights, held_y - b @ weights


def unexplained(train: Array, held: Array, train_y: Array, held_y: Array) -> Array:
    """Share ``(D,)`` of the held-out variance that is left: 0 where all is explained, 1 where nothing is, or more."""
    _, left = residuals(train, held, train_y, held_y)
    variance = held_y.var(0)
    return np.asarray(np.square(left).mean(0) / np.where(variance > 0, variance, 1.0))


def with_past(parts: Sequence[Array], starts: Array, lags: Sequence[int]) -> tuple[Array, Array]:
    """Columns of earlier rows beside each row, and which rows have them all.

    Args:
        parts: for each lag the columns ``(N, C)`` to take from so many rows before.
        starts: ``(N,)`` bool: the row is the first of its episode.
        lags: as many whole numbers.

    Returns:
        ``(N, sum C)`` and ``(N,)`` bool.
    """
    age = np.arange(len(starts)) - np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))
    columns = [np.roll(part, lag, axis=0) for part, lag in zip(parts, lags, strict=True)]
    return np.concatenate(columns, axis=1), age >= max(lags)
