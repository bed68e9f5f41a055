"""What a verdict is made of: one run as a number, all there is on a task, and the outcome."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.suite.criterion import Verdict


@dataclass(frozen=True)
class Score:
    """One run reduced to one number."""

    seed: int
    value: float
    points: int
    """Values it is the mean of: unequal numbers are not comparable."""
    engine: str = ""
    """Fingerprint of simulator and package versions: different engines are never pooled."""
    diverged: bool = False
    failure: str = ""
    """When and why a run that counts as it stood was lost, where its record says so."""
    undefined: str = ""
    """Why the run, sound in itself, has no such number; `value` is then NaN."""


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


@dataclass(frozen=True)
class Outcome:
    """A verdict and the numbers behind it, all in units of the score; `interval` is not adjusted for the family."""

    verdict: Verdict
    effect: float | None
    interval: tuple[float, float] | None
    level: float
    n: int
    p: float | None
    """Exact and Holm-adjusted: of the opposite where that is the verdict, else of the claim."""
    reason: str
    power: float | None = None
    needed: int | None = None
    """Seeds per arm that would settle an inconclusive task with a chance of 80 %."""
    edges: tuple[float, float] | None = None
    """Ends of the claimed region on the scale of `effect`: an interval whose test passes lies between them."""
