"""The answer first: what the verdicts say in a few plain sentences, generated and never typed.

One source for the first lines of `README.md`, of `results/README.md` and of the page. It reads the rows of
`verdicts.json` and the ledger, so it can be checked without a report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.drawing import jinja
from benchmark.suite.criterion import ALL, VERDICTS
from benchmark.suite.ledger import Claim, Ledger
from benchmark.words import task_name

HEADLINE = "ftfl-beats-sac"
"""The claim that the paper is known for."""
PAPER = (
    "MBPO, SAC fed mostly by a learned model, fails on seven DeepMind Control tasks because raw targets let the reward "
    "drown and the critics sink, and because residual targets inflate the predicted variance. FTFL, normalized targets "
    "and direct prediction of the next state, beats SAC on five of the seven and keeps MBPO's strength on Gym."
)
"""The paper in two sentences."""
TOYS = "toys"
"""The chapter whose claims are about environments of our own; they are counted apart."""
BEGIN, END = "<!-- generated from the verdicts: begin -->", "<!-- generated from the verdicts: end -->"
"""What the generated lines stand between in a README that is written by hand otherwise."""


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
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        found.setdefault(row["claim"], {}).setdefault(row["verdict"], []).append(row["task"])
    return [
        Standing(claim, {verdict: tuple(tasks) for verdict, tasks in found[claim.id].items()})
        for claim in ledger.claims
        if claim.id in found
    ]


def context(ledger: Ledger, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the templates read."""
    every = standings(ledger, rows)
    shown = [standing for standing in every if standing.claim.chapter != TOYS]
    papers = [standing for standing in shown if standing.whose == "paper"]
    toys = Counter(v for s in every if s.claim.chapter == TOYS for v, tasks in s.tasks.items() for _ in tasks)
    return {
        "headline": next((standing for standing in every if standing.claim.id == HEADLINE), None),
        "papers": len(papers),
        "counts": [(number, STANDINGS[name]) for name, number in _counts(papers).items() if number],
        "untested": [standing for standing in papers if standing.untested],
        "by_verdict": {
            verdict: [standing for standing in shown if verdict in standing.tasks and not standing.untested]
            for verdict in VERDICTS
        },
        "not_run": [standing for standing in shown if standing.untested],
        "toys": {verdict: toys[verdict] for verdict in VERDICTS if toys[verdict]},
    }


STANDINGS = {
    "reproduced": "reproduced on every task with a verdict",
    "partly": "reproduced on some tasks and open on others",
    "split": "reproduced on some tasks and contradicted on others",
    "contradicted": "contradicted wherever decided",
    "inconclusive": "inconclusive",
    "invalid": "not comparable",
    "untested": "untested",
}
"""How a claim stands over its tasks, and how that is said."""


def _counts(standings: Iterable[Standing]) -> dict[str, int]:
    """Claims by how they stand."""
    counts = Counter(_stands(standing) for standing in standings)
    return {name: counts[name] for name in STANDINGS}


def _stands(standing: Standing) -> str:
    if standing.untested:
        return "untested"
    verdicts = set(standing.tasks) - {"incomplete"}
    if {"reproduced", "contradicted"} <= verdicts:
        return "split"
    if "contradicted" in verdicts:
        return "contradicted"
    if "reproduced" in verdicts:
        return "partly" if len(verdicts) > 1 else "reproduced"
    return "invalid" if "invalid" in verdicts else "inconclusive"


def block(ledger: Ledger, rows: Sequence[Mapping[str, Any]]) -> str:
    """The three sentences that every first screen begins with, as Markdown."""
    text = jinja.environment().get_template("answer.md.j2").render(context(ledger, rows) | {"paper": PAPER})
    return text.strip() + "\n"


def readme(ledger: Ledger, rows: Sequence[Mapping[str, Any]]) -> str:
    """All of `results/README.md`."""
    return (
        jinja.environment().get_template("results.md.j2").render(context(ledger, rows) | {"block": block(ledger, rows)})
    )


def put_into(text: str, block: str) -> str:
    """A README with `block` in place of what stands between the two marks; unchanged without marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block}{END}{after}" if begin and end else text


def write(ledger: Ledger, rows: Sequence[Mapping[str, Any]], results: Path) -> None:
    """Write `README.md` into the results folder, and the block into a README beside that folder that has the marks."""
    (results / "README.md").write_text(readme(ledger, rows), encoding="utf-8")
    above = results.resolve().parent / "README.md"
    if above.is_file() and BEGIN in (text := above.read_text(encoding="utf-8")):
        above.write_text(put_into(text, block(ledger, rows)), encoding="utf-8")
