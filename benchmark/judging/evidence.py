"""What a verdict is made of: the rule, one run as a number, all there is on a task, and the outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import model_validator

from mbpo.config import Config, constant

Verdict = Literal["reproduced", "contradicted", "inconclusive", "incomplete", "invalid"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "contradicted", "inconclusive", "incomplete", "invalid")
ALL = "all"
"""Stands for the task in the one row of a counting claim."""


class Look(Config):
    """One moment at which the data may be judged, planned before the first."""

    seeds: int = constant(1, "seeds per arm by then", unit="times the protocol's", ge=1, le=100)
    share: float = constant(1.0, "of the level that this look may spend", gt=0, le=1)


class Criterion(Config):
    """When the shift between two arms counts as what the claim says."""

    kind: Literal["difference", "non-inferiority", "equivalence"] = constant(
        "difference", "the region of the shift that is claimed"
    )
    direction: Literal["higher", "lower"] = constant(
        "higher", "where the arm is claimed to lie; for non-inferiority, which side is better"
    )
    margin: float = constant(0.0, "half-width or offset of the region", unit="of the score, or a share of it", ge=0)
    relative: bool = constant(False, "margin is a share of each score of the reference arm")
    at_least: int | None = constant(None, "counting claim: so many tasks must be confirmed", unit="tasks", ge=1)
    aggregate: bool = constant(False, "judge the mean of normalized scores over all tasks instead of each task")
    looks: tuple[Look, ...] = constant((), "when the data may be looked at; empty is once, at the protocol's seeds")
    level: float = constant(0.05, "family-wise level of each one-sided decision", gt=0, lt=0.5)

    @model_validator(mode="after")
    def _margin_given(self) -> Self:
        if self.kind != "difference" and self.margin == 0:
            raise ValueError(f"a {self.kind} criterion needs a margin above 0")
        return self

    @model_validator(mode="after")
    def _one_family(self) -> Self:
        if self.aggregate and self.at_least is not None:
            raise ValueError("an aggregate has no tasks to count: give aggregate or at_least")
        return self

    @model_validator(mode="after")
    def _looks_planned(self) -> Self:
        times, shares = [look.seeds for look in self.looks], [look.share for look in self.looks]
        if times != sorted(set(times)) or times[:1] not in ([], [1]):
            raise ValueError("looks come in order, the first at 1 times the protocol's seeds")
        if self.looks and abs(sum(shares) - 1) > 1e-9:
            raise ValueError(f"the shares of the looks add up to {sum(shares):g}; they must add up to 1")
        return self

    @property
    def words(self) -> str:
        """The margin as sentences give it."""
        return f"{self.margin:.0%}" if self.relative else f"{self.margin:g}"

    @property
    def confidence(self) -> float:
        """Of the two-sided interval that agrees with one-sided decisions at `level`, before Holm."""
        return 1 - 2 * self.level


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
