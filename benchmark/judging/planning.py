"""How many seeds an effect takes: the effect that a criterion registers, never the one that was seen.

Power at the effect seen is a restatement of the p-value, and promises seeds that do not settle anything. Only the
spread is taken from the data.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from benchmark.judging.stats import Array, _sample

SEED_GRID = (5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100)
"""Numbers of seeds per arm that `seeds_to_detect` tries."""
REPETITIONS = 400
Test = Callable[[Array, Array], Array]
"""P-values (...) that `x` (..., n) lies above `y` (..., m)."""


def power(
    test: Test, x: ArrayLike, y: ArrayLike, effect: float, n: int, *, level: float, sides: int = 1, seed: int = 0
) -> float:
    """Chance that `n` seeds per arm confirm a true shift of `effect` beyond the bound, at the spreads of `x` and `y`.

    Scores are resampled about their medians, widened by what so few seeds hide. `sides` is how many bounds must be
    passed at that distance: two of them fail with the sum of their chances at most.
    """
    rng = np.random.default_rng(seed)
    a, b = (rng.choice(_about(values), size=(REPETITIONS, n)) for values in (_sample(x), _sample(y)))
    chance = float((test(a + effect, b) <= level + 1e-12).mean())
    return max(0.0, 1 - sides * (1 - chance))


def _about(values: Array) -> Array:
    n = len(values)
    return (values - np.median(values)) * (math.sqrt(n / (n - 1)) if n > 1 else 1.0)


def seeds_to_detect(
    test: Test, x: ArrayLike, y: ArrayLike, effect: float, *, level: float, sides: int = 1, target: float = 0.8
) -> int | None:
    """Least number of seeds per arm on `SEED_GRID` with power of at least `target`; None if even the last has less.

    Power grows with n, so the grid is bisected; 400 draws each, so "about": that power has a standard error of 2 %.
    """

    def reached(n: int) -> bool:
        return power(test, x, y, effect, n, level=level, sides=sides) >= target

    if not reached(SEED_GRID[-1]):
        return None
    return SEED_GRID[bisect.bisect_left(SEED_GRID, True, hi=len(SEED_GRID) - 1, key=reached)]
