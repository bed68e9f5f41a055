"""The runs whose replays a task is diagnosed by, in place of a random policy's transitions."""

from __future__ import annotations

from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from benchmark.running import replays
from mbpo.config import InputError, nearest

LEAST = 6
"""Digits of a key that name a run."""


def runs_of(key: str, task: str, drop: tuple[str, ...], store: Store, most: int) -> list[RunSpec]:
    """The training run whose key begins with `key`, then those that differ from it in their seed alone.

    The others count only if their replay is kept, since more seeds make firmer statements but must not cost a training;
    at most `most` runs are returned. Raises `InputError` for a key that names no run, several, or one that
    does not fit `task` and `drop`.
    """
    trained = [spec for spec in store.specs() if spec.kind == "train"]
    named = [spec for spec in trained if spec.key.startswith(key)] if len(key) >= LEAST else []
    if len({spec.key for spec in named}) != 1:
        labels = {spec.key: spec.label for spec in trained if spec.task == task}
        known = "; ".join(f"{k} ({label})" for k, label in list(labels.items())[:4]) or "none is of this task"
        why = (
            "names several runs" if named else f"is neither 'random' nor {LEAST} or more digits of a training run's key"
        )
        raise InputError(f"--policy {key!r} {why}; {nearest(key, ['random', *labels])}; runs with a record: {known}")
    chosen = named[0]
    if chosen.task != task or (drop and chosen.drop != tuple(sorted(drop))):
        raise InputError(
            f"--policy {key!r} is {chosen.label}, not of {task!r}{' less ' + ', '.join(drop) if drop else ''}"
        )
    siblings = [
        spec
        for spec in trained
        if spec.key != chosen.key
        and spec.model_copy(update={"seed": chosen.seed}) == chosen
        and replays.has(store.cache, spec)
    ]
    return [chosen, *siblings][:most]
