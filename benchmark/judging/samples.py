"""One task's scores as arrays, the bounds of the region that is claimed, and the test that the criterion asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmark.judging import location, planning
from benchmark.judging.evidence import Evidence, Score
from benchmark.judging.stats import Alternative, Array, Interval
from benchmark.suite.criterion import Criterion

Scores = tuple[Array, ...]
"""An arm's scores on every stratum: one, or a task each where tasks are pooled."""


@dataclass(frozen=True)
class Bound:
    """A reference that the arm must exceed ("greater") or stay under ("less") for the claim to hold."""

    y: Scores
    side: Alternative

    @property
    def opposite(self) -> Bound:
        """The same reference, to be on the other side of."""
        return replace(self, side="less" if self.side == "greater" else "greater")


@dataclass(frozen=True)
class Sample:
    """Both arms, the region, and what of the arms is compared."""

    of: str
    x: Scores
    y: Scores
    bounds: tuple[Bound, ...]
    raw: tuple[Scores, Scores]
    """The scores themselves, where `x` and `y` are zeros and ones."""

    @property
    def inside(self) -> float:
        """P of lying inside the region: every bound has to be passed."""
        return max(self._p(bound) for bound in self.bounds)

    @property
    def outside(self) -> float:
        """P of lying outside: one bound suffices, so the best of them pays for the choice."""
        return min(1.0, len(self.bounds) * min(self._p(bound.opposite) for bound in self.bounds))

    def _p(self, bound: Bound) -> float:
        if self.of == "mean":
            return location.mean_test(list(zip(self.x, bound.y, strict=True)), bound.side)
        test = location.share_test if self.of == "share" else location.typical_test
        return test(self.x[0], bound.y[0], bound.side)

    def interval(self, confidence: float) -> Interval:
        """Difference of the arms in what is compared, between the bounds that its test does not reject."""
        if self.of == "mean":
            return location.mean_interval(list(zip(self.x, self.y, strict=True)), confidence)
        interval = location.share_interval if self.of == "share" else location.typical_interval
        return interval(self.x[0], self.y[0], confidence)

    @property
    def mean(self) -> float:
        """Difference of means."""
        return float(np.mean([x.mean() - y.mean() for x, y in zip(*self.raw, strict=True)]))

    @property
    def iqm(self) -> float:
        """Difference of interquartile means."""
        return float(np.mean([_iqm(x) - _iqm(y) for x, y in zip(*self.raw, strict=True)]))

    @property
    def of_means(self) -> Sample:
        """The same claim, made about the means."""
        return replace(self, of="mean", x=self.raw[0], y=self.raw[1])


def sample(criterion: Criterion, evidence: Evidence) -> Sample:
    """The evidence as the criterion reads it."""
    names = sorted({score.stratum for score in evidence.x})
    x, y = (tuple(_values(scores, name) for name in names) for _, scores in evidence.sides)
    raw = (x, y)
    if criterion.reach is not None:
        x, y = (tuple((v >= criterion.reach).astype(np.float64) for v in arm) for arm in (x, y))
    return Sample("mean" if criterion.aggregate else criterion.of, x, y, bounds(criterion, y), raw)


def _values(scores: tuple[Score, ...], stratum: str) -> Array:
    return np.array([s.value for s in sorted(scores, key=lambda s: s.seed) if s.stratum == stratum])


def bounds(criterion: Criterion, y: Scores) -> tuple[Bound, ...]:
    """What the arm must exceed or stay under, from the reference arm's scores ``(..., n)`` of every stratum."""
    if criterion.kind == "equivalence":
        return Bound(_moved(criterion, y, -1), "greater"), Bound(_moved(criterion, y, 1), "less")
    offset = -1 if criterion.kind == "non-inferiority" else 1
    if criterion.direction == "higher":
        return (Bound(_moved(criterion, y, offset), "greater"),)
    return (Bound(_moved(criterion, y, -offset), "less"),)


def _moved(criterion: Criterion, y: Scores, times: int) -> Scores:
    """The reference less or more its margin; of pooled tasks the margin is a share of what they have together."""
    if not criterion.relative:
        return tuple(v + times * criterion.margin for v in y)
    if not criterion.aggregate:
        return tuple(v + times * criterion.margin * np.abs(v) for v in y)
    sign = np.where(np.mean([v.mean(axis=-1, keepdims=True) for v in y], axis=0) >= 0, 1.0, -1.0)
    return tuple(v * (1 + times * criterion.margin * sign) for v in y)


def detectable(criterion: Criterion, sample: Sample, level: float, n: int) -> tuple[float, float, int | None] | None:
    """The registered effect in units of the score, the power of `n` seeds for it, and the seeds it takes.

    None where the criterion registers no effect, or compares shares of seeds.
    """
    if not criterion.registered or criterion.of == "share":
        return None
    scale = abs(float(np.mean([np.median(y) for y in sample.y]))) if criterion.relative else 1.0
    effect = criterion.registered * scale
    if not effect:
        return None
    test = location.typical_p if sample.of == "typical seed" else lambda x, y: location.mean_p([(x, y)])
    x, y = (_residual(arm) for arm in (sample.x, sample.y))
    sides = len(sample.bounds)
    chance = planning.power(test, x, y, effect, n, level=level, sides=sides)
    return effect, chance, planning.seeds_to_detect(test, x, y, effect, level=level, sides=sides)


def _iqm(values: Array) -> float:
    """The mean of what is left when a quarter of the scores, rounded down, goes at either end."""
    cut = len(values) // 4
    return float(np.sort(values)[cut : len(values) - cut].mean())


def _residual(arm: Scores) -> Array:
    """Scores about the middle of their task, narrowed to the spread of the mean over tasks."""
    parts = [values - np.median(values) for values in arm]
    return np.concatenate(parts) / np.sqrt(len(parts))
