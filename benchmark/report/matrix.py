"""The paper's claims against ours in one table: how sure we are of what it says, its figure, ours, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmark.report.standings import Standing, again, of_the_paper
from benchmark.suite.criterion import ALL, VERDICTS
from benchmark.suite.headline import Headline
from benchmark.suite.ledger import Claim, Ledger
from benchmark.words import DASH, interval, number, task_name

SURE = {"S": "stated by the authors", "D": "told by a digest", "C": "read in public code"}
"""How well we know that the paper says it, by the letter that a source begins with."""

Row = Mapping[str, Any]


def matrix(ledger: Ledger, every: Sequence[Standing], rows: Iterable[Row], headline: Headline) -> list[dict[str, Any]]:
    """Chapters in the order of the ledger, each with its tested claims as rows and its untested ones by name.

    `every` are the standings of all claims, `rows` the verdicts as `verdicts.json` holds them.
    """
    by_claim: dict[str, list[Row]] = {}
    for row in rows:
        by_claim.setdefault(row["claim"], []).append(row)
    chapters = []
    for name, chapter in ledger.chapters.items():
        mine = [standing for standing in of_the_paper(every) if standing.claim.chapter == name]
        lines = [line for s in mine for line in _with_variants(s, every, by_claim, headline)]
        if mine:
            part = {"id": name, "title": chapter.title, "rows": [line for line in lines if not line["untested"]]}
            chapters.append({**part, "untested": [line for line in lines if line["untested"]]})
    return chapters


def _with_variants(
    standing: Standing, every: Sequence[Standing], rows: Mapping[str, list[Row]], headline: Headline
) -> list[dict[str, Any]]:
    """The claim, and under it those tests of it at another size or on other data that have runs."""
    tested = [other for other in again(standing, every) if not other.untested]
    return [line(each, rows[each.claim.id], headline) for each in (standing, *tested)]


def line(standing: Standing, rows: Sequence[Row], headline: Headline) -> dict[str, Any]:
    """One claim as a row of the table."""
    claim = standing.claim
    letter = claim.source.sure[:1]
    tested = [row for row in rows if row["verdict"] != "incomplete" and row.get("effect") is not None]
    return {
        "id": claim.id,
        "title": claim.title,
        "again": bool(claim.like),
        "sure": letter,
        "sure_words": SURE.get(letter, ""),
        "figure": headline.says(claim) or DASH,
        "compared": _compared(claim),
        "ours": ours(tested),
        "n": _seeds(tested),
        "verdicts": [
            {"verdict": verdict, "where": standing.where(verdict), "tasks": _tasks(standing, verdict)}
            for verdict in VERDICTS
            if verdict in standing.tasks
        ],
        "untested": standing.untested,
    }


TRANSFORMED = {"none": "{}", "abs": "size of {}", "abs-log": "distance of {} from 1", "log10": "log10 of {}"}


def _compared(claim: Claim) -> str:
    """Such as 'mbpo less norm-only: reward R2', or 'mbpo: reward pred mean less its reward true mean'."""
    name = TRANSFORMED[claim.estimand.transform].format(claim.estimand.name)
    if claim.reference.measure != claim.estimand.measure:
        return f"{claim.arm_label}: {name} less its {claim.reference.name}"
    return f"{claim.arm_label} less {claim.against_label}: {name}"


def ours(rows: Sequence[Row]) -> list[str]:
    """The effect with its interval; of several tasks the least and the largest, with their tasks."""
    ends = sorted(rows, key=lambda row: row["effect"])
    return [_effect(row, len(rows) > 1) for row in (ends if len(ends) < 2 else (ends[0], ends[-1]))]


def _effect(row: Row, named: bool) -> str:
    tasks = " tasks," if row["task"] == ALL else ""
    effect = f"{number(row['effect'])}{tasks} {interval(row['interval'])}"
    return f"{effect} {task_name(row['task'])}" if named else effect


def _seeds(rows: Sequence[Row]) -> str:
    counts = sorted({row["n"] for row in rows})
    if not counts:
        return DASH
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}{DASH}{counts[-1]}"


def _tasks(standing: Standing, verdict: str) -> str:
    """'5 of 7 tasks', or the one task; nothing for a claim on all tasks together."""
    named, total = standing.tasks[verdict], sum(len(tasks) for tasks in standing.tasks.values())
    if named == (ALL,):
        return ""
    return f"{len(named)} of {total} tasks" if total > 1 else task_name(named[0])
