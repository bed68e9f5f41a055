"""Whether the runs of two arms may be compared at all: one grid, one length, one scale, one engine, one run a seed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from benchmark.judging import scale
from benchmark.judging.evidence import Curve, Evidence, Score, spans

ALIKE = 1e-5
"""Two seeds whose curves differ by less everywhere, as a share of the range of either, are one run copied."""


class Aligned(NamedTuple):
    """Evidence whose curves are read at the same steps, and how."""

    evidence: Evidence
    note: str
    """What was done to have one grid, as a clause; empty where nothing was."""
    fault: str
    """Why it cannot be done, in one sentence; empty where it can."""


def fault(evidence: Evidence, task: str = "") -> str:
    """Why these scores must not be compared, in one sentence; empty if they may. What `task` can pay bounds returns."""
    if evidence.fault:
        return evidence.fault
    for name, scores in evidence.sides:
        if detail := _broken(name, scores):
            return detail
    engines = sorted({score.engine for score in (*evidence.x, *evidence.y)})
    if len(engines) > 1:
        return f"runs of {len(engines)} engines are mixed ({engines[0]}, {engines[1]}): run them again on one"
    return aligned(evidence).fault or scale.fault(evidence, task)


def _broken(name: str, scores: tuple[Score, ...]) -> str:
    twice = [seed for (_, seed), count in Counter((s.stratum, s.seed) for s in scores).items() if count > 1]
    if twice:
        return f"{name} has seed {twice[0]} more than once"
    lengths = sorted({score.points for score in scores if score.curve is None})
    if len(lengths) > 1:
        return f"{name} has runs of unequal length: {lengths[0]} and {lengths[-1]} values in the window"
    for score in scores:
        if score.curve is not None and not np.isfinite(_in_window(score.curve)).all():
            return f"{name} has no finite score at seed {score.seed}"
        if score.curve is None and not math.isfinite(score.value) and not score.undefined:
            return f"{name} has no finite score at seed {score.seed}"
    return _copied(name, scores)


def _in_window(curve: Curve) -> np.ndarray:
    steps, values = np.array(curve.steps), np.array(curve.values)
    return values[(steps >= curve.low) & (steps <= curve.high)]


def _copied(name: str, scores: tuple[Score, ...]) -> str:
    """Two seeds with one and the same curve, or nearly so; curves of two values or fewer may coincide."""
    groups: dict[tuple[str, tuple[int, ...]], list[tuple[int, np.ndarray]]] = {}
    for score in sorted(scores, key=lambda s: s.seed):
        if score.curve is None or len(set(score.curve.values)) <= 2:
            continue
        values = np.array(score.curve.values)
        others = groups.setdefault((score.stratum, score.curve.steps), [])
        for first, other in others:
            if np.nanmax(np.abs(values - other)) <= ALIKE * np.nanmax(np.abs(other - np.nanmin(other))):
                return f"{name} has one and the same curve under seeds {first} and {score.seed}: a copy is not a seed"
        others.append((score.seed, values))
    return ""


# One grid


def aligned(evidence: Evidence) -> Aligned:
    """The evidence with every score read at the steps that all runs of both arms share.

    Arms logged at different steps would differ by the logging alone. Steps that not all runs have are left out; where
    what remains does not reach over the window, or holds fewer than two evaluations of it, the arms cannot be compared.
    """
    runs = [(name, s, s.curve) for name, scores in evidence.sides for s in scores if s.curve is not None]
    if not runs:
        return Aligned(evidence, "", "")
    if detail := _ends(runs):
        return Aligned(evidence, "", detail)
    shared = sorted(set.intersection(*(set(curve.steps) for _, _, curve in runs)))
    lacks = _lacking(runs, shared)
    for arm, one, own in runs:
        low, high = f"{own.low:,.0f}", f"{own.high:,.0f}"
        if not own.covered(shared, whole=bool(lacks)):
            reach = f"the evaluations do not reach over the window from {low} to {high} env steps"
            return Aligned(evidence, "", f"{lacks}: {reach}" if lacks else f"{arm} seed {one.seed}: {reach}")
        if lacks and own.low < own.high and own.inside(shared) < 2:
            few = f"the arms share fewer than two evaluations of the window from {low} to {high} env steps"
            return Aligned(evidence, "", f"{lacks}: {few}")
    if not lacks:
        return Aligned(evidence, "", "")
    x, y = (tuple(_again(score, shared) for score in scores) for _, scores in evidence.sides)
    return Aligned(replace(evidence, x=x, y=y), f"read at the {len(shared)} steps that all runs share ({lacks})", "")


def _lacking(runs: list[tuple[str, Score, Curve]], shared: list[int]) -> str:
    """A run that lacks steps, and one that has them; empty where all runs have the same."""
    name, score, full = max(runs, key=lambda run: len(run[2].steps))
    for other, one, curve in runs:
        if gone := sorted(set(full.steps) - set(curve.steps)):
            return (
                f"{other} seed {one.seed} has no evaluation at {_steps(gone)}, where {name} seed {score.seed} has one"
            )
    odd = next(((n, s, more) for n, s, c in runs if (more := sorted(set(c.steps) - set(shared)))), None)
    return f"{odd[0]} seed {odd[1].seed} alone has an evaluation at {_steps(odd[2])}" if odd else ""


def _again(score: Score, shared: list[int]) -> Score:
    if score.curve is None:
        return score
    return replace(score, value=score.curve.score(shared), points=score.curve.inside(shared))


def _ends(runs: list[tuple[str, Score, Curve]]) -> str:
    """Two runs that do not end at the same step; one that diverged counts as it stood."""
    ends = [(c.steps[-1] if c.steps else 0, c.end, name, s) for name, s, c in runs if not s.diverged]
    if not ends:
        return ""
    short, long = min(ends, key=lambda end: end[0]), max(ends, key=lambda end: end[0])
    if short[0] != long[0]:
        detail = f"{short[2]} seed {short[3].seed} ends at {short[0]:,} env steps, {long[2]} seed {long[3].seed} at"
        return f"runs of unequal length: {detail} {long[0]:,}"
    if len({end for _, end, _, _ in ends}) > 1:
        other = next(e for e in ends if e[1] != ends[0][1])
        detail = f"{ends[0][2]} was to train for {ends[0][1]:,} env steps, {other[2]} for {other[1]:,}"
        return f"runs of unequal length: {detail}"
    if short[0] < short[1]:
        return f"{short[2]} seed {short[3].seed} ends at {short[0]:,} of {short[1]:,} env steps"
    return ""


def _steps(steps: list[int], most: int = 4) -> str:
    listed = ", ".join(f"{step:,}" for step in steps[:most])
    left = len(steps) - most
    return f"step{'s' if len(steps) > 1 else ''} {listed}" + (f" and {left:,} more" if left > 0 else "")


# Seeds


def uneven(evidence: Evidence) -> str:
    """Seeds that one arm has and the other has not, as a clause; all of them are judged."""
    if any(score.stratum for score in evidence.x):
        return _uneven_tasks(evidence)
    return lost_seeds({name: {score.seed for score in scores} for name, scores in evidence.sides})


def lost_seeds(arms: Mapping[str, Collection[int]]) -> str:
    """Seeds that an arm has not and another has, as a clause: a lost run may have been lost for its score."""
    every = set().union(*arms.values())
    parts = []
    for name, seeds in arms.items():
        if seeds and (lost := every - set(seeds)):
            other = next(other for other, have in arms.items() if lost & set(have))
            parts.append(f"{name} has no {spans(lost)}, which {other} has")
    return f"the arms have different seeds: {', '.join(parts)}" if parts else ""


def _uneven_tasks(evidence: Evidence) -> str:
    """That tasks of a pool have different seeds, as a clause."""
    sets = {(name, s.stratum): set[int]() for name, scores in evidence.sides for s in scores}
    for name, scores in evidence.sides:
        for score in scores:
            sets[name, score.stratum].add(score.seed)
    few, many = min(sets, key=lambda key: len(sets[key])), max(sets, key=lambda key: len(sets[key]))
    if all(seeds == sets[many] for seeds in sets.values()):
        return ""
    detail = ", ".join(f"{name} on {task} has {spans(sets[name, task])}" for name, task in (few, many))
    return f"seeds differ between tasks ({detail}); all count, every task with the same weight"
