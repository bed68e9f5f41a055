"""The chance of a right verdict, claim by claim, at the seeds that its protocols plan.

A claim that is true and still unlikely to be called reproduced cannot be settled as planned: its silence says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from benchmark.judging import placing
from benchmark.records.store import RETURN
from benchmark.studies.calibration.rules import SCORES, Array, Family, errors, reproduced, truth
from benchmark.suite.ledger import Claim, load_ledger
from benchmark.suite.load import load_suite

TRUE, CLEAR = 2.0, 4.0
"""Spreads inside the edge at which a claim counts as true, and as clearly true."""
RIGHT = 0.5
"""Chance of a right verdict below which a claim cannot be settled as planned."""
REPETITIONS = 1_000


class Chance(NamedTuple):
    """Of one claim under one protocol: how often a row of it is called reproduced."""

    claim: str
    check: str
    """`right` where it is true by so many spreads, `alike` where the arms are the same."""
    seeds: int
    gap: float
    """Spreads from the truth to the edge; on the task that has fewest."""
    hits: Array


def chances(rng: np.random.Generator) -> Iterator[Chance]:
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
                yield Chance(name, "right", n, gap, known[key])
            if spreads := _spreads(claim):
                hits = _hits(family, _alike(family, rng, n, np.array(spreads)))
                yield Chance(name, "alike", n, 1 / max(spreads), hits)


def _hits(family: Family, confirmed: Array) -> Array:
    return errors(family, confirmed) if family.criterion.at_least else confirmed.mean(axis=1)


def _inside(family: Family, rng: np.random.Generator, n: int, gap: float) -> Array:
    """What is confirmed where all tasks lie so far inside the claim, from both of its edges if it has two."""
    if family.criterion.kind == "equivalence":
        return _alike(family, rng, n, np.full(family.tasks, 1 / gap))
    return reproduced(family, *truth(family, "normal", rng, REPETITIONS, (n, n), gap=gap))


def _alike(family: Family, rng: np.random.Generator, n: int, spreads: Array) -> Array:
    """What is confirmed where the arms are the same; `spreads` are those of the tasks, in margins."""
    rule = family.criterion.model_copy(update={"margin": 1.0, "relative": False})
    last = max((look.seeds for look in rule.looks), default=1)
    x, y = (
        spreads[:, None] * SCORES["normal"](rng, (REPETITIONS, family.tasks, n * last)) for _ in range(2)
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
