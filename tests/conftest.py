"""Fixtures of several files: an empty store, the library of kernels for vectors of every width, and threads."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Callable, Iterator
from ctypes import CDLL
from pathlib import Path

import pytest
import torch

from benchmark.records.store import Store
from mbpo.fast import compiler, kernels

WIDTHS = (4, 8, 16)


@pytest.fixture(scope="session")
def widths(tmp_path_factory: pytest.TempPathFactory) -> dict[int, CDLL]:
    """The library for vectors of other widths; gcc makes those that the processor lacks of what it has."""
    folder, compiling = tmp_path_factory.mktemp("widths"), {}
    # Vectors that the processor lacks have no calling convention, which is no harm: all that takes them is inlined.
    flags = [*compiler.FLAGS, "-O0", "-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
    for width in WIDTHS:
        told = [*flags, f"-DWIDTH={width}", str(compiler.SOURCES / "library.c"), "-o", str(folder / f"{width}.so")]
        compiling[width] = subprocess.Popen(["gcc", *told])
    assert [one.wait() for one in compiling.values()] == [0] * len(WIDTHS)
    return {width: CDLL(str(folder / f"{width}.so")) for width in WIDTHS}


@pytest.fixture(params=[None, *WIDTHS], ids=["built", *(f"width {width}" for width in WIDTHS)])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each library in turn: the one that is used here, and those of all widths."""
    if request.param is not None:
        found = request.getfixturevalue("widths")[request.param]
        monkeypatch.setattr(kernels, "library", lambda: found)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "results", tmp_path / "cache")


def pytest_collection_finish() -> None:
    """What is imported and collected stays to the end: no garbage collection need walk it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_power_cut() -> Iterator[None]:
    """Waiting for the disk is most of the time that a snapshot or a record takes, and no test loses power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
