"""What a protocol still lacks: records present and missing per task and method, hours, and what trains now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from benchmark.claims import runs
from benchmark.judging.ledger import load_ledger
from benchmark.running.cost import hours, rates
from benchmark.running.progress import running
from benchmark.running.workers import visible_gpus
from benchmark.spec import RunSpec, unique
from benchmark.store import Store
from benchmark.suite.entries import Protocol


class Line(NamedTuple):
    """One task and method: how many runs are wanted, how many have records, hours for the rest."""

    kind: str
    task: str
    method: str
    wanted: int
    present: int
    missing: int
    hours: float


def wanted(protocol: Protocol) -> list[RunSpec]:
    """Every run that some claim needs of what `protocol` carries."""
    return unique(spec for claim in load_ledger().claims for spec in runs(claim, protocol))


def lines(specs: Iterable[RunSpec], store: Store, gpus: int = 0) -> list[Line]:
    """One line per kind, task and method, in order of first appearance."""
    groups: dict[tuple[str, str, str], list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault((spec.kind, spec.task, spec.method), []).append(spec)
    found = []
    for (kind, task, method), group in groups.items():
        missing = store.missing(group)
        found.append(
            Line(kind, task, method, len(group), len(group) - len(missing), len(missing), hours(missing, rates(gpus)))
        )
    return found


def overview(protocol: Protocol, store: Store, environ: Mapping[str, str]) -> dict[str, Any]:
    """All of the status as one JSON object. `hours` trains arms in lockstep, so the lines' hours add up to more."""
    specs = wanted(protocol)
    gpus = len(visible_gpus(environ))
    missing = store.missing(specs)
    return {
        "protocol": protocol.name,
        "wanted": len(specs),
        "present": len(specs) - len(missing),
        "missing": len(missing),
        "hours": hours(missing, rates(gpus)),
        "assumed": {"gpus": gpus, **asdict(rates(gpus))},
        "runs": [line._asdict() for line in lines(specs, store, gpus)],
        "running": running(store.cache),
        "torn": [str(folder) for folder in store.torn()],
    }
