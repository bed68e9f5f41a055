"""What a protocol still lacks: records present and missing per task and method, hours, and what trains now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.cluster import states, submissions
from benchmark.records.spec import RunSpec, unique
from benchmark.records.store import Store
from benchmark.running.cost import Rates, hours
from benchmark.running.progress import running
from benchmark.speed.rates import speeds
from benchmark.suite.entries import Protocol
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite, specs
from benchmark.suite.needs import runs

TABLES = "paper"
"""The protocol of the paper's tables, and `TABLE_METHODS` what stands in them."""
TABLE_METHODS = ("mbpo", "ftfl")


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


def tables(protocol: Protocol) -> list[RunSpec]:
    """Every run of the paper's tables: its two methods on all tasks, at the protocol's seeds."""
    known = load_suite().tasks.items()
    # The truncated tasks are the original MBPO's.
    tasks = [task for task, entry in known if entry.suite in ("dmc", "gym") and "TruncatedObs" not in task]
    return specs("train", tasks, TABLE_METHODS, protocol)


def lines(specs: Iterable[RunSpec], store: Store, machine: Rates) -> list[Line]:
    """One line per kind, task and method, in order of first appearance."""
    groups: dict[tuple[str, str, str], list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault((spec.kind, spec.task, spec.method), []).append(spec)
    found = []
    for (kind, task, method), group in groups.items():
        missing = store.missing(group)
        found.append(
            Line(kind, task, method, len(group), len(group) - len(missing), len(missing), hours(missing, machine))
        )
    return found


def overview(protocol: Protocol, store: Store, environ: Mapping[str, str], speed: Path | None = None) -> dict[str, Any]:
    """All of the status as one JSON object. `hours` trains arms in lockstep, so the lines' hours add up to more.

    `speed` is a measurement, or a folder of them, to estimate by in place of this machine's. Raises `InputError`.
    """
    wants = wanted(protocol)
    known = speeds(store.results, environ, speed)
    missing = store.missing(wants)
    return {
        "protocol": protocol.name,
        "wanted": len(wants),
        "present": len(wants) - len(missing),
        "missing": len(missing),
        "hours": hours(missing, known.rates),
        "speeds": {"device": known.device, "files": list(known.files), "words": known.words, **asdict(known.rates)},
        "tables": _tables(protocol, known.rates) if protocol.name == TABLES else None,
        "runs": [line._asdict() for line in lines(wants, store, known.rates)],
        "running": running(store.cache),
        "cluster": cluster(store),
        "torn": [str(folder) for folder in store.torn()],
    }


def cluster(store: Store) -> list[dict[str, Any]]:
    """Every submitted task that still lacks records. SLURM is asked only where something was submitted."""
    submitted = (store.cache / submissions.FOLDER).is_dir()
    return [one.as_json() for one in states.standings(store, states.ask(store.cache))] if submitted else []


def _tables(protocol: Protocol, machine: Rates) -> dict[str, Any]:
    """The paper's tables from nothing: how much they are and how long they take."""
    every = tables(protocol)
    suites = [spec.task.partition(":")[0] for spec in every]
    per_task = len(TABLE_METHODS) * protocol.seeds
    return {
        "methods": list(TABLE_METHODS),
        "tasks": {suite: suites.count(suite) // per_task for suite in dict.fromkeys(suites)},
        "seeds": protocol.seeds,
        "hours": hours(every, machine),
    }
