"""Do the statistics keep their promises? Simulated families of claims with a known truth, judged by the ledger's rules.

* *level*: the truth lies on the edge of what is claimed (for a count, one task short of it). The share of families in
  which a task that is not won is called reproduced must not exceed the level.
* *bootstrap*: the same for the percentile bootstrap of a difference of means, which no verdict uses: why not.
* *spread*: equal middles, but one arm spreads three times as far: what exact rank tests do not promise.
* *power*: published SAC against published SimBa; the power that verdicts print, and the share that new seeds confirm.
* *coverage*: how often the intervals of verdicts, of tables and of the baseline gate hold the truth.

The rules are those of `criteria`, for scores without ties and vectorized over repetitions; the tests hold the two
together draw by draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats as sps

from benchmark.drawing import style, tables
from benchmark.judging import placing, stats
from benchmark.studies.calibration import figures
from benchmark.suite.criterion import Criterion, Look
from benchmark.suite.ledger import Ledger, load_ledger
from benchmark.words import task_name
from mbpo.config import InputError

SEEDS = (5, 6, 10)
REPETITIONS = 20_000
BOOTSTRAPS = (2_000, 1_000)
"""Repetitions, and draws in each."""
WON = 50.0
"""Standard deviations by which the tasks of a count are won that are won."""
COLUMNS = ["check", "family", "scores", "seeds", "nominal", "observed", "error", "repetitions", "holds"]
Array = np.ndarray
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Standard normal scores."""
    return rng.normal(size=shape)


def bimodal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Half of the seeds fail, half succeed, six standard deviations of either apart."""
    return rng.normal(size=shape) + 6.0 * (rng.random(shape) < 0.5)


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Student's t with 2 degrees of freedom: its variance is infinite."""
    return rng.standard_t(2, size=shape)


SCORES: dict[str, Draw] = {"normal": normal, "bimodal": bimodal, "heavy-tailed": heavy}


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
        return f"{kind}, {what}" + (f", {len(rule.looks)} looks" if rule.looks else "")


def families(ledger: Ledger | None = None) -> list[Family]:
    """The distinct ways in which claims of the ledger are judged, in its order."""
    found: dict[str, Family] = {}
    for claim in (ledger or load_ledger()).claims:
        family = Family(claim.criterion, len(claim.tasks))
        found.setdefault(family.words, family)
    return list(found.values())


# The rules, many repetitions at once


def reproduced(family: Family, x: Array, y: Array) -> Array:
    """Which tasks the first look, or a later one, confirms: (repetitions, tasks) of scores (repetitions, tasks, seeds).

    Scores come in units in which the margin of the criterion holds; for looks, `x` and `y` hold the seeds of the last.
    """
    rule = family.criterion
    looks = rule.looks or (Look(),)
    planned = x.shape[-1] // max(look.seeds for look in looks)
    if rule.aggregate:
        x, y = x.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
    confirmed = np.zeros(x.shape[:2], dtype=bool)
    closed = np.zeros(x.shape[:2], dtype=bool)
    for look in looks:
        seen = slice(0, planned * look.seeds)
        level = rule.level * look.share
        inside, outside = _sides(rule, x[..., seen], y[..., seen])
        now = stats.holm(inside) <= level
        confirmed |= now & ~closed
        closed |= now | (stats.holm(outside) <= level)
    return confirmed


def _sides(rule: Criterion, x: Array, y: Array) -> tuple[Array, Array]:
    """Exact p of lying inside and outside the claimed region, as `criteria.Sample` has them."""
    margin = rule.margin * np.abs(y) if rule.relative else np.full_like(y, rule.margin)
    if rule.kind == "equivalence":
        inside = np.maximum(upper_p(x, y - margin), upper_p(y + margin, x))
        outside = np.minimum(1.0, 2 * np.minimum(upper_p(y - margin, x), upper_p(x, y + margin)))
        return inside, outside
    offset = -margin if rule.kind == "non-inferiority" else margin
    if rule.direction == "higher":
        return upper_p(x, y + offset), upper_p(y + offset, x)
    return upper_p(y - offset, x), upper_p(x, y - offset)


def upper_p(x: Array, y: Array) -> Array:
    """Exact one-sided Mann-Whitney p that `x` (..., n) lies above `y` (..., m), for scores without ties."""
    against = (x[..., :, None] < y[..., None, :]).sum(axis=(-1, -2))
    return stats.untied_cdf(x.shape[-1], y.shape[-1])[against]


# Under the null


