"""The generated first sentences: counts, names and places follow from the verdicts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmark.report import answers
from benchmark.suite.criterion import ALL
from benchmark.suite.ledger import Claim, Ledger, load_ledger

ROOT = Path(__file__).parents[1]


def rows(ledger: Ledger, verdicts: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """A row per claim and task: the verdicts named, in the order of the claim's rows, else incomplete."""
    return [
        {"claim": claim.id, "task": task, "verdict": verdict}
        for claim in ledger.claims
        for task, verdict in zip(
            claim.rows, [*verdicts.get(claim.id, ()), *["incomplete"] * len(claim.rows)], strict=False
        )
    ]


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return load_ledger()


def claim(ledger: Ledger, name: str) -> Claim:
    return next(claim for claim in ledger.claims if claim.id == name)


def test_without_runs_everything_is_untested(ledger: Ledger) -> None:
    context = answers.context(ledger, rows(ledger, {}))
    assert context["counts"] == [(context["papers"], "untested")] and len(context["untested"]) == context["papers"]
    text = answers.block(ledger, rows(ledger, {}))
    assert 'The headline, "FTFL beats SAC on five of seven tasks", is untested.' in text
    assert text.count("None.") == 2
    assert context["plain"] == "Not known yet." and context["bar"] == [(context["papers"], "untested", "incomplete")]
    short = answers.short(ledger, rows(ledger, {}))
    assert text.startswith(short[:400]) and len(short.splitlines()) < 10


def test_claims_are_counted_once_by_what_their_tasks_say(ledger: Ledger) -> None:
    given = {
        "reward-collapse": ["inconclusive", *["reproduced"] * 6],
        "reward-cure": ["reproduced"] * 7,
        "onset-critic-low": ["contradicted"],
        answers.HEADLINE: ["contradicted"],
        "toy-tiny-reward": ["reproduced"],
        "entropy-order": ["reproduced"],  # ours: in no count of the paper's claims
    }
    before = answers.context(ledger, rows(ledger, {}))["papers"]
    context = answers.context(ledger, rows(ledger, given))
    counts = {words: number for number, words in context["counts"]}
    assert counts == {
        "reproduced on every task with a verdict": 1,
        "reproduced on some tasks and open on others": 1,
        "contradicted wherever decided": 2,
        "untested": before - 4,
    }
    assert context["toys"]["reproduced"] == 1 and context["plain"] == "No, not by these runs."
    assert [color for _, _, color in context["bar"]] == ["reproduced", "partly", "contradicted", "incomplete"]
    text = answers.block(ledger, rows(ledger, given))
    assert "FTFL's model predicts the reward where MBPO's does not (all 7 tasks)" in text
    assert "Raw targets predict the reward worse (6 of 7 tasks)" in text
    assert "MBPO's critics sink (quadruped-walk)" in text
    assert "is contradicted." in text and "Direct prediction is the milder one" not in text
    whole = answers.readme(ledger, rows(ledger, given))
    assert "* Direct prediction is the milder one *(ours)*: quadruped-walk" in whole
    assert f"* {claim(ledger, answers.HEADLINE).title}: over 7 tasks together" in whole


def test_a_claim_on_all_tasks_together_has_one_row(ledger: Ledger) -> None:
    found = answers.standings(ledger, [{"claim": answers.HEADLINE, "task": ALL, "verdict": "reproduced"}])
    assert [standing.where("reproduced") for standing in found] == ["over 7 tasks together"]


def test_the_block_replaces_what_stands_between_the_marks_alone() -> None:
    text = f"# Title\n{answers.BEGIN}\nold\n{answers.END}\nrest\n"
    new = answers.put_into(text, "new\n")
    assert new == f"# Title\n{answers.BEGIN}\nnew\n{answers.END}\nrest\n" == answers.put_into(new, "new\n")
    assert answers.put_into("# no marks\n", "new\n") == "# no marks\n"


def test_the_first_sentences_of_both_readmes_are_those_of_the_committed_verdicts(ledger: Ledger) -> None:
    committed = json.loads((ROOT / "results" / "verdicts.json").read_text())
    readme = (ROOT / "README.md").read_text()
    assert answers.BEGIN in readme and answers.put_into(readme, answers.short(ledger, committed)) == readme
    assert (ROOT / "results" / "README.md").read_text() == answers.readme(ledger, committed)
