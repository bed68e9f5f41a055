"""The gate of a baseline: nothing that outruns a broken baseline counts as a victory.

The rule, which `place` applies in this order:

1. Its own runs must be comparable with each other, and there must be published sources and a measured random policy.
2. The baseline must have learned: its seeds lie clearly above random actions. Else it is **refused**.
3. A source whose own mean is not above what random actions may earn never learned. It predicts nothing; it is left out
   and named. Where no source learned, the baseline is held against random actions alone, and **marked**.
4. Each source that learned predicts the mean of so many seeds by itself, from its own spread. A baseline below the
   lower ends of all these predictions is **refused**: no source that learned could have drawn it.
5. A baseline above the upper ends of all of them is **marked**, not refused: a better baseline flatters no arm that is
   claimed to beat it. One that lies between two sources passes.

So sources that disagree are never merged into one range from a failed run to a good one. Simulated with six seeds: a
random policy was refused in all of 400 cases on each of the paper's seven tasks; a baseline drawn from any one source
that learned in at most 7 of 100, but for erl_lib's hopper-hop (17) and humanoid-stand (21), where half of that source's
own seeds act at random. "Inside what every source predicts" would refuse all baselines on both hoppers and most on Gym,
because sources lie further apart than their seeds. Half of what the weakest source earns is refused always on
quadruped-run and HalfCheetah, and mostly passes where sources spread widely: the gate is no finer than they are. Spread
between laboratories cannot be told from one or two sources, so it is not added to the predictions.

Agent steps are matched as `placing.sources` says.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats as sps

from benchmark.judging import comparable, placing
from benchmark.judging.evidence import Evidence, Score
from benchmark.judging.placing import Source
from benchmark.suite.entries import TaskEntry
from benchmark.suite.load import load_suite

RANDOM_EPISODES = 50
"""Episodes behind `random_score` and `random_std` in tasks.yaml."""
LEARNED_LEVEL = 0.05
LEARNED_SHARE = 0.01
"""Least way from the random policy to the reference that counts as learning, where the task has a reference."""


class Placing(NamedTuple):
    """What the gate says of a baseline; all empty where it passes without a word."""

    unplaced: str = ""
    """Why it could not be placed."""
    refused: str = ""
    """Why nothing may be judged against it."""
    mark: str = ""
    """What a reader must know of a baseline that passes."""


def place(method: str, task: str, agent_steps: int, scores: Sequence[Score]) -> Placing:
    """What the gate says of the `scores` of a baseline after `agent_steps` at action repeat 1."""
    entry = load_suite().task(task)
    known = placing.sources(method, task, agent_steps)
    if not known:
        reason = f"no published {method} on {task} at {agent_steps:,} agent steps"
        return Placing(unplaced=f"{reason}, so the baseline gate is not yet measurable")
    if entry.random_score is None:
        return Placing(unplaced=f"no measured random policy on {task}, so the baseline gate is not yet measurable")
    if not scores:
        return Placing(unplaced=f"no run of {method} on {task}")
    if fault := comparable.fault(Evidence(method, method, tuple(scores), tuple(scores)), task):
        return Placing(refused=f"the baseline of the gate: {fault}")
    values = [score.value for score in scores]
    if reason := not_learned(entry, values):
        return Placing(refused=f"{method} has not learned on {task}: {reason}")
    return _held_against(method, task, statistics.fmean(values), len(values), known, entry)


def _held_against(
    method: str, task: str, mean: float, seeds: int, known: Sequence[Source], entry: TaskEntry
) -> Placing:
    """A baseline that learned, against what the sources that learned predict."""
    learned = [source for source in known if _learned(source, entry)]
    idle = [source.name for source in known if source not in learned]
    left = f"{len(idle)} of {len(known)} sources never learned there and predict nothing ({', '.join(idle)})"
    if not learned:
        return Placing(mark=f"{method} on {task} is held against random actions alone: {left}")
    spans = {source.name: source.predicts(seeds) for source in learned}
    scored = f"{method} scores {mean:.4g} on {task}"
    if mean < min(span.low for span in spans.values()):
        bounds = ", ".join(f"{name} at least {span.low:.4g}" for name, span in spans.items())
        least = f"below what each of the {len(spans)} published sources that learned predicts of {seeds} seeds"
        return Placing(refused="; ".join([f"{scored}, {least}: {bounds}", *([left] if idle else [])]))
    marks = [left.replace(" there ", f" on {task} ")] if idle else []
    if mean > (most := max(span.high for span in spans.values())):
        marks.append(f"{scored}, better than all published sources predict (at most {most:.4g})")
    return Placing(mark="; ".join(marks))


def _learned(source: Source, entry: TaskEntry) -> bool:
    """Whether a source's own mean lies above what random actions may earn, and far enough above to count."""
    error = (entry.random_std or 0.0) / math.sqrt(RANDOM_EPISODES)
    most = (entry.random_score or 0.0) + float(sps.t.isf(LEARNED_LEVEL, RANDOM_EPISODES - 1)) * error
    return source.mean > most and _far_enough(source.mean, entry)


def _far_enough(mean: float, entry: TaskEntry) -> bool:
    return entry.reference_score is None or entry.normalize(mean) >= LEARNED_SHARE


def not_learned(entry: TaskEntry, values: Sequence[float]) -> str:
    """Why these scores are not clearly above the task's random policy, as a clause; empty if they are.

    Welch's one-sided test against the episodes of the random policy, and a least distance.
    """
    low, spread = entry.random_score or 0.0, entry.random_std or 0.0
    mean = statistics.fmean(values)
    ours = statistics.variance(values) / len(values) if len(values) > 1 else math.inf
    theirs = spread**2 / RANDOM_EPISODES
    reason = f"its mean {mean:.4g} is not clearly above the {low:.4g} of random actions"
    if not _far_enough(mean, entry):
        return reason
    if math.isinf(ours):
        return f"{reason} (one seed has no spread)"
    error = math.sqrt(ours + theirs)
    if error == 0:
        return "" if mean > low else reason
    freedom = (ours + theirs) ** 2 / (ours**2 / (len(values) - 1) + theirs**2 / (RANDOM_EPISODES - 1))
    p = float(sps.t.sf((mean - low) / error, freedom))
    return "" if p <= LEARNED_LEVEL else f"{reason} (p = {p:.2g})"
