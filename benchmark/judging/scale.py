"""Whether returns are in the units of their task, and those of both arms in the same."""

from __future__ import annotations

import math

import numpy as np

from benchmark.judging.evidence import Evidence, Score
from benchmark.suite.load import load_suite

PAYABLE = (("dmc:", 0.0, 1.0), ("gym:InvertedPendulum-", 0.0, 1.0), ("gym:benchmark.toys:", -math.inf, 0.0))
"""Least and largest reward of one step, of the tasks where it is known, by how their names begin."""
UNIT, WIDE, FAR = 1.0, 10.0, 100.0
"""An arm inside [-UNIT, UNIT] is on another scale than one beyond WIDE, where starts lie a factor of FAR apart or a
random policy earns more than three times UNIT."""


def payable(task: str) -> tuple[float, float] | None:
    """The least and the largest return that an episode of the task can pay; None where that is not known."""
    entry = load_suite().tasks.get(task)
    if entry is None or entry.time_limit is None:
        return None
    steps = entry.time_limit
    bounds = [(low, high) for start, low, high in PAYABLE if task.startswith(start)]
    return (bounds[0][0] * steps, bounds[0][1] * steps) if bounds else None


def fault(evidence: Evidence, task: str) -> str:
    """Why the returns of both arms cannot be of one scale, in one sentence; empty if they can."""
    return _unpayable(evidence, task) or _two_scales(evidence, task)


def _unpayable(evidence: Evidence, task: str) -> str:
    span = payable(task)
    if span is None:
        return ""
    slack = 1e-5 * (span[1] - span[0] if math.isfinite(span[1] - span[0]) else 1.0)
    for name, scores in evidence.sides:
        for score in scores:
            if score.curve is None or not score.curve.returns:
                continue
            odd = [v for v in score.curve.values if v < span[0] - slack or v > span[1] + slack]
            if odd:
                limits = f"{span[0]:g} to {span[1]:g}" if math.isfinite(span[0]) else f"at most {span[1]:g}"
                return f"{name} seed {score.seed} has a return of {odd[0]:g}, but an episode of {task} pays {limits}"
    return ""


def _two_scales(evidence: Evidence, task: str) -> str:
    """Whether one arm's returns are shares, about 0 to 1, where the other's are returns of the task."""
    entry = load_suite().tasks.get(task)
    if entry is None or entry.random_score is None or evidence.arm == evidence.against:
        return ""
    (a, x), (b, y) = evidence.sides
    for (name, small), (other, large) in (((a, x), (b, y)), ((b, y), (a, x))):
        one, two = _returns(small), _returns(large)
        if not one.size or not two.size or np.abs(one).max() > UNIT or np.abs(two).max() <= WIDE:
            continue
        fractions = float(np.mean(one != np.round(one)))  # a task that pays rarely has zeros, not shares
        first, start = _first_returns(small), _first_returns(large)
        apart = 0 < abs(first) < abs(start) / FAR
        if fractions > 0.5 and (abs(entry.random_score) > 3 * UNIT or apart):
            return (
                f"{name} is on another scale than {other}: its returns stay within {np.abs(one).max():.3g} of 0, those "
                f"of {other} reach {np.abs(two).max():.4g}, and a random policy earns {entry.random_score:g} on {task}"
            )
    return ""


def _returns(scores: tuple[Score, ...]) -> np.ndarray:
    return np.array([v for s in scores if s.curve is not None and s.curve.returns for v in s.curve.values])


def _first_returns(scores: tuple[Score, ...]) -> float:
    """The median of what runs earn at their first evaluation."""
    return float(np.median([s.curve.values[0] for s in scores if s.curve is not None and s.curve.values]))


def apart_untrained(evidence: Evidence) -> str:
    """That one arm already earns more than twice as much as the other before it is trained, as a clause.

    Untrained policies act alike, so all seeds of one arm above all of the other mean other units, another task, or a
    policy that was trained before.
    """
    starts = [np.array([v for s in scores if (v := _untrained(s)) is not None]) for _, scores in evidence.sides]
    if evidence.arm == evidence.against or min(map(len, starts)) < 5:
        return ""
    low, high = sorted(starts, key=lambda values: float(np.median(values)))
    if low.max() >= high.min() or not np.median(high) > 2 * max(np.median(low), 0.0):
        return ""
    names = (evidence.arm, evidence.against)
    names = (evidence.arm, evidence.against)
    medians = " and ".join(f"{np.median(v):.3g} of {name}" for v, name in zip(starts, names, strict=True))
    return f"the arms already differ before training ({medians}): are they on one scale?"


def _untrained(score: Score) -> float | None:
    """The return at step 0 of an arm whose window is not step 0 alone; None where there is none."""
    curve = score.curve
    begins = curve is not None and curve.returns and curve.steps[:1] == (0,) and curve.high > 0
    return curve.values[0] if curve is not None and begins else None
