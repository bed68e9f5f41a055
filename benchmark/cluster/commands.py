"""The commands `submit` and `cancel`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark import options
from benchmark.cluster import slurm, states, submissions, submitting
from benchmark.cluster.plan import Part, makespan, measured_bytes, plan
from benchmark.cluster.submitting import Request
from benchmark.options import answer
from benchmark.records.spec import RunSpec, unique
from benchmark.records.store import Store
from benchmark.report.status import wanted
from benchmark.running import ensure
from benchmark.running.commands import with_steps
from benchmark.running.leases import Leases
from benchmark.speed import rates, saved
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite, specs
from benchmark.suite.needs import runs
from benchmark.words import count, duration
from mbpo.config import InputError, nearest


def submit(
    protocol: options.ProtocolName = "quick",
    claim: Annotated[list[str] | None, typer.Option(help="Claim to serve; may be repeated; all if left out.")] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Task whose runs are submitted in place of claims; may be repeated.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Method whose runs are submitted in place of claims; may be repeated.")
    ] = None,
    steps: Annotated[int | None, options.Count("Env steps of training, in place of the protocol's.")] = None,
    partition: Annotated[
        str | None, typer.Option(help="SLURM partition; the cluster's own choice if left out.")
    ] = None,
    gres: Annotated[str | None, typer.Option(help="SLURM resources of each task, such as gpu:1.")] = None,
    time: Annotated[float, typer.Option(min=1 / 60, help="Hours that a task runs before it is requeued.")] = 24.0,
    cpus: Annotated[int, options.Count("CPUs of each task.")] = 1,
    sbatch: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Another option of sbatch, such as account=x.")
    ] = None,
    max_jobs: Annotated[int, options.Count("Most tasks that run at one time.")] = 256,
    max_lockstep: options.MaxLockstep = ensure.MAX_LOCKSTEP,
    gpu_memory: Annotated[float, typer.Option(min=1, help="GB of one GPU, which a job must fit in.")] = 24.0,
    speed: Annotated[Path | None, typer.Option(help="File or folder of speed --save to estimate by.")] = None,
    device: options.Device = "auto",
    mix_engines: Annotated[bool, typer.Option("--mix-engines", help="Go on from another engine's snapshots.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    results: options.Results = options.RESULTS,
    cache: options.Cache = options.CACHE,
    as_json: options.Json = False,
) -> None:
    """Submit the missing runs of a protocol to SLURM, as one array of lockstep jobs, the longest first."""
    store = Store(results, cache)
    chosen = _runs(protocol, claim or [], task or [], method or [], steps)
    request = Request(time, partition, gres, cpus, max_jobs, _pairs(sbatch or []))
    if not dry_run:
        store.prepare()
    with nullcontext([""]) if dry_run else submitting.alone(store) as turn:
        if not turn:
            raise InputError("another process submits from this cache now; wait until it has ended")
        missing, taken, held = _free(chosen, store, dry_run)
        ensure.refuse_untrainable(missing, store)
        known = rates.speeds(results, os.environ, speed)
        parts = plan(
            missing,
            known.rates,
            max_lockstep,
            gpu_gigabytes=gpu_memory if gres and "gpu" in gres else None,
            working_bytes=measured_bytes(saved.read(Path(file)) for file in known.files),
            is_kept=lambda run: bool(import_module("benchmark.running.replays").has(cache, run)),
        )
        lines = _lines(parts, request, known, taken, held, gpu_memory)
        for line in [] if as_json else lines:
            print(line, flush=True)
        submission = None
        if parts and not dry_run:
            submission = submitting.submit(parts, store, request, device=device, mix_engines=mix_engines)
    told = f"submitted as job {submission.job}; status shows it, cancel takes it back" if submission else None
    rows = [{"hours": p.hours, "before": p.sources_hours, "runs": len(p.specs), "label": p.label} for p in parts]
    data = {
        "protocol": protocol,
        "hours": sum(part.hours for part in parts),
        "missing": len(missing),
        "under_way": taken,
        "held": held,
        "job": submission.job if submission else None,
        "parts": rows,
    }
    if as_json or told:
        answer(as_json, data, *([told] if told else []))


def cancel(
    job: Annotated[
        list[str] | None, typer.Option(help="Number of a submitted job; all of this cache's if left out.")
    ] = None,
    results: options.Results = options.RESULTS,
    cache: options.Cache = options.CACHE,
    as_json: options.Json = False,
) -> None:
    """Take back what was submitted from this cache and has not ended; running tasks save a snapshot first."""
    store = Store(results, cache)
    ours = submissions.read_all(store.cache)
    numbers = [one.job for one in ours if one.job is not None]
    if unknown := [number for number in job or [] if number not in numbers]:
        known = nearest(unknown[0], numbers) if numbers else "nothing was"
        raise InputError(f"job {unknown[0]} was not submitted from this cache; {known}")
    chosen = {one.token: one for one in ours if not job or one.job in job}
    queue = slurm.queue(chosen)
    living = [task for task in queue.values() if task.name in chosen and not task.is_over]
    if living:
        for token, one in chosen.items():  # first: what is noted and lives on is seen to live
            if indices := [task.number for task in living if task.name == token]:
                submissions.mark_cancelled(store.cache, one, indices)
        slurm.cancel(living)
    ids = [task.id for task in living]
    answer(as_json, {"cancelled": ids}, f"{count(len(ids), 'task')} cancelled{': ' if ids else ''}{' '.join(ids)}")


def _runs(
    name: str, claims: Sequence[str], tasks: Sequence[str], methods: Sequence[str], steps: int | None
) -> list[RunSpec]:
    """The runs that are asked for: by task and method, or what claims need."""
    protocol = load_suite().protocol(name)
    if tasks or methods or steps is not None:
        if claims or not (tasks and methods):
            raise InputError("give --claim, or both --task and --method, with or without --steps")
        return specs("train", options.distinct(tasks), options.distinct(methods), with_steps(protocol, "train", steps))
    known = {claim.id: claim for claim in load_ledger().claims}
    for one in claims:
        if one not in known:
            raise InputError(f"unknown claim {one!r}; {nearest(one, tuple(known))}")
    found = unique(spec for one in claims for spec in runs(known[one], protocol)) if claims else wanted(protocol)
    if not found:
        raise InputError(f"no such claim is judged under the {name} protocol; give --task and --method")
    return found


def _free(chosen: Sequence[RunSpec], store: Store, dry_run: bool) -> tuple[list[RunSpec], int, int]:
    """The missing runs that nobody has in hand; how many SLURM has, and how many some other process trains."""
    missing = store.missing(chosen)
    queue = states.ask(store.cache)
    if queue is None and not dry_run:
        raise InputError("squeue does not answer: what was submitted before is not known; try again")
    taken = states.under_way(states.standings(store, queue))
    leases = Leases(store.cache)
    held = {spec.key for spec in missing if spec.key not in taken and leases.held(spec.key)}
    free = [spec for spec in missing if spec.key not in taken | held]
    return free, sum(spec.key in taken for spec in missing), len(held)


def _lines(
    parts: Sequence[Part], request: Request, known: rates.Speeds, taken: int, held: int, gpu_memory: float
) -> list[str]:
    """The plan in words, its hours first."""
    lines = []
    if parts:
        total, ends = sum(part.hours for part in parts), makespan(parts, request.at_once)
        number = count(sum(len(part.specs) for part in parts), "run")
        lines.append(
            f"{total:,.1f} hours ({duration(3600 * total)}) of {number} in {count(len(parts), 'task')}; about "
            f"{duration(3600 * ends)} with {request.at_once} at a time ({known.words})"
        )
        if before := sum(part.sources_hours for part in parts):
            lines.append(f"{before:,.1f} hours more for the runs whose replays they are fitted on, trained first")
        on_gpu = bool(request.gres and "gpu" in request.gres)
        if on_gpu:
            lines.append(f"jobs are to fit in {gpu_memory:g} GB of one GPU: the largest takes about "
                         f"{max(part.gigabytes for part in parts):.1f} GB")  # fmt: skip
            if known.device == "the CPUs":
                lines.append("these are speeds of CPUs: give --speed with a folder of measurements on such a GPU")
        lines += [f"{part.all_hours:10,.2f} h  {part.label}" for part in parts]
    else:
        lines.append("nothing to submit")
    if taken:
        lines.append(f"{count(taken, 'run')} more: submitted before, waiting or running")
    if held:
        lines.append(f"{count(held, 'run')} more: another process trains them, or died less than three minutes ago")
    return lines


def _pairs(given: Sequence[str]) -> dict[str, str]:
    """Options of sbatch from NAME=VALUE. Raises `InputError` for another form and for what `submit` sets itself."""
    pairs: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.removeprefix("--").partition("=")
        if not (name and equals):
            raise InputError(f"--sbatch {pair!r} is not of the form NAME=VALUE, such as account=x")
        if name in ("array", "output", "error", "job-name", "signal", "requeue", "time", "open-mode"):
            raise InputError(f"--sbatch {name} is set by submit itself; leave it out")
        pairs[name] = value
    return pairs
