"""`suite/pilots.yaml`, read and checked: lists of short runs that suggest and decide nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field, field_validator

from benchmark.records.spec import Precision, RunSpec
from benchmark.suite.entries import Entry
from benchmark.suite.load import load_suite, specs
from benchmark.suite.pages import SUITE, entries, load_page
from mbpo.config import InputError, nearest

FIRST_SEED = 100
"""Pilots have seeds from here on; every run that a claim asks for has one below."""


class Pilots(Entry):
    """One run of every method on every task, in the order in which they are worth training."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    doc: str
    notes: str
    protocol: str
    tasks: tuple[str, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    precision: Precision = "fp32"
    env_steps: int | None = Field(None, ge=1)
    """In place of the protocol's."""

    @field_validator("seeds")
    @classmethod
    def _of_pilots(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if min(seeds) < FIRST_SEED:
            raise ValueError(f"seeds = {list(seeds)}: those below {FIRST_SEED} are for claims; give others")
        return seeds


@cache
def load_pilots(folder: Path = SUITE) -> dict[str, Pilots]:
    """Read and check the page. Raises `InputError` with the list, the key and the nearest valid choice."""
    lists = entries(Pilots, load_page("pilots.yaml", folder), "pilots.yaml", "id")
    for each in lists.values():
        groups_of(each)  # unknown tasks, methods and protocols are refused
    return lists


def pilots(name: str) -> Pilots:
    """The list of this name. Raises `InputError` with the nearest name if there is none."""
    if name not in load_pilots():
        raise InputError(f"unknown pilots {name!r}; {nearest(name, load_pilots())}")
    return load_pilots()[name]


def groups_of(pilots: Pilots) -> list[list[RunSpec]]:
    """The runs of a list, a group for each method on each task, in its order."""
    plan = load_suite().protocol(pilots.protocol)
    if pilots.env_steps is not None:
        plan = plan.model_copy(update={"train": plan.train.model_copy(update={"env_steps": pilots.env_steps})})
    return [
        specs("train", [task], [method], plan, pilots.seeds, precision=pilots.precision)
        for method in pilots.methods
        for task in pilots.tasks
    ]
