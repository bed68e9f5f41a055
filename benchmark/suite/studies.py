"""`suite/studies.yaml`, read and checked: which runs a study is made of.

A claim has a criterion and gets a verdict; a study shows how a measure moves over many arms and tasks. Its renderer is
the module of the same name in this package: `tables`, `figures` and `sentences`, pure functions of its records.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field

from benchmark.records.spec import Kind, Precision, RunSpec, unique
from benchmark.suite.entries import Entry
from benchmark.suite.load import Source, load_suite, specs
from benchmark.suite.pages import SUITE, check_known, load_page
from mbpo.config import InputError, build, nearest


class RunSet(Entry):
    """Every method on every task under one protocol."""

    kind: Kind
    protocol: str
    tasks: tuple[str, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(min_length=1)
    seeds: int = Field(ge=1, le=10_000)
    source: Source = "random"
    precisions: tuple[Precision, ...] = ("fp32",)


class Study(Entry):
    """A named list of runs, and what it asks."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str
    text: str
    runs: tuple[RunSet, ...] = Field(min_length=1)


@cache
def load_studies(folder: Path = SUITE) -> dict[str, Study]:
    """Read and check the page. `tasks` of a run set is a list, or a group of ``claims.yaml``, or ``all``.

    Raises `InputError` with the study, the key and the nearest valid choice.
    """
    groups = load_page("claims.yaml", folder)["groups"]
    suite = load_suite(folder)
    every = [name for name, entry in suite.tasks.items() if entry.suite in ("dmc", "gym")]
    studies = {}
    for name, data in load_page("studies.yaml", folder).items():
        where = f"studies.yaml: {name}"
        given = data.get("runs") if isinstance(data, dict) else None
        if not isinstance(given, list) or not all(isinstance(part, dict) for part in given):
            raise InputError(f"{where}: a mapping with title, text and a list of runs is needed here")
        sets = []
        for part in given:
            tasks = part.get("tasks")
            if isinstance(tasks, str):
                check_known(tasks, [*groups, "all"], f"{where}.runs.tasks")
                tasks = every if tasks == "all" else groups[tasks]
            sets.append({**part, "tasks": tasks})
        study = build(Study, {**data, "id": name, "runs": sets}, where)
        specs_of(study)  # unknown tasks, methods and protocols are refused
        studies[name] = study
    return studies


def study(name: str) -> Study:
    """The study of this name. Raises `InputError` with the nearest name if there is none."""
    if name not in load_studies():
        raise InputError(f"unknown study {name!r}; {nearest(name, load_studies())}")
    return load_studies()[name]


def specs_of(study: Study) -> list[RunSpec]:
    """The runs of a study, in the order of its page."""
    return unique(
        spec
        for part in study.runs
        for precision in part.precisions
        for spec in specs(
            part.kind, part.tasks, part.methods, part.protocol, part.seeds, precision=precision, source=part.source
        )
    )
