"""The suite read once and checked whole, and the runs that it prescribes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from benchmark.records.spec import FitBudget, Kind, Precision, Replay, RunSpec
from benchmark.suite.catalogue import Suite
from benchmark.suite.checks import check
from benchmark.suite.constants import with_defaults
from benchmark.suite.entries import Family, MethodEntry, Protocol, TaskEntry, TrajectoryPlan
from benchmark.suite.pages import SUITE, entries, load_page
from mbpo.config import Config, InputError, build

__all__ = ["SUITE", "Protocol", "Source", "Suite", "TaskEntry", "load_page", "load_suite", "plan_of", "specs"]

Source = Literal["random", "replay", "trajectory"]
"""What a fit is made on: the rows of a uniformly random policy, those of the protocol's `replay` plan all at once, or
the same as they grow, refit after refit, by its `trajectory` plan."""


def specs(
    kind: Kind,
    tasks: Sequence[str],
    methods: Sequence[str],
    protocol: Protocol | str,
    seeds: int | Iterable[int] | None = None,
    *,
    drop: Sequence[str] = (),
    precision: Precision = "fp32",
    source: Source = "random",
    step: int | None = None,
    suite: Suite | None = None,
    numerics_version: int | None = None,
) -> list[RunSpec]:
    """The runs of every method on every task, ordered by task, method, seed.

    `seeds` is a count, the seeds themselves, or None for the protocol's own number; `source` says what fits are made
    on, `step` where a replay is cut off if not where the plan says; `numerics_version` asks for the records of another
    version than this code's. Raises `InputError`.
    """
    suite = suite or load_suite()
    page = suite.protocol(protocol) if isinstance(protocol, str) else protocol
    numbers = range(page.seeds if seeds is None else seeds) if not isinstance(seeds, Iterable) else list(seeds)
    if not len(numbers):
        raise InputError(f"seeds = {seeds}: give at least 1")
    found = []
    for task in tasks:
        suite.task(task)  # before the budget, which would blame the page for a task that does not exist
        plan = plan_of(kind, task, page, source, suite, step)
        for name in methods:
            common = {"kind": kind, "task": task, "drop": tuple(drop), "method": name, "precision": precision, **plan}
            common |= {} if numerics_version is None else {"numerics_version": numerics_version}
            common["constants"] = suite.method(name, task, page, kind)
            found += [build(RunSpec, {**common, "seed": seed}, f"run of {name!r} on {task!r}") for seed in numbers]
    return found


def plan_of(
    kind: Kind, task: str, page: Protocol, source: Source, suite: Suite, step: int | None = None
) -> dict[str, Config]:
    """The fields that say how long a run of `kind` is. Raises `InputError` where the page has no such plan."""
    if kind == "train":
        return {"budget": page.train.budget(task)}
    if source == "random" and kind == "fit":
        return {"fit": page.fit.budget()}
    replay, rows = page.replay, page.trajectory if source == "trajectory" else page.replay
    if replay is None or rows is None or (kind == "probe" and page.probe is None):
        missing = "replay" if replay is None else "trajectory" if rows is None else "probe"
        raise InputError(f"protocol {page.name!r} has no `{missing}` plan; give one that has, such as 'mature'")
    at, known = replay.step if step is None else step, (replay.step, *replay.more_steps)
    if at not in known:
        raise InputError(f"protocol {page.name!r} cuts replays off at {', '.join(map(str, known))}, not at {at}")
    whose = page.model_copy(update={"train": replay})
    collector = Replay(
        method=replay.method,
        constants=suite.method(replay.method, task, whose),
        budget=replay.budget(task),
        precision=replay.precision,
        step=at,
        numerics_version=replay.numerics_version,
    )
    refits = rows.refits if isinstance(rows, TrajectoryPlan) else 1
    fit = FitBudget(transitions=rows.transitions, heldout=rows.heldout, source=collector, refits=refits)
    if page.probe is None or kind == "fit":
        return {"fit": fit}
    return {"fit": fit, "probe": page.probe.budget()}


@cache
def load_suite(folder: Path = SUITE) -> Suite:
    """Read and check the pages. Raises `InputError` with the page, the key and its nearest valid choice."""
    page = load_page("methods.yaml", folder, ("families", "methods"))
    families = entries(Family, page["families"], "methods.yaml")
    suite = Suite(
        tasks=entries(TaskEntry, load_page("tasks.yaml", folder), "tasks.yaml"),
        families={name: with_defaults(family) for name, family in families.items()},
        methods=entries(MethodEntry, page["methods"], "methods.yaml"),
        protocols=entries(Protocol, load_page("protocols.yaml", folder), "protocols.yaml", "name"),
    )
    check(suite)
    return suite
