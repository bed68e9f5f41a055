"""The paper's claims beside ours: who counts, what a row says, and that a test at another size is no claim more."""

from __future__ import annotations

from typing import Any

from benchmark.report import answers
from benchmark.report.matrix import matrix
from benchmark.report.standings import again, of_the_paper, standings, stands, tally
from benchmark.suite.headline import load_headline
from benchmark.suite.ledger import load_ledger

LEDGER = load_ledger()


def row(claim: str, task: str, verdict: str, effect: float | None = None, n: int = 5) -> dict[str, Any]:
    interval = None if effect is None else [effect - 0.5, effect + 0.5]
    return {"claim": claim, "task": task, "verdict": verdict, "effect": effect, "interval": interval, "n": n}


ROWS = [
    row("reward-collapse", "dmc:hopper-stand", "reproduced", -2.0),
    row("reward-collapse", "dmc:humanoid-run", "inconclusive", 1.5, n=4),
    row("reward-collapse", "dmc:hopper-hop", "incomplete"),
    row("mature-reward-collapse", "dmc:hopper-stand", "contradicted", 3.0),
    row("mature-reward-cure", "dmc:hopper-stand", "incomplete"),
    row("reward-cure", "dmc:hopper-stand", "incomplete"),
    row("entropy-noise", "dmc:hopper-stand", "reproduced", 1.0),
    row("toy-tiny-reward", "gym:benchmark.toys:TinyRewardLQR-v0", "reproduced", 1.0),
    row(answers.HEADLINE, "all", "incomplete"),
]


def chapters() -> dict[str, dict[str, Any]]:
    made = matrix(LEDGER, standings(LEDGER, ROWS), ROWS, load_headline())
    return {chapter["id"]: chapter for chapter in made}


def test_rows_are_the_papers_claims_with_tests_at_another_size_below() -> None:
    first, second = chapters()["reward"]["rows"]
    assert (first["id"], first["again"], first["sure"], first["figure"]) == ("reward-collapse", False, "D", "\u2013")
    assert first["ours"] == ["\u22122 [\u22122.5, \u22121.5] hopper-stand", "1.5 [1, 2] humanoid-run"]
    assert first["n"] == "4\u20135"
    assert [(v["verdict"], v["tasks"]) for v in first["verdicts"]] == [
        ("reproduced", "1 of 3 tasks"), ("inconclusive", "1 of 3 tasks"), ("incomplete", "1 of 3 tasks"),
    ]  # fmt: skip
    assert (second["id"], second["again"], second["ours"]) == ("mature-reward-collapse", True, ["3 [2.5, 3.5]"])
    assert [line["id"] for line in chapters()["reward"]["untested"]] == ["reward-cure"]
    assert chapters().keys() == {"reward", "online"}  # ours, toys and the parts without rows are not the paper's


def test_the_headline_has_its_figure_even_untested() -> None:
    (line,) = chapters()["online"]["untested"]
    assert line["figure"] == "0 to 1,239 % of SAC, above 100 % on 5 of 7 tasks" and line["ours"] == []


def test_a_claim_stands_by_all_of_its_tests_and_is_counted_once() -> None:
    every = standings(LEDGER, ROWS)
    papers = of_the_paper(every)
    assert [standing.claim.id for standing in papers] == ["reward-collapse", "reward-cure", answers.HEADLINE]
    assert stands(papers[0]) == "partly" and stands(papers[0], again(papers[0], every)) == "split"
    assert stands(papers[1], again(papers[1], every)) == "untested"


def test_verdicts_are_counted_by_whose_claim_they_are_on() -> None:
    counts = {line["whose"]: (line["reproduced"], line["incomplete"]) for line in tally(standings(LEDGER, ROWS))}
    assert list(counts.values()) == [(1, 4), (0, 0), (1, 0), (1, 0)]
