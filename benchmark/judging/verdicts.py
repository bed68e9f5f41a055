"""Claims judged: a pure function of the records that a protocol names.

Any process that can read the store gives the same verdicts in the same order, and `verdicts.json` has the same bytes
whoever writes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.judging import blame, chances, criteria, engines, gate, location, pooled, registry, replayed
from benchmark.judging.evidence import Evidence, Outcome, Score, spans
from benchmark.judging.registry import Registration
from benchmark.judging.scores import score
from benchmark.records.spec import RunSpec, unique
from benchmark.records.store import Record, Store, replace_file
from benchmark.running import cost
from benchmark.suite.criterion import ALL, Estimand
from benchmark.suite.entries import Protocol
from benchmark.suite.ledger import Claim, Ledger, load_ledger
from benchmark.suite.load import load_suite
from benchmark.suite.needs import later_seeds, of_arms, of_gate, runs, with_later_looks
from benchmark.words import count, in_hours

MACHINE = cost.rates(cpus=2)
"""Hours in verdicts are for two cores, wherever they are judged: equal records give equal sentences."""


class Judgement(NamedTuple):
    """One row of the ledger."""

    claim: Claim
    task: str
    protocol: str
    outcome: Outcome
    registration: Registration
    chance: float | None = None
    """Of a right verdict as planned, were the claim clearly true (`chances.Chance`); None where it is not simulated."""

    def to_json(self) -> dict[str, Any]:
        """The row as `verdicts.json` holds it: numbers to six digits, bounds that do not exist as null."""
        out = self.outcome
        return {
            "claim": self.claim.id,
            "task": self.task,
            "protocol": self.protocol,
            "verdict": out.verdict,
            "effect": rounded(out.effect),
            "interval": None if out.interval is None else [rounded(bound) for bound in out.interval],
            "level": out.level,
            "n": out.n,
            "statement": self.claim.statement,
            "source": self.claim.source.words,
            "reason": out.reason,
            "expected": self.claim.expected,
            "p": rounded(out.p),
            "mean": rounded(out.mean),
            "iqm": rounded(out.iqm),
            "power": rounded(out.power),
            "seeds_needed": out.needed,
            "form": self.registration.form,
            "commit": self.registration.commit,
            "edited": self.registration.mark or None,
            "unsealed": self.registration.unsealed,
            "revised": self.registration.revised or None,
            "blind_spot": rounded(blind_spot(self.claim, out)),
            "chance": rounded(self.chance),
        }


def judge_claim(claim: Claim, store: Store, protocol: Protocol) -> list[Judgement]:
    """The claim's verdicts from what the store holds, in the order of `claim.rows`.

    A claim that `protocol` cannot judge is judged as `judged_by` says.
    """
    protocol = judged_by(claim, store, protocol)
    evidence = {task: _evidence(claim, task, store, protocol) for task in claim.tasks}
    judged = [read(store, spec) for spec in with_later_looks(claim, protocol) if store.has(spec)]
    if claim.rows == (ALL,) and (mixed := engines.mixed(record.provenance for record in judged)):
        evidence = {task: replace(one, fault=one.fault or mixed) for task, one in evidence.items()}
    registered = registry.register(claim, judged, store.results, load_ledger(), _commits(store).get(claim.id))
    planned = protocol if protocol.name in claim.protocols else load_suite().protocol(claim.protocols[0])
    chance = chances.chance(claim, planned.seeds)
    rows = {
        task: _priced(claim, task, out, protocol) for task, out in outcomes(claim, evidence, protocol.seeds).items()
    }
    return [
        Judgement(claim, task, protocol.name, _marked(_foretold(out, chance), registered), registered, chance.right)
        for task, out in rows.items()
    ]


def _foretold(outcome: Outcome, chance: chances.Chance) -> Outcome:
    """The undecided outcome whose reason says that its claim cannot be settled as planned, where that is so."""
    if not chance.words or outcome.verdict not in ("inconclusive", "incomplete"):
        return outcome
    return replace(outcome, reason=f"{outcome.reason}; {chance.words}")


def _marked(outcome: Outcome, registration: Registration) -> Outcome:
    """The outcome whose reason says that its claim or a rule of judging is younger than its runs, where it is."""
    marks = [clause for clause in (registration.mark, registration.revised) if clause]
    if not marks or outcome.verdict in ("incomplete", "invalid"):
        return outcome
    return replace(outcome, reason="; ".join([outcome.reason, *marks]))


def blind_spot(claim: Claim, outcome: Outcome) -> float | None:
    """Largest chance that a decision for or against the claim is false because an arm's failures did not show.

    Over all tasks of the claim; None for claims that are undecided or not about a typical seed.
    """
    if outcome.verdict not in ("reproduced", "contradicted") or claim.criterion.of != "typical seed":
        return None
    return None if claim.criterion.aggregate else location.blind_spot(outcome.n, outcome.n, len(claim.tasks))


def judged_by(claim: Claim, store: Store, protocol: Protocol) -> Protocol:
    """`protocol` where it can judge the claim, else the first of the claim's own that has all the runs of some row.

    Tasks without runs count as open in the family, so that they can only make a verdict on the others harder.
    """
    if protocol.name in claim.protocols:
        return protocol
    whole = claim.rows == (ALL,)
    for other in map(load_suite().protocol, claim.protocols):
        groups = [runs(claim, other)] if whole else [runs(claim, other, [task]) for task in claim.tasks]
        if any(group and not store.missing(group) for group in groups):
            return other
    return protocol


def outcomes(claim: Claim, evidence: Mapping[str, Evidence], planned: int | None = None) -> dict[str, Outcome]:
    """The claim's verdicts from the evidence on each of its tasks, by `claim.rows`."""
    family = {ALL: pooled.together(evidence)} if claim.criterion.aggregate else evidence
    return criteria.judge(claim.criterion, family, planned)


