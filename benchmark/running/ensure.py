"""`ensure`: train the runs that have no record, sharing the work with every process that uses the same cache folder.

Missing runs are grouped into lockstep jobs. A process takes the leases of a job's runs without waiting, looks again
whether they are still missing, trains them, writes their records, and goes on to the next; it waits only when
others hold all that is left. This is the only caller of `mbpo.train`.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd

from benchmark.records.spec import RunSpec, lockstep, unique
from benchmark.records.store import Store
from benchmark.running.cost import MAX_LOCKSTEP
from benchmark.running.job import Job, Place, Result, Trainer
from benchmark.running.leases import Leases
from benchmark.running.progress import Progress
from benchmark.running.provenance import conditions, device_name, provenance
from benchmark.running.stretches import Stretches
from benchmark.running.train import train_job
from benchmark.words import count, duration
from mbpo.config import InputError, numerics_version

log = logging.getLogger(__name__)


class JobsFailed(RuntimeError):
    """Some jobs ended in an error; all others were finished first. `failures` holds (label, error) of each."""

    def __init__(self, failures: Sequence[tuple[str, Exception]]) -> None:
        self.failures = list(failures)
        told = "; ".join(f"{label}: {_named(error)}" for label, error in failures)
        super().__init__(f"{count(len(self.failures), 'job')} failed: {told}")

    @property
    def bad_input(self) -> bool:
        """Whether every failure lies in what was given, not in this project."""
        return all(isinstance(error, InputError) for _, error in self.failures)


def _named(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def ensure(
    specs: Iterable[RunSpec],
    store: Store,
    train: bool = True,
    *,
    device: str = "auto",
    max_lockstep: int = MAX_LOCKSTEP,
    checkpoint_seconds: float = 300.0,
    poll_seconds: float = 1.0,
    trainers: Mapping[str, Trainer] | None = None,
) -> list[RunSpec]:
    """See that every spec has a record.

    Args:
        specs: what is wanted; equal runs are trained once.
        store: where records are, and the cache that workers share.
        train: False looks only.
        device: "auto", "cpu", "cuda", "cuda:1".
        max_lockstep: most runs in one job, a matter of memory.
        checkpoint_seconds: least time between two snapshots of a job.
        poll_seconds: how often to look again while others train what is left.
        trainers: what trains each kind of run; by default `TRAINERS`.

    Returns:
        The specs without a record: none, unless `train` is False.

    Raises:
        InputError: a results folder that cannot be written, a task, observation group or device that does not exist, a
            run whose numbers are another version's than this code's; all before anything trains.
        JobsFailed: after all other jobs were finished.
    """
    if max_lockstep < 1:
        raise InputError(f"max_lockstep = {max_lockstep}: a job holds at least 1 run")
    wanted = unique(specs)
    missing = store.missing(wanted)
    if not missing or not train:
        return missing
    sources = {run.key: run for spec in missing if (run := spec.source_run) is not None}
    refuse_untrainable([*missing, *_without_replay(sources.values(), store.cache)], store)
    store.prepare()
    if trainers is None:
        _check(missing, device)
    work = _Work(store, device, max_lockstep, checkpoint_seconds, poll_seconds, trainers or TRAINERS)
    # What others are fitted on comes first; what they need of it is a kept replay, be there a record or not.
    work.until_none(lambda: _without_replay(sources.values(), store.cache), keep_replay=True)
    lost = work.failed.keys
    work.until_none(lambda: [s for s in store.missing(wanted) if s.source_run is None or s.source_run.key not in lost])
    work.failed.tell()
    return []


def keep_replays(
    runs: Iterable[RunSpec], store: Store, *, device: str = "auto", max_lockstep: int = MAX_LOCKSTEP
) -> None:
    """See that the replay of every training run is kept in the cache: a run without is trained again, record or not.

    Raises `InputError` and `JobsFailed` as `ensure` does.
    """
    wanted = unique(runs)
    if not (missing := _without_replay(wanted, store.cache)):
        return
    refuse_untrainable(missing, store)
    store.prepare()
    _check(missing, device)
    work = _Work(store, device, max_lockstep, 300.0, 1.0, TRAINERS)
    work.until_none(lambda: _without_replay(wanted, store.cache), keep_replay=True)
    work.failed.tell()


def refuse_untrainable(runs: Iterable[RunSpec], store: Store) -> None:
    """Raise `InputError` for the first run whose numbers are of another version than this code makes."""
    for run in runs:
        if run.trainable:
            continue
        now = numerics_version(run.kind, run.constants)
        commit = store.read(run).provenance.get("commit") if store.has(run) else None
        made = f"commit {commit}" if commit else "the commit in the provenance of that version's records"
        raise InputError(
            f"{run.label} ({run.key}) is a {run.kind!r} run of numerics version {run.numerics_version} and this code "
            f"makes version {now}: records of it are read and judged, but only {made} can train it"
        )


def _without_replay(sources: Iterable[RunSpec], cache: Path) -> list[RunSpec]:
    has = import_module("benchmark.running.replays").has
    return [run for run in sources if not has(cache, run)]


@dataclass
class _Work:
    """Jobs shared with every other process on the same cache, done until nothing is left."""

    store: Store
    device: str
    max_lockstep: int
    checkpoint_seconds: float
    poll_seconds: float
    trainers: Mapping[str, Trainer]
    failed: _Failures = field(default_factory=lambda: _Failures())

    def until_none(self, missing: Callable[[], list[RunSpec]], keep_replay: bool = False) -> None:
        """Take, train and store jobs of what `missing` names, until it names nothing but what failed."""
        leases, waiting = Leases(self.store.cache), False
        while todo := [spec for spec in missing() if spec.key not in self.failed.keys]:
            progressed = False
            for group in _groups(todo, self.store.cache, self.max_lockstep):
                with leases.take(spec.key for spec in group) as keys:
                    progressed = progressed or bool(keys)
                    left = {spec.key for spec in missing()}  # another process may have finished some since
                    mine = [spec for spec in group if spec.key in keys and spec.key in left]
                    if mine:
                        self._run(Job(tuple(mine)), keep_replay)
            if not progressed:
                if not waiting:
                    log.info("waiting for %s that other processes train", count(len(todo), "run"))
                waiting = True
                time.sleep(self.poll_seconds)

    def _run(self, job: Job, keep_replay: bool) -> None:
        with self.failed.of(job):
            _run(job, self.store, self.device, self.checkpoint_seconds, self.trainers, keep_replay)


def _check(specs: Sequence[RunSpec], device: str) -> None:
    """Raise `InputError` now for what the first step of some job would refuse."""
    engine, task_info = import_module("mbpo.fast.engine").engine, import_module("mbpo.envs").task_info
    for precision in dict.fromkeys(spec.precision for spec in specs):
        engine(device, precision)
    for task, drop in dict.fromkeys((spec.task, spec.drop) for spec in specs):
        task_info(task, drop)


class _Failures:
    """Errors of jobs, kept so that one broken job does not stop the others; an interrupt stops everything."""

    def __init__(self) -> None:
        self.found: list[tuple[str, Exception]] = []
        self.keys: set[str] = set()
        self._job: Job | None = None

    def of(self, job: Job) -> Self:
        self._job = job
        return self

    def tell(self) -> None:
        """Raise `JobsFailed` if any job did."""
        if self.found:
            raise JobsFailed(self.found) from self.found[0][1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or self._job is None:
            return False
        log.error("job failed: %s", self._job.label, exc_info=None if isinstance(error, InputError) else error)
        self.found.append((self._job.label, error))
        self.keys.update(spec.key for spec in self._job.specs)
        return True


def _groups(todo: Sequence[RunSpec], cache: Path, most: int) -> list[list[RunSpec]]:
    """Lockstep groups of `todo`. Jobs that a killed process began come first, in the company they were begun in."""
    left = {spec.key: spec for spec in todo}
    begun = []
    for page in sorted((cache / "checkpoints").glob("*/runs.json")):
        try:
            keys = json.loads(page.read_text())
        except FileNotFoundError:  # its job has just finished
            continue
        if all(key in left for key in keys):
            begun.append([left.pop(key) for key in keys])
    return begun + lockstep(left.values(), most)


def _run(
    job: Job,
    store: Store,
    device: str,
    checkpoint_seconds: float,
    trainers: Mapping[str, Trainer],
    keep_replay: bool = False,
) -> None:
    """Train one job and write the records that are not there yet."""
    first = job.specs[0]
    checkpoint = store.cache / "checkpoints" / job.name
    resumed = checkpoint.exists()
    checkpoint.mkdir(parents=True, exist_ok=True)
    draft = checkpoint / "runs.tmp"
    draft.write_text(json.dumps([spec.key for spec in job.specs]))
    draft.replace(checkpoint / "runs.json")
    log.info("%s %s", "resuming" if resumed else "training", job.label)
    start, name = time.monotonic(), device_name(device)
    stretches, snapshots = Stretches(checkpoint), import_module("mbpo.checkpoint").complete(checkpoint)
    stretches.begin(conditions(first, name), snapshots[-1] if snapshots else None)
    with Progress(store.cache, job.name, job.specs, first.length) as progress:
        place = Place(store.cache, checkpoint, progress, device, checkpoint_seconds, keep_replay)
        results = trainers[first.kind](job.specs, place)
        seconds = time.monotonic() - start
        for spec, result in zip(job.specs, results, strict=True):
            if store.has(spec):  # trained again for its replay
                _compare(store.read(spec).curve, result.curve, spec)
            else:
                told = stretches.ended(_end(spec, result), seconds)
                store.write(spec, *result, provenance(spec, job.specs, name, seconds, resumed, told))
    shutil.rmtree(checkpoint)
    log.info("finished %s in %s", job.label, duration(seconds))


def _end(spec: RunSpec, result: Result) -> int:
    """The last step of a finished run: an env step of training, an update of a fit or probe."""
    return int(result.curve["update"].iloc[-1]) if spec.kind == "fit" else spec.length  # a fit may stop by itself


def _compare(stored: pd.DataFrame, curve: pd.DataFrame, spec: RunSpec) -> None:
    """Say so where a run that was trained again did not return what its record says."""
    if not (stored.shape == curve.shape and np.allclose(stored, curve, rtol=1e-6)):
        log.warning(
            "%s (%s) was trained again and returned otherwise: another machine's arithmetic", spec.label, spec.key
        )


def fit_job(specs: Sequence[RunSpec], place: Place) -> list[Result]:
    """Fit models on a fixed data set: `benchmark.running.fit` does it."""
    fit = import_module("benchmark.running.fit").fit_job
    return list(fit(specs, cache=place.cache, device=place.device, progress=place.progress))


def probe_job(specs: Sequence[RunSpec], place: Place) -> list[Result]:
    """Probe critics and policies from a fixed policy: `benchmark.running.probe` does it."""
    probe = import_module("benchmark.running.probe").probe_job
    return list(probe(specs, cache=place.cache, device=place.device, progress=place.progress))


TRAINERS: dict[str, Trainer] = {"train": train_job, "fit": fit_job, "probe": probe_job}
