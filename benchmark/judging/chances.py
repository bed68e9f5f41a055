"""The chance of a right verdict, claim by claim, at the seeds that its protocols plan.

A claim that is true and still unlikely to be called reproduced cannot be settled as planned: its silence says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from benchmark.judging import placing
from benchmark.judging.simulated import SCORES, Array, Family, errors, reproduced, truth
from benchmark.records.store import RETURN
from benchmark.suite.ledger import Claim, load_ledger
from benchmark.suite.load import load_suite

TRUE, CLEAR = 2.0, 4.0
"""Spreads inside the edge at which a claim counts as true, and as clearly true."""
RIGHT = 0.5
"""Chance of a right verdict below which a claim cannot be settled as planned."""
REPETITIONS, FEW = 1_000, 400
"""Draws of the study, and of a single verdict."""


class Chance(NamedTuple):
    """How often a true claim is called reproduced at its planned seeds, and the clause that says if that is rare."""

    right: float | None
    words: str


class Simulated(NamedTuple):
    """Of one claim under one protocol: how often a row of it is called reproduced."""

    claim: str
    check: str
    """`right` where it is true by so many spreads, `alike` where the arms are the same."""
    seeds: int
    gap: float
    """Spreads from the truth to the edge; on the task that has fewest."""
    hits: Array


def chance(claim: Claim, seeds: int) -> Chance:
    """For one claim at so many seeds per arm, were it as true as can be expected.

    A claim of sameness: were the arms the same, at the spread of published seeds where it is known. Any other: were the
    arms apart by `CLEAR` spreads more than is claimed. Nothing for claims on shares of seeds.
    """
    if claim.criterion.of == "share":
        return Chance(None, "")
    family, spreads = Family(claim.criterion, len(claim.tasks)), tuple(_spreads(claim))
    right = _right(family, seeds, spreads)
    if right >= RIGHT:
        return Chance(right, "")
    case = (
        "were the arms the same, at the spread of published seeds" if spreads else f"were it true by {CLEAR:g} spreads"
    )
    last = seeds * max((look.seeds for look in claim.criterion.looks), default=1)
    return Chance(
        right, f"at {last} seeds per arm it is decided rightly in {100 * right:.0f} of 100 simulated cases, {case}"
    )


@lru_cache(maxsize=1024)
def _right(family: Family, seeds: int, spreads: tuple[float, ...]) -> float:
    rng = np.random.default_rng(0)
    confirmed = (
        _alike(family, rng, seeds, np.array(spreads), FEW) if spreads else _inside(family, rng, seeds, CLEAR, FEW)
    )
    return float(np.mean(_hits(family, confirmed)))


def chances(rng: np.random.Generator) -> Iterator[Simulated]:
    """Every claim but those on shares of seeds, under every protocol that can judge it."""
    known: dict[tuple[str, int, float], Array] = {}
    for claim in load_ledger().claims:
        family = Family(claim.criterion, len(claim.tasks))
        for protocol in claim.protocols if claim.criterion.of != "share" else ():
            n, name = load_suite().protocol(protocol).seeds, f"{claim.id} ({protocol})"
            for gap in (TRUE, CLEAR):
                key = (family.words, n, gap)
                if key not in known:
                    known[key] = _hits(family, _inside(family, rng, n, gap))
                yield Simulated(name, "right", n, gap, known[key])
            if spreads := _spreads(claim):
                hits = _hits(family, _alike(family, rng, n, np.array(spreads)))
                yield Simulated(name, "alike", n, 1 / max(spreads), hits)


def _hits(family: Family, confirmed: Array) -> Array:
    return errors(family, confirmed) if family.criterion.at_least else confirmed.mean(axis=1)


def _inside(family: Family, rng: np.random.Generator, n: int, gap: float, repetitions: int = REPETITIONS) -> Array:
    """What is confirmed where all tasks lie so far inside the claim, from both of its edges if it has two."""
    if family.criterion.kind == "equivalence":
        return _alike(family, rng, n, np.full(family.tasks, 1 / gap), repetitions)
    return reproduced(family, *truth(family, "normal", rng, repetitions, (n, n), gap=gap))


def _alike(family: Family, rng: np.random.Generator, n: int, spreads: Array, repetitions: int = REPETITIONS) -> Array:
    """What is confirmed where the arms are the same; `spreads` are those of the tasks, in margins."""
    rule = family.criterion.model_copy(update={"margin": 1.0, "relative": False})
    last = max((look.seeds for look in rule.looks), default=1)
    x, y = (
        spreads[:, None] * SCORES["normal"](rng, (repetitions, family.tasks, n * last)) for _ in range(2)
    )  # normal at best: real seeds have tails
    return reproduced(Family(rule, family.tasks), x, y)


def _spreads(claim: Claim) -> list[float]:
    """How far seeds spread on each task, in margins; empty where the claim is not one of sameness, or none is known.

    From published seeds of SAC, the median over sources; before training, from a random policy's episodes.
    """
    rule = claim.criterion
    if rule.kind == "difference" or claim.estimand.measure != RETURN:
        return []
    suite, table = load_suite(), placing.published()
    spreads = []
    for task in claim.tasks:
        entry = suite.task(task)
        rows = table[(table["method"] == "sac") & (table["task"] == task)].dropna(subset=["sd", "mean"])
        if claim.reference.window == (0.0, 0.0):
            sd, mean = entry.random_std, entry.random_score
        elif len(rows):
            sd, mean = float(rows["sd"].median()), float(rows["mean"].median())
        else:
            sd = mean = None
        if not sd or mean is None:
            return []
        spreads.append(sd / (rule.margin * abs(mean) if rule.relative else rule.margin))
    return spreads
