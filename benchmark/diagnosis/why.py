"""Why one training run went as it did: which signs set in, in which order, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmark.diagnosis.policies import LEAST
from benchmark.diagnosis.signs import Course, Onset, Sign, course, onsets
from benchmark.records.spec import RunSpec
from benchmark.records.store import RETURN, Record, Store
from benchmark.words import count, number
from mbpo.config import InputError, SacConfig, nearest

NOTHING = "Nothing stands out."


@dataclass(frozen=True)
class Account:
    """What was found about one run."""

    record: Record
    reference: Record | None
    course: Course
    onsets: list[Onset]  # in order of time, those that did not set in last
    unknown: list[Sign]

    @property
    def first(self) -> list[Onset]:
        """The signs that set in at the earliest evaluation at which any did."""
        return [o for o in self.onsets if o.at is not None and o.at == self.onsets[0].at]

    @property
    def sentences(self) -> list[str]:
        """The account in words, a sentence or two a line."""
        return [*_opening(self), *_story(self), *_closing(self)]

    @property
    def found(self) -> dict[str, Any]:
        """The account as data."""
        signs = [
            {"id": o.sign.id, "at": o.at, "before": o.before, "value": _finite(o.value), "limit": o.sign.limit,
             "source": o.sign.source, "arms": list(o.sign.arms)}
            for o in self.onsets
        ]  # fmt: skip
        spec = self.record.spec
        reference = None if self.reference is None else self.reference.spec.key
        return {
            **{"key": spec.key, "task": spec.task, "method": spec.method, "seed": spec.seed, "reference": reference},
            **{"first": [o.sign.id for o in self.first], "signs": signs},
            **{"not_judged": [sign.id for sign in self.unknown], "sentences": self.sentences},
        }


def find(store: Store, run: str) -> RunSpec:
    """The training run that `run` names: the first digits of its key, or ``TASK+METHOD+SEED``.

    Raises `InputError` where it names none or several, or a run of another kind.
    """
    specs = list(store.specs())
    if "+" in run:
        task, *rest = run.split("+")
        named = [s for s in specs if [s.task, s.arm, str(s.seed)] == [task, *rest] and s.kind == "train"]
        known = [f"{s.task}+{s.arm}+{s.seed}" for s in specs if s.kind == "train"]
    else:
        named = [s for s in specs if s.key.startswith(run)] if len(run) >= LEAST else []
        known = [s.key for s in specs if s.kind == "train"]
    keys = {s.key: s for s in named}
    if len(keys) > 1:
        told = "; ".join(f"{key} ({_length(s)})" for key, s in sorted(keys.items())[:8])
        raise InputError(f"run {run!r} names {len(keys)} runs, give the key of one: {told}")
    if not keys:
        raise InputError(
            f"run {run!r} is neither {LEAST} or more digits of a training run's key nor TASK+METHOD+SEED of one with a "
            f"record; {_nearest(run, known)}"
        )
    spec = next(iter(keys.values()))
    if spec.kind != "train":
        raise InputError(f"run {run!r} is {spec.label}; only training runs have a course that can be read")
    return spec


def _nearest(run: str, known: list[str]) -> str:
    """The closest name, or how many there are: a store holds hundreds."""
    told = nearest(run, known)
    return told if told.startswith("did you mean") else f"{count(len(known), 'training run')} here"


def _length(spec: RunSpec) -> str:
    steps = spec.budget.env_steps if spec.budget is not None else 0
    return f"{steps:,} env steps, {count(spec.constants.utd, 'update')} each"


def account(store: Store, spec: RunSpec) -> Account:
    """What is to be said of the run `spec`, which has a record."""
    other = reference_of(store.specs(), spec) if spec.constants.model is not None else None
    return explain(store.read(spec), None if other is None else store.read(other))


def reference_of(specs: Iterable[RunSpec], spec: RunSpec) -> RunSpec | None:
    """A run without a model that `spec` may be held against: as many updates and steps, at best of its seed.

    Its learner has the constants of the paper: a rival's own constants are part of what is asked about.
    """

    def fits(other: RunSpec) -> bool:
        mine, theirs = spec.constants, other.constants
        return (
            other.kind == "train"
            and (other.task, other.drop) == (spec.task, spec.drop)
            and theirs.model is None
            and (theirs.utd, theirs.random_steps) == (mine.utd, mine.random_steps)
            and theirs.sac == SacConfig()
            and other.budget is not None
            and spec.budget is not None
            and other.budget.env_steps >= spec.budget.env_steps
        )

    found = [other for other in specs if fits(other)]
    return min(found, key=lambda s: (s.seed != spec.seed, s.seed, s.key), default=None)


def explain(record: Record, reference: Record | None = None) -> Account:
    """Read the signs of a `train` record, beside those of a run without a model where one is given."""
    c = course(record, reference)
    return Account(record, reference, c, *onsets(c))


def _opening(a: Account) -> list[str]:
    spec, steps = a.record.spec, a.course.table.index
    text = f"{spec.arm} on {spec.task}, seed {spec.seed}"
    if not len(steps):
        return [f"{text}: no evaluation followed an update, so nothing can be judged."]
    returns = a.course[RETURN]
    ends = (
        f"its return went from {number(float(a.course.start[RETURN]))} untrained to {number(float(returns.iloc[-1]))}"
    )
    return [
        f"{text}: {ends} in {int(steps[-1]):,} env steps ({count(len(steps), 'evaluation')} after the first update)."
    ]


def _story(a: Account) -> list[str]:
    set_in = [o for o in a.onsets if o.at is not None]
    if not a.onsets:
        return []
    if not set_in:
        return [f"{NOTHING} {_judged(a)}"]
    lines, last = [], None
    for o in set_in:
        head = "First" if last is None else "Together with it" if o.at == last else "Then"
        between = f"between {o.before:,} and {o.at:,} env steps"
        lines.append(
            f"{head}, {between}: {o.sign.title[0].lower()}{o.sign.title[1:]}. {o.sign.measure[0].upper()}"
            f"{o.sign.measure[1:]}: {number(o.value)}, limit {number(o.sign.limit)} ({o.sign.source})."
        )
        last = o.at
    fields = list(dict.fromkeys(field for o in a.first for field in o.sign.arms))
    lines.append(f"First in time is not yet the cause. Arms that would test it change {', '.join(fields)}.")
    return lines


def _judged(a: Account) -> str:
    return f"{count(len(a.onsets), 'sign')} were looked for at every evaluation."


def _closing(a: Account) -> list[str]:
    lines = []
    last = a.course.table.iloc[-1] if len(a.course.table) else None
    parts = next((p for p in ("mc", "eval") if last is not None and f"{p}_entropy_part" in last), None)
    if last is not None and parts is not None and math.isfinite(last[f"{parts}_q"]):
        q, reward, entropy = (number(float(last[f"{parts}_{part}"])) for part in ("q", "reward_part", "entropy_part"))
        lines.append(
            f"At the end the critics say {q} where the policy collects {reward} in discounted rewards and {entropy} in "
            "entropy."
        )
    if a.unknown:
        lines.append(f"Not judged, for the record lacks what is needed: {', '.join(s.id for s in a.unknown)}.")
    return lines


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
