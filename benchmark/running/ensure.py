"""`ensure`: train the runs that have no record, sharing the work with every process that uses the same cache folder.

Missing runs are grouped into lockstep jobs. A process takes the leases of a job's runs without waiting, looks again
whether they are still missing, trains them, writes their records, and goes on to the next; it waits only when
others hold all that is left. This is the only caller of `mbpo.train`.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd

from benchmark.records.spec import RunSpec, unique
from benchmark.records.store import Store
from benchmark.running import snapshots
from benchmark.running.cost import MAX_LOCKSTEP
from benchmark.running.job import Job, Place, Result, Trainer
from benchmark.running.leases import Leases
from benchmark.running.progress import Progress
from benchmark.running.provenance import conditions, device_name, provenance
from benchmark.running.stopping import Stopping
from benchmark.running.stretches import Stretches, mixed
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
    keep_last: bool = False,
    mix_engines: bool = False,
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
        keep_last: keep the last snapshot of finished training runs, so that a longer budget goes on from there.
        mix_engines: let runs go on that were begun with another simulator, device or release; their provenance says so.
        poll_seconds: how often to look again while others train what is left.
        trainers: what trains each kind of run; by default `TRAINERS`.

    Returns:
        The specs without a record: none, unless `train` is False.

    Raises:
        InputError: a results folder that cannot be written, a task, observation group or device that does not exist, a
            run whose numbers are another version's than this code's; all before anything trains.
        JobsFailed: after all other jobs were finished.
        Stopped: a signal ended the work; what was trained is saved.
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
    options = _Options(device, max_lockstep, checkpoint_seconds, poll_seconds, keep_last, mix_engines)
    with Stopping() as stopping:
        work = _Work(store, options, trainers or TRAINERS, stopping)
        # What others are fitted on comes first; what they need of it is a kept replay, be there a record or not.
        work.until_none(lambda: _without_replay(sources.values(), store.cache), keep_replay=True)
        lost = work.failed.keys
        work.until_none(
            lambda: [s for s in store.missing(wanted) if s.source_run is None or s.source_run.key not in lost]
        )
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
    with Stopping() as stopping:
        work = _Work(store, _Options(device, max_lockstep), TRAINERS, stopping)
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


@dataclass(frozen=True)
class _Options:
    """As the arguments of `ensure`."""

    device: str = "auto"
    max_lockstep: int = MAX_LOCKSTEP
    checkpoint_seconds: float = 300.0
    poll_seconds: float = 1.0
    keep_last: bool = False
    mix_engines: bool = False


@dataclass
class _Work:
    """Jobs shared with every other process on the same cache, done until nothing is left."""

    store: Store
    options: _Options
    trainers: Mapping[str, Trainer]
    stopping: Stopping
    failed: _Failures = field(default_factory=lambda: _Failures())

    def until_none(self, missing: Callable[[], list[RunSpec]], keep_replay: bool = False) -> None:
        """Take, train and store jobs of what `missing` names, until it names nothing but what failed."""
        leases, waiting, most = Leases(self.store.cache), False, self.options.max_lockstep
        while todo := [spec for spec in missing() if spec.key not in self.failed.keys]:
            progressed = False
            for group in snapshots.groups(todo, self.store.cache, most):
                with leases.take(spec.key for spec in group) as keys:
                    progressed = progressed or bool(keys)
                    left = {spec.key: spec for spec in missing()}  # another process may have finished some since
                    mine = [spec for spec in group if spec.key in keys and spec.key in left]
                    if keep_replay:  # what was kept on the way is wanted: a run that has ended keeps nothing any more
                        snapshots.forget_ended(self.store.cache, mine)
                    else:
                        snapshots.grow(self.store.cache, mine, leases)
                    for part in snapshots.groups(mine, self.store.cache, most):
                        self._run(part, leases, keep_replay)
            if not progressed:
                if not waiting:
                    log.info("waiting for %s that other processes train", count(len(todo), "run"))
                waiting = True
                time.sleep(self.options.poll_seconds)

    def _run(self, group: Sequence[RunSpec], leases: Leases, keep_replay: bool) -> None:
        """Train a group less the runs that cannot go on.

        One that breaks for a reason that nobody can lay on a run goes on in two halves, each from its last snapshot:
        what needs less memory may fit, and what breaks by itself ends alone.
        """
        sound = []
        for spec in group:
            if self.store.has(spec) and not keep_replay:  # written before the job broke
                continue
            with self.failed.of(Job((spec,))):
                check_resumable(self.store.cache, spec, self.options)
                sound.append(spec)
        if not sound:
            return
        try:
            with self.failed.of(Job(tuple(sound)), passing=_Halved):
                self._train(Job(tuple(sound)), leases, keep_replay)
        except _Halved as error:
            middle = (len(sound) + 1) // 2
            cause = error.__cause__
            log.warning(
                "%s broke (%s: %s) and goes on in two halves",
                *(Job(tuple(sound)).label, type(cause).__name__, " ".join(str(cause).split())),
            )
            for half in (sound[:middle], sound[middle:]):
                self._run(half, leases, keep_replay)

    def _train(self, job: Job, leases: Leases, keep_replay: bool) -> None:
        self.stopping.check()
        training = job.specs[0].kind == "train"
        with self.stopping.deferring() if training else nullcontext():
            try:
                unscored = _run(
                    job, self.store, self.options, self.trainers, leases, lambda: self.stopping.requested, keep_replay
                )
            except Exception as error:
                if len(job.specs) > 1 and not isinstance(error, InputError):
                    raise _Halved from error
                raise
        for spec, cause in unscored:
            with self.failed.of(Job((spec,))):
                raise InputError(f"{spec.label}: {cause}")
        self.stopping.check()


class _Halved(Exception):
    """A job is to be tried again in two halves."""


def check_resumable(cache: Path, spec: RunSpec, options: _Options) -> None:
    """Raise `InputError` for a run whose snapshot is damaged or was made by another engine than this one."""
    here = snapshots.folder(cache, spec)
    if not here.is_dir():
        return
    stretches = Stretches(here)
    if not snapshots.steps(cache, spec):
        return
    differ = stretches.differ(conditions(spec, device_name(options.device)))
    if differ and not options.mix_engines:
        raise InputError(
            f"{spec.label} was begun with another engine ({', '.join(differ)}): go on where it was begun, give "
            f"--mix-engines (its provenance will say so), or delete {str(here)!r} to train from the start"
        )
    if snapshots.is_damaged(here):
        raise InputError(f"the snapshot of {spec.label} is damaged; delete {str(here)!r} to train from the start")


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
        self._passing: type[Exception] | None = None

    def of(self, job: Job, passing: type[Exception] | None = None) -> Self:
        """For a `with` block in which `job` may fail; an error of the type `passing` is the caller's."""
        self._job, self._passing = job, passing
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
        if self._passing is not None and isinstance(error, self._passing):
            return False
        log.error("job failed: %s", self._job.label, exc_info=None if isinstance(error, InputError) else error)
        self.found.append((self._job.label, error))
        self.keys.update(spec.key for spec in self._job.specs)
        return True