def edge(family: Family, draw: Draw, rng: np.random.Generator, repetitions: int, seeds: int) -> tuple[Array, Array]:
    """Scores whose truth lies on the edge of the claim: on all tasks, or for a count on those that are not won."""
    rule = family.criterion
    last = max((look.seeds for look in rule.looks), default=1)
    shape = (repetitions, family.tasks, seeds * last)
    base = 100.0 if rule.relative else 0.0
    x, y = base + draw(rng, shape), base + draw(rng, shape)
    up = 1.0 if rule.direction == "higher" else -1.0
    if rule.kind == "equivalence":
        x = x + rule.margin
    elif rule.relative:
        x = x * (1 - up * rule.margin)
    else:
        x = x + up * (-rule.margin if rule.kind == "non-inferiority" else rule.margin)
    if rule.at_least:
        x[:, : rule.at_least - 1] += up * WON
    return x, y


def errors(family: Family, confirmed: Array) -> Array:
    """Which repetitions call something reproduced that is not."""
    return np.asarray(confirmed.sum(axis=1) >= (family.criterion.at_least or 1))


def _null(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    for family in families():
        for name, draw in SCORES.items():
            for seeds in SEEDS:
                wrong = errors(family, _in_parts(family, draw, rng, seeds))
                yield _at_most("level", family.words, name, seeds, family.criterion.level, wrong)


def _in_parts(family: Family, draw: Draw, rng: np.random.Generator, seeds: int, part: int = 2_000) -> Array:
    """`reproduced` at the edge, in parts that fit a small memory."""
    parts = [reproduced(family, *edge(family, draw, rng, part, seeds)) for _ in range(REPETITIONS // part)]
    return np.concatenate(parts)


def _bootstrap(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    repetitions, draws = BOOTSTRAPS
    for name, draw in SCORES.items():
        for seeds in (3, *SEEDS):
            x, y = draw(rng, (repetitions, seeds)), draw(rng, (repetitions, seeds))
            low = np.quantile(_resampled(x, rng, draws) - _resampled(y, rng, draws), 0.05, axis=1)
            yield _at_most("bootstrap", "difference of means, 1 task", name, seeds, 0.05, low > 0)


def _resampled(x: Array, rng: np.random.Generator, draws: int) -> Array:
    """Bootstrap means (repetitions, draws) of the rows of `x`."""
    repetitions, n = x.shape
    counts = rng.multinomial(n, [1 / n] * n, size=(repetitions, draws))
    return np.einsum("rdn,rn->rd", counts, x) / n


def _spread(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    """Symmetric scores around one middle, one arm three times as wide."""
    for name in ("normal", "heavy-tailed"):
        for seeds in SEEDS:
            x, y = (SCORES[name](rng, (REPETITIONS, seeds)) for _ in range(2))
            yield _at_most(
                "spread", "difference, 1 task, one arm 3 times as wide", name, seeds, 0.05, upper_p(3 * x, y) <= 0.05
            )


# Power


def _power(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    """Power as verdicts predict it from published seeds, and the share that fresh seeds of the same spread confirm."""
    sac, simba = (_published(method) for method in ("sac", "sac_simba"))
    shared = [task for task in sac if task in simba]
    level = 0.05 / max(len(shared), 1)
    for task in shared:
        for seeds in SEEDS:
            x, y = (_quantiles(found[task]) for found in (simba, sac))
            predicted = stats.power(x, y, seeds, level=level, repetitions=4_000)
            fresh = [_fresh(found[task], rng, (REPETITIONS, seeds)) for found in (simba, sac)]
            hits = upper_p(*fresh) <= level
            name = task_name(task)
            yield ("power", "SimBa above SAC, " + name, "published", seeds, predicted, *_share(hits), "")


def _published(method: str) -> dict[str, tuple[float, float, float, float, int]]:
    """Mean, sd, least, largest and seeds per task, of the one source that has both methods."""
    table = placing.published()
    rows = table[(table["method"] == method) & table["source"].str.startswith("SonyResearch/simba")]
    fields = ["mean", "sd", "min", "max", "seeds"]
    return {row["task"]: tuple(float(row[f]) for f in fields) for _, row in rows.iterrows()}  # type: ignore[misc]


def _quantiles(found: tuple[float, float, float, float, int]) -> Array:
    """Ten scores that spread like a normal sample of this mean and sd, inside the published range."""
    mean, sd, low, high, _ = found
    return np.clip(mean + sd * sps.norm.ppf((np.arange(10) + 0.5) / 10), low, high)


def _fresh(found: tuple[float, float, float, float, int], rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    mean, sd, low, high, _ = found
    drawn = np.clip(rng.normal(mean, sd, shape), low, high)
    return drawn + 1e-6 * rng.random(shape)  # no ties where it was clipped


# Coverage


def _coverage(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    for name, draw in SCORES.items():
        for seeds in SEEDS:
            x, y = draw(rng, (REPETITIONS, seeds)), draw(rng, (REPETITIONS, seeds))
            cdf = stats.untied_cdf(seeds, seeds)
            rejected = int(np.searchsorted(cdf, 0.05 + 1e-12, side="right"))
            gaps = np.sort((x[:, :, None] - y[:, None, :]).reshape(REPETITIONS, -1), axis=1)
            held = (gaps[:, rejected - 1] <= 0) & (gaps[:, -rejected] >= 0)
            yield _at_least("coverage", "shift of a verdict, 90 %", name, seeds, 0.9, held)
            yield _at_least(
                "coverage", "bootstrap IQM of a table, 95 %", name, seeds, 0.95, _iqm_held(draw, rng, seeds)
            )
            yield _at_least("coverage", "prediction of the gate, 95 %", name, seeds, 0.95, _predicted(draw, rng, seeds))


def _iqm_held(draw: Draw, rng: np.random.Generator, seeds: int) -> Array:
    truth = float(sps.trim_mean(draw(rng, (400_000,)), 0.25))
    repetitions, draws = BOOTSTRAPS
    x = draw(rng, (repetitions, seeds))
    picks = rng.integers(seeds, size=(repetitions, draws, seeds))
    again = sps.trim_mean(np.take_along_axis(x[:, None, :], picks, axis=2), 0.25, axis=2)
    low, high = np.quantile(again, [0.025, 0.975], axis=1)
    return (low <= truth) & (truth <= high)


def _predicted(draw: Draw, rng: np.random.Generator, seeds: int, published: int = 10) -> Array:
    """Whether the mean of our seeds lies where ten published ones predict it."""
    theirs, ours = draw(rng, (REPETITIONS, published)), draw(rng, (REPETITIONS, seeds)).mean(axis=1)
    reach = float(sps.t.ppf(0.975, published - 1)) * theirs.std(axis=1, ddof=1) * math.sqrt(1 / published + 1 / seeds)
    return np.abs(ours - theirs.mean(axis=1)) <= reach


# The table


def _share(hits: Array) -> tuple[float, float, int]:
    share = float(np.mean(hits))
    return share, math.sqrt(share * (1 - share) / len(hits)), len(hits)


def _at_most(check: str, family: str, scores: str, seeds: int, nominal: float, hits: Array) -> tuple[object, ...]:
    share, error, n = _share(hits)
    slack = 3 * math.sqrt(nominal * (1 - nominal) / n)
    return check, family, scores, seeds, nominal, share, error, n, "yes" if share <= nominal + slack else "no"


def _at_least(check: str, family: str, scores: str, seeds: int, nominal: float, hits: Array) -> tuple[object, ...]:
    share, error, n = _share(hits)
    slack = 3 * math.sqrt(nominal * (1 - nominal) / n)
    return check, family, scores, seeds, nominal, share, error, n, "yes" if share >= nominal - slack else "no"


def simulate(say: Callable[[str], None] = lambda _: None, seed: int = 0) -> pd.DataFrame:
    """Every check, one row each. ``holds``: within three standard errors of what is promised; empty for power."""
    rows: list[tuple[object, ...]] = []
    for index, check in enumerate((_null, _spread, _bootstrap, _power, _coverage)):
        say(f"simulating {check.__name__.removeprefix('_')}, {index + 1} of 5")
        rows += check(np.random.default_rng([seed, index]))
    return pd.DataFrame(rows, columns=COLUMNS)


def build(results: Path, say: Callable[[str], None] = lambda _: None) -> pd.DataFrame:
    """Simulate, write ``tables/calibration.*`` and ``figures/calibration-*``, and return the table.

    Raises `InputError` if the folder cannot be written.
    """
    try:
        (results / "tables").mkdir(parents=True, exist_ok=True)
        table = simulate(say)
        tables.write(table, results / "tables", "calibration")
        for name, figure in figures.draw(table).items():
            style.save(figure, results / "figures", name)
    except OSError as error:
        told = (error.strerror or str(error)).lower()
        raise InputError(f"the results folder {str(results)!r} cannot be written ({told}); give another") from None
    return table
