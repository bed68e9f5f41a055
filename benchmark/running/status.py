"""What a protocol still lacks: records present and missing per task and method, hours, and what trains now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.claims import runs
from benchmark.judging.ledger import load_ledger
from benchmark.running.cost import Rates, hours, rates
from benchmark.running.progress import running
from benchmark.running.workers import cpu_count, visible_gpus
from benchmark.spec import RunSpec, unique
from benchmark.store import Store
from benchmark.suite.entries import Protocol
from benchmark.suite.pages import load_suite, specs
from benchmark.timing import saved
from benchmark.timing.rates import alike, measured

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


class Speeds(NamedTuple):
    """What hours rest on: the rates, the device they are of, and the files they were measured in, none if assumed."""

    rates: Rates
    device: str
    files: tuple[str, ...]

    @property
    def words(self) -> str:
        """Where the rates come from."""
        if not self.files:
            return "assumed speeds; measure this machine's with speed --save"
        more = f" and {len(self.files) - 1} more beside it" if len(self.files) > 1 else ""
        return f"speeds measured in {self.files[0]}{more}"


def speeds(results: Path, environ: Mapping[str, str], given: Path | None = None) -> Speeds:
    """Measured rates from the file or folder `given`, else from this machine's folder, else assumed ones.

    Raises `InputError` for a file that is no measurement or a folder that holds none.
    """
    gpus = len(visible_gpus(environ))
    if given is not None and not given.is_dir():
        found = {given: saved.read(given)}
    else:
        found = saved.read_all(given or saved.here(results, environ))
        if given is not None and not found:
            raise saved.none_in(given)
    if not found:
        return Speeds(rates(gpus), "one GPU" if gpus else "the CPUs", ())
    kept = alike(list(found.values()))
    files = tuple(str(path) for path, row in found.items() if any(row is other for other in kept))
    device = "the CPUs" if kept[0]["device"] == "cpu" else f"one {kept[0]['device']}"
    return Speeds(measured(kept, _cpus(kept[0])), device, files)


def _cpus(row: Mapping[str, Any]) -> int:
    return int(row.get("where", {}).get("cpus") or cpu_count())


def wanted(protocol: Protocol) -> list[RunSpec]:
    """Every run that some claim needs of what `protocol` carries."""
    return unique(spec for claim in load_ledger().claims for spec in runs(claim, protocol))


def tables(protocol: Protocol) -> list[RunSpec]:
    """Every run of the paper's tables: its two methods on all tasks, at the protocol's seeds."""
    known = load_suite().tasks.items()
    # The truncated tasks are the original MBPO's.
    tasks = [task for task, entry in known if entry.suite != "toy" and "TruncatedObs" not in task]
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
        "torn": [str(folder) for folder in store.torn()],
    }


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
