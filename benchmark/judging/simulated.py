"""The rules of `criteria` for many repetitions at once, and scores of a known truth to judge by them.

The tests hold the two together draw by draw.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from benchmark.judging import location, samples, stats
from benchmark.suite.criterion import Criterion, Look
from benchmark.suite.ledger import Ledger, load_ledger

WON = 50.0
"""Spreads by which the tasks of a count are won that are won."""
Array = np.ndarray
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Standard normal scores."""
    return rng.normal(size=shape)


def bimodal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Half of the seeds fail, half succeed, six standard deviations of either apart, around 0."""
    return rng.normal(size=shape) + 6.0 * (rng.random(shape) < 0.5) - 3.0


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Student's t with 2 degrees of freedom: its variance is infinite."""
    return rng.standard_t(2, size=shape)


def lopsided(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Exponential: most seeds do poorly, a few far better."""
    return rng.exponential(size=shape)


SCORES: dict[str, Draw] = {"normal": normal, "bimodal": bimodal, "heavy-tailed": heavy, "lopsided": lopsided}


class Family(NamedTuple):
    """Claims of the ledger that are judged in one way: a rule over so many tasks."""

    criterion: Criterion
    tasks: int

    @property
    def words(self) -> str:
        """The rule as a label."""
        rule, tasks = self.criterion, "1 task" if self.tasks == 1 else f"{self.tasks} tasks"
        kind = rule.kind + (" of a share" if rule.relative else "")
        what = f"at least {rule.at_least} of {tasks}" if rule.at_least else tasks
        what = f"the mean of {tasks}" if rule.aggregate else what
        of = "" if rule.of == "typical seed" else f", of the {rule.of}"
        return f"{kind}, {what}{of}" + (f", {len(rule.looks)} looks" if rule.looks else "")


def families(ledger: Ledger | None = None) -> list[Family]:
    """The distinct ways in which claims of the ledger are judged, in its order; shares of seeds are exact by Fisher."""
    ways: dict[str, Family] = {}
    for claim in (ledger or load_ledger()).claims:
        family = Family(claim.criterion, len(claim.tasks))
        if claim.criterion.of != "share":
            ways.setdefault(family.words, family)
    return list(ways.values())


def reproduced(family: Family, x: Array, y: Array) -> Array:
    """Which tasks the first look, or a later one, confirms: (repetitions, tasks) of scores (repetitions, tasks, seeds).

    The arms may have different numbers of seeds. Scores come in units in which the margin of the criterion holds; for
    looks, `x` and `y` hold the seeds of the last.
    """
    rule = family.criterion
    looks = rule.looks or (Look(),)
    last = max(look.seeds for look in looks)
    confirmed = np.zeros((len(x), 1 if rule.aggregate else x.shape[1]), dtype=bool)
    closed = confirmed.copy()
    for look in looks:
        seen_x, seen_y = (v[..., : v.shape[-1] // last * look.seeds] for v in (x, y))
        level = rule.level * look.share
        now = stats.holm(_inside(rule, seen_x, seen_y)) <= level
        confirmed |= now & ~closed
        closed |= now
        if look is not looks[-1]:
            closed |= stats.holm(_outside(rule, seen_x, seen_y)) <= level
    return confirmed


def _inside(rule: Criterion, x: Array, y: Array) -> Array:
    """P of lying inside the claimed region, as `samples.Sample` has it."""
    arm, other = _strata(rule, x), _strata(rule, y)
    return np.max([_p(rule, arm, bound) for bound in samples.bounds(rule, other)], axis=0)


def _outside(rule: Criterion, x: Array, y: Array) -> Array:
    arm, bounds = _strata(rule, x), samples.bounds(rule, _strata(rule, y))
    return np.minimum(1.0, len(bounds) * np.min([_p(rule, arm, bound.opposite) for bound in bounds], axis=0))


def _strata(rule: Criterion, scores: Array) -> samples.Scores:
    """Scores (repetitions, tasks, seeds) as one stratum, or as one for each task where tasks are pooled."""
    return tuple(np.moveaxis(scores, 1, 0)) if rule.aggregate else (scores,)


def _p(rule: Criterion, x: samples.Scores, bound: samples.Bound) -> Array:
    """P that `x` lies on its side of the bound, of what the criterion is about: (repetitions, tasks or 1)."""
    pairs = list(zip(x, bound.y, strict=True) if bound.side == "greater" else zip(bound.y, x, strict=True))
    if rule.aggregate:
        return location.mean_p(pairs)[:, None]
    return location.mean_p(pairs) if rule.of == "mean" else location.typical_p(*pairs[0])


def _offset(rule: Criterion) -> int:
    return (-1 if rule.kind == "non-inferiority" else 1) * (1 if rule.direction == "higher" else -1)


# A known truth


@lru_cache(maxsize=256)
def middle(scores: str, ratio: float, mean: bool) -> float:
    """By how much an arm `ratio` times as wide lies above the other: in the mean, or in half of all pairs of seeds."""
    rng = np.random.default_rng(0)
    x, y = (np.sort(SCORES[scores](rng, (400_000,))) for _ in range(2))
    if scores != "lopsided":
        return 0.0  # symmetric about 0
    if mean:
        return float(ratio * x.mean() - y.mean())
    x, y = (v[100::200] for v in (x, y))  # 2,000 quantiles of either
    return float(np.median(ratio * x[:, None] - y))


def truth(
    family: Family,
    scores: str,
    rng: np.random.Generator,
    repetitions: int,
    seeds: tuple[int, int],
    ratio: float = 1.0,
    gap: float = 0.0,
) -> tuple[Array, Array]:
    """Scores whose truth lies `gap` spreads inside the edge of the claim; at 0 the claim is false, if only just.

    The edge is on all tasks, or for a count on those that are not won: one fewer than are claimed. The arm is `ratio`
    times as wide as the other, and a spread is the root of their mean square. Arms have `seeds`, times the last look's.
    """
    rule, draw = family.criterion, SCORES[scores]
    last = max((look.seeds for look in rule.looks), default=1)
    x, y = (draw(rng, (repetitions, family.tasks, n * last)) for n in seeds)
    x = ratio * x - middle(scores, ratio, rule.of == "mean" or rule.aggregate)
    up = 1.0 if rule.direction == "higher" else -1.0
    spread = float(np.sqrt((ratio**2 + 1) / 2))
    base = 100.0 * spread if rule.relative else 0.0
    x, y = base + x, base + y
    if rule.kind == "equivalence":
        x = x + rule.margin
    elif not rule.relative:
        x = x + _offset(rule) * rule.margin
    x = x + up * gap * spread
    if rule.relative:
        x = x * (1 + _offset(rule) * rule.margin)
    if rule.at_least and not gap:
        x[:, : rule.at_least - 1] += up * WON * spread
    return x, y


def errors(family: Family, confirmed: Array) -> Array:
    """Which repetitions call something reproduced that is not."""
    return np.asarray(confirmed.sum(axis=1) >= (family.criterion.at_least or 1))
