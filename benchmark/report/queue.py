"""What to train next: the missing runs of a protocol, most valuable per hour first.

A row of the ledger (a claim on one task) that lacks runs is decided by training them. An arm of a task is worth, per
hour, the sum over the rows that wait for it of ``1 / hours that the row lacks``: an arm that many rows wait for comes
early, and so does one that is the last thing a row lacks. Seeds of one arm train together, so that a stop leaves whole
arms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import NamedTuple

from benchmark.records.spec import RunSpec, unique
from benchmark.records.store import Store
from benchmark.running.cost import Rates, hours
from benchmark.suite.criterion import ALL
from benchmark.suite.entries import Protocol
from benchmark.suite.ledger import Claim, load_ledger
from benchmark.suite.needs import runs


class Batch(NamedTuple):
    """The missing runs of one arm on one task, trained as one job."""

    specs: tuple[RunSpec, ...]
    hours: float
    """Estimated hours to train them."""
    value: float
    """Rows of the ledger that an hour of it brings nearer, in rows per hour."""
    claims: tuple[str, ...]
    """The claims that wait for it."""
    agents: tuple[RunSpec, ...] = ()
    """Training runs whose replays it is fitted on and which are not kept yet: they are trained first."""

    @property
    def label(self) -> str:
        """Such as 'train ftfl on dmc:hopper-stand', or 'fit ftfl on dmc:hopper-stand, sac replay at 100,000'."""
        first = self.specs[0]
        data = f", {first.fit.source_name}" if first.fit is not None and first.fit.source != "random" else ""
        return f"{first.kind} {first.arm} on {first.task}{data}"


def queue(protocol: Protocol, store: Store, rates: Rates, claims: Iterable[Claim] | None = None) -> list[Batch]:
    """The batches that the claims lack under `protocol`, the most valuable per hour first.

    `claims` is the whole ledger if left out. Equal values keep the order of the ledger, so that two workers agree.
    """
    waiting: dict[tuple[str, ...], list[RunSpec]] = {}
    value: dict[tuple[str, ...], float] = {}
    named: dict[tuple[str, ...], list[str]] = {}
    price = _price(rates)
    for claim in load_ledger().claims if claims is None else claims:
        for tasks in [list(claim.tasks)] if claim.rows == (ALL,) else [[task] for task in claim.tasks]:
            missing = store.missing(runs(claim, protocol, tasks))
            groups = _arms(missing)
            lacks = sum(price(group) for group in groups.values()) + price(_agents(missing, store))
            for arm, group in groups.items():
                known = waiting.setdefault(arm, [])
                known += [spec for spec in group if spec not in known]
                value[arm] = value.get(arm, 0.0) + 1 / max(lacks, 1e-9)
                if claim.id not in named.setdefault(arm, []):
                    named[arm].append(claim.id)
    batches = [
        Batch(
            tuple(sorted(specs, key=lambda spec: spec.seed)),
            *(price(specs), value[arm], tuple(named[arm]), tuple(_agents(specs, store))),
        )
        for arm, specs in waiting.items()
    ]
    return sorted(batches, key=lambda batch: -batch.value)


def _arms(specs: Sequence[RunSpec]) -> dict[tuple[str, ...], list[RunSpec]]:
    """The runs by kind, task, arm and data set."""
    groups: dict[tuple[str, ...], list[RunSpec]] = {}
    for spec in specs:
        source = "" if spec.fit is None else spec.fit.source_name
        groups.setdefault((spec.kind, spec.task, spec.arm, source), []).append(spec)
    return groups


def _agents(specs: Iterable[RunSpec], store: Store) -> list[RunSpec]:
    """The training runs whose replays these fits need and which the cache does not hold."""
    runs = unique(run for spec in specs if (run := spec.source_run) is not None)
    kept = import_module("benchmark.running.replays").has if runs else None
    return [run for run in runs if kept is not None and not kept(store.cache, run)]


def _price(rates: Rates) -> Callable[[Sequence[RunSpec]], float]:
    """Hours of a group of runs; groups that differ in their seeds alone cost the same, so each is worked out once."""
    known: dict[tuple[object, ...], float] = {}

    def price(group: Sequence[RunSpec]) -> float:
        if not group:
            return 0.0
        first = group[0]
        data = None if first.fit is None else first.fit.source_name
        key = (first.kind, first.task, first.method, first.drop, first.budget, data, first.precision, len(group))
        if key not in known:
            known[key] = hours(group, rates)
        return known[key]

    return price
