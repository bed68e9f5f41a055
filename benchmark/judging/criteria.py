"""Verdicts: pure functions from per-task seed scores to `Outcome`.

Every criterion is a region of the shift ``effect = arm - against``: *difference* says the shift lies beyond a margin,
*non-inferiority* that it lies above minus a margin, *equivalence* that it lies between minus and plus a margin. A task
is **reproduced** when exact tests place the shift inside the region, **contradicted** when they place it outside,
**inconclusive** when they can do neither; both decisions are adjusted by Holm over all tasks of the claim, tasks
without data counting as p = 1, so that data still to come can only sharpen a verdict. **incomplete** names what is
missing; **invalid** names what makes the scores incomparable.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.judging import stats
from benchmark.judging.evidence import Evidence, Outcome
from benchmark.suite.criterion import ALL, VERDICTS, Criterion, Verdict
from benchmark.words import in_hours

MIN_SEEDS = 5
"""Seeds per arm below which no verdict is given: 5 are the least that can confirm one of seven tasks at 5 %."""


class Bound(NamedTuple):
    """A reference sample that the arm must exceed ("greater") or stay under ("less") for the claim to hold."""

    y: NDArray[np.float64]
    side: stats.Alternative

    def p(self, x: NDArray[np.float64]) -> float:
        """Exact p of lying on the claimed side."""
        return stats.mann_whitney(x, self.y, self.side).p

    @property
    def opposite(self) -> Bound:
        """The same reference, to be on the other side of."""
        return Bound(self.y, "less" if self.side == "greater" else "greater")


class Sample(NamedTuple):
    """One task's scores, and the bounds of the region that is claimed."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    bounds: tuple[Bound, ...]

    @property
    def inside(self) -> float:
        """Exact p of lying inside the region: every bound has to be passed."""
        return max(bound.p(self.x) for bound in self.bounds)

    @property
    def outside(self) -> float:
        """Exact p of lying outside: one bound suffices, so the best of them pays for the choice."""
        return min(1.0, len(self.bounds) * min(bound.opposite.p(self.x) for bound in self.bounds))


def judge(criterion: Criterion, family: Mapping[str, Evidence], planned: int | None = None) -> dict[str, Outcome]:
    """Outcome per task, in the order given; a counting criterion yields the one key `ALL`.

    `planned` is the seeds per arm of the protocol, which a criterion with looks needs: look k judges the first
    ``planned * looks[k].seeds`` seeds at its share of the level, and a task that is decided stays decided. The shares
    add up to the level, so looking again after more seeds cannot exceed it.
    """
    outcomes = _at_looks(criterion, family, planned) if criterion.looks and planned else _tasks(criterion, family)
    if criterion.at_least is None:
        return outcomes
    return {ALL: _count(criterion, family, outcomes, criterion.at_least)}


def _tasks(criterion: Criterion, family: Mapping[str, Evidence]) -> dict[str, Outcome]:
    """Outcome per task from all scores there are."""
    early = {task: _unfit(criterion, evidence) for task, evidence in family.items()}
    ready = {task: _sample(criterion, evidence) for task, evidence in family.items() if early[task] is None}
    absent = len(family) - len(ready)
    confirm = dict(zip(ready, adjusted([sample.inside for sample in ready.values()], absent), strict=True))
    refute = dict(zip(ready, adjusted([sample.outside for sample in ready.values()], absent), strict=True))
    return {
        task: out or _decide(criterion, family[task], ready[task], confirm[task], refute[task], len(family))
        for task, out in early.items()
    }


def adjusted(p: Sequence[float], absent: int = 0) -> list[float]:
    """Holm's p-values over a family in which `absent` further tasks have no data yet."""
    return stats.holm([*p, *[1.0] * absent])[: len(p)].tolist()


def _at_looks(criterion: Criterion, family: Mapping[str, Evidence], planned: int) -> dict[str, Outcome]:
    """The outcomes of the last look whose seeds are all there; tasks that an earlier look decided keep its verdict."""
    found: dict[str, Outcome] = {}
    for number, look in enumerate(criterion.looks, start=1):
        until = planned * look.seeds
        seen = {task: _first(evidence, until) for task, evidence in family.items()}
        if number > 1 and any(min(len(e.x), len(e.y)) < until for t, e in seen.items() if t in _open_tasks(found)):
            break
        rule = criterion.model_copy(update={"level": criterion.level * look.share, "looks": ()})
        told = f"look {number} of {len(criterion.looks)}, at level {rule.level:g}"
        for task, out in _tasks(rule, seen).items():
            if number == 1 or task in _open_tasks(found):
                judged = out.verdict in ("reproduced", "contradicted", "inconclusive")
                found[task] = replace(out, reason=f"{out.reason} ({told})") if judged else out
        if not _open_tasks(found):
            break
    return found


def _open_tasks(outcomes: Mapping[str, Outcome]) -> set[str]:
    return {task for task, out in outcomes.items() if out.verdict == "inconclusive"}


