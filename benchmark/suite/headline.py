"""`suite/headline.yaml`, read and checked: the paper's headline figure as numbers, and the claims that it speaks of."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field

from benchmark.suite.entries import Entry
from benchmark.suite.ledger import Claim, load_ledger
from benchmark.suite.load import SUITE, load_page, load_suite
from mbpo.config import InputError, build, nearest

BEST = 1000.0
"""The largest return of a task of the control suite."""


class Bar(Entry):
    """What the figure shows of one task: percentages of SAC's final return, and how well they could be read."""

    published: str
    error: float = Field(gt=0)
    percent: dict[str, float] = Field(min_length=1)


class Share(Entry):
    """One method's final return over another's."""

    method: str
    over: str


class Headline(Entry):
    """The figure, where it comes from, and how sure that is."""

    title: str
    source: str
    sure: str
    score: str
    methods: dict[str, str]
    references: dict[str, str]
    bars: dict[str, Bar]
    claims: dict[str, Share]

    def percent(self, task: str, share: Share) -> float | None:
        """The share on one task, in percent; None where the figure does not show both, or nothing to divide by."""
        shown = {"sac": 100.0, **self.bars[task].percent} if task in self.bars else {}
        if share.method not in shown or shown.get(share.over, 0.0) <= 0:
            return None
        return 100.0 * shown[share.method] / shown[share.over]

    def says(self, claim: Claim) -> str:
        """What the figure says of a claim, such as '210 to 1,239 % of SAC'; empty where it says nothing."""
        share = self.claims.get(claim.id)
        if share is None:
            return ""
        shown = [value for task in claim.tasks if (value := self.percent(task, share)) is not None]
        low, high = min(shown), max(shown)
        span = _whole(low) if _whole(low) == _whole(high) else f"{_whole(low)} to {_whole(high)}"
        text = f"{span} % of {self.methods.get(share.over, 'SAC')}"
        if claim.criterion.at_least is not None:
            text += f", above 100 % on {sum(value > 100 for value in shown)} of {len(shown)} tasks"
        return text

    def sac_at_most(self, task: str) -> float | None:
        """The largest final return that the figure leaves to SAC where returns are bounded; None elsewhere."""
        top = max(self.bars[task].percent.values())
        return 100.0 * BEST / top if task.startswith("dmc:") and top > 100 else None


def _whole(percent: float) -> str:
    return f"{abs(percent) if round(percent) == 0 else percent:,.0f}"


@cache
def load_headline(folder: Path = SUITE) -> Headline:
    """Read and check the page. Raises `InputError` with the key and the nearest valid choice."""
    headline = build(Headline, load_page("headline.yaml", folder), "headline.yaml")
    suite, ledger = load_suite(folder), load_ledger(folder)
    for name in [*headline.methods, *headline.references]:
        if name not in suite.methods:
            raise InputError(f"headline.yaml: unknown method {name!r}; {nearest(name, suite.methods)}")
    for task, bar in headline.bars.items():
        if task not in suite.tasks:
            raise InputError(f"headline.yaml: bars.{task}: {nearest(task, suite.tasks)}")
        for name in bar.percent:
            if name not in headline.methods:
                raise InputError(f"headline.yaml: bars.{task}.percent: {name!r}; {nearest(name, headline.methods)}")
        for name in ("mbpo", "ftfl"):
            if name not in bar.percent:
                raise InputError(
                    f"headline.yaml: bars.{task}.percent has no {name!r}, which the figure shows everywhere"
                )
    for name, share in headline.claims.items():
        claim = ledger.claim(name)
        if all(headline.percent(task, share) is None for task in claim.tasks):
            raise InputError(f"headline.yaml: claims.{name}: it shows no {share.method} over {share.over} there")
    return headline
