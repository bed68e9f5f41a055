"""What a verdict is made of: one run as a curve and a number, all there is on a task, and the outcome."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.suite.criterion import Verdict


@dataclass(frozen=True)
class Curve:
    """One run's measure over env steps, and the window that a claim reads."""

    steps: tuple[int, ...]
    """Where it was evaluated, in order."""
    values: tuple[float, ...]
    low: float
    """Where the window begins, in env steps; it may lie between two evaluations."""
    high: float
    end: int
    """Env steps of the whole run."""
    transform: str = "none"
    """As in `Estimand`."""
    returns: bool = True
    """Whether the measure is the episode return; diagnostics may begin late, with learning."""

    def score(self, steps: Sequence[int] | None = None) -> float:
        """The mean over the window of the line through the evaluations, of some `steps` alone if they are given.

        It is the trapezoid integral over env steps, divided by the width of the window: how densely a run was logged
        carries no weight. A window of no width reads the evaluation at that step. NaN where the evaluations do not
        reach over the window.
        """
        x, y = np.array(self.steps, np.float64), np.array(self.values, np.float64)
        if steps is not None:
            kept = np.isin(x, np.array(steps, np.float64))
            x, y = x[kept], y[kept]
        low = max(self.low, x[0]) if len(x) and self._may_begin_at(x) else self.low
        if not len(x) or low < x[0] or self.high > x[-1]:
            return math.nan
        inside = (x > low) & (x < self.high)
        at = np.concatenate([[low], x[inside], [self.high]])
        line = np.concatenate([[_between(x, y, low)], y[inside], [_between(x, y, self.high)]])
        mean = line[0] if low == self.high else np.trapezoid(line, at) / (self.high - low)
        return transformed(float(mean), self.transform)

    def covered(self, steps: Sequence[int], whole: bool = False) -> bool:
        """Whether evaluations at `steps` alone reach over the window; the `whole` of it, or but for a late start."""
        x = np.array(steps, np.float64)
        begins = len(x) > 0 and (self.low >= x[0] or (not whole and self._may_begin_at(x)))
        return bool(begins and self.high <= x[-1])

    def inside(self, steps: Sequence[int] | None = None) -> int:
        """How many evaluations, of all or of `steps`, lie in the window."""
        return sum(self.low <= step <= self.high for step in (self.steps if steps is None else steps))

    def _may_begin_at(self, x: np.ndarray) -> bool:
        """Whether evaluations that begin after the window does still stand for it.

        Returns may begin one evaluation late, as they do where an agent is not evaluated before it learns; diagnostics
        begin when there is something to measure.
        """
        if self.low == self.high or x[0] >= self.high:
            return False
        return not self.returns or (len(x) > 1 and x[0] - self.low <= np.diff(x).max())


def _between(x: np.ndarray, y: np.ndarray, at: float) -> float:
    """The line through ``(x, y)`` at one place; an evaluation that is there is taken as it is."""
    right = int(np.searchsorted(x, at))
    if x[right] == at:
        return float(y[right])
    share = (at - x[right - 1]) / (x[right] - x[right - 1])
    return float((1 - share) * y[right - 1] + share * y[right])


def transformed(value: float, transform: str) -> float:
    """A score after the transform of its `Estimand`; NaN where it has none."""
    if transform == "abs":
        return abs(value)
    if transform == "abs-log":
        return abs(math.log(value)) if value > 0 else math.nan
    if transform == "log10":
        return math.log10(value) if value > 0 else math.nan
    return value


@dataclass(frozen=True)
class Score:
    """One run reduced to one number."""

    seed: int
    value: float
    points: int
    """Values it is made of."""
    engine: str = ""
    """Fingerprint of simulator and package versions: different engines are never pooled."""
    diverged: bool = False
    failure: str = ""
    """When and why a run that counts as it stood was lost, where its record says so."""
    undefined: str = ""
    """Why the run, sound in itself, has no such number; `value` is then NaN."""
    curve: Curve | None = None
    """What `value` was read from; None for a run with one moment."""
    stratum: str = ""
    """The task, where scores of several tasks are pooled."""


@dataclass(frozen=True)
class Evidence:
    """All there is on one task: the scores of both arms and what is still missing."""

    arm: str
    against: str
    x: tuple[Score, ...]
    y: tuple[Score, ...]
    lacking: str = ""
    """What has to be run, as a clause; empty when the protocol is complete."""
    hours: float | None = None
    """Estimated time of the missing runs on two cores."""
    fault: str = ""
    """Why these scores must not be judged at all, where the scores themselves do not show it."""
    mark: str = ""
    """What a reader must know of the baseline, as a clause."""

    @property
    def sides(self) -> tuple[tuple[str, tuple[Score, ...]], tuple[str, tuple[Score, ...]]]:
        """Both arms by name."""
        return (self.arm, self.x), (self.against, self.y)

    @property
    def n(self) -> int:
        """Seeds of the smaller arm, on the task that has fewest."""
        names = {score.stratum for score in (*self.x, *self.y)} or {""}
        return min(sum(s.stratum == name for s in scores) for name in names for scores in (self.x, self.y))


@dataclass(frozen=True)
class Outcome:
    """A verdict and the numbers behind it, all in units of the score; `interval` is not adjusted for the family."""

    verdict: Verdict
    effect: float | None
    """Difference of the arms in what the criterion is about: a typical seed, the mean, or a share of seeds."""
    interval: tuple[float, float] | None
    level: float
    n: int
    p: float | None
    """Holm-adjusted: of the opposite where that is the verdict, else of the claim."""
    reason: str
    power: float | None = None
    """Chance that so many seeds confirm the effect that the criterion registers; None where it registers none."""
    needed: int | None = None
    """Seeds per arm that would confirm the registered effect with a chance of 80 %, at the spread seen."""
    mean: float | None = None
    """Difference of means, whatever the criterion is about."""
    iqm: float | None = None
    """Difference of interquartile means, likewise."""
    edges: tuple[float, float] | None = None
    """Ends of the claimed region on the scale of `effect`: an interval whose test passes lies between them."""


def spans(seeds: Iterable[int], most: int = 6) -> str:
    """'seeds 0-4, 42 and 1,337 more': whatever the numbers are, the text stays short."""
    ordered = sorted(set(seeds))
    runs: list[list[int]] = []
    for seed in ordered:
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    listed = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs[:most])
    left = len(ordered) - sum(b - a + 1 for a, b in runs[:most])
    return f"seed{'s' if len(ordered) != 1 else ''} {listed or 'none'}" + (f" and {left:,} more" if left else "")
