"""`suite/claims.yaml`, read and checked: chapters and claims as frozen values."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, field_validator

from benchmark.records.spec import Kind, arm, digest
from benchmark.records.store import RETURN
from benchmark.suite.criterion import ALL, Criterion, Estimand, Verdict
from benchmark.suite.load import SUITE, Source, Suite, load_page, load_suite
from benchmark.suite.pages import check_known as _known
from mbpo.config import Config, InputError, build, nearest

FIGURES = (
    *("reward-by-bin", "logvar-both-units", "logvar-over-training", "onset-critics"),
    *("aggregates", "profiles", "improvement", "ratio-sweep"),
    *("toy-costs", "toy-signatures"),
)
"""Chapter figures that `report` knows how to draw."""


class Origin(Config):
    """Where the paper says it, and how well we know that it does."""

    section: str
    sure: str

    @property
    def words(self) -> str:
        """The source as one line."""
        if self.section == "predecessor":
            return f"arXiv 2412.14312, on which the paper builds. {self.sure}"
        return f"arXiv 2510.01457, section {self.section}. {self.sure}"


class Chapter(Config):
    """A part of the report: what its claims share."""

    title: str
    text: str
    figures: tuple[str, ...] = ()


class DeclaredEdit(Config):
    """An edit of a claim after its runs, told openly: the form it led to, when, and why."""

    claim: str
    form: str = Field(pattern=r"^[0-9a-f]{16}$")
    date: date
    reason: str = Field(min_length=1)


DECIDES = {
    *("statement", "expected", "kind", "data", "step", "tasks", "drop", "arm", "against", "against_drop", "gate"),
    *("estimand", "against_window", "against_measure", "criterion"),
}
"""The fields of a claim that decide its verdict; the rest is how it is told, and where it can be judged."""


class Claim(Config):
    """One statement of the paper: who is compared with whom, on which number, where, and what would settle it."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    like: str = ""
    """The claim that this one tests again, elsewhere or at another size: what an entry leaves out is as it is there."""
    chapter: str
    title: str
    statement: str
    meaning: str
    source: Origin
    expected: Verdict
    kind: Kind
    data: Source = "random"
    step: int | None = None
    """Where the replay is cut off, if not where the protocol's plan says."""
    tasks: tuple[str, ...] = Field(min_length=1)
    drop: tuple[str, ...] = ()
    arm: str
    against: str
    against_drop: tuple[str, ...] | None = None
    gate: str = ""
    needs: str = ""
    estimand: Estimand
    against_window: tuple[float, float] | None = None
    against_measure: str | None = None
    criterion: Criterion
    protocols: tuple[str, ...] = Field(min_length=1)

    @field_validator("drop", "against_drop")
    @classmethod
    def _in_one_order(cls, drop: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if drop is None else tuple(sorted(set(drop)))

    @cached_property
    def form(self) -> str:
        """Hash of what decides the verdict; fields at their defaults are left out, so one added later moves no hash."""
        return digest(self.model_dump(mode="json", include=DECIDES, exclude_defaults=True))

    @property
    def expecting(self) -> str:
        """Who expects it: the paper, where it or a digest of it says so of its own tasks; else the project."""
        stated = self.source.sure.startswith(("S:", "D:")) and not any("benchmark.toys" in t for t in self.tasks)
        return "Paper expects" if stated else "We expect"

    @property
    def rows(self) -> tuple[str, ...]:
        """What gets a verdict of its own: each task, or the whole family of a counting or an aggregate claim."""
        whole = self.criterion.aggregate or self.criterion.at_least is not None
        return (ALL,) if whole else self.tasks

    @property
    def arms(self) -> tuple[tuple[str, tuple[str, ...]], tuple[str, tuple[str, ...]]]:
        """Method and dropped observation groups, of the arm and of what it is compared with."""
        return (self.arm, self.drop), (self.against, self.drop if self.against_drop is None else self.against_drop)

    @property
    def arm_label(self) -> str:
        """The arm as sentences name it."""
        return arm(*self.arms[0])

    @property
    def reference(self) -> Estimand:
        """The estimand of the arm that is compared against."""
        given = {"window": self.against_window, "measure": self.against_measure}
        return self.estimand.model_copy(update={name: value for name, value in given.items() if value is not None})

    @property
    def against_label(self) -> str:
        """The reference arm as sentences name it."""
        label = arm(*self.arms[1])
        if self.reference.measure != self.estimand.measure:
            return f"{label}'s {self.reference.name}"
        return f"{label} before training" if self.reference.window == (0.0, 0.0) else label


class Ledger(NamedTuple):
    """All chapters and claims, in the order of the page."""

    chapters: dict[str, Chapter]
    claims: tuple[Claim, ...]
    declared_edits: tuple[DeclaredEdit, ...] = ()

    def claim(self, name: str) -> Claim:
        """Raises `InputError` that names the nearest claim."""
        found = [claim for claim in self.claims if claim.id == name]
        if not found:
            raise InputError(f"unknown claim {name!r}; {nearest(name, [claim.id for claim in self.claims])}")
        return found[0]


@cache
def load_ledger(folder: Path = SUITE) -> Ledger:
    """Read and check `claims.yaml`. Raises `InputError` with the claim, the key and the nearest valid choice."""
    page = load_page("claims.yaml", folder, ("groups", "chapters", "claims", "declared_edits"))
    suite = load_suite(folder)
    for name, tasks in page["groups"].items():
        _check_tasks(tasks, suite, f"claims.yaml: groups.{name}")
    chapters = {name: build(Chapter, data, f"claims.yaml: chapters.{name}") for name, data in page["chapters"].items()}
    for name, chapter in chapters.items():
        for figure in chapter.figures:
            _known(figure, FIGURES, f"claims.yaml: chapters.{name}.figures")
    claims = tuple(_claim(name, data, page, suite) for name, data in page["claims"].items())
    return Ledger(chapters, claims, _declared(page["declared_edits"], claims))


def _declared(edits: Any, claims: Iterable[Claim]) -> tuple[DeclaredEdit, ...]:
    where = "claims.yaml: declared_edits"
    if not isinstance(edits, list) or not all(isinstance(edit, dict) for edit in edits):
        raise InputError(f"{where}: a list of mappings with claim, form, date and reason is needed here")
    found = tuple(build(DeclaredEdit, edit, f"{where}[{index}]") for index, edit in enumerate(edits))
    for index, edit in enumerate(found):
        _known(edit.claim, [claim.id for claim in claims], f"{where}[{index}].claim")
    return found


def _claim(name: str, data: Any, page: dict[str, Any], suite: Suite) -> Claim:
    where = f"claims.yaml: {name}"
    if not isinstance(data, dict):
        raise InputError(f"{where}: a mapping of fields is needed here, not {type(data).__name__}")
    if "like" in data:
        _known(data["like"], page["claims"], f"{where}.like")
        base = page["claims"][data["like"]]
        if not isinstance(base, dict) or "like" in base:
            raise InputError(f"{where}.like = {data['like']!r}: name the claim that it is like itself")
        data = {**base, **data}
    tasks = data.get("tasks")
    if isinstance(tasks, str):
        _known(tasks, page["groups"], f"{where}.tasks")
        tasks = page["groups"][tasks]
    claim = build(Claim, {**data, "id": name, "tasks": tasks or ()}, where)
    _known(claim.chapter, page["chapters"], f"{where}.chapter")
    _check_tasks(claim.tasks, suite, f"{where}.tasks")
    for protocol in claim.protocols:
        _known(protocol, suite.protocols, f"{where}.protocols")
    if claim.kind == "train" and claim.data != "random":
        raise InputError(f"{where}.data = {claim.data!r}: a train claim collects its own; leave it out")
    if claim.step is not None and claim.data == "random":
        raise InputError(f"{where}.step = {claim.step}: random data have no step; give data: replay, or leave it out")
    claim.estimand.check(claim.kind, f"{where}.estimand")
    claim.reference.check(claim.kind, f"{where}.against_window")
    if (claim.arms[0], claim.estimand) == (claim.arms[1], claim.reference):
        raise InputError(f"{where}: {claim.arm!r} is compared with itself; give another arm, or against_window")
    if (claim.criterion.at_least or 1) > len(claim.tasks):
        raise InputError(
            f"{where}.criterion.at_least = {claim.criterion.at_least}: the claim has {len(claim.tasks)} tasks"
        )
    if claim.criterion.aggregate:
        _check_aggregate(claim, suite, where)
    for method in dict.fromkeys([claim.arm, claim.against, *([claim.gate] if claim.gate else [])]):
        if claim.needs and method not in suite.methods:
            continue  # the very machinery that is missing
        for task in claim.tasks:
            try:
                suite.method(method, task, kind=claim.kind)
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
    return claim


def _check_aggregate(claim: Claim, suite: Suite, where: str) -> None:
    if claim.estimand.measure != RETURN or claim.estimand.transform != "none":
        raise InputError(f"{where}.criterion.aggregate: only {RETURN} has a scale that is common to all tasks")
    for task in claim.tasks:
        try:
            suite.task(task).normalize(0.0)
        except InputError as error:
            raise InputError(f"{where}.criterion.aggregate: {task!r}: {error}") from None


def _check_tasks(tasks: Any, suite: Suite, where: str) -> None:
    for task in tasks:
        _known(task, suite.tasks, where)
    twice = [task for task in tasks if list(tasks).count(task) > 1]
    if twice:
        raise InputError(f"{where}: {twice[0]!r} stands twice")
