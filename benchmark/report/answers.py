"""The answer first: what the verdicts say in a few plain sentences, generated and never typed.

One source for the first lines of `README.md`, of `results/README.md` and of the page. It reads the rows of
`verdicts.json` and the ledger, so it can be checked without a report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.drawing import jinja
from benchmark.report.matrix import matrix
from benchmark.report.standings import TOYS, Standing, again, of_the_paper, standings, stands, tally
from benchmark.suite.criterion import VERDICTS
from benchmark.suite.headline import load_headline
from benchmark.suite.ledger import Ledger

HEADLINE = "ftfl-beats-sac"
"""The claim that the paper is known for."""
PAPER = (
    "MBPO, SAC fed mostly by a learned model, fails on seven DeepMind Control tasks because raw targets let the reward "
    "drown and the critics sink, and because residual targets inflate the predicted variance. FTFL, normalized targets "
    "and direct prediction of the next state, beats SAC on five of the seven and keeps MBPO's strength on Gym."
)
"""The paper in two sentences."""
BEGIN, END = "<!-- generated from the verdicts: begin -->", "<!-- generated from the verdicts: end -->"
"""What the generated lines stand between in a README that is written by hand otherwise."""


def context(ledger: Ledger, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the templates read."""
    every = standings(ledger, rows)
    shown = [standing for standing in every if standing.claim.chapter != TOYS]
    papers = of_the_paper(every)
    counts = _counts(papers, every)
    first = next((standing for standing in every if standing.claim.id == HEADLINE), None)
    toys = Counter(v for s in every if s.claim.chapter == TOYS for v, tasks in s.tasks.items() for _ in tasks)
    return {
        "headline": first,
        "papers": len(papers),
        "counts": [(number, STANDINGS[name]) for name, number in counts.items() if number],
        "bar": [(number, STANDINGS[name], COLORED[name]) for name, number in counts.items() if number],
        "plain": PLAIN[stands(first)] if first else PLAIN["untested"],
        "untested": [standing for standing in papers if standing.untested],
        "by_verdict": {
            verdict: [standing for standing in shown if verdict in standing.tasks and not standing.untested]
            for verdict in VERDICTS
        },
        "matrix": matrix(ledger, every, rows, load_headline()),
        "tally": tally(every),
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
COLORED = {
    "reproduced": "reproduced",
    "partly": "partly",
    "split": "invalid",
    "contradicted": "contradicted",
    "inconclusive": "inconclusive",
    "invalid": "invalid",
    "untested": "incomplete",
}
"""The class of the page's style sheet that a standing is drawn in."""
PLAIN = {
    "reproduced": "Yes, by these runs.",
    "partly": "On some tasks; on others these runs leave it open.",
    "split": "On some tasks, and on others not.",
    "contradicted": "No, not by these runs.",
    "inconclusive": "These runs cannot say.",
    "invalid": "These runs must not be compared.",
    "untested": "Not known yet.",
}
"""Whether FTFL works, by how its headline claim stands."""


def _counts(papers: Iterable[Standing], every: Sequence[Standing]) -> dict[str, int]:
    """Claims by how they stand, with what tests them again."""
    counts = Counter(stands(standing, again(standing, every)) for standing in papers)
    return {name: counts[name] for name in STANDINGS}


def block(ledger: Ledger, rows: Sequence[Mapping[str, Any]]) -> str:
    """The three sentences that every first screen begins with, as Markdown."""
    text = jinja.environment().get_template("answer.md.j2").render(context(ledger, rows) | {"paper": PAPER})
    return text.strip() + "\n"


def short(ledger: Ledger, rows: Sequence[Mapping[str, Any]]) -> str:
    """The same without the lists of claims, for the project's own README."""
    text = block(ledger, rows).partition("**Contradicted,")[0]
    return text + "Claim by claim, with numbers and intervals: [results/README.md](results/README.md).\n"


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
        above.write_text(put_into(text, short(ledger, rows)), encoding="utf-8")
