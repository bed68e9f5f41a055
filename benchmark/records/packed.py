"""Packed records: the same four files of many runs in one parquet file per task and kind of run.

``results/packed/<task>-<kind>.parquet`` has a row per record: its task's folder name, method and key, and the exact
bytes of its files, so that unpacking gives back what was packed. Similar texts lie side by side, and zstd needs little
room for what they have in common.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = "packed"
FILES = ("spec.json", "curve.csv", "diagnostics.csv", "provenance.json")
NAMES = ("slug", "method", "key")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packed:
    """One packed record: where it would lie loose, and what its files hold."""

    pack: Path
    slug: str
    method: str
    key: str
    files: dict[str, bytes] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """The key, as the name of a loose record's folder."""
        return self.key

    def __str__(self) -> str:
        return f"{self.pack}:{self.method}/{self.key}"


def packs(results: Path) -> list[Path]:
    """The files of packed records under `results`."""
    return sorted((results / FOLDER).glob("*.parquet"))


def read(path: Path) -> dict[str, Packed]:
    """The records of one pack by key; none, and a warning, where the file cannot be read."""
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, changed: int) -> dict[str, Packed]:
    try:
        rows = pq.read_table(path, columns=[*NAMES, *FILES]).to_pylist()
    except (pa.ArrowException, OSError) as error:
        log.warning("pack ignored, it cannot be read: %s (%s)", path, " ".join(str(error).split())[:200])
        return {}
    return {
        row["key"]: Packed(path, row["slug"], row["method"], row["key"], {name: row[name] for name in FILES})
        for row in rows
    }