@lru_cache(maxsize=64)
def _commits(store: Store) -> dict[str, str | None]:
    return blame.commits(store.results)


def judge_all(store: Store, protocol: Protocol, ledger: Ledger | None = None) -> list[Judgement]:
    """Every claim's verdicts, in the order of the ledger."""
    return [row for claim in (ledger or load_ledger()).claims for row in judge_claim(claim, store, protocol)]


def write_verdicts(store: Store, judgements: Iterable[Judgement]) -> Path:
    """Replace `verdicts.json` in one step, and note the forms judged; equal records give equal bytes.

    Raises `InputError` if the results folder cannot be written.
    """
    store.prepare()
    path = store.results / "verdicts.json"
    judgements = list(judgements)
    judged = {row.claim.id: row for row in judgements if row.outcome.n}
    late = [name for name, row in judged.items() if registry.POST_HOC in row.registration.mark]
    registry.note(store.results, [row.claim for row in judged.values()], late)
    registry.note_records(store.results, {pair for row in judgements for pair in row.registration.records})
    rows = [row.to_json() for row in judgements]
    replace_file(path, json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path


@lru_cache(maxsize=1024)
def read(store: Store, spec: RunSpec) -> Record:
    """The record, read once per process: records never change. Raises `KeyError` if there is none."""
    return store.read(spec)


def _evidence(claim: Claim, task: str, store: Store, protocol: Protocol) -> Evidence:
    if claim.needs:
        return Evidence(claim.arm_label, claim.against_label, (), (), lacking=f"needs {claim.needs}")
    wanted = runs(claim, protocol, [task])
    if not wanted:
        return _elsewhere(claim, task, store, protocol)
    absent = store.missing(wanted)
    lacking = {spec.key for spec in absent}
    more = [spec for spec in of_arms(claim, [task], protocol, later_seeds(claim, protocol)) if store.has(spec)]
    stored = [spec for spec in [*wanted, *more] if spec.key not in lacking]
    x, y = ([spec for spec in stored if (spec.method, spec.drop) == arm] for arm in claim.arms)
    placed = gate.Placing()
    if claim.gate and not absent:
        base = [_score(store, spec, claim.estimand) for spec in of_gate(claim, [task], protocol)]
        placed = gate.place(claim.gate, task, protocol.train.budget(task).env_steps, base)
    reason = f"missing {', '.join(_named(absent))}" if absent else placed.unplaced
    if not reason and protocol.replay is not None and protocol.replay.must_learn:
        agents = unique(run for spec in wanted if (run := spec.source_run) is not None)
        reason = replayed.unlearned(wanted, [read(store, run) for run in agents if store.has(run)])
    first = tuple(_score(store, spec, claim.estimand) for spec in x)
    second = tuple(_score(store, spec, claim.reference) for spec in y)
    return Evidence(
        arm=claim.arm_label,
        against=claim.against_label,
        x=tuple(filter(_measured, first)),
        y=tuple(filter(_measured, second)),
        lacking=reason or _unmeasured(claim, [*first, *second]),
        hours=cost.hours(absent, MACHINE) if absent else None,
        fault=placed.refused,
        mark=placed.mark,
    )


def _measured(score: Score) -> bool:
    """Whether the run has the measure at all: one that was made before it was taken has no value of it."""
    return score.points > 0 or score.curve is not None or bool(score.undefined)


def _unmeasured(claim: Claim, scores: Sequence[Score]) -> str:
    """How many runs were made before the claim's measure was taken, as a clause; empty where all have it."""
    old = sum(not _measured(score) for score in scores)
    return f"{claim.estimand.measure} was not measured yet in {count(old, 'run')}" if old else ""


def _elsewhere(claim: Claim, task: str, store: Store, protocol: Protocol) -> Evidence:
    """Evidence for a task that this protocol does not carry: nothing, and what the first that does would take."""
    suite = load_suite()
    able = [name for name in claim.protocols if suite.protocol(name).carries(claim.kind, task)]
    if not able:
        return Evidence(claim.arm_label, claim.against_label, (), (), lacking=f"no protocol carries {task}")
    absent = store.missing(runs(claim, suite.protocol(able[0]), [task]))
    outside = f"outside the {protocol.name} protocol"
    if not absent:
        return Evidence(claim.arm_label, claim.against_label, (), (), lacking=f"{outside}; judged under {able[0]}")
    sentence = f"{outside}; needs {len(absent)} runs of the {able[0]} protocol"
    return Evidence(claim.arm_label, claim.against_label, (), (), sentence, cost.hours(absent, MACHINE))


def _named(absent: Sequence[RunSpec]) -> list[str]:
    """'mbpo seeds 0-4', 'ftfl seed 3'."""
    named = []
    for method in dict.fromkeys(spec.arm for spec in absent):
        seeds = [spec.seed for spec in absent if spec.arm == method]
        named.append(f"{method} {spans(seeds, most=len(seeds))}")
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
    more = cost.hours(of_arms(claim, tasks, protocol, range(protocol.seeds, outcome.needed)), MACHINE)
    return replace(outcome, reason=f"{outcome.reason} (about {in_hours(more)} more on two cores)")


def rounded(value: float | None) -> float | None:
    """Six significant digits, so that the last bits of another machine's arithmetic do not show."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