def _run(
    job: Job,
    store: Store,
    options: _Options,
    trainers: Mapping[str, Trainer],
    leases: Leases,
    stop: Callable[[], bool],
    keep_replay: bool = False,
) -> list[tuple[RunSpec, str]]:
    """Train one job and write the records that are not there yet; returns the runs that failed before any score."""
    first, cache = job.specs[0], store.cache
    resumed = [snapshots.folder(cache, spec).exists() for spec in job.specs]
    folders = [snapshots.begin(cache, spec, options.keep_last) for spec in job.specs]
    checkpoint = import_module("mbpo.checkpoint")
    step = checkpoint.common_step(folders)
    log.info("%s %s", "resuming" if any(resumed) else "training", job.label)
    start, name = time.monotonic(), device_name(options.device)
    stretches = [Stretches(folder) for folder in folders]
    for each, folder, spec in zip(stretches, folders, job.specs, strict=True):
        snapshot = None if step is None else folder / f"step-{step:012d}"
        each.begin(conditions(spec, name), snapshot, [other.key for other in job.specs])
    unscored: list[tuple[RunSpec, str]] = []
    with Progress(cache, job.name, job.specs, first.length) as progress:

        def told(step: int, of: int) -> None:
            if leases.lost & {spec.key for spec in job.specs}:
                raise RuntimeError("another machine has taken over this job: this one was out of reach too long")
            progress(step, of)

        place = Place(*(cache, folders, told, options.device, options.checkpoint_seconds, keep_replay, stop))
        results = trainers[first.kind](job.specs, place)
        seconds = time.monotonic() - start
        for spec, result, each, again in zip(job.specs, results, stretches, resumed, strict=True):
            failure = place.failures.get(spec.key)
            if failure is not None and failure["ended"] and failure["scored_at"] is None:
                unscored.append((spec, f"failed at env step {failure['step']}: {failure['cause']}"))
            elif store.has(spec):  # trained again for its replay
                _compare(store.read(spec).curve, result.curve, spec)
            else:
                life = each.ended(_end(spec, result), seconds)
                marks = {"failure": failure, "mixed": mixed(life)}
                found = provenance(spec, job.specs, name, seconds, again, life)
                store.write(spec, *result, {**found, **{mark: value for mark, value in marks.items() if value}})
    for spec, folder in zip(job.specs, folders, strict=True):
        if not (options.keep_last and spec.kind == "train"):
            shutil.rmtree(folder)
    log.info("finished %s in %s", job.label, duration(seconds))
    return unscored


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