def _first(evidence: Evidence, seeds: int) -> Evidence:
    """The evidence less all but the first seeds of each arm; beyond the protocol's own, none is lacking."""
    x, y = (tuple(sorted(scores, key=lambda s: s.seed)[:seeds]) for scores in (evidence.x, evidence.y))
    return replace(evidence, x=x, y=y)


def _unfit(criterion: Criterion, evidence: Evidence) -> Outcome | None:
    """The outcome of evidence that cannot be tested, or None."""
    n = min(len(evidence.x), len(evidence.y))
    verdict: Verdict = "incomplete"
    undefined = {s.seed: s.undefined for s in (*evidence.x, *evidence.y) if s.undefined}
    if reason := fault(evidence):
        verdict = "invalid"
    elif undefined:
        seeds = ("seeds " if len(undefined) > 1 else "seed ") + ", ".join(map(str, sorted(undefined)))
        reason = f"the score does not exist at {seeds}: {undefined[min(undefined)]}"
    elif evidence.lacking:
        reason = evidence.lacking + _cost(evidence.hours)
    elif n < MIN_SEEDS:
        seeds = "1 seed" if n == 1 else f"{n} seeds"
        reason = f"{seeds} per arm: {MIN_SEEDS} are the least that can confirm a task"
    else:
        return None
    return Outcome(verdict, None, None, criterion.level, n, None, reason)


def fault(evidence: Evidence) -> str:
    """Why these scores must not be compared, in one sentence; empty if they may."""
    if evidence.fault:
        return evidence.fault
    for name, scores in ((evidence.arm, evidence.x), (evidence.against, evidence.y)):
        twice = [seed for seed, count in Counter(score.seed for score in scores).items() if count > 1]
        if twice:
            return f"{name} has seed {twice[0]} more than once"
        broken = [score.seed for score in scores if not math.isfinite(score.value) and not score.undefined]
        if broken:
            return f"{name} has no finite score at seed {broken[0]}"
        lengths = sorted({score.points for score in scores})
        if len(lengths) > 1:
            return f"{name} has runs of unequal length: {lengths[0]} and {lengths[-1]} values in the window"
    engines = sorted({score.engine for score in (*evidence.x, *evidence.y)})
    if len(engines) > 1:
        return f"runs of {len(engines)} engines are mixed ({engines[0]}, {engines[1]}): run them again on one"
    return ""


def _sample(criterion: Criterion, evidence: Evidence) -> Sample:
    x, y = (
        np.array([score.value for score in sorted(scores, key=lambda score: score.seed)])
        for scores in (evidence.x, evidence.y)
    )
    margin = criterion.margin * np.abs(y) if criterion.relative else np.full_like(y, criterion.margin)
    if criterion.kind == "equivalence":
        return Sample(x, y, (Bound(y - margin, "greater"), Bound(y + margin, "less")))
    offset = -margin if criterion.kind == "non-inferiority" else margin
    bound = Bound(y + offset, "greater") if criterion.direction == "higher" else Bound(y - offset, "less")
    return Sample(x, y, (bound,))


def _decide(
    criterion: Criterion, evidence: Evidence, sample: Sample, confirm: float, refute: float, tasks: int
) -> Outcome:
    """The verdict on a task from the p-values of both sides, adjusted over `tasks`."""
    effect, low, high = stats.shift_interval(sample.x, sample.y, criterion.confidence)
    holm = f" after Holm over {tasks} tasks" if tasks > 1 else ""
    out = Outcome(
        "inconclusive", effect, (low, high), criterion.level, min(len(evidence.x), len(evidence.y)), confirm, ""
    )
    out = replace(out, edges=_edges(sample, (low, high), criterion.confidence))
    if confirm <= criterion.level:
        out = replace(out, verdict="reproduced", reason=f"{_says(criterion, evidence)}: p = {confirm:.2g}{holm}")
    elif refute <= criterion.level:
        denied = f"the opposite holds: {_denies(criterion, evidence)}, p = {refute:.2g}{holm}"
        out = replace(out, verdict="contradicted", p=refute, reason=denied)
    else:
        out = _open(criterion, out, sample, tasks)
    arms = ((evidence.arm, evidence.x), (evidence.against, evidence.y))
    diverged = [
        f"{name} seed {score.seed}" + (f" ({score.failure})" if score.failure else "")
        for name, scores in arms
        for score in scores
        if score.diverged
    ]
    if diverged:
        out = replace(out, reason=f"{out.reason}; diverged and counted as it stood: {', '.join(diverged)}")
    return out


def _edges(sample: Sample, interval: tuple[float, float], confidence: float) -> tuple[float, float]:
    """The claimed region on the scale of the shift, so that it holds `interval` exactly where the tests pass.

    A relative margin moves every score of the reference by another amount; its edge is by how much that moves the
    interval's end. An absolute margin moves the end by itself.
    """
    ends = [-math.inf, math.inf]
    for bound in sample.bounds:
        end = 0 if bound.side == "greater" else 1
        moved = stats.shift_interval(sample.x, bound.y, confidence)[1 + end]
        ends[end] = interval[end] - moved if math.isfinite(moved) else float(np.median(bound.y - sample.y))
    return ends[0], ends[1]


