"""A lockstep job: its runs, where it runs, and what it returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmark.records.spec import RunSpec
from benchmark.words import count


class Result(NamedTuple):
    """The tables of one record: see `benchmark.records.store` for the columns."""

    curve: pd.DataFrame
    diagnostics: pd.DataFrame


@dataclass(frozen=True)
class Place:
    """Where and how a job runs, for the function that trains it.

    `checkpoints` are the folders of the runs' snapshots, in order. `stop` says whether the job is to save and end.
    `failures` is filled in by the trainer: why a run, by its key, is lost, for its provenance.
    """

    cache: Path
    checkpoints: Sequence[Path]
    progress: Callable[[int, int], None]
    device: str = "auto"
    checkpoint_seconds: float = 300.0
    keep_replay: bool = False
    stop: Callable[[], bool] | None = None
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)


Trainer = Callable[[Sequence[RunSpec], Place], Sequence[Result]]
"""Trains the runs of one job, which share all but target and seed; one result per run, in order."""


@dataclass(frozen=True)
class Job:
    """Runs that train together."""

    specs: tuple[RunSpec, ...]

    @property
    def name(self) -> str:
        """The job's files go by this: a hash of its runs' keys, so another set of runs is another job."""
        return hashlib.sha256(" ".join(sorted(spec.key for spec in self.specs)).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """How messages name this job."""
        methods = "+".join(dict.fromkeys(spec.method for spec in self.specs))
        return f"{self.specs[0].kind} {methods} on {self.specs[0].task} ({count(len(self.specs), 'run')})"
