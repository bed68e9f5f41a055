"""Someone else's curves, judged against the ledger; `exporting` writes ours in the same columns.

``suite, task, method, seed, env_steps, return``: one row per evaluation, its return the mean over episodes. Files are
read by `judging.curves`. A seed is a name: any numbers will do, and both arms have to have the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from benchmark.judging import criteria, gate, verdicts
from benchmark.judging.columns import COLUMNS, suggestion
from benchmark.judging.comparable import lost_seeds
from benchmark.judging.curves import Runs, read_runs
from benchmark.judging.evidence import Evidence, Outcome, Score, spans
from benchmark.judging.exporting import export
from benchmark.judging.scores import curve_score
from benchmark.records.spec import arm
from benchmark.records.store import RETURN
from benchmark.suite.criterion import Estimand
from benchmark.suite.entries import Protocol
from benchmark.suite.ledger import Claim, load_ledger
from benchmark.suite.load import load_suite
from mbpo.config import InputError

__all__ = ["COLUMNS", "Runs", "export", "judge", "judgeable", "read_runs"]

TOLERANCE = 0.01
"""Share of training by which a run may end early: evaluations at 495,000 or 499,999 of 500,000 are its last."""


def judgeable() -> list[str]:
    """The claims that curves alone can answer."""
    return [c.id for c in load_ledger().claims if c.kind == "train" and c.estimand.measure == RETURN]


def judge(
    runs: Runs, chosen: Sequence[str] = (), planned: int | None = None, tolerance: float = TOLERANCE
) -> list[dict[str, Any]]:
    """A row per verdict, as in ``verdicts.json``, for the chosen claims, or for all that speak of these runs.

    `planned` is the seeds per arm that were planned for the first look; by default those of the claim's protocol whose
    runs are as long as these, or of its first. Raises `InputError` for an unknown claim, and for one that needs more
    than returns.
    """
    ledger, able = load_ledger(), judgeable()
    for name in chosen:
        if ledger.claim(name).id not in able:
            measure = ledger.claim(name).estimand.measure
            raise InputError(f"claim {name!r} is about {measure}, which curves do not hold; {suggestion(name, able)}")
    picked = [ledger.claim(name) for name in dict.fromkeys(chosen)] or [
        claim for claim in map(ledger.claim, able) if _speaks(claim, runs)
    ]
    if not picked:
        raise InputError(
            "no claim of the ledger compares two of these methods on any of these tasks; name one by --claims"
        )
    return [row for claim in picked for row in _rows(claim, runs, planned, tolerance)]


def _speaks(claim: Claim, runs: Runs) -> bool:
    arms = {arm(*side) for side in claim.arms}
    return any(arms <= {method for t, method, _ in runs if t == task} for task in claim.tasks)


def _rows(claim: Claim, runs: Runs, planned: int | None, tolerance: float) -> list[dict[str, Any]]:
    protocol = _protocol(claim, runs, tolerance)
    seeds = planned or protocol.seeds
    whole = {task: _evidence(claim, task, runs, tolerance) for task in claim.tasks}
    evidence = {task: _as_planned(claim, one, seeds) for task, one in whole.items()}
    origin = "as given" if planned else f"of the {protocol.name} protocol"
    of_all = verdicts.outcomes(claim, whole)
    out = {
        task: _whatever_the_order(outcome, of_all[task])
        for task, outcome in verdicts.outcomes(claim, evidence, seeds).items()
    }
    marks = _unregistered(claim, runs, tolerance)
    return [
        _verdict(claim, task, _marked(outcome, marks), _looked(claim, outcome, whole, seeds, origin))
        for task, outcome in out.items()
    ]


def _whatever_the_order(out: Outcome, of_all: Outcome) -> Outcome:
    """The outcome of the planned seeds, undecided where all seeds of the file together decide otherwise.

    Seeds count in the order of their numbers, and in someone's file those are theirs to give.
    """
    if out.verdict not in criteria.DECIDED or of_all.verdict == out.verdict:
        return out
    remark = f"{out.verdict} on the first {out.n} seeds by number, {of_all.verdict} on all {of_all.n}"
    return replace(out, verdict="inconclusive", reason=f"{remark}: the order of seeds must not decide")


def _unregistered(claim: Claim, runs: Runs, tolerance: float) -> list[str]:
    """What of these runs no protocol planned, as clauses: seeds by other names, and another length of training."""
    names = {arm(*side) for side in claim.arms}
    own = {run: rows for run, rows in runs.items() if run[0] in claim.tasks and run[1] in names}
    seeds = {seed for _, _, seed in own}
    marks = []
    if seeds != set(range(len(seeds))):
        marks.append(f"{spans(seeds)} are in the file; whether others were run and left out cannot be seen")
    ends = {task: max(_end(rows) for (t, _, _), rows in own.items() if t == task) for task, _, _ in own}
    protocols = [load_suite().protocol(name) for name in claim.protocols]
    for task, end in ends.items():
        if not any(_ends_at(protocol, task, end, tolerance) for protocol in protocols):
            lengths = ", ".join(f"{_length(protocol, task):,}" for protocol in protocols)
            marks.append(f"runs of {end:,} env steps on {task} are as long as no protocol of the claim ({lengths})")
            break
    return marks


def _marked(out: Outcome, marks: Sequence[str]) -> Outcome:
    if out.verdict not in (*criteria.DECIDED, "inconclusive"):
        return out
    return replace(out, reason="; ".join([out.reason, *marks]))


def _protocol(claim: Claim, runs: Runs, tolerance: float) -> Protocol:
    """The claim's protocol whose runs are as long as these, or its first."""
    protocols = [load_suite().protocol(name) for name in claim.protocols]
    ends = {task: int(run["env_steps"].max()) for (task, _, _), run in runs.items() if task in claim.tasks}
    same = [
        protocol
        for protocol in protocols
        if any(_ends_at(protocol, task, end, tolerance) for task, end in ends.items())
    ]
    return (same or protocols)[0]


