"""The rows that one run added to one buffer, on disk: files of consecutive rows that are written once.

A snapshot names the files that it needs, so the next one adds a file with what is new and rewrites nothing. Files whose
rows no buffer holds any more go when the last snapshot that names them goes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mbpo.buffer import ReplayBuffer
from mbpo.config import InputError

ENDING = ".rows"
SMALL = 4_096
"""A file with fewer rows is written anew with the next ones: a short cadence is not to leave thousands of files."""
_READ = 2**24


class Segment(NamedTuple):
    """A file with rows `first` to `last` - 1 of the buffer `name`, and the digest of its bytes."""

    name: str
    first: int
    last: int
    digest: str

    @property
    def file(self) -> str:
        """``real-000000000000-000000000250.rows``."""
        return f"{self.name}-{self.first:012d}-{self.last:012d}{ENDING}"

    @classmethod
    def of(cls, file: str, digest: str) -> Segment:
        """The inverse of `file`. Raises `ValueError` for a name of another form."""
        name, first, last = file.removesuffix(ENDING).rsplit("-", 2)
        return cls(name, int(first), int(last), digest)


def append(folder: Path, name: str, buffer: ReplayBuffer, run: int, known: Iterable[Segment]) -> list[Segment]:
    """Write what `run` added to `buffer` since the `known` files; returns all that hold its rows, in order."""
    oldest, added = buffer.oldest(run), int(buffer.added[run])
    kept = [segment for segment in known if segment.name == name and segment.last > oldest]
    first = max(oldest, kept[-1].last if kept else 0)
    if first >= added:
        return kept
    while kept and kept[-1].last - kept[-1].first < SMALL and kept[-1].first >= oldest:
        first = kept.pop().first
    draft = folder / f".{name}.{os.getpid()}.tmp"
    digest = hashlib.sha256()
    with draft.open("wb") as file:
        for rows in buffer.numbered(run, first):
            view = rows.contiguous().numpy().data.cast("B")
            digest.update(view)
            file.write(view)
        file.flush()
        os.fsync(file.fileno())
    segment = Segment(name, first, added, digest.hexdigest())
    draft.replace(folder / segment.file)
    return [*kept, segment]


def read(folder: Path, segments: Iterable[Segment], buffer: ReplayBuffer, run: int, added: int) -> None:
    """Put the rows of `segments` into `buffer`, of which `run` has `added` so far.

    Raises `InputError` where a file is not what was written.
    """
    kind, width = torch.empty(0, dtype=buffer.rows.dtype).numpy().dtype, buffer.width
    for segment in segments:
        path, digest, first = folder / segment.file, hashlib.sha256(), segment.first
        piece = max(_READ // (width * kind.itemsize), 1) * width
        try:
            with path.open("rb") as file:
                while len(numbers := np.fromfile(file, kind, piece)):
                    digest.update(numbers.data)
                    rows = torch.from_numpy(numbers).view(-1, width)
                    buffer.put(run, first, rows)
                    first += len(rows)
        except (OSError, RuntimeError):
            first = -1
        if first != segment.last or digest.hexdigest() != segment.digest:
            raise damaged(path)
    buffer.added[run] = added


def damaged(path: Path) -> InputError:
    """What to say of a file that is not what was written."""
    return InputError(f"checkpoint {path} is damaged; delete the folder to train from the start")
