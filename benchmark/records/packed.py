"""Packed records: the same four files of many runs in one parquet file per task and kind of run.

``results/packed/<task>-<kind>.parquet`` has a row per record: its task's folder name, method and key, and the exact
bytes of its files, so that unpacking gives back what was packed. Similar texts lie side by side, and zstd needs little
room for what they have in common.

The tables of a pack are parsed all at once, when the first of them is asked for: at a few hundred rows each, what a
parser costs per call is most of what it costs.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

FOLDER = "packed"
FILES = ("spec.json", "curve.csv", "diagnostics.csv", "provenance.json")
NAMES = ("slug", "method", "key")


@dataclass(frozen=True)
class Packed:
    """One packed record: where it would lie loose, and what its files hold."""

    pack: Path
    slug: str
    method: str
    key: str
    files: dict[str, bytes] = field(compare=False, repr=False)
    changed: int = field(default=0, compare=False, repr=False)
    """When the pack was last written, in nanoseconds."""

    @property
    def name(self) -> str:
        """The key, as the name of a loose record's folder."""
        return self.key

    def __str__(self) -> str:
        return f"{self.pack}:{self.method}/{self.key}"


def packs(results: Path) -> list[Path]:
    """The files of packed records under `results`."""
    return sorted((results / FOLDER).glob("*.parquet"))


def parse(text: bytes) -> pd.DataFrame:
    """One table of a record."""
    return pd.read_csv(io.BytesIO(text), float_precision="round_trip")
