"""What a verdict says in words: the claim and its estimand, the means, what is excluded, what it would take."""

from __future__ import annotations

import math

from benchmark.judging import planning
from benchmark.judging.evidence import Evidence, Outcome
from benchmark.judging.samples import Sample
from benchmark.suite.criterion import Criterion, Verdict
from benchmark.words import minus


def claim(criterion: Criterion, evidence: Evidence) -> str:
    """The claim about one task, as a clause."""
    who, whom = _subjects(criterion, evidence)
    by = f" by more than {criterion.words}" if criterion.margin else ""
    if criterion.kind == "equivalence":
        return f"{who} is within {criterion.words} of {whom}"
    if criterion.kind == "non-inferiority":
        return f"{who} is not worse than {whom}{by}"
    return f"{who} is {criterion.direction} than {whom}{by}"


def denial(criterion: Criterion, evidence: Evidence) -> str:
    """The opposite of the claim, as a clause."""
    who, whom = _subjects(criterion, evidence)
    if criterion.kind == "equivalence":
        return f"{who} is more than {criterion.words} away from {whom}"
    if criterion.kind == "non-inferiority":
        return f"{who} is worse than {whom} by more than {criterion.words}"
    if criterion.margin:
        return f"{who} is not {criterion.direction} than {whom} by {criterion.words}"
    return f"{who} is {'lower' if criterion.direction == 'higher' else 'higher'} than {whom}"


def _subjects(criterion: Criterion, evidence: Evidence) -> tuple[str, str]:
    if criterion.of == "share":
        return f"the share of {evidence.arm} seeds that reach {criterion.reach:g}", f"that of {evidence.against}"
    if criterion.aggregate:
        return f"the mean over tasks of {evidence.arm}", f"that of {evidence.against}"
    if criterion.of == "mean":
        return f"the mean of {evidence.arm}", f"that of {evidence.against}"
    return f"a typical seed of {evidence.arm}", f"one of {evidence.against}"


def means(criterion: Criterion, data: Sample, verdict: Verdict) -> str:
    """What the means say beside a verdict that is not about them; empty beside one that is."""
    if data.of == "mean":
        return ""
    means = data.of_means
    sure, opposite = (means.inside, means.outside) if verdict == "reproduced" else (means.outside, means.inside)
    sentence = f"the means differ by {_number(data.mean)} and the interquartile means by {_number(data.iqm)}"
    if sure <= criterion.level:
        return f"; {sentence}, which agrees"
    if opposite <= criterion.level:
        return f"; but {sentence}: the mean says the opposite"
    if sure > 0.5:
        return f"; but {sentence}: the mean lies on the other side, not clearly"
    return f"; {sentence}: the mean alone would leave it open"


def excluded(criterion: Criterion, out: Outcome) -> str:
    """Which differences the interval rules out."""
    what = {"share": "differences of shares", "mean": "differences of means"}.get(criterion.of, "shifts")
    low, high = out.interval or (-math.inf, math.inf)
    sides = [f"below {_number(low)}"] * math.isfinite(low) + [f"above {_number(high)}"] * math.isfinite(high)
    confidence = f"at {criterion.confidence:.0%}"
    return f"excluded {confidence}: {what} {' and '.join(sides)}" if sides else f"nothing is excluded {confidence}"


def plan(criterion: Criterion, plan: tuple[float, float, int | None] | None, n: int) -> str:
    """The seeds that the registered effect takes; of the effect that was seen nothing is promised."""
    if plan is None:
        return "no size of effect is registered, so no number of seeds is promised"
    effect, power, needed = plan
    alike = criterion.kind != "difference" and not criterion.detect
    truth = (
        f"the arms alike, {_number(effect)} from the bound"
        if alike
        else f"the truth {_number(effect)} beyond the bound"
    )
    enough = f"more than {planning.SEED_GRID[-1]}" if needed is None else f"about {needed}"
    return f"were {truth}, {n} seeds would confirm it with power {power:.2f} at this spread, {enough} per arm with 0.8"


def _number(value: float) -> str:
    return minus(f"{value:.3g}")