def _open(criterion: Criterion, out: Outcome, sample: Sample, tasks: int) -> Outcome:
    """An undecided task: how near it is, its power now, and the seeds that would settle it, judged at level / tasks."""
    alone = min(sample.inside, sample.outside) <= criterion.level
    state = f"evident on this task alone, not after Holm over {tasks} tasks" if alone else "the data allow both"
    sides: list[tuple[Verdict, tuple[Bound, ...], float]] = [
        ("reproduced", sample.bounds, criterion.level / tasks),
        ("contradicted", tuple(b.opposite for b in sample.bounds), criterion.level / tasks / len(sample.bounds)),
    ]
    plans = []
    for verdict, bounds, level in sides:
        needs = [stats.seeds_needed(sample.x, y, alternative=side, level=level) for y, side in bounds]
        powers = [stats.power(sample.x, y, out.n, alternative=side, level=level) for y, side in bounds]
        inside = verdict == "reproduced"  # takes every bound, where outside takes any one of them
        need = (max if inside else min)(math.inf if need is None else need for need in needs)
        plans.append((need, -min(powers) if inside else -max(powers), verdict))
    need, power, verdict = min(plans)
    if need == math.inf:
        told = f"{state}; more than {stats.SEED_GRID[-1]} seeds per arm would be needed, were scores to stay like these"
        return replace(out, power=-power, reason=told)
    told = f"power {-power:.2f} at {out.n} seeds; about {need} seeds per arm would settle it as {verdict}"
    return replace(out, power=-power, needed=int(need), reason=f"{state}; {told}, were scores to stay like these")


def _count(
    criterion: Criterion, family: Mapping[str, Evidence], tasks: Mapping[str, Outcome], at_least: int
) -> Outcome:
    """One outcome for the family: effect is the number of confirmed tasks, interval the numbers still possible."""
    by = {verdict: [task for task, out in tasks.items() if out.verdict == verdict] for verdict in VERDICTS}
    wins, losses = len(by["reproduced"]), len(by["contradicted"])
    told = "; ".join(f"{verdict} on {', '.join(names)}" for verdict, names in by.items() if names)
    out = Outcome("inconclusive", None, None, criterion.level, min(o.n for o in tasks.values()), None, told)
    if by["invalid"]:
        first = by["invalid"][0]
        return replace(out, verdict="invalid", reason=f"{first}: {tasks[first].reason}")
    if wins < at_least <= len(tasks) - losses and by["incomplete"]:
        hours = [family[task].hours for task in by["incomplete"]]
        first = family[by["incomplete"][0]].lacking or tasks[by["incomplete"][0]].reason
        cost = _cost(None if None in hours else sum(h for h in hours if h is not None))
        return replace(out, verdict="incomplete", reason=f"{told} ({first}, and so on){cost}")
    reason = f"{wins} of {len(tasks)} confirmed, {at_least} claimed: {told}"
    out = replace(out, effect=float(wins), interval=(float(wins), float(len(tasks) - losses)), reason=reason)
    if wins >= at_least:
        return replace(out, verdict="reproduced")
    if len(tasks) - losses < at_least:
        return replace(out, verdict="contradicted")
    needs = sorted(tasks[task].needed or math.inf for task in by["inconclusive"])
    need = needs[at_least - wins - 1]  # enough open tasks to reach the number claimed
    return out if need == math.inf else replace(out, needed=int(need))


def _says(criterion: Criterion, evidence: Evidence) -> str:
    """The claim about one task, as a clause."""
    by = f" by more than {criterion.words}" if criterion.margin else ""
    if criterion.kind == "equivalence":
        return f"{evidence.arm} is within {criterion.words} of {evidence.against}"
    if criterion.kind == "non-inferiority":
        return f"{evidence.arm} is not worse than {evidence.against}{by}"
    return f"{evidence.arm} is {criterion.direction} than {evidence.against}{by}"


def _denies(criterion: Criterion, evidence: Evidence) -> str:
    """The opposite of the claim, as a clause."""
    if criterion.kind == "equivalence":
        return f"{evidence.arm} is more than {criterion.words} away from {evidence.against}"
    if criterion.kind == "non-inferiority":
        return f"{evidence.arm} is worse than {evidence.against} by more than {criterion.words}"
    if criterion.margin:
        return f"{evidence.arm} is not {criterion.direction} than {evidence.against} by {criterion.words}"
    return f"{evidence.arm} is {'lower' if criterion.direction == 'higher' else 'higher'} than {evidence.against}"


def _cost(hours: float | None) -> str:
    return "" if hours is None else f"; about {in_hours(hours)} on two cores"
