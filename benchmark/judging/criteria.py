"""Verdicts: pure functions from per-task seed scores to `Outcome`.

Every criterion is a region of the difference ``effect = arm - against`` in what it is `of`: a typical seed, the mean,
or a share of seeds. *difference* says it lies beyond a margin, *non-inferiority* that it lies above minus a margin,
*equivalence* that it lies between minus and plus a margin. A task is **reproduced** when a test places the difference
inside the region, **contradicted** when one places it outside, **inconclusive** when they can do neither. Both
decisions are adjusted by Holm over all tasks of the claim, tasks without data counting as p = 1, so that data still to
come can only sharpen a verdict. **incomplete** names what is missing; **invalid** names what makes the scores
incomparable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmark.judging import counting, sentences, stats
from benchmark.judging.comparable import aligned, fault, uneven
from benchmark.judging.evidence import Evidence, Outcome, Score, spans
from benchmark.judging.samples import Sample, detectable, sample
from benchmark.judging.scale import apart_untrained
from benchmark.suite.criterion import ALL, Criterion, Verdict
from benchmark.words import in_hours

__all__ = ["MIN_SEEDS", "adjusted", "fault", "judge"]

MIN_SEEDS = 5
"""Seeds per arm below which no verdict is given: 5 are the least that can confirm one of seven tasks at 5 %."""
DECIDED: tuple[Verdict, ...] = ("reproduced", "contradicted")
JUDGED: tuple[Verdict, ...] = (*DECIDED, "inconclusive")


def judge(criterion: Criterion, family: Mapping[str, Evidence], planned: int | None = None) -> dict[str, Outcome]:
    """Outcome per task, in the order given; a counting criterion yields the one key `ALL`.

    `planned` is the seeds per arm fixed before the first look, as by a protocol. Then look k of the criterion judges
    the first ``planned * looks[k].seeds`` seeds at its share of the level, and a task that is decided stays decided.
    Shares add up to the level, so looking again after more seeds cannot exceed it. A criterion without looks is judged
    once, on the first `planned` seeds: later ones are in the effect and the interval, and change no verdict. First is
    by number, for a seed is a name.

    Without `planned` all seeds are taken to be one look, the first: whoever adds seeds and judges again without a plan
    spends the level again each time, which no rule can see.
    """
    outcomes = _at_looks(criterion, family, planned)
    if criterion.at_least is None:
        return outcomes
    return {ALL: counting.count(criterion, family, outcomes, criterion.at_least)}


# Looks


def _at_looks(criterion: Criterion, family: Mapping[str, Evidence], planned: int | None) -> dict[str, Outcome]:
    """The outcomes of the last look whose seeds are all there; tasks that an earlier look decided keep its verdict."""
    decided: dict[str, Outcome] = {}
    steps = [(look.seeds, look.share) for look in criterion.looks] or [(1, 1.0)]
    for number, (times, share) in enumerate(steps, start=1):
        until = None if planned is None else planned * times
        seen = {task: _first(evidence, until) for task, evidence in family.items()}
        if number > 1 and (until is None or any(seen[task].n < until for task in _open(decided))):
            break
        rule = criterion.model_copy(update={"level": criterion.level * share, "looks": ()})
        remark = f"look {number} of {len(steps)}, at level {rule.level:g}" if len(steps) > 1 else ""
        fresh = _tasks(rule, seen, planned if number == 1 else None)
        for task in family if number == 1 else _open(decided):
            out = fresh[task]
            if remark and out.verdict in JUDGED:
                out = replace(out, reason=f"{out.reason} ({remark})")
            decided[task] = _with_all(rule, family[task], seen[task], out, task)
        if not _open(decided):
            break
    return decided


def _open(outcomes: Mapping[str, Outcome]) -> list[str]:
    return [task for task, out in outcomes.items() if out.verdict == "inconclusive"]


def _first(evidence: Evidence, seeds: int | None) -> Evidence:
    """The evidence less all but the first seeds of each arm, on each task of a pool."""
    if seeds is None:
        return evidence

    def first(scores: Sequence[Score]) -> tuple[Score, ...]:
        names = sorted({score.stratum for score in scores})
        ordered = {name: sorted((s for s in scores if s.stratum == name), key=lambda s: s.seed) for name in names}
        return tuple(score for name in names for score in ordered[name][:seeds])

    return replace(evidence, x=first(evidence.x), y=first(evidence.y))


def _with_all(criterion: Criterion, whole: Evidence, seen: Evidence, out: Outcome, task: str) -> Outcome:
    """An outcome whose effect and interval take in the seeds beyond those it was judged on."""
    extra = len(whole.x) + len(whole.y) - len(seen.x) - len(seen.y)
    if not extra or out.verdict not in JUDGED or fault(whole, task):
        return out
    data = sample(criterion, aligned(whole).evidence)
    effect, low, high = data.interval(criterion.confidence)
    remark = f"judged on {seen.n} seeds per arm; {extra} runs beyond those are in the interval alone"
    out = replace(out, effect=effect, interval=(low, high), mean=data.mean, iqm=data.iqm)
    return replace(out, reason=f"{out.reason}; {remark}")


# Tasks


def _tasks(criterion: Criterion, family: Mapping[str, Evidence], planned: int | None) -> dict[str, Outcome]:
    """Outcome per task from all scores given."""
    early = {task: _unfit(criterion, evidence, task, planned) for task, evidence in family.items()}
    notes = {task: _notes(evidence) for task, evidence in family.items()}
    one_grid = {task: aligned(family[task]).evidence for task, out in early.items() if out is None}
    ready = {task: sample(criterion, evidence) for task, evidence in one_grid.items()}
    absent = len(family) - len(ready)
    confirm = dict(zip(ready, adjusted([data.inside for data in ready.values()], absent), strict=True))
    refute = dict(zip(ready, adjusted([data.outside for data in ready.values()], absent), strict=True))
    counts = {task: family[task].n for task in ready}
    outcomes = {}
    for task, out in early.items():
        if out is None:
            out = _decide(criterion, one_grid[task], ready[task], confirm[task], refute[task], len(family))
            remarks = [*notes[task], *_fewer(task, counts)]
            out = replace(out, reason="; ".join([out.reason, *remarks]))
        outcomes[task] = out
    return outcomes


def _notes(evidence: Evidence) -> list[str]:
    """What a reader must know of how the arms were brought together."""
    notes = (aligned(evidence).note, uneven(evidence), apart_untrained(evidence), evidence.mark)
    return [note for note in notes if note]


def _fewer(task: str, counts: Mapping[str, int]) -> list[str]:
    """That this task is judged on fewer seeds than others of the claim are."""
    most = max(counts.values())
    return [] if counts[task] == most else [f"{counts[task]} seeds per arm here, up to {most} on other tasks"]


def adjusted(p: Sequence[float], absent: int = 0) -> list[float]:
    """Holm's p-values over a family in which `absent` further tasks have no data yet."""
    return stats.holm([*p, *[1.0] * absent])[: len(p)].tolist()


