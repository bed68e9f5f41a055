"""How each claim stands over its tasks, and whose it is; from the rows of `verdicts.json` and the ledger alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from benchmark.suite.criterion import ALL, VERDICTS
from benchmark.suite.ledger import Claim, Ledger
from benchmark.words import task_name

TOYS = "toys"
"""The chapter whose claims are about environments of our own; they are counted apart."""
WHOSE = {
    "paper": "the paper's own",
    "inferred": "inferred from it",
    "ours": "ours, controls among them",
    TOYS: "on toys",
}
"""Whose claims there are, in the order of tables."""


class Standing(NamedTuple):
    """One claim and its tasks by verdict; a claim on all tasks together has the one task `ALL`."""

    claim: Claim
    tasks: Mapping[str, tuple[str, ...]]

    @property
    def whose(self) -> str:
        """'paper' for what its text or a digest of it says, 'inferred' for what follows from it, else 'ours'."""
        first = self.claim.source.sure[:1]
        return {"S": "paper", "D": "paper", "C": "paper", "I": "inferred"}.get(first, "ours")

    @property
    def untested(self) -> bool:
        """Whether no task has a verdict from runs."""
        return set(self.tasks) == {"incomplete"}

    def share(self, verdict: str) -> str:
        """As `where`, but '5 of 7 tasks' in place of more than two names."""
        named, total = self.tasks.get(verdict, ()), sum(len(tasks) for tasks in self.tasks.values())
        return f"{len(named)} of {total} tasks" if 2 < len(named) < total else self.where(verdict)

    def where(self, verdict: str) -> str:
        """The tasks with this verdict, 'all N tasks', or 'as a whole'."""
        named = self.tasks.get(verdict, ())
        if named == (ALL,):
            return f"over {len(self.claim.tasks)} tasks together"
        total = sum(len(tasks) for tasks in self.tasks.values())
        if len(named) == total and total > 1:
            return f"all {total} tasks"
        return ", ".join(task_name(task) for task in named)


def standings(ledger: Ledger, rows: Iterable[Mapping[str, Any]]) -> list[Standing]:
    """Every claim of the ledger that has rows, in its order; `rows` as `verdicts.json` holds them."""
    by_claim: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        by_claim.setdefault(row["claim"], {}).setdefault(row["verdict"], []).append(row["task"])
    return [
        Standing(claim, {verdict: tuple(tasks) for verdict, tasks in by_claim[claim.id].items()})
        for claim in ledger.claims
        if claim.id in by_claim
    ]


def of_the_paper(every: Iterable[Standing]) -> list[Standing]:
    """The paper's own claims, each once: without toys, and without claims that test one of them again."""
    return [s for s in every if s.whose == "paper" and s.claim.chapter != TOYS and not s.claim.like]


def stands(standing: Standing, again: Iterable[Standing] = ()) -> str:
    """How a claim stands over its tasks, those of the claims that test it `again` among them."""
    verdicts = {verdict for each in (standing, *again) for verdict in each.tasks} - {"incomplete"}
    if not verdicts:
        return "untested"
    if {"reproduced", "contradicted"} <= verdicts:
        return "split"
    if "contradicted" in verdicts:
        return "contradicted"
    if "reproduced" in verdicts:
        return "partly" if len(verdicts) > 1 else "reproduced"
    return "invalid" if "invalid" in verdicts else "inconclusive"


def again(standing: Standing, every: Iterable[Standing]) -> list[Standing]:
    """The claims that test this one elsewhere or at another size."""
    return [other for other in every if other.claim.like == standing.claim.id and other.whose == standing.whose]


def tally(every: Iterable[Standing]) -> list[dict[str, Any]]:
    """Verdicts, one a task, by whose claim they are on: the paper's, inferred, ours, and toys apart."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in WHOSE}
    for standing in every:
        name = TOYS if standing.claim.chapter == TOYS else standing.whose
        counts[name].update({verdict: len(tasks) for verdict, tasks in standing.tasks.items()})
    return [
        {"whose": WHOSE[name], **{verdict: counted[verdict] for verdict in VERDICTS}}
        for name, counted in counts.items()
    ]