def _ends_at(protocol: Protocol, task: str, end: int, tolerance: float) -> bool:
    return _length(protocol, task) * (1 - tolerance) <= end <= _length(protocol, task)


def _length(protocol: Protocol, task: str) -> int:
    return protocol.train.budget(task).env_steps


def _as_planned(claim: Claim, evidence: Evidence, planned: int) -> Evidence:
    """Evidence with no more seeds than may be looked at, and told as lacking where it has fewer than planned."""
    last = planned * max((look.seeds for look in claim.criterion.looks), default=1)
    x, y = (tuple(sorted(scores, key=lambda score: score.seed)[:last]) for scores in (evidence.x, evidence.y))
    fewest = min(len(x), len(y))
    if not evidence.lacking and criteria.MIN_SEEDS <= fewest < planned:
        remark = f"{fewest} of {planned} planned seeds per arm; if fewer were planned, say --planned-seeds {fewest}"
        return replace(evidence, x=x, y=y, lacking=remark)
    return replace(evidence, x=x, y=y)


def _looked(claim: Claim, out: Outcome, whole: Mapping[str, Evidence], planned: int, origin: str) -> dict[str, Any]:
    """Which look this is, of how many, at how many planned seeds, and how many seeds it does not count."""
    times = [look.seeds for look in claim.criterion.looks] or [1]
    number = max([i for i, time in enumerate(times, start=1) if time * planned <= out.n], default=1)
    have = min((min(len(e.x), len(e.y)) for e in whole.values() if e.x and e.y), default=0)
    left = max(have - planned * times[number - 1], 0)
    remark = f"look {number} of {len(times)}, {planned} seeds planned for the first, {origin}"
    if left and out.verdict not in ("incomplete", "invalid"):
        remark += f"; {left} more per arm not counted in it"
    return {"look": number, "looks": len(times), "planned_seeds": planned, "looked": remark}


def _verdict(claim: Claim, task: str, out: Outcome, looked: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{"claim": claim.id, "task": task, "verdict": out.verdict, "effect": verdicts.rounded(out.effect)},
        "interval": None if out.interval is None else [verdicts.rounded(bound) for bound in out.interval],
        **{"level": out.level, "n": out.n, "p": verdicts.rounded(out.p), "reason": out.reason},
        **{"statement": claim.statement, "form": claim.form, **looked},
    }


def _evidence(claim: Claim, task: str, runs: Runs, tolerance: float) -> Evidence:
    """Both arms on one task, and what the gate says of the baseline."""
    names = [arm(*side) for side in claim.arms]
    arms = {
        name: {seed: run for (t, method, seed), run in runs.items() if (t, method) == (task, name)}
        for name in dict.fromkeys([*names, *([claim.gate] if claim.gate else [])])
    }
    absent = [f"no run of {name} on {task}" for name, seeds in arms.items() if not seeds]
    total = _total(
        claim, task, max((_end(run) for seeds in arms.values() for run in seeds.values()), default=0), tolerance
    )
    arms = {
        name: {seed: _to_the_end(run, total, tolerance) for seed, run in seeds.items()} for name, seeds in arms.items()
    }
    placed = gate.Placing()
    if claim.gate and arms[claim.gate]:
        placed = gate.place(claim.gate, task, total, _scores(arms[claim.gate], claim.estimand, total))
    lost = lost_seeds(arms)
    return Evidence(
        arm=claim.arm_label,
        against=claim.against_label,
        x=_scores(arms[names[0]], claim.estimand, total),
        y=_scores(arms[names[1]], claim.reference, total),
        lacking="; ".join([*absent, *([lost] if lost else [])]) or placed.unplaced,
        fault=placed.refused,
        mark=placed.mark,
    )


def _end(run: pd.DataFrame) -> int:
    return int(run["env_steps"].max())


def _total(claim: Claim, task: str, last: int, tolerance: float) -> int:
    """The length of training: of the claim's protocol that ends within the tolerance of the `last` row, or that row."""
    protocols = [load_suite().protocol(name) for name in claim.protocols]
    return next((_length(protocol, task) for protocol in protocols if _ends_at(protocol, task, last, tolerance)), last)


def _to_the_end(run: pd.DataFrame, total: int, tolerance: float) -> pd.DataFrame:
    """The run with its last evaluation, if that lies within the tolerance of the end of training, at that end."""
    if _end(run) < total * (1 - tolerance):
        return run
    moved = run.copy()
    moved.iloc[-1, moved.columns.get_loc("env_steps")] = total
    return moved


def _scores(seeds: Mapping[int, pd.DataFrame], estimand: Estimand, total: int) -> tuple[Score, ...]:
    return tuple(
        curve_score(seed, run["env_steps"].tolist(), run["return"].tolist(), estimand, total)
        for seed, run in sorted(seeds.items())
    )
