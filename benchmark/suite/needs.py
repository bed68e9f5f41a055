"""Which runs a claim needs under a protocol, and which claims a run serves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from benchmark.records.spec import RunSpec, unique
from benchmark.suite.entries import Protocol
from benchmark.suite.ledger import Claim, Ledger, load_ledger
from benchmark.suite.load import load_suite, plan_of, specs


def runs(claim: Claim, protocol: Protocol, tasks: Sequence[str] | None = None) -> list[RunSpec]:
    """The runs that `claim` needs of what `protocol` carries, on some of its tasks; none where it cannot be judged."""
    whole = _runs(claim, _Itself(protocol))
    return [run for run in whole if run.task in tasks] if tasks else list(whole)


class _Itself:
    """A protocol as the key of a cache: no protocol is ever changed, but it holds mappings, which have no hash."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and other.protocol is self.protocol

    def __hash__(self) -> int:
        return id(self.protocol)


@lru_cache(maxsize=4096)
def _runs(claim: Claim, key: _Itself) -> tuple[RunSpec, ...]:
    """Worked out once for each claim and protocol."""
    protocol = key.protocol
    if protocol.name not in claim.protocols or claim.needs or _without_data(claim, protocol):
        return ()
    carried = [task for task in claim.tasks if protocol.carries(claim.kind, task)]
    return tuple(unique([*of_arms(claim, carried, protocol), *of_gate(claim, carried, protocol)]))


def _without_data(claim: Claim, protocol: Protocol) -> bool:
    """Whether the protocol has no plan of the data that the claim's fits are made on."""
    lacking = {"random": False, "replay": protocol.replay is None, "trajectory": protocol.trajectory is None}
    return lacking[claim.data]


def family(claim: Claim, selected: Iterable[Claim], protocol: Protocol) -> list[RunSpec]:
    """The claim's runs, and those of other `selected` claims that can train in lockstep with them."""
    own = runs(claim, protocol)
    jobs = {spec.job for spec in own}
    return unique([*own, *(spec for other in selected for spec in runs(other, protocol) if spec.job in jobs)])


def with_later_looks(claim: Claim, protocol: Protocol) -> list[RunSpec]:
    """The claim's runs under the protocol, and those that a later look would add."""
    planned = runs(claim, protocol)
    if not planned:
        return []
    carried = [task for task in claim.tasks if protocol.carries(claim.kind, task)]
    return unique([*planned, *of_arms(claim, carried, protocol, later_seeds(claim, protocol))])


def later_seeds(claim: Claim, protocol: Protocol) -> range:
    """The seeds beyond the protocol's own that a later look may count."""
    last = max((look.seeds for look in claim.criterion.looks), default=1)
    return range(protocol.seeds, protocol.seeds * last)


def of_arms(
    claim: Claim, tasks: Sequence[str], protocol: Protocol, seeds: Iterable[int] | None = None
) -> list[RunSpec]:
    """The runs of both arms on `tasks`; of `seeds` if they are given, else of all the protocol's."""
    if not tasks or (seeds is not None and not (seeds := list(seeds))):
        return []
    (arm, drop), (against, other) = claim.arms
    if drop == other:
        both = list(dict.fromkeys([arm, against]))
        return specs(claim.kind, tasks, both, protocol, seeds, drop=drop, source=claim.data, step=claim.step)
    apart = [
        specs(claim.kind, tasks, [method], protocol, seeds, drop=left, source=claim.data, step=claim.step)
        for method, left in claim.arms
    ]
    return unique([*apart[0], *apart[1]])


def of_gate(claim: Claim, tasks: Sequence[str], protocol: Protocol) -> list[RunSpec]:
    """The runs of the baseline that has to be placed first."""
    return specs(claim.kind, tasks, [claim.gate], protocol) if claim.gate and tasks else []


def terms(claim: Claim) -> dict[str, Any]:
    """What decides the claim's verdict besides its form, with every default spelled out: a flat mapping.

    The form leaves defaults out, so it cannot tell that a default was changed, and it does not know protocols.
    """
    suite = load_suite()
    rule = {"criterion": claim.criterion, "estimand": claim.estimand, "reference": claim.reference}
    return {
        "needs": claim.needs,
        "protocols": list(claim.protocols),
        **{f"seeds.{name}": suite.protocol(name).seeds for name in claim.protocols},
        **{f"{part}.{key}": v for part, value in rule.items() for key, v in value.model_dump(mode="json").items()},
        **{f"rules.{name}": version for name, version in RULES.items()},
        **(_scales(claim) if claim.gate or claim.criterion.aggregate else {}),
        **({"published": _published()} if claim.gate else {}),
    }


def _scales(claim: Claim) -> dict[str, Any]:
    """The measured and published scores by which the tasks of a claim are scaled and its baseline is placed."""
    entries = {task: load_suite().task(task) for task in claim.tasks}
    return {f"scale.{t}": [e.random_score, e.random_std, e.reference_score] for t, e in entries.items()}


@cache
def _published() -> str:
    """Digest of the published scores that gates read."""
    files = sorted((Path(__file__).parents[2] / "results" / "published").glob("*.csv"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


RULES = {"gate": 3, "statistics": 3, "pooling": 3}
"""Versions of the rules by which verdicts are made; raise one where equal scores may give another verdict.

* gate 3: what each source that learned predicts by itself, instead of the range of all; a better baseline is marked.
* statistics 3: Brunner and Munzel's test has to agree, and Welch's pays one more degree of freedom.
* pooling 3: the threads of a CPU are part of the engine.
"""
CARRIED = "claims"
"""The field of a run's provenance that holds the forms it was trained under."""
CARRIED_TERMS = "terms"
"""The field of a run's provenance that holds the terms of the same claims."""


def served(spec: RunSpec, ledger: Ledger | None = None) -> dict[str, str]:
    """The forms of all claims that speak of this run, for its provenance."""
    return {claim.id: claim.form for claim in (ledger or load_ledger()).claims if _speaks_of(claim, spec)}


def served_terms(spec: RunSpec, ledger: Ledger | None = None) -> dict[str, dict[str, Any]]:
    """The terms of all claims that speak of this run, for its provenance."""
    return {claim.id: terms(claim) for claim in (ledger or load_ledger()).claims if _speaks_of(claim, spec)}


def _speaks_of(claim: Claim, spec: RunSpec) -> bool:
    arms = [*claim.arms, *([(claim.gate, ())] if claim.gate else [])]
    named = claim.kind == spec.kind and spec.task in claim.tasks and (spec.method, spec.drop) in arms
    return named and _same_data(claim, spec)


def _same_data(claim: Claim, spec: RunSpec) -> bool:
    """Whether the run is made on the data that the claim speaks of: on random data, whatever protocol they are of."""
    if claim.data == "random" or spec.source_run is None:
        return claim.data == "random" and spec.source_run is None
    suite = load_suite()
    pages = [page for page in map(suite.protocol, claim.protocols) if not _without_data(claim, page)]
    plans = [plan_of(spec.kind, spec.task, page, claim.data, suite, claim.step)["fit"] for page in pages]
    return spec.fit in plans
