"""Our runs beside the paper's headline figure: final returns over SAC's, whatever protocol they are of."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from scipy import stats as sps

from benchmark.drawing import headline as drawn
from benchmark.drawing import tables as drawing_tables
from benchmark.drawing.gallery import Gallery
from benchmark.judging.scores import score
from benchmark.judging.verdicts import read
from benchmark.records.store import RETURN, Store
from benchmark.report.pictures import Picture, picture
from benchmark.suite.criterion import Estimand
from benchmark.suite.entries import Protocol
from benchmark.suite.headline import Headline, load_headline
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import Suite, load_suite, specs
from benchmark.words import count, number, task_name

FINAL = Estimand(measure=RETURN, window=(0.8, 1.0))
"""The mean return over the last fifth of training, as in the claims."""
FULL, PLUMBING = "paper", "smoke"
OURS = ["task", "method", "protocol", "env_steps", "seeds", "final_return", "reference", "reference_seeds"]
OURS += ["reference_return", "percent", "low", "high"]


def ours(store: Store, headline: Headline, suite: Suite) -> pd.DataFrame:
    """A row per task, method and protocol with runs of the method and of a reference, in the columns `OURS`.

    ``percent`` is the ratio of interquartile means, ``low`` and ``high`` what single seeds of the method span; all NaN
    where the reference's return is not above zero, for then a ratio means nothing.
    """
    rows = []
    for protocol in suite.protocols.values():
        tasks = [task for task in headline.bars if protocol.carries("train", task) and protocol.name != PLUMBING]
        for task in tasks:
            finals = {name: _finals(store, task, name, protocol) for name in [*headline.references, *headline.methods]}
            reference = next((name for name in headline.references if finals[name]), None)
            for method in headline.methods:
                if reference is not None and finals[method]:
                    rows.append(_compared(task, method, protocol, finals[method], reference, finals[reference]))
    return pd.DataFrame(rows, columns=OURS)


def _finals(store: Store, task: str, method: str, protocol: Protocol) -> list[float]:
    """The final return of every seed of the protocol that has a record."""
    wanted = specs("train", [task], [method], protocol)
    return [score(read(store, spec), FINAL).value for spec in wanted if store.has(spec)]


def _compared(
    task: str, method: str, protocol: Protocol, finals: list[float], reference: str, others: list[float]
) -> tuple[Any, ...]:
    mine, theirs = iqm(finals), iqm(others)
    sound = theirs > 0
    percents = [100.0 * value / theirs if sound else float("nan") for value in (mine, min(finals), max(finals))]
    steps = protocol.train.budget(task).env_steps
    return (task, method, protocol.name, steps, len(finals), mine, reference, len(others), theirs, *percents)


def iqm(values: list[float]) -> float:
    """Interquartile mean: of what is left without a quarter at each end."""
    return float(sps.trim_mean(values, 0.25))


def published(headline: Headline) -> pd.DataFrame:
    """The paper's bars as a tidy table: ``suite, task, published_as, method, percent, reading_error``."""
    rows = [
        (task.partition(":")[0], task, bar.published, method, percent, bar.error)
        for task, bar in headline.bars.items()
        for method, percent in bar.percent.items()
    ]
    return pd.DataFrame(rows, columns=["suite", "task", "published_as", "method", "percent", "reading_error"])


def section(store: Store, gallery: Gallery) -> dict[str, Any]:
    """What the templates read; writes the picture and both tables in the folder of the gallery."""
    folder = gallery.folder
    headline, suite = load_headline(), load_suite()
    theirs, mine = published(headline), ours(store, headline, suite)
    drawing_tables.write(theirs, folder / "tables", "headline-published")
    drawing_tables.write(mine, folder / "tables", "headline-ours")
    return {
        "title": headline.title,
        "source": headline.source,
        "sure": headline.sure,
        "methods": headline.methods,
        "picture": _picture(headline, theirs, mine, gallery),
        "rows": [_row(headline, task, mine) for task in headline.bars],
        "claims": [load_ledger().claim(name) for name in headline.claims],
        "full": bool((mine["protocol"] == FULL).any()),
    }


def _picture(headline: Headline, theirs: pd.DataFrame, mine: pd.DataFrame, gallery: Gallery) -> Picture:
    shown = mine[mine["percent"].notna()]
    known = set(mine["task"])
    lacking = "" if known else " None of our runs stands beside it yet."
    caption = (
        f"{headline.title}, from {headline.source} (filled marks; to 2 points at worst). Hollow: our runs, at "
        f"the steps that the table states, with the span of their seeds.{lacking} A large percentage of a SAC that "
        "has hardly learned is a small return."
    )

    methods = dict(headline.methods)  # a figure is taken over where its inputs can be told from others

    def draw(width: float) -> Figure:
        return drawn.headline(theirs, shown, methods, width)

    return picture(draw, "headline", caption, gallery)


def _row(headline: Headline, task: str, mine: pd.DataFrame) -> dict[str, Any]:
    """One task of the table: the paper's percentages, what they leave to SAC, and ours in words."""
    bar, bound = headline.bars[task], headline.sac_at_most(task)
    lines = [_line(headline, row._asdict()) for row in mine[mine["task"] == task].itertuples(index=False)]
    return {
        "task": task_name(task),
        "percents": [
            f"{bar.percent[name]:,.0f}".replace("-0", "0") if name in bar.percent else "" for name in headline.methods
        ],
        "at_most": "" if bound is None else number(bound),
        "ours": lines,
    }


def _line(headline: Headline, row: dict[str, Any]) -> str:
    """Such as 'MBPO 103 % of SAC (returns 948 and 920, n 5 and 5; quick, 3,000 steps)'."""
    known = row["percent"] == row["percent"]
    over = headline.references[row["reference"]]
    ratio = f"{row['percent']:,.0f} % of {over}" if known else f"no ratio to {over}, whose return is not above 0"
    seeds = f"{row['seeds']} and {count(row['reference_seeds'], 'seed')}"
    returns = f"returns {number(row['final_return'])} and {number(row['reference_return'])}"
    return (
        f"{headline.methods[row['method']]} {ratio} ({returns}, {seeds}; {row['protocol']}, {row['env_steps']:,} steps)"
    )
