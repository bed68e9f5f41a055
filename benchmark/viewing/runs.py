"""Which stored runs are meant: by task and length of training, or by the first digits of a key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from mbpo.config import InputError, nearest

LEAST = 6
"""Digits of a key that name a run."""


class Chosen(NamedTuple):
    """Runs of one length, by arm, and a sentence on what was left out."""

    arms: dict[str, list[RunSpec]]
    note: str

    @property
    def runs(self) -> list[RunSpec]:
        """All of them."""
        return [spec for group in self.arms.values() for spec in group]


def of_task(store: Store, task: str, methods: Sequence[str] = (), steps: int | None = None) -> Chosen:
    """The online runs of `task` that belong in one picture: one budget, each arm with its own constants.

    Of several budgets the one with most runs is taken unless `steps` names another. An arm whose constants differ
    between runs, as under two protocols, comes as several: ``mbpo``, ``mbpo (2)``. Raises `InputError` where there is
    no such run.
    """
    trained = [spec for spec in store.specs() if spec.kind == "train"]
    known = {spec.task for spec in trained}
    if task not in known:
        told = nearest(task, known) if known else "nothing has been trained online"
        raise InputError(f"no online run of {task!r} has a record in {str(store.results)!r}; {told}")
    mine = [spec for spec in trained if spec.task == task]
    lacking = [name for name in methods if name not in {spec.method for spec in mine}]
    if lacking:
        raise InputError(
            f"no online run of {lacking[0]!r} on {task!r}; {nearest(lacking[0], {spec.method for spec in mine})}"
        )
    mine = [spec for spec in mine if not methods or spec.method in methods]
    lengths = Counter(spec.length for spec in mine)
    length = steps or max(lengths, key=lambda n: (lengths[n], n))
    if length not in lengths:
        there = ", ".join(f"{n} ({lengths[n]})" for n in sorted(lengths))
        raise InputError(f"--steps {steps}: no run of {task!r} is so long; lengths and their runs: {there}")
    others = sum(lengths.values()) - lengths[length]
    note = f"{others} runs of other lengths are left out; --steps names one of {sorted(lengths)}" if others else ""
    return Chosen(_by_arm([spec for spec in mine if spec.length == length]), note)


def _by_arm(specs: Sequence[RunSpec]) -> dict[str, list[RunSpec]]:
    """The runs by the name of their arm, those with other constants or another evaluation apart, by seed."""
    groups: dict[str, dict[str, list[RunSpec]]] = {}
    for spec in specs:
        same = spec.model_copy(update={"seed": 0}).model_dump_json(exclude={"numerics_version"})
        groups.setdefault(spec.arm, {}).setdefault(same, []).append(spec)
    arms = {}
    for arm in sorted(groups):
        variants = sorted(groups[arm].values(), key=len, reverse=True)
        for i, group in enumerate(variants):
            arms[arm if not i else f"{arm} ({i + 1})"] = sorted(group, key=lambda spec: spec.seed)
    return arms


def of_key(store: Store, key: str) -> RunSpec:
    """The online run whose key begins with `key`. Raises `InputError` for none, and for more than one."""
    trained = [spec for spec in store.specs() if spec.kind == "train"]
    named = {spec.key: spec for spec in trained if spec.key.startswith(key)} if len(key) >= LEAST else {}
    if len(named) != 1:
        why = "names several runs" if named else f"is not {LEAST} or more digits of an online run's key"
        raise InputError(f"{key!r} {why}; {nearest(key, {spec.key for spec in trained})}")
    return next(iter(named.values()))
