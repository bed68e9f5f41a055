"""What processes that are gone have left behind and nobody needs: drafts, progress, snapshots of finished runs.

Whatever some process still holds, what a run can go on from, and what was kept on purpose is left alone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from benchmark.running import progress, snapshots
from benchmark.running.leases import EXPIRY, Leases
from mbpo.config import InputError

DRAFT_SECONDS = 2 * EXPIRY
"""A draft that is older than this is nobody's: writing one takes seconds."""


class Leftover(NamedTuple):
    """A file or folder that can go, and why."""

    path: Path
    why: str

    @property
    def bytes(self) -> int:
        """Its size."""
        files = [self.path] if self.path.is_file() else [path for path in self.path.rglob("*") if path.is_file()]
        total = 0
        for file in files:
            with suppress(OSError):
                total += file.stat().st_size
        return total

    def remove(self) -> None:
        """Remove it, as far as that is permitted."""
        if self.path.is_dir():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def settle(store: Store, runs: Iterable[RunSpec]) -> None:
    """Remove what processes that are gone have left of those of `runs` that have their record.

    These are drafts, snapshots that nobody asked to keep, leases and progress. What cannot be removed is left.
    """
    wanted = {run.key: run for run in runs}
    with suppress(OSError, InputError):
        leases = Leases(store.cache)
        left = _left_of(store, wanted)
        if left:
            with leases.take(left) as keys:  # so that no other process begins with them meanwhile
                for path in [path for key in keys if store.has(wanted[key]) for path in left[key]]:
                    Leftover(path, "").remove()
        for draft in (store.cache / "progress").glob(".*.tmp"):  # a living process that misses its own writes another
            Leftover(draft, "").remove()
        for path in sorted((store.cache / "progress").glob("*.json")):
            told = progress.read(path)
            if told is not None and wanted.keys() & told["keys"] and not any(leases.held(key) for key in told["keys"]):
                Leftover(path, "").remove()


def _left_of(store: Store, wanted: Mapping[str, RunSpec]) -> dict[str, list[Path]]:
    """By key, what lies about of the runs `wanted`: empty where that is a lease alone, which goes once it is taken."""
    left: dict[str, list[Path]] = {}
    for folder in (store.cache / "snapshots").glob("*"):
        if folder.name in wanted and not (snapshots.page(folder) or {}).get("kept"):
            left.setdefault(folder.name, []).append(folder)
    for lease in (store.cache / "leases").glob("*.lease"):
        if lease.stem in wanted:
            left.setdefault(lease.stem, [])
    for key in wanted:
        for kept in ("policies", "replays"):
            for draft in (store.cache / kept / key).glob(".*.tmp"):
                left.setdefault(key, []).append(draft)
    for parent in {store.runs / run.slug / run.method for run in wanted.values()}:
        for draft in parent.glob("*.tmp"):
            if (key := draft.name.split("-")[0]) in wanted and "-torn-" not in draft.name:
                left.setdefault(key, []).append(draft)
    return left


def leftovers(store: Store) -> list[Leftover]:
    """Everything under the two folders of `store` that is left of the dead."""
    leases = Leases(store.cache)
    return [*_drafts(store, leases), *_progress(store.cache, leases), *_snapshots(store, leases)]


def _drafts(store: Store, leases: Leases) -> Iterator[Leftover]:
    for path in sorted(store.runs.glob("*/*/*.tmp")):
        key = path.name.split("-")[0]
        if "-torn-" not in path.name and _is_old(path) and not leases.held(key):  # a torn record is somebody's work
            yield Leftover(path, "a record that was not written to its end")
    for folder in ("progress", "replays", "policies", "data", "leases"):
        for path in sorted((store.cache / folder).rglob("*.tmp")):
            if _is_old(path) and not leases.held(path.parent.name):
                yield Leftover(path, "a draft of a process that is gone")


def _progress(cache: Path, leases: Leases) -> Iterator[Leftover]:
    for path in sorted((cache / "progress").glob("*.json")):
        told = progress.read(path)
        if told is None or not any(leases.held(key) for key in told["keys"]):
            yield Leftover(path, "the progress of a process that is gone" if told else "it cannot be read")


def _snapshots(store: Store, leases: Leases) -> Iterator[Leftover]:
    for folder in sorted((store.cache / "snapshots").glob("*")):
        if folder.is_dir() and not leases.held(folder.name) and (why := _is_useless(folder, store)):
            yield Leftover(folder, why)
    for folder in sorted((store.cache / "checkpoints").glob("*")):
        yield Leftover(folder, "snapshots in a form that this version does not read")


def _is_useless(folder: Path, store: Store) -> str:
    """Why nobody can go on from the snapshots in `folder` or needs to; nothing if somebody may."""
    said = snapshots.page(folder)
    if said is None:
        return "nothing says whose it is" if _is_old(folder) else ""
    try:
        run = RunSpec.from_json(said["spec"], str(folder / snapshots.PAGE))
        recorded = store.has(run)
    except InputError:
        return "snapshots of a run that this version does not know"
    if not run.trainable:
        return "snapshots of a run whose numbers this version does not make"
    if recorded:
        return "" if said["kept"] else "snapshots of a run that has its record"
    return "" if snapshots.steps(store.cache, run) else "a run that was begun and left no snapshot"


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > DRAFT_SECONDS
    except OSError:
        return False
