"""Which stored runs are meant: by task and length of training, or by the first digits of a key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from benchmark.words import count, plain
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
    """The online runs of `task` that belong in one picture: of one budget and one precision.

    Of several such sets the one with most runs is taken, of those that are `steps` long if that is given. An arm whose
    constants differ between runs, as under two protocols, comes as several, named by what differs: ``mbpo``,
    ``mbpo, utd 5``. Raises `InputError` where there is no such run.
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
    if steps is not None and steps not in lengths:
        there = ", ".join(f"{n} ({lengths[n]})" for n in sorted(lengths))
        raise InputError(f"--steps {steps}: no run of {task!r} is so long; lengths and their runs: {there}")
    sets: dict[tuple[str, str], list[RunSpec]] = {}
    for spec in mine:
        if spec.budget is not None and steps in (None, spec.length):
            sets.setdefault((spec.budget.model_dump_json(), spec.precision), []).append(spec)
    chosen = max(sets.values(), key=lambda group: (len(group), group[0].precision == "fp32", group[0].length))
    others = len(mine) - len(chosen)
    note = (
        f"shown are runs of {chosen[0].length:,} env steps in {chosen[0].precision}; {count(others, 'run')} of another "
        f"length, evaluation or precision left out (--steps is one of {', '.join(map(str, sorted(lengths)))})"
    )
    return Chosen(_by_arm(chosen), note if others else "")


def _by_arm(specs: Sequence[RunSpec]) -> dict[str, list[RunSpec]]:
    """The runs by the name of their arm and by seed, an arm's most frequent set of constants first."""
    groups: dict[str, dict[str, list[RunSpec]]] = {}
    for spec in specs:
        groups.setdefault(spec.arm, {}).setdefault(spec.constants.model_dump_json(), []).append(spec)
    arms: dict[str, list[RunSpec]] = {}
    for arm in sorted(groups):
        first, *others = sorted(groups[arm].values(), key=len, reverse=True)
        for group in (first, *others):
            label = arm if group is first else f"{arm}, {_difference(first[0], group[0])}"
            while label in arms:
                label += "'"
            arms[label] = sorted(group, key=lambda spec: spec.seed)
    return arms


def _difference(one: RunSpec, other: RunSpec) -> str:
    """The first constant of `other` that is not that of `one`, in words."""
    a, b = (_leaves(spec.constants.model_dump(mode="json")) for spec in (one, other))
    name = next(name for name in {**b, **a} if a.get(name) != b.get(name))
    return f"{name.rpartition('.')[2].replace('_', ' ')} {plain(b.get(name))}"


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by their dotted paths."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def of_key(store: Store, key: str) -> RunSpec:
    """The online run whose key begins with `key`. Raises `InputError` for none, and for more than one."""
    trained = [spec for spec in store.specs() if spec.kind == "train"]
    named = {spec.key: spec for spec in trained if spec.key.startswith(key)} if len(key) >= LEAST else {}
    if len(named) != 1:
        why = "names several runs" if named else f"is not {LEAST} or more digits of an online run's key"
        raise InputError(f"{key!r} {why}; {nearest(key, {spec.key for spec in trained})}")
    return next(iter(named.values()))
