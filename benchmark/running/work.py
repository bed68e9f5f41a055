"""Taking jobs, training them and writing their records: the work behind `ensure`."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from benchmark.running import snapshots
from benchmark.running.cost import MAX_LOCKSTEP
from benchmark.running.failures import Failures
from benchmark.running.job import Job, Place, Result, Trainer
from benchmark.running.leases import Leases
from benchmark.running.progress import Progress
from benchmark.running.provenance import conditions, device_name, provenance
from benchmark.running.stopping import Stopping
from benchmark.running.stretches import Stretches, mixed
from benchmark.words import count, duration
from mbpo.config import InputError

log = logging.getLogger("benchmark.running.ensure")


@dataclass(frozen=True)
class Options:
    """As the arguments of `ensure`."""

    device: str = "auto"
    max_lockstep: int = MAX_LOCKSTEP
    checkpoint_seconds: float = 300.0
    poll_seconds: float = 1.0
    keep_last: bool = False
    mix_engines: bool = False


@dataclass
class Work:
    """Jobs shared with every other process on the same cache, done until nothing is left."""

    store: Store
    options: Options
    trainers: Mapping[str, Trainer]
    stopping: Stopping
    failed: Failures = field(default_factory=lambda: Failures())

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
            with self.failed.of(Job((spec,))), self.stopping.blamed():
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
        with self.stopping.blamed(), self.stopping.deferring():
            try:
                unscored = run_job(
                    job, self.store, self.options, self.trainers, leases, lambda: self.stopping.requested, keep_replay
                )
            except Exception as error:
                if isinstance(error, InputError):
                    snapshots.forget_refused(self.store.cache, job.specs)
                if len(job.specs) > 1 and not isinstance(error, InputError):
                    raise _Halved from error
                raise
        for spec, cause in unscored:
            with self.failed.of(Job((spec,))):
                raise InputError(f"{spec.label}: {cause}")
        self.stopping.check()


class _Halved(Exception):
    """A job is to be tried again in two halves."""


def check_resumable(cache: Path, spec: RunSpec, options: Options) -> None:
    """Raise `InputError` for a run whose snapshot is damaged or was made by another engine than this one."""
    snapshot_folder = snapshots.folder(cache, spec)
    if not snapshot_folder.is_dir():
        return
    stretches = Stretches(snapshot_folder)
    if not snapshots.steps(cache, spec):
        return
    differ = stretches.differ(conditions(spec, device_name(options.device)))
    if differ and not options.mix_engines:
        raise InputError(
            f"{spec.label} was begun with another engine ({', '.join(differ)}): go on where it was begun, give "
            f"--mix-engines (its provenance will say so), or delete {str(snapshot_folder)!r} to train from the start"
        )
    if snapshots.is_damaged(snapshot_folder):
        raise InputError(
            f"the snapshot of {spec.label} is damaged; delete {str(snapshot_folder)!r} to train from the start"
        )


def run_job(
    job: Job,
    store: Store,
    options: Options,
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

        def report_progress(step: int, of: int) -> None:
            if leases.lost & {spec.key for spec in job.specs}:
                raise RuntimeError("another machine has taken over this job: this one was out of reach too long")
            progress(step, of)

        place = Place(*(cache, folders, report_progress, options.device, options.checkpoint_seconds, keep_replay, stop))
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
                origin = provenance(spec, job.specs, name, seconds, again, life)
                store.write(spec, *result, {**origin, **{mark: value for mark, value in marks.items() if value}})
    for spec, folder in zip(job.specs, folders, strict=True):
        if not (options.keep_last and spec.kind == "train"):
            shutil.rmtree(folder)
    log.info("finished %s in %s", job.label, duration(seconds))
    return unscored


def _end(spec: RunSpec, result: Result) -> int:
    """The last step of a finished run: an env step of training, an update of a fit or of a probe and its fit."""
    if spec.kind == "fit":
        return int(result.curve["update"].iloc[-1])  # a fit may stop by itself
    fitted = import_module("benchmark.running.course").fit_length(spec) if spec.kind == "probe" else 0
    return int(spec.length + fitted)


def _compare(stored: pd.DataFrame, curve: pd.DataFrame, spec: RunSpec) -> None:
    """Say so where a run that was trained again did not return what its record says."""
    if not (stored.shape == curve.shape and np.allclose(stored, curve, rtol=1e-6)):
        log.warning(
            "%s (%s) was trained again and returned otherwise: another machine's arithmetic", spec.label, spec.key
        )
