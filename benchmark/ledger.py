"""`suite/claims.yaml`, read and checked: chapters and claims as frozen values."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from benchmark.evidence import ALL, Criterion, Verdict
from benchmark.pages import SUITE, Suite, load_page, load_suite
from benchmark.scores import Estimand
from benchmark.spec import Kind
from mbpo.config import Config, InputError, build, nearest

FIGURES = ("reward-by-bin", "logvar-both-units")
"""Chapter figures that `report` knows how to draw."""


class Source(Config):
    """Where the paper says it, and how well we know that it does."""

    section: str
    sure: str

    @property
    def words(self) -> str:
        """The source as one line."""
        return f"arXiv 2510.01457, section {self.section}. {self.sure}"


class Chapter(Config):
    """A part of the report: what its claims share."""

    title: str
    text: str
    figures: tuple[str, ...] = ()


class Claim(Config):
    """One statement of the paper: who is compared with whom, on which number, where, and what would settle it."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    chapter: str
    title: str
    statement: str
    meaning: str
    source: Source
    expected: Verdict
    kind: Kind
    tasks: tuple[str, ...] = Field(min_length=1)
    arm: str
    against: str
    estimand: Estimand
    against_window: tuple[float, float] | None = None
    criterion: Criterion
    protocols: tuple[str, ...] = Field(min_length=1)

    @property
    def rows(self) -> tuple[str, ...]:
        """What gets a verdict of its own: each task, or the whole family of a counting claim."""
        return self.tasks if self.criterion.at_least is None else (ALL,)

    @property
    def reference(self) -> Estimand:
        """The estimand of the arm that is compared against."""
        return (
            self.estimand
            if self.against_window is None
            else self.estimand.model_copy(update={"window": self.against_window})
        )

    @property
    def against_label(self) -> str:
        """The reference arm as sentences name it."""
        return f"{self.against} before training" if self.reference.window == (0.0, 0.0) else self.against


class Ledger(NamedTuple):
    """All chapters and claims, in the order of the page."""

    chapters: dict[str, Chapter]
    claims: tuple[Claim, ...]

    def claim(self, name: str) -> Claim:
        """Raises `InputError` that names the nearest claim."""
        found = [claim for claim in self.claims if claim.id == name]
        if not found:
            raise InputError(f"unknown claim {name!r}; {nearest(name, [claim.id for claim in self.claims])}")
        return found[0]


@cache
def load_ledger(folder: Path = SUITE) -> Ledger:
    """Read and check `claims.yaml`. Raises `InputError` with the claim, the key and the nearest valid choice."""
    page = load_page("claims.yaml", folder, ("groups", "chapters", "claims"))
    suite = load_suite(folder)
    for name, tasks in page["groups"].items():
        _check_tasks(tasks, suite, f"claims.yaml: groups.{name}")
    chapters = {name: build(Chapter, data, f"claims.yaml: chapters.{name}") for name, data in page["chapters"].items()}
    for name, chapter in chapters.items():
        for figure in chapter.figures:
            _known(figure, FIGURES, f"claims.yaml: chapters.{name}.figures")
    return Ledger(chapters, tuple(_claim(name, data, page, suite) for name, data in page["claims"].items()))


def _claim(name: str, data: Any, page: dict[str, Any], suite: Suite) -> Claim:
    where = f"claims.yaml: {name}"
    if not isinstance(data, dict):
        raise InputError(f"{where}: a mapping of fields is needed here, not {type(data).__name__}")
    tasks = data.get("tasks")
    if isinstance(tasks, str):
        _known(tasks, page["groups"], f"{where}.tasks")
        tasks = page["groups"][tasks]
    claim = build(Claim, {**data, "id": name, "tasks": tasks or ()}, where)
    _known(claim.chapter, page["chapters"], f"{where}.chapter")
    _check_tasks(claim.tasks, suite, f"{where}.tasks")
    for protocol in claim.protocols:
        _known(protocol, suite.protocols, f"{where}.protocols")
    claim.estimand.check(claim.kind, f"{where}.estimand")
    claim.reference.check(claim.kind, f"{where}.against_window")
    if (claim.arm, claim.estimand) == (claim.against, claim.reference):
        raise InputError(f"{where}: {claim.arm!r} is compared with itself; give another arm, or against_window")
    if (claim.criterion.at_least or 1) > len(claim.tasks):
        raise InputError(
            f"{where}.criterion.at_least = {claim.criterion.at_least}: the claim has {len(claim.tasks)} tasks"
        )
    for method in (claim.arm, claim.against):
        for task in claim.tasks:
            try:
                suite.method(method, task, kind=claim.kind)
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
    return claim


def _known(name: str, known: Iterable[str], where: str) -> None:
    if name not in known:
        raise InputError(f"{where} = {name!r}: not a choice; {nearest(str(name), known)}")


def _check_tasks(tasks: Any, suite: Suite, where: str) -> None:
    for task in tasks:
        _known(task, suite.tasks, where)
    twice = [task for task in tasks if list(tasks).count(task) > 1]
    if twice:
        raise InputError(f"{where}: {twice[0]!r} stands twice")