def _unfit(criterion: Criterion, evidence: Evidence, task: str, planned: int | None) -> Outcome | None:
    """The outcome of evidence that cannot be tested, or None."""
    n = evidence.n
    verdict: Verdict = "incomplete"
    undefined = {s.seed: s.undefined for s in (*evidence.x, *evidence.y) if s.undefined}
    if reason := fault(evidence, task):
        verdict = "invalid"
    elif undefined:
        reason = f"the score does not exist at {spans(undefined)}: {undefined[min(undefined)]}"
    elif evidence.lacking:
        reason = evidence.lacking + (
            "" if evidence.hours is None else f"; about {in_hours(evidence.hours)} on two cores"
        )
    elif n < MIN_SEEDS:
        reason = f"{_seeds(n)} per arm: {MIN_SEEDS} are the least that can confirm a task"
    elif planned is not None and n < planned:
        reason = f"{_seeds(n)} per arm of the {planned} planned: fewer would be a look that nobody planned"
    else:
        return None
    return Outcome(verdict, None, None, criterion.level, n, None, reason)


def _seeds(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"


def _decide(
    criterion: Criterion, evidence: Evidence, data: Sample, confirm: float, refute: float, tasks: int
) -> Outcome:
    """The verdict on a task from the p-values of both sides, adjusted over `tasks`."""
    effect, low, high = data.interval(criterion.confidence)
    holm = f" after Holm over {tasks} tasks" if tasks > 1 else ""
    out = Outcome("inconclusive", effect, (low, high), criterion.level, evidence.n, confirm, "")
    out = replace(out, mean=data.mean, iqm=data.iqm, edges=_edges(data, (low, high), criterion.confidence))
    if confirm <= criterion.level:
        claim = f"{sentences.claim(criterion, evidence)}: p = {confirm:.2g}{holm}"
        out = replace(out, verdict="reproduced", reason=claim + sentences.means(criterion, data, "reproduced"))
    elif refute <= criterion.level:
        denied = f"the opposite holds: {sentences.denial(criterion, evidence)}, p = {refute:.2g}{holm}"
        reason = denied + sentences.means(criterion, data, "contradicted")
        out = replace(out, verdict="contradicted", p=refute, reason=reason)
    else:
        out = _undecided(criterion, out, data, tasks)
    diverged = [f"{name} {lost}" for name, scores in evidence.sides if (lost := _diverged(scores))]
    if diverged:
        out = replace(out, reason=f"{out.reason}; diverged and counted as it stood: {', '.join(diverged)}")
    return out


def _edges(data: Sample, interval: tuple[float, float], confidence: float) -> tuple[float, float]:
    """The claimed region on the scale of the effect, so that it holds `interval` exactly where the tests pass.

    A relative margin moves every score of the reference by another amount; its edge is by how much that moves the
    interval's end. An absolute margin moves the end by itself.
    """
    ends = [-math.inf, math.inf]
    for bound in data.bounds:
        end = 0 if bound.side == "greater" else 1
        moved = replace(data, y=bound.y).interval(confidence)[1 + end]
        gap = np.concatenate(bound.y) - np.concatenate(data.y)
        ends[end] = interval[end] - moved if math.isfinite(moved) else float(np.median(gap))
    return ends[0], ends[1]


def _diverged(scores: Sequence[Score]) -> str:
    """'seeds 0-2', with when and why where the records say so; empty if none diverged."""
    lost = [score for score in scores if score.diverged]
    causes = [f"{spans([score.seed])} {score.failure}" for score in lost if score.failure]
    return (spans([score.seed for score in lost]) + (f" ({'; '.join(causes)})" if causes else "")) if lost else ""


def _undecided(criterion: Criterion, out: Outcome, data: Sample, tasks: int) -> Outcome:
    """An undecided task: what the data exclude, and the seeds that the registered effect takes at level / tasks."""
    alone = min(data.inside, data.outside) <= criterion.level
    state = f"evident on this task alone, not after Holm over {tasks} tasks" if alone else "the data allow both"
    plan = detectable(criterion, data, criterion.level / tasks, out.n)
    reason = f"{state}; {sentences.excluded(criterion, out)}; {sentences.plan(criterion, plan, out.n)}"
    if plan is None:
        return replace(out, reason=reason)
    return replace(out, power=plan[1], needed=plan[2], reason=reason)
