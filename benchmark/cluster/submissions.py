"""What was submitted: one file a submission, ``cache/cluster/<token>.json``, with the runs of every task of its array.

The token is the name of the SLURM job as well, so that a task is known by it and not by a number that another
controller may give again. Jobs read their runs here; `status`, `cancel` and the next `submit` read what is under way.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmark.cluster.plan import Part
from benchmark.records.spec import RunSpec
from benchmark.records.store import replace_file
from mbpo.config import InputError

FOLDER = "cluster"


@dataclass(frozen=True)
class Entry:
    """One task of the array."""

    label: str
    hours: float
    most: int
    """Most runs in lockstep."""
    specs: tuple[dict[str, Any], ...]

    @property
    def keys(self) -> list[str]:
        """The keys of its runs."""
        return [str(spec["key"]) for spec in self.specs]

    def runs(self) -> list[RunSpec]:
        """Its runs. Raises `InputError` if another version of this project wrote them."""
        return [RunSpec.from_json(spec, "a submission") for spec in self.specs]


@dataclass(frozen=True)
class Submission:
    """One call of `submit`."""

    token: str
    entries: tuple[Entry, ...]
    submitted: float = field(default_factory=time.time)
    """Seconds since 1970."""
    job: str | None = None
    """SLURM's number of the array; None until it is known."""
    cancelled: tuple[int, ...] = ()
    """The tasks that were taken back."""

    def log(self, cache: Path, index: int) -> Path | None:
        """The log of a task; None before it has written any."""
        names = (f"*_{index}_0_log.out", *(() if len(self.entries) > 1 else ("*_0_log.out",)))
        return next((path for name in names for path in sorted(folder(cache, self.token).glob(name))), None)


def new(parts: Sequence[Part]) -> Submission:
    """A submission of these parts, under a token that no other has."""
    entries = (
        Entry(part.label, part.all_hours, part.most, tuple(spec.to_json() for spec in part.specs)) for part in parts
    )
    return Submission(f"mbpo-{uuid.uuid4().hex[:10]}", tuple(entries))


def page(cache: Path, token: str) -> Path:
    """The file of a submission."""
    return cache / FOLDER / f"{token}.json"


def folder(cache: Path, token: str) -> Path:
    """The folder of a submission's batch file, pickles and logs."""
    return cache / FOLDER / token


def write(cache: Path, submission: Submission) -> Path:
    """Write it, over what was known of it."""
    path = page(cache, submission.token)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(asdict(submission)) + "\n")
    return path


def read(path: Path) -> Submission:
    """One submission. Raises `InputError` if the file is damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        entries = tuple(Entry(e["label"], e["hours"], e["most"], tuple(e["specs"])) for e in data["entries"])
        return Submission(data["token"], entries, data["submitted"], data["job"], tuple(data["cancelled"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(path)!r} is no submission ({type(error).__name__}); remove it") from None


def read_all(cache: Path) -> list[Submission]:
    """Every submission from this cache, the latest first."""
    return sorted(map(read, (cache / FOLDER).glob("*.json")), key=lambda one: -one.submitted)


def mark_cancelled(cache: Path, submission: Submission, indices: Sequence[int]) -> None:
    """Note that tasks were taken back."""
    marked = tuple(sorted({*submission.cancelled, *indices}))
    write(cache, replace(submission, cancelled=marked))
