"""The gate of a baseline: has it learned, and does it lie where independent sources predict?

Nothing that outruns a broken baseline counts as a victory. Both questions have to be answered with yes: a policy that
acts at random can lie inside the published range, because one published source never learned; and a baseline that
learned can still be far from what everyone else measured.

Frames are matched, not agent steps: a source at action repeat 2 made half as many decisions in as much simulated time.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats as sps

from benchmark.judging.evidence import Score
from benchmark.judging.placing import hull
from benchmark.suite.entries import TaskEntry
from benchmark.suite.load import load_suite

RANDOM_EPISODES = 50
"""Episodes behind `random_score` and `random_std` in tasks.yaml."""
LEARNED_LEVEL = 0.05
LEARNED_SHARE = 0.01
"""Least way from the random policy to the reference that counts as learning, where the task has a reference."""


class Placing(NamedTuple):
    """Why a baseline could not be placed, or why it fails the gate; both empty where it passes."""

    unplaced: str
    outside: str


def place(method: str, task: str, env_steps: int, scores: Sequence[Score]) -> Placing:
    """Our `scores` of a baseline after `env_steps` at action repeat 1, against random actions and published scores."""
    values = [score.value for score in scores]
    sound = bool(values) and all(map(math.isfinite, values))  # what is wrong with others is told by the criteria
    entry = load_suite().task(task)
    published = hull(method, task, env_steps, max(len(scores), 1))
    if published is None:
        return Placing(
            f"no published {method} on {task} at {env_steps:,} frames, so the baseline gate is not yet measurable", ""
        )
    if entry.random_score is None:
        return Placing(f"no measured random policy on {task}, so the baseline gate is not yet measurable", "")
    if sound and entry.random_score is not None and (told := not_learned(entry, values)):
        return Placing("", f"{method} has not learned on {task}: {told}")
    span, sources = published
    mean = statistics.fmean(values) if sound else span.low
    if span.low <= mean <= span.high:
        return Placing("", "")
    where = "below" if mean < span.low else "above"
    return Placing(
        "",
        f"{method} scores {mean:.4g}, {where} what {sources} independent published sources predict after "
        f"{env_steps:,} frames ([{span.low:.4g}, {span.high:.4g}]): the baseline is not theirs",
    )


def not_learned(entry: TaskEntry, values: Sequence[float]) -> str:
    """Why these scores are not clearly above the task's random policy, as a clause; empty if they are.

    Welch's one-sided test against the episodes of the random policy, and a least distance.
    """
    low, spread = entry.random_score or 0.0, entry.random_std or 0.0
    mean = statistics.fmean(values)
    ours = statistics.variance(values) / len(values) if len(values) > 1 else math.inf
    theirs = spread**2 / RANDOM_EPISODES
    told = f"its mean {mean:.4g} is not clearly above the {low:.4g} of random actions"
    if entry.reference_score is not None and entry.normalize(mean) < LEARNED_SHARE:
        return told
    if math.isinf(ours):
        return f"{told} (one seed has no spread)"
    error = math.sqrt(ours + theirs)
    if error == 0:
        return "" if mean > low else told
    freedom = (ours + theirs) ** 2 / (ours**2 / (len(values) - 1) + theirs**2 / (RANDOM_EPISODES - 1))
    p = float(sps.t.sf((mean - low) / error, freedom))
    return "" if p <= LEARNED_LEVEL else f"{told} (p = {p:.2g})"
