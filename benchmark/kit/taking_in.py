"""Take records and speed files of another folder into this one: what is there stays, what is new is copied."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

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


def take_in(folder: Path, store: Store) -> Taken:
    """Copy what is new in ``folder / results``, or in `folder` itself, into `store`; nothing is overwritten.

    Raises:
        InputError: there are no results in the folder.
    """
    results = folder / "results" if (folder / "results").is_dir() else folder
    if not (results / "runs").is_dir() and not (results / saved.FOLDER).is_dir():
        raise InputError(f"{folder}: neither records nor speed files in it; give the folder that a session wrote")
    other = Store(results, folder / "cache")
    copied, differing, known = 0, [], 0
    for record in other.records():
        spec = record.spec
        if not store.has(spec):
            place = Path(spec.slug) / spec.method / spec.key
            _copy(other.runs / place, store.runs / place)
            copied += 1
            continue
        known += 1
        if store.read(spec).provenance["sha256"] != record.provenance["sha256"]:
            differing.append(f"{spec.label} seed {spec.seed}")
    return Taken(copied, known, len(other.torn()), _measurements(results, store.results), tuple(differing))


def _copy(source: Path, target: Path) -> None:
    """Copy a folder so that it appears whole or not at all."""
    if not source.is_dir():
        raise InputError(f"{source}: a packed record; unpack it there first")
    draft = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    draft.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, draft)
    draft.rename(target)


def _measurements(results: Path, to: Path) -> int:
    copied = 0
    for path in sorted((results / saved.FOLDER).glob("*/*.json")):
        target = to / saved.FOLDER / path.parent.name / path.name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
            copied += 1
    return copied
