"""Take records and speed files of another folder into this one: what is there stays, what is new is copied.

The other folder may come from another cluster or another machine, copied while jobs ran there: a record that is not
whole yet is left, and taken by the next call. Runs that would be pooled in one verdict must be of one engine. So where
this store has runs of the same plan (kind, task and budget), a record of an engine that none of them has is left.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from benchmark.judging import engines
from benchmark.records.spec import RunSpec, digest
from benchmark.records.store import Store
from benchmark.speed import saved
from mbpo.config import InputError


class Taken(NamedTuple):
    """What was done with the records and files of the other folder."""

    records: int
    """Copied."""
    known: int
    """Left: the same run has a record here."""
    torn: int
    """Left: not whole, or changed after it was written."""
    measurements: int
    """Speed files copied."""
    differing: tuple[str, ...]
    """Runs with a record here that is another: another engine trained it. The one that is here stays."""
    other_engine: tuple[str, ...] = ()
    """Left: runs of an engine that the runs of their plan here do not have."""


def take_in(folder: Path, store: Store, mix_engines: bool = False) -> Taken:
    """Copy what is new in ``folder / results``, or in `folder` itself, into `store`; nothing is overwritten.

    `mix_engines` copies records of other engines too, which verdicts then refuse to pool.

    Raises:
        InputError: there are no results in the folder.
    """
    results = folder / "results" if (folder / "results").is_dir() else folder
    if not any((results / name).is_dir() for name in ("runs", "packed", saved.FOLDER)):
        raise InputError(f"{folder}: neither records nor speed files in it; give the folder that a session wrote")
    other = Store(results, folder / "cache")
    wanted = list(other.specs())
    here = _engines(store, {_plan(spec) for spec in wanted if not store.has(spec)})
    copied, differing, left, known = 0, [], [], 0
    for spec in wanted:
        files = other.files(spec)
        told = json.loads(files["provenance.json"])
        if store.has(spec):
            known += 1
            if json.loads(store.files(spec)["provenance.json"])["sha256"] != told["sha256"]:
                differing.append(f"{spec.label} seed {spec.seed}")
        elif not mix_engines and (ours := here.get(_plan(spec))) and engines.name(told) not in ours:
            left.append(f"{spec.label} is of {engines.name(told)}, and here are {' and '.join(sorted(ours))}")
        else:
            store.adopt(spec, files)
            copied += 1
    measured = _measurements(results, store.results)
    return Taken(copied, known, len(other.torn()), measured, tuple(differing), tuple(left))


def _plan(spec: RunSpec) -> str:
    """What runs have in common that may stand in one verdict: all but the arm and the seed."""
    fields = spec.model_dump(mode="json", include={"kind", "task", "drop", "budget", "fit", "probe", "precision"})
    return digest(fields)


def _engines(store: Store, plans: set[str]) -> dict[str, set[str]]:
    """The engines of this store's runs by their plan."""
    found: dict[str, set[str]] = {}
    for spec in store.specs() if plans else ():
        if (plan := _plan(spec)) in plans:
            found.setdefault(plan, set()).add(engines.name(json.loads(store.files(spec)["provenance.json"])))
    return found


def _measurements(results: Path, to: Path) -> int:
    copied = 0
    for path in sorted((results / saved.FOLDER).glob("*/*.json")):
        target = to / saved.FOLDER / path.parent.name / path.name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
            copied += 1
    return copied
