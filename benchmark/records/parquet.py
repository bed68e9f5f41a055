"""Packs as pyarrow reads them: the bytes of their records, and all tables of one name at once."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from benchmark.records.packed import FILES, NAMES, Packed, parse

INTEGERS = ("env_steps", "episode", "length", "update", "updates", "share", "step", "dim")
NAMED = pa.dictionary(pa.int32(), pa.string())
TYPES = {"measure": NAMED, **dict.fromkeys(INTEGERS, pa.int64())}
"""Of the columns of tables; all others are floats."""
log = logging.getLogger("benchmark.records.packed")


def read(path: Path) -> dict[str, Packed]:
    """The records of one pack by key; none, and a warning, where the file cannot be read."""
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, changed: int) -> dict[str, Packed]:
    """The records by key of a pack last written at `changed`; none, and a warning, where it cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            rows = file.read(columns=[*NAMES, *FILES], use_threads=False).to_pylist()
    except (pa.ArrowException, OSError) as error:
        log.warning("pack ignored, it cannot be read: %s (%s)", path, " ".join(str(error).split())[:200])
        return {}
    return {
        row["key"]: Packed(path, row["slug"], row["method"], row["key"], {name: row[name] for name in FILES}, changed)
        for row in rows
    }


def table(record: Packed, name: str) -> pd.DataFrame:
    """The table `name` of a packed record, equal to `parse` of its text."""
    whole, parts = _tables(record.pack, record.changed, name)
    text, rows = parts.get(record.key, (b"", slice(0)))
    if text != record.files[name]:  # also where the pack was written anew or unpacked since
        return parse(record.files[name])
    return whole.iloc[rows].reset_index(drop=True)  # a copy: no two records share numbers


@lru_cache(maxsize=128)
def _tables(path: Path, changed: int, name: str) -> tuple[pd.DataFrame, dict[str, tuple[bytes, slice]]]:
    """All rows of the tables `name` of one pack, and by key each record's text and its slice of the rows.

    Both are empty where rows are not lines, or columns differ: what is then read one by one.
    """
    texts = {key: record.files[name] for key, record in _read(path, changed).items()}
    heads = {text[: text.find(b"\n") + 1] for text in texts.values()}
    if len(heads) != 1 or not all(text.endswith(b"\n") for text in texts.values()):
        return pd.DataFrame(), {}
    head = heads.pop()
    whole = head + b"".join(text[len(head) :] for text in texts.values())
    if any(mark in whole for mark in (b'"', b"\r", b"\n\n")):
        return pd.DataFrame(), {}
    types = {column: TYPES.get(column, pa.float64()) for column in head.decode().strip().split(",")}
    try:
        rows = pc.read_csv(
            pa.BufferReader(whole),
            read_options=pc.ReadOptions(use_threads=False),  # threads cost more than they save at a few megabytes
            convert_options=pc.ConvertOptions(column_types=types),
        )
    except pa.ArrowException:
        return pd.DataFrame(), {}
    ends = np.cumsum([text.count(b"\n") - 1 for text in texts.values()]).tolist()
    whole_numbers = (column for column, kind in types.items() if kind != pa.float64())
    if rows.num_rows != ends[-1] or any(rows[column].null_count for column in whole_numbers):
        return pd.DataFrame(), {}
    slices = map(slice, [0, *ends[:-1]], ends)
    whole_table = pd.DataFrame({column: _array(rows[column]) for column in types})
    return whole_table, dict(zip(texts, zip(texts.values(), slices, strict=True), strict=True))


def _array(column: pa.ChunkedArray) -> np.ndarray:
    """One column, with one object for all equal strings."""
    if column.type != NAMED:
        return np.asarray(column.to_numpy())
    chunks = column.unify_dictionaries().chunks
    names = np.array(chunks[0].dictionary.to_pylist(), object)
    return names[np.concatenate([chunk.indices.to_numpy() for chunk in chunks])]
