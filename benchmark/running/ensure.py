"""`ensure`: train the runs that have no record, sharing the work with every process that uses the same cache folder.

Missing runs are grouped into lockstep jobs. A process takes the leases of a job's runs without waiting, looks again
whether they are still missing, trains them, writes their records, and goes on to the next; it waits only when
others hold all that is left. This is the only caller of `mbpo.train`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from benchmark.records.spec import RunSpec, unique
from benchmark.records.store import Store
from benchmark.running import clean, provenance
from benchmark.running.cost import MAX_LOCKSTEP
from benchmark.running.failures import JobsFailed
from benchmark.running.job import Place, Result, Trainer
from benchmark.running.stopping import Stopping
from benchmark.running.train import train_job
from benchmark.running.work import Options, Work
from mbpo.config import InputError, numerics_version

__all__ = [
    "MAX_LOCKSTEP",
    "TRAINERS",
    "JobsFailed",
    "ensure",
    "keep_replays",
    "refuse_impossible",
    "refuse_untrainable",
]


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
    if train:
        _refuse_edited(wanted, missing, store)
    if not missing or not train:
        if train:
            clean.settle(store, wanted)
        return missing
    sources = {run.key: run for spec in missing if (run := spec.source_run) is not None}
    refuse_untrainable([*missing, *_without_replay(sources.values(), store.cache)], store)
    store.prepare()
    if trainers is None:
        _check(missing, device)
    options = Options(device, max_lockstep, checkpoint_seconds, poll_seconds, keep_last, mix_engines)
    with Stopping() as stopping:
        work = Work(store, options, trainers or TRAINERS, stopping)
        # What others are fitted on comes first; what they need of it is a kept replay, be there a record or not.
        work.until_none(lambda: _without_replay(sources.values(), store.cache), keep_replay=True)
        lost = work.failed.keys
        work.until_none(
            lambda: [s for s in store.missing(wanted) if s.source_run is None or s.source_run.key not in lost]
        )
    clean.settle(store, wanted)
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
        work = Work(store, Options(device, max_lockstep), TRAINERS, stopping)
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


def _refuse_edited(wanted: Sequence[RunSpec], missing: Sequence[RunSpec], store: Store) -> None:
    """Raise `InputError` for a user's own task of which records or kept replays are of another environment than now.

    The id is all that a run's key knows of such an environment, so an edited one must never meet the old numbers.
    """
    named, kept = import_module("mbpo.envs.load").is_named, import_module("benchmark.running.replays").engine_of
    absent = {spec.key for spec in missing}
    stored = {(s.task, s.drop): s for s in reversed(wanted) if s.key not in absent and not named(s.task)}
    for (task, drop), spec in stored.items():
        old = store.read(spec).provenance.get("engine")
        _refuse_other(task, drop, old, f"its record {spec.key}", "give other --results")
    for run in unique(run for spec in missing if (run := spec.source_run) is not None and not named(spec.task)):
        if _without_replay([run], store.cache):
            continue
        folder = str(import_module("benchmark.running.replays").folder(store.cache, run))
        if kept(store.cache, run) is None:
            raise InputError(f"the replay in {folder!r} does not say which environment made it; delete that folder")
        _refuse_other(run.task, run.drop, kept(store.cache, run), f"the replay in {folder!r}", "delete that folder")


def _refuse_other(task: str, drop: tuple[str, ...], old: str | None, what: str, or_else: str) -> None:
    new = provenance.engine(task, drop)
    if old not in (None, new):
        raise InputError(
            f"task {task!r} is not the environment that {what} was made with: {provenance.edit(old, new)}; undo the "
            f"edit, give the new one another id, such as a next version, or {or_else}"
        )


def refuse_impossible(specs: Sequence[RunSpec], device: str) -> None:
    """Raise `InputError` for what `ensure` would refuse of runs to be trained, before any of it is announced."""
    if specs:
        _check(specs, device)


def _check(specs: Sequence[RunSpec], device: str) -> None:
    """Raise `InputError` now for what the first step of some job would refuse."""
    engine, task_info = import_module("mbpo.fast.engine").engine, import_module("mbpo.envs").task_info
    for precision in dict.fromkeys(spec.precision for spec in specs):
        engine(device, precision)
    for task, drop in dict.fromkeys((spec.task, spec.drop) for spec in specs):
        task_info(task, drop)
    check = import_module("mbpo.envs.promises").check  # online training asks by itself
    for task, drop in dict.fromkeys((spec.task, spec.drop) for spec in specs if spec.kind != "train"):
        check(task, drop)


def fit_job(specs: Sequence[RunSpec], place: Place) -> list[Result]:
    """Fit models on a fixed data set: `benchmark.running.fit` does it."""
    fit, course = import_module("benchmark.running.fit").fit_job, import_module("benchmark.running.course").Course
    course = course(specs, place)
    return list(fit(specs, cache=place.cache, device=place.device, progress=place.progress, course=course))


def probe_job(specs: Sequence[RunSpec], place: Place) -> list[Result]:
    """Probe critics and policies from a fixed policy: `benchmark.running.probe` does it."""
    probe, course = import_module("benchmark.running.probe").probe_job, import_module("benchmark.running.course").Course
    course = course(specs, place)
    return list(probe(specs, cache=place.cache, device=place.device, progress=place.progress, course=course))


TRAINERS: dict[str, Trainer] = {"train": train_job, "fit": fit_job, "probe": probe_job}
