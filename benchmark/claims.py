"""Claims judged: a pure function of the records that a protocol names.

Any process that can read the store gives the same verdicts in the same order, and `verdicts.json` has the same bytes
whoever writes it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmark import cost, criteria
from benchmark.entries import Protocol
from benchmark.evidence import ALL, Evidence, Outcome, Score
from benchmark.ledger import Claim, Ledger, load_ledger
from benchmark.pages import load_suite, specs
from benchmark.progress import in_hours
from benchmark.scores import Estimand, score
from benchmark.spec import RunSpec, unique
from benchmark.store import Record, Store

MACHINE = cost.rates(cpus=2)
"""Hours in verdicts are for two cores, wherever they are judged: equal records give equal sentences."""


class Judgement(NamedTuple):
    """One row of the ledger."""

    claim: Claim
    task: str
    protocol: str
    outcome: Outcome

    def to_json(self) -> dict[str, Any]:
        """The row as `verdicts.json` holds it: numbers to six digits, bounds that do not exist as null."""
        out = self.outcome
        return {
            "claim": self.claim.id,
            "task": self.task,
            "protocol": self.protocol,
            "verdict": out.verdict,
            "effect": _rounded(out.effect),
            "interval": None if out.interval is None else [_rounded(bound) for bound in out.interval],
            "level": out.level,
            "n": out.n,
            "statement": self.claim.statement,
            "source": self.claim.source.words,
            "reason": out.reason,
            "expected": self.claim.expected,
            "p": _rounded(out.p),
            "power": _rounded(out.power),
            "seeds_needed": out.needed,
        }


def runs(claim: Claim, protocol: Protocol, tasks: Sequence[str] | None = None) -> list[RunSpec]:
    """The runs that `claim` needs of what `protocol` carries; none where the protocol cannot judge it."""
    if protocol.name not in claim.protocols:
        return []
    carried = [task for task in tasks or claim.tasks if protocol.carries(claim.kind, task)]
    return unique(_arms(claim, carried, protocol))


def family(claim: Claim, selected: Iterable[Claim], protocol: Protocol) -> list[RunSpec]:
    """The claim's runs, and those of other `selected` claims that can train in lockstep with them."""
    own = runs(claim, protocol)
    jobs = {spec.job for spec in own}
    return unique([*own, *(spec for other in selected for spec in runs(other, protocol) if spec.job in jobs)])


def judge_claim(claim: Claim, store: Store, protocol: Protocol) -> list[Judgement]:
    """The claim's verdicts from what the store holds, in the order of `claim.rows`."""
    evidence = {task: _evidence(claim, task, store, protocol) for task in claim.tasks}
    outcomes = criteria.judge(claim.criterion, evidence)
    return [
        Judgement(claim, task, protocol.name, _priced(claim, task, out, protocol)) for task, out in outcomes.items()
    ]


def judge_all(store: Store, protocol: Protocol, ledger: Ledger | None = None) -> list[Judgement]:
    """Every claim's verdicts, in the order of the ledger."""
    return [row for claim in (ledger or load_ledger()).claims for row in judge_claim(claim, store, protocol)]


def write_verdicts(store: Store, judgements: Iterable[Judgement]) -> Path:
    """Replace `verdicts.json` in one step; equal records give equal bytes.

    Raises `InputError` if the results folder cannot be written.
    """
    store.prepare()
    path = store.results / "verdicts.json"
    draft = path.with_name(f".verdicts.{os.getpid()}.tmp")
    rows = [row.to_json() for row in judgements]
    draft.write_text(json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    draft.replace(path)
    return path


@lru_cache(maxsize=1024)
def read(store: Store, spec: RunSpec) -> Record:
    """The record, read once per process: records never change. Raises `KeyError` if there is none."""
    return store.read(spec)


def _arms(claim: Claim, tasks: Sequence[str], protocol: Protocol, seeds: Iterable[int] | None = None) -> list[RunSpec]:
    return specs(claim.kind, tasks, list(dict.fromkeys([claim.arm, claim.against])), protocol, seeds) if tasks else []


def _evidence(claim: Claim, task: str, store: Store, protocol: Protocol) -> Evidence:
    if not runs(claim, protocol, [task]):
        return _elsewhere(claim, task, store, protocol)
    wanted = _arms(claim, [task], protocol)
    absent = store.missing(wanted)
    lacking = {spec.key for spec in absent}
    here = [spec for spec in wanted if spec.key not in lacking]
    return Evidence(
        arm=claim.arm,
        against=claim.against_label,
        x=tuple(_score(store, spec, claim.estimand) for spec in here if spec.method == claim.arm),
        y=tuple(_score(store, spec, claim.reference) for spec in here if spec.method == claim.against),
        lacking=f"missing {', '.join(_named(absent))}" if absent else "",
        hours=cost.hours(absent, MACHINE) if absent else None,
    )


def _elsewhere(claim: Claim, task: str, store: Store, protocol: Protocol) -> Evidence:
    """Evidence for a task that this protocol does not carry: nothing, and what the first that does would take."""
    suite = load_suite()
    able = [name for name in claim.protocols if suite.protocol(name).carries(claim.kind, task)]
    if not able:
        return Evidence(claim.arm, claim.against_label, (), (), lacking=f"no protocol carries {task}")
    absent = store.missing(_arms(claim, [task], suite.protocol(able[0])))
    outside = f"outside the {protocol.name} protocol"
    if not absent:
        return Evidence(claim.arm, claim.against_label, (), (), lacking=f"{outside}; judged under {able[0]}")
    told = f"{outside}; needs {len(absent)} runs of the {able[0]} protocol"
    return Evidence(claim.arm, claim.against_label, (), (), told, cost.hours(absent, MACHINE))


def _named(absent: Sequence[RunSpec]) -> list[str]:
    """'mbpo seeds 0-4', 'ftfl seed 3'."""
    named = []
    for method in dict.fromkeys(spec.method for spec in absent):
        seeds = sorted(spec.seed for spec in absent if spec.method == method)
        spans: list[list[int]] = []
        for seed in seeds:
            if spans and seed == spans[-1][1] + 1:
                spans[-1][1] = seed
            else:
                spans.append([seed, seed])
        told = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
        named.append(f"{method} seed{'s' if len(seeds) > 1 else ''} {told}")
    return named


@lru_cache(maxsize=65536)
def _score(store: Store, spec: RunSpec, estimand: Estimand) -> Score:
    """Records never change, so neither does this."""
    return score(read(store, spec), estimand)


def _priced(claim: Claim, task: str, outcome: Outcome, protocol: Protocol) -> Outcome:
    """An inconclusive outcome with the hours that the seeds it needs would take."""
    if outcome.needed is None or outcome.needed <= outcome.n:
        return outcome
    tasks = claim.tasks if task == ALL else [task]
    more = cost.hours(_arms(claim, tasks, protocol, range(protocol.seeds, outcome.needed)), MACHINE)
    return replace(outcome, reason=f"{outcome.reason} (about {in_hours(more)} more on two cores)")


def _rounded(value: float | None) -> float | None:
    """Six significant digits, so that the last bits of another machine's arithmetic do not show."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
