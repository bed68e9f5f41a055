"""Our curves, written in the columns that others use."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd

from benchmark.judging.columns import COLUMNS
from benchmark.records.store import RETURN, Record, Store
from benchmark.suite.entries import Protocol
from benchmark.suite.load import specs
from mbpo.config import InputError

FORMATS = (".csv", ".parquet")


def export(store: Store, protocol: Protocol, path: Path) -> int:
    """Write the curves of all records that `protocol` prescribes, and return the number of runs.

    Raises `InputError` for a name that is neither .csv nor .parquet, for .parquet without pyarrow, for a folder that
    does not exist, and where there is no such record.
    """
    check_writable(path)
    frames = [_curve(record) for record in store.records() if _prescribed(record, protocol)]
    if not frames:
        raise InputError(f"no online run of the {protocol.name} protocol has a record; train some, or give --protocol")
    table = pd.concat(frames, ignore_index=True).sort_values(list(COLUMNS[:5]), kind="stable")[list(COLUMNS)]
    write(table, path)
    return len(frames)


def check_writable(path: Path) -> None:
    """Raise `InputError` where no table of curves can go: another ending, no pyarrow for parquet, no such folder."""
    if path.suffix not in FORMATS:
        raise InputError(f"{str(path)!r}: give a name that ends in {' or '.join(FORMATS)}")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{str(path)!r}: writing parquet needs pyarrow (pip install pyarrow); or give a .csv")
    if not path.parent.is_dir():
        raise InputError(f"the folder {str(path.parent)!r} does not exist; make it, or give another")


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table of curves as its name says. Raises `InputError` where it cannot be written."""
    try:
        if path.suffix == ".csv":
            table.to_csv(path, index=False, lineterminator="\n")
        else:
            table.to_parquet(path, index=False)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be written: {(error.strerror or str(error)).lower()}") from None


def _prescribed(record: Record, protocol: Protocol) -> bool:
    """Whether the run is what the protocol would train under this name: runs of several protocols must not mix."""
    spec = record.spec
    if spec.kind != "train":
        return False
    try:
        wanted = specs("train", [spec.task], [spec.method], protocol, [spec.seed], drop=spec.drop)
    except InputError:
        return False  # a method or a task that is on no page any more
    return wanted[0].key == spec.key


def _curve(record: Record) -> pd.DataFrame:
    means = record.curve.groupby("env_steps", sort=True)[RETURN].mean().reset_index(name="return")
    suite, _, task = record.spec.task.partition(":")
    means.insert(0, "suite", suite)
    means.insert(1, "task", task)
    means.insert(2, "method", record.spec.arm)
    means.insert(3, "seed", record.spec.seed)
    return means
