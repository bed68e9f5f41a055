"""Do the statistics keep their promises? Simulated families of claims with a known truth, judged by the ledger's rules.

* *level*: the truth lies on the edge of what is claimed (for a count, one task short of it). The share of families in
  which a task that is not won is called reproduced should not exceed the level: by shape of the scores, by how much
  wider the arm spreads than the other, and by seeds.
* *looks*: the same where seeds are added and the claim is judged again: under a plan, and as nobody should.
* *not used*: the same for rules that no verdict uses, exact ranks alone and the bootstrap of means: why not.
* *power*: the share that is confirmed where the truth lies so many spreads inside the claim.
* *right*: per claim and protocol, the chance that it is reproduced were it true by 2 spreads, and clearly true, by 4;
  *alike*: for claims of sameness, were the arms the same, at the spread of published seeds. `nominal` is the distance.
* *coverage*: how often the intervals of verdicts, of tables and of the baseline gate hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats as sps

from benchmark.drawing import style, tables
from benchmark.judging import chances, location, stats
from benchmark.judging.simulated import SCORES, Array, Family, errors, families, reproduced, truth
from benchmark.studies.calibration import figures
from benchmark.suite.criterion import Criterion, Look
from mbpo.config import InputError

REPETITIONS = {(5, 5): 4_000, (6, 6): 4_000, (10, 10): 2_000, (12, 12): 1_000, (5, 50): 1_000}
"""Draws of every cell, by seeds of the arm and of the other."""
RATIOS = (0.1, 1, 3, 10, 30)
"""How many times as wide the arm spreads as the other."""
BOOTSTRAPS = (2_000, 1_000)
"""Repetitions, and draws in each."""
COLUMNS = [
    *("check", "family", "scores", "seeds", "against", "ratio", "nominal", "observed", "error", "repetitions", "holds")
]
Row = tuple[object, ...]


# Under the null


def _level(rng: np.random.Generator) -> Iterator[Row]:
    for family in families():
        for name in SCORES:
            for ratio in RATIOS:
                for seeds in ((5, 5), (10, 10), (12, 12), (5, 50)):
                    wrong = errors(family, _in_parts(family, name, rng, seeds, ratio))
                    yield _at_most("level", family.words, name, seeds, ratio, family.criterion.level, wrong)


def _in_parts(
    family: Family, name: str, rng: np.random.Generator, seeds: tuple[int, int], ratio: float = 1.0, gap: float = 0.0
) -> Array:
    """`reproduced`, in parts that fit a small memory."""
    total = REPETITIONS[seeds]
    part = min(total, 1_000)
    parts = [reproduced(family, *truth(family, name, rng, part, seeds, ratio, gap)) for _ in range(total // part)]
    return np.concatenate(parts)


def _looks(rng: np.random.Generator) -> Iterator[Row]:
    """One task under the null, from 5 seeds to 15."""
    for name in SCORES:
        x, y = (SCORES[name](rng, (REPETITIONS[5, 5], 15)) for _ in range(2))
        p = {n: location.typical_p(x[:, :n], y[:, :n]) for n in range(5, 16)}
        any_look = np.stack(list(p.values())).min(axis=0) <= 0.05
        planned = Criterion(looks=(Look(seeds=1, share=0.6), Look(seeds=2, share=0.2), Look(seeds=3, share=0.2)))
        at_looks = reproduced(Family(planned, 1), x[:, None], y[:, None])[:, 0]
        once = np.asarray(p[5] <= 0.05)
        for words, hits in (
            ("later seeds change no verdict", once),
            ("3 planned looks, at 5, 10 and 15 seeds", at_looks),
            ("not used: a look after every seed", any_look),
        ):
            yield _at_most("looks", words, name, (5, 5), 1, 0.05, np.asarray(hits))


def _not_used(rng: np.random.Generator) -> Iterator[Row]:
    family = Family(Criterion(), 7)
    for name in SCORES:
        for ratio in RATIOS:
            for seeds in ((5, 5), (10, 10), (5, 50)):
                x, y = truth(family, name, rng, 1_000, seeds, ratio)
                hits = np.asarray((7 * ranks_p(x, y) <= 0.05).any(axis=1))
                yield _at_most("not used", "exact ranks alone, 7 tasks", name, seeds, ratio, 0.05, hits)
    repetitions, draws = BOOTSTRAPS
    for name, draw in SCORES.items():
        for n in (5, 10):
            x, y = draw(rng, (repetitions, n)), draw(rng, (repetitions, n))
            low = np.quantile(_resampled(x, rng, draws) - _resampled(y, rng, draws), 0.05, axis=1)
            yield _at_most("not used", "bootstrap of means, 1 task", name, (n, n), 1, 0.05, low > 0)


def ranks_p(x: Array, y: Array) -> Array:
    """Exact one-sided Mann-Whitney p that `x` (..., n) lies above `y` (..., m), for scores without ties."""
    against = (x[..., :, None] < y[..., None, :]).sum(axis=(-1, -2))
    return stats.untied_cdf(x.shape[-1], y.shape[-1])[against]


def _resampled(x: Array, rng: np.random.Generator, draws: int) -> Array:
    """Bootstrap means (repetitions, draws) of the rows of `x`."""
    repetitions, n = x.shape
    counts = rng.multinomial(n, [1 / n] * n, size=(repetitions, draws))
    return np.einsum("rdn,rn->rd", counts, x) / n


# Power


def _power(rng: np.random.Generator) -> Iterator[Row]:
    """One task and seven, `gap` spreads apart; for power, `nominal` is the gap."""
    for tasks in (1, 7):
        family = Family(Criterion(), tasks)
        for name in SCORES:
            for ratio in (1, 10):
                for seeds in ((5, 5), (10, 10), (5, 50)):
                    for gap in (1.0, 2.0, 3.0, 4.0, 6.0):
                        hits = _in_parts(family, name, rng, seeds, ratio, gap).mean(axis=1)
                        yield ("power", family.words, name, *seeds, ratio, gap, *_share(hits), "")


def _right(rng: np.random.Generator) -> Iterator[Row]:
    for chance in chances.chances(rng):
        share = _share(chance.hits)
        holds = "yes" if share[0] >= chances.RIGHT else "no"
        yield (chance.check, chance.claim, "normal", chance.seeds, chance.seeds, 1, chance.gap, *share, holds)


# Coverage


def _coverage(rng: np.random.Generator) -> Iterator[Row]:
    for name, draw in SCORES.items():
        for seeds in ((5, 5), (6, 6), (10, 10)):
            for ratio in RATIOS:
                family = Family(Criterion(), 1)
                x, y = (v[:, 0] for v in truth(family, name, rng, REPETITIONS[seeds], seeds, ratio))
                held = (location.typical_p(x, y) > 0.05) & (location.typical_p(y, x) > 0.05)
                yield _at_least("coverage", "shift of a verdict, 90 %", name, seeds, ratio, 0.9, held)
            n = seeds[0]
            held = _iqm_held(draw, rng, n)
            yield _at_least("coverage", "bootstrap IQM of a table, 95 %", name, seeds, 1, 0.95, held)
            held = _predicted(draw, rng, n)
            yield _at_least("coverage", "prediction of the gate, 95 %", name, seeds, 1, 0.95, held)


def _iqm_held(draw: Callable[..., Array], rng: np.random.Generator, seeds: int) -> Array:
    middle = float(sps.trim_mean(draw(rng, (400_000,)), 0.25))
    repetitions, draws = BOOTSTRAPS
    x = draw(rng, (repetitions, seeds))
    picks = rng.integers(seeds, size=(repetitions, draws, seeds))
    again = sps.trim_mean(np.take_along_axis(x[:, None, :], picks, axis=2), 0.25, axis=2)
    low, high = np.quantile(again, [0.025, 0.975], axis=1)
    return (low <= middle) & (middle <= high)


def _predicted(draw: Callable[..., Array], rng: np.random.Generator, seeds: int, published: int = 10) -> Array:
    """Whether the mean of our seeds lies where ten published ones predict it."""
    theirs, ours = draw(rng, (4_000, published)), draw(rng, (4_000, seeds)).mean(axis=1)
    reach = float(sps.t.ppf(0.975, published - 1)) * theirs.std(axis=1, ddof=1) * math.sqrt(1 / published + 1 / seeds)
    return np.abs(ours - theirs.mean(axis=1)) <= reach


# The table


def _share(hits: Array) -> tuple[float, float, int]:
    return float(np.mean(hits)), float(np.std(hits) / math.sqrt(len(hits))), len(hits)


def _at_most(
    check: str, family: str, scores: str, seeds: tuple[int, int], ratio: float, nominal: float, hits: Array
) -> Row:
    share, error, n = _share(hits)
    slack = 3 * math.sqrt(nominal * (1 - nominal) / n)
    return check, family, scores, *seeds, ratio, nominal, share, error, n, "yes" if share <= nominal + slack else "no"


def _at_least(
    check: str, family: str, scores: str, seeds: tuple[int, int], ratio: float, nominal: float, hits: Array
) -> Row:
    share, error, n = _share(hits)
    slack = 3 * math.sqrt(nominal * (1 - nominal) / n)
    return check, family, scores, *seeds, ratio, nominal, share, error, n, "yes" if share >= nominal - slack else "no"


def simulate(say: Callable[[str], None] = lambda _: None, seed: int = 0) -> pd.DataFrame:
    """Every check, one row each. ``holds``: within three standard errors of what is promised; empty for power."""
    rows: list[Row] = []
    checks = (_level, _looks, _not_used, _power, _right, _coverage)
    for index, check in enumerate(checks):
        say(f"simulating {check.__name__.removeprefix('_').replace('_', ' ')}, {index + 1} of {len(checks)}")
        rows += check(np.random.default_rng([seed, index]))
    return pd.DataFrame(rows, columns=COLUMNS)


def sentences(table: pd.DataFrame) -> list[str]:
    """What the table says: the worst cells, and the claims that cannot be settled as planned."""
    level = table[table["check"] == "level"]
    lines = [_worst(level[level["ratio"] == 1], "Where both arms spread alike")]
    unimodal = level[(level["scores"] != "bimodal") & (level["ratio"] != 1)]
    lines.append(_worst(unimodal, "Where one spreads 3 to 30 times as far and scores have one peak"))
    lines.append(_worst(level, "The worst cell of all"))
    bound = ", ".join(f"{location.blind_spot(n, n, 7):.1%} at {n} seeds" for n in (5, 6, 7, 8))
    lines.append(
        "No test can see an arm half of whose seeds fail where none of the seeds at hand did: of families of 7 tasks "
        f"that alone may confirm up to {bound}."
    )
    old = table[table["family"] == "exact ranks alone, 7 tasks"]
    lines.append(_worst(old[old["scores"] != "bimodal"], "Exact ranks alone, which no verdict uses, with one peak"))
    for check, gap, words in (
        ("alike", None, "Were the arms the same, at the spread of published seeds,"),
        ("right", chances.TRUE, f"Were they true by {chances.TRUE:g} spreads,"),
        ("right", chances.CLEAR, f"Were they clearly true, by {chances.CLEAR:g} spreads,"),
    ):
        rows = table[(table["check"] == check) & (table["holds"] == "no")]
        names = list(rows["family"] if gap is None else rows.loc[rows["nominal"] == gap, "family"])
        told = ", ".join(names) or "none"
        lines.append(f"{words} less than {chances.RIGHT:.0%} likely to be reproduced: {told}.")
    return lines


def _worst(rows: pd.DataFrame, words: str) -> str:
    row = rows.loc[rows["observed"].idxmax()]
    cell = f"{row['family']}, {row['scores']} scores, {row['seeds']} against {row['against']} seeds"
    return (
        f"{words}: a false reproduction in at most {row['observed']:.1%} of families, at a level of "
        f"{row['nominal']:.0%} ({cell}, {row['ratio']:g} times as wide)."
    )


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
    for line in sentences(table):
        say(line)
    return table
