"""The command `run`."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Annotated

import typer

from benchmark import options
from benchmark.options import answer, say
from benchmark.records.store import Store
from benchmark.running import ensure, outcome
from benchmark.running.cost import hours
from benchmark.running.progress import Watch
from benchmark.speed import rates
from benchmark.suite.entries import Protocol
from benchmark.suite.load import load_suite, specs
from benchmark.suite.settings import parse, with_settings
from benchmark.words import count, duration
from mbpo.config import InputError


def run(
    task: options.Tasks,
    method: options.Methods,
    seeds: Annotated[int | None, options.Count("Number of seeds, from 0 on; the protocol's if left out.")] = None,
    seed: Annotated[
        list[int] | None, options.Count("Seed to train, in place of --seeds; may be repeated.", 0, 2**31 - 1)
    ] = None,
    protocol: options.ProtocolName = "quick",
    kind: options.KindName = "train",
    drop: options.Drop = None,
    changes: options.Set = None,
    steps: Annotated[int | None, options.Count("Env steps of training, in place of the protocol's.")] = None,
    max_episode_steps: options.MaxEpisodeSteps = None,
    precision: options.PrecisionName = "fp32",
    device: options.Device = "auto",
    max_lockstep: options.MaxLockstep = ensure.MAX_LOCKSTEP,
    snapshot_seconds: Annotated[int, options.Count("Least seconds between two snapshots.")] = 300,
    keep_last: Annotated[bool, typer.Option("--keep-last", help="Keep the last state, for a longer budget.")] = False,
    mix_engines: Annotated[bool, typer.Option("--mix-engines", help="Go on from another engine's snapshots.")] = False,
    keep_policies: Annotated[
        bool, typer.Option("--keep-policies", help="Copy the policies to the results folder too.")
    ] = False,
    results: options.Results = options.RESULTS,
    cache: options.Cache = options.CACHE,
    as_json: options.Json = False,
) -> None:
    """Train the runs that have no record; equal runs are never trained twice."""
    if seed and seeds is not None:
        raise InputError("--seed names the seeds and --seeds counts them: give one of the two")
    tasks = options.distinct(options.cut_episodes(name, max_episode_steps) for name in task)
    plan = with_steps(load_suite().protocol(protocol), kind, steps)
    plan = with_settings(plan, kind, parse(changes or ()), options.distinct(method))
    chosen = list(dict.fromkeys(seed)) if seed else seeds
    wanted = specs(kind, tasks, options.distinct(method), plan, chosen, drop=drop or (), precision=precision)
    store = Store(results, cache)
    missing = store.missing(wanted)
    estimate = hours(missing, rates.speeds(results, os.environ).rates, most=max_lockstep)
    if missing:
        ensure.refuse_impossible(missing, device)
        say(f"{len(missing)} of {count(len(wanted), 'run')} to train, estimated {duration(estimate * 3600)}")
    with Watch(cache, say) if missing else nullcontext():  # with nothing to train, an edited environment is refused
        ensure.ensure(
            wanted, store, device=device, max_lockstep=max_lockstep, checkpoint_seconds=snapshot_seconds,
            keep_last=keep_last, mix_engines=mix_engines,
        )  # fmt: skip
    if keep_policies:
        outcome.keep_policies(wanted, store, say)
    runs = [{"key": s.key, "kind": s.kind, "task": s.task, "method": s.method, "seed": s.seed} for s in wanted]
    answer(
        as_json,
        {"trained": len(missing), "present": len(wanted) - len(missing), "runs": runs},
        f"{count(len(wanted), 'record')} in {results}, {len(missing)} of them new",
        *([] if as_json else outcome.lines(wanted, store, (options.RESULTS, options.CACHE))),
    )


def with_steps(protocol: Protocol, kind: str, steps: int | None) -> Protocol:
    """The protocol with so many env steps of online training. Raises `InputError` for fits."""
    if steps is None:
        return protocol
    if kind == "fit":
        raise InputError("--steps is for online training; a fit's length is model.updates in protocols.yaml")
    return protocol.model_copy(update={"train": protocol.train.model_copy(update={"env_steps": steps})})
