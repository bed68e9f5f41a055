"""Pack loose records into one file per task and kind, and unpack them to the same bytes.

A pack is written aside, flushed, read back and compared byte for byte, and only then takes its place; the loose folders
go last, each renamed before its files are removed, so that no half of one looks like a record. A process that is killed
in between leaves records that are both packed and loose, and equal: the next call goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.records import packed, parquet
from benchmark.records.packed import FILES, NAMES, Packed
from benchmark.records.store import Store, sync
from mbpo.config import InputError

_LEVEL = 19
_GROUP = 256
"""Records of one row group: what zstd sees at once."""
_SPENT = "-packed.tmp"
"""What a packed folder's name ends in while it is removed."""


class Done(NamedTuple):
    """What a call did."""

    records: int
    packs: int
    bytes: int


def pack(store: Store, dry_run: bool = False) -> Done:
    """Pack every loose, sound record; `dry_run` only counts them.

    Raises `InputError` where a loose record and a packed one of the same key differ.
    """
    loose = [
        (folder, Packed(_pack_of(store, slug, kind), slug, folder.parent.name, folder.name, _files(folder)))
        for folder, slug, kind in store.loose()
    ]
    done = Done(len(loose), len({record.pack for _, record in loose}), 0)
    if dry_run:
        return done
    for left in sorted(store.runs.glob(f"*/*/*{_SPENT}")):  # of a call that was killed
        _drop(left)
    if not loose:
        return done
    size = 0
    for path, members in groupby(sorted(loose, key=lambda pair: str(pair[1].pack)), key=lambda pair: pair[1].pack):
        group = list(members)
        _write(path, _merged(path, [record for _, record in group]))
        size += path.stat().st_size
        for folder, _ in group:
            _spend(folder)
    return done._replace(bytes=size)


def unpack(store: Store, task: str = "") -> Done:
    """Write packed records, of one task or all, as loose folders again, and remove their packs.

    Raises `InputError` for a task without packed records, a pack that cannot be read, or a loose record that differs
    from its packed twin; that pack stays.
    """
    slug = task.replace(":", "-").replace("/", "-")
    chosen = [path for path in packed.packs(store.results) if not task or path.stem.rpartition("-")[0] == slug]
    if task and not chosen:
        raise InputError(f"task {task!r} has no packed records in {str(store.results / packed.FOLDER)!r}")
    records = 0
    for path in chosen:
        found = parquet.read(path)
        if not found:
            raise InputError(f"{str(path)!r} cannot be read; nothing of it was unpacked")
        for record in found.values():
            folder = store.runs / record.slug / record.method / record.key
            if not folder.exists():
                _write_loose(folder, record)
            elif any(not (folder / name).is_file() for name in FILES) or _files(folder) != record.files:
                raise InputError(f"{str(folder)!r} differs from the packed record of its key; remove the wrong one")
        records += len(found)
        path.unlink()  # last: until here every record is still packed
    return Done(records, len(chosen), 0)


def _pack_of(store: Store, slug: str, kind: str) -> Path:
    return store.results / packed.FOLDER / f"{slug}-{kind}.parquet"


def _files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def _spend(folder: Path) -> None:
    """Remove a packed record's folder; from the rename on it is no record."""
    _drop(folder.rename(folder.with_name(folder.name + _SPENT)))


def _drop(folder: Path) -> None:
    """Remove a folder, and the folders of its method and task where they are left empty."""
    shutil.rmtree(folder)
    for parent in (folder.parent, folder.parent.parent):
        if not any(parent.iterdir()):
            parent.rmdir()


def _write_loose(folder: Path, record: Packed) -> None:
    """Write a record's files beside their place, flushed to disk, and rename."""
    draft = folder.with_name(f"{record.key}-{os.getpid()}.tmp")
    draft.mkdir(parents=True)
    for name, data in record.files.items():
        with (draft / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    draft.rename(folder)
    sync(folder.parent)


def _merged(path: Path, new: Iterable[Packed]) -> list[Packed]:
    """The records of a pack and those that join it, by method and key.

    Raises `InputError` where two of one key differ, or where the pack that is there cannot be read.
    """
    old = parquet.read(path) if path.exists() else {}
    if path.exists() and not old:
        raise InputError(f"{str(path)!r} cannot be read; mend or remove it before more is packed")
    found = dict(old)
    for record in new:
        if record.key in found and found[record.key].files != record.files:
            raise InputError(f"{found[record.key]} and the loose record of its key differ; remove the wrong one")
        found[record.key] = record
    return sorted(found.values(), key=lambda record: (record.method, record.key))


def _write(path: Path, records: list[Packed]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: [getattr(record, name) for record in records] for name in NAMES}
    columns |= {name: [record.files[name] for record in records] for name in FILES}
    types = {**dict.fromkeys(NAMES, pa.string()), **dict.fromkeys(FILES, pa.binary())}
    table = pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    options = {"compression": "zstd", "compression_level": _LEVEL, "row_group_size": _GROUP}
    # Pages as large as a group: zstd finds what texts have in common within a page alone.
    pq.write_table(table, draft, use_dictionary=False, data_page_size=1 << 30, write_statistics=False, **options)
    with open(draft, "rb") as file:
        os.fsync(file.fileno())
    if [_whole(r) for r in parquet.read(draft).values()] != [_whole(r) for r in records]:
        raise RuntimeError(f"{draft} does not hold what was packed; the records stay loose")
    draft.replace(path)
    sync(path.parent)


def _whole(record: Packed) -> tuple[str, str, str, dict[str, bytes]]:
    return record.slug, record.method, record.key, record.files
