"""The evidence of several tasks as one: every seed of every task counts, whatever seeds the others have.

Seed 3 of one task has nothing to do with seed 3 of another, so seeds are not joined by their numbers and none is left
out where a task has fewer. A task is a stratum of its own; all weigh the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark.judging.comparable import aligned, fault
from benchmark.judging.evidence import Evidence, Score
from benchmark.suite.load import load_suite


def together(evidence: Mapping[str, Evidence]) -> Evidence:
    """Normalized scores of all tasks, each under its task. What is wrong with any task is with all."""
    first = next(iter(evidence.values()))
    faults = [f"{task}: {why}" for task, one in evidence.items() if (why := fault(one, task))]
    lacking = {task: one for task, one in evidence.items() if one.lacking}
    hours = [one.hours for one in lacking.values()]
    missing = ""
    if lacking:
        task = next(iter(lacking))
        others = f", and on {len(lacking) - 1} more tasks" if len(lacking) > 1 else ""
        missing = f"{task}: {lacking[task].lacking}{others}"
    one_grid = {task: one if faults else aligned(one).evidence for task, one in evidence.items()}
    return Evidence(
        first.arm,
        first.against,
        tuple(score for task, one in one_grid.items() for score in _normalized(one.x, task)),
        tuple(score for task, one in one_grid.items() for score in _normalized(one.y, task)),
        lacking=missing,
        hours=None if not hours or None in hours else sum(h for h in hours if h is not None),
        fault=faults[0] if faults else "",
        mark="; ".join(one.mark for one in evidence.values() if one.mark),
    )


def _normalized(scores: Sequence[Score], task: str) -> list[Score]:
    entry = load_suite().task(task)
    return [Score(s.seed, entry.normalize(s.value), 1, diverged=s.diverged, stratum=task) for s in scores]
