"""Snapshots of fits and probes, one a run, as those of online training: at most every so many seconds, whole or not.

A course has stages, of which a fit has one and a probe three. Each offers what it could go on from, and a snapshot is
made when one is due. Together with the notes taken so far it is all that another process needs to go on to equal bits;
what follows from the run's key alone, such as its data, is made again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from benchmark.records.spec import RunSpec
from benchmark.running.job import Place
from mbpo import checkpoint
from mbpo.checkpoint import copy_into, own
from mbpo.config import InputError, ModelConfig
from mbpo.streams import Streams

_SAVING_SHARE = 0.01
"""Most of the time that goes into snapshots: where one takes longer, the next comes later."""
log = logging.getLogger(__name__)


class Notes(Protocol):
    """What was measured so far, by run."""

    def of(self, run: int) -> dict[str, Any]:
        """Of one run, in lists and numbers."""

    def take_back(self, run: int, noted: dict[str, Any]) -> None:
        """The inverse of `of`."""


class Course:
    """The snapshots of one job: what it goes on from, and when the next are made. Without a place it makes none.

    `at` is the stage that the job goes on in, "" at its start. `common` is a tree of tensors that belongs to every
    stage but fits.

    Raises `InputError` for a snapshot of another run or a damaged one.
    """

    def __init__(self, specs: Sequence[RunSpec] = (), place: Place | None = None) -> None:
        self.common: dict[str, Any] = {}
        self._keys = [spec.key for spec in specs]
        self._folders: Sequence[Path] = () if place is None else place.checkpoints
        self._seconds = 0.0 if place is None else place.checkpoint_seconds
        self._stop = None if place is None else place.stop
        step = checkpoint.common_step(self._folders) if self._folders else None
        self._parts = [] if step is None else [checkpoint.load(folder, step) or {} for folder in self._folders]
        for part, key, folder in zip(self._parts, self._keys, self._folders, strict=False):
            if part.get("key") != key or part["stage"] != self._parts[0]["stage"]:
                raise InputError(f"the snapshot in {str(folder)!r} is of another run; delete it to start anew")
            checkpoint.keep_only(folder / f"step-{step:012d}")
        self.at: str = self._parts[0]["stage"] if self._parts else ""
        self._due = time.monotonic() + self._seconds

    @property
    def fit(self) -> int:
        """Which of the fits, stages "fit 1", "fit 2", ..., the job goes on in: 1 at its start, 0 after all of them."""
        kind, _, number = self.at.partition(" ")
        return int(number) if kind == "fit" else int(not self.at)

    def stage(self, name: str, notes: Notes | None = None, before: int = 0) -> Stage:
        """The stage `name`; `before` are the updates of those before it, which its snapshots count."""
        return Stage(self, name, notes, before)

    def restore(self, stage: str, live: dict[str, Any], streams: Streams, notes: Notes | None) -> int:
        """Put back what was kept if that was in `stage`; the updates of it that had been made."""
        if self.at != stage:
            return 0
        tree = live if self.fit else {**live, **self.common}
        for r, part in enumerate(self._parts):
            copy_into(_of_run(tree, r, len(self._parts)), part["live"])
            if notes is not None:
                notes.take_back(r, part["notes"])
        streams.restore([part["streams"] for part in self._parts])
        return int(self._parts[0]["done"])

    def save(
        self, stage: str, step: int, done: int, live: dict[str, Any], streams: Streams, notes: Notes | None
    ) -> bool:
        """Snapshots of all runs; only when all are whole do the older ones go. A full disk stops nothing."""
        tree, drawn = live if stage.startswith("fit ") else {**live, **self.common}, streams.states()
        try:
            made = []
            for r, (key, folder) in enumerate(zip(self._keys, self._folders, strict=True)):
                part = {"key": key, "stage": stage, "done": done, "streams": drawn[r]}
                part |= {"live": own(_of_run(tree, r, len(self._keys))), "notes": {} if notes is None else notes.of(r)}
                made.append(checkpoint.save(folder, step, part, keep_older=True))
            for snapshot in made:
                checkpoint.keep_only(snapshot)
        except (OSError, InputError) as error:
            log.warning("no snapshot at update %d, the work goes on: %s", step, error)
            return False
        return bool(made)

    def offer(self, stage: Stage, done: int, live: Callable[[], dict[str, Any]], streams: Streams) -> None:
        """Make snapshots if they are due. Raises `KeyboardInterrupt` after them if the job is to stop."""
        now, stopping = time.monotonic(), self._stop is not None and self._stop()
        if not self._folders or not (stopping or now >= self._due):
            return
        saved = self.save(stage.name, stage.before + done, done, live(), streams, stage.notes)
        if stopping:
            raise KeyboardInterrupt(f"{'saved' if saved else 'stopped'} at update {stage.before + done}")
        after = time.monotonic()
        self._due = after + max(self._seconds, (after - now) / _SAVING_SHARE if self._seconds else 0.0)


class Stage:
    """One stage of a course: a `fitting.Keeper`."""

    def __init__(self, course: Course, name: str, notes: Notes | None, before: int) -> None:
        self.name, self.notes, self.before = name, notes, before
        self._course = course

    def restore(self, live: dict[str, Any], streams: Streams) -> int:
        """Put back what was kept of this stage, if anything was; its updates that had been made then."""
        return self._course.restore(self.name, live, streams, self.notes)

    def offer(self, updates: int, live: Callable[[], dict[str, Any]], streams: Streams) -> None:
        """Called wherever the stage can go on from, after so many updates of it."""
        self._course.offer(self, updates, live, streams)


def fit_length(spec: RunSpec) -> int:
    """Updates that the snapshots of a probe count for its fit."""
    assert spec.constants.model is not None and spec.fit is not None
    return most_updates(spec.constants.model, spec.fit.transitions)


def most_updates(model: ModelConfig, rows: int) -> int:
    """Updates that a fit on so many rows can take: all, or those of its last possible epoch."""
    return model.max_epochs * -(-rows // model.batch_size) if model.stopping == "early" else model.updates


def _of_run(tree: Any, run: int, runs: int) -> Any:
    """The part of a tree that belongs to one of `runs`: views of tensors ``(R, ...)``, and ``(R Q, ...)`` run by run.

    What all runs have in common, such as Adam's step counts ``(1, n)``, is kept whole.
    """
    if isinstance(tree, dict):
        return {name: _of_run(value, run, runs) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_of_run(value, run, runs) for value in tree]
    assert isinstance(tree, Tensor)
    each, rest = divmod(len(tree), runs)
    return tree[run * each : (run + 1) * each] if each and not rest else tree
