"""The commands `diagnose` and `why`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark import options
from benchmark.options import answer, say
from benchmark.records.store import Store
from benchmark.running import ensure
from benchmark.running.cost import hours
from benchmark.running.progress import Watch
from benchmark.words import duration


def diagnose(
    task: Annotated[str, typer.Argument(help="Task, such as dmc:hopper-hop, or your own gym:my_package:MyEnv-v0.")],
    steps: Annotated[int | None, options.Count("Env steps per seed, a third held out; 6000 if left out.")] = None,
    max_episode_steps: options.MaxEpisodeSteps = None,
    policy: Annotated[str, typer.Option(help="Policy that collects: random, or the key of a training run.")] = "random",
    drop: options.Drop = None,
    check: Annotated[
        bool, typer.Option("--check", help="Train what is advised beside mbpo as it is, and show both.")
    ] = False,
    check_minutes: Annotated[int, options.Count("Minutes that --check may take on one core.")] = 4,
    check_seeds: Annotated[int, options.Count("Seeds a side of --check.", 2)] = 3,
    seeds: Annotated[int | None, options.Count("Data sets, each with its own fits; 3 if left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Page to write; results/diagnosis/TASK.html if left out.")] = None,
    device: options.Device = "auto",
    results: options.Results = options.RESULTS,
    cache: options.Cache = options.CACHE,
    as_json: options.Json = False,
) -> None:
    """Say whether MBPO would break on this task, why, and what to change, on one HTML page; --check tries it."""
    doctor, page = import_module("benchmark.diagnosis.diagnose"), import_module("benchmark.diagnosis.page")
    data_sets, groups = seeds or doctor.SEEDS, tuple(drop or ())
    import_module("mbpo.fast.engine").engine(device)  # what is not there is refused before data are collected
    task = options.cut_episodes(task, max_episode_steps)
    samples = import_module("benchmark.diagnosis.samples")
    if policy == "random":
        length = steps or doctor.STEPS
        say(f"collecting {data_sets} times {length} transitions of {task} with random actions")
        sample = samples.collect(task, groups, length, data_sets, cache)
    else:
        store = Store(results, cache)
        runs = import_module("benchmark.diagnosis.policies").runs_of(policy, task, groups, store, data_sets)
        samples.check_length(runs[0])
        if not import_module("benchmark.running.replays").has(cache, runs[0]):
            ensure.refuse_untrainable(runs[:1], store)
            needed = duration(3600 * hours(runs[:1]))
            say(f"the replay of {runs[0].label} is not kept; it is trained again, estimated {needed}")
        with Watch(cache, say):
            ensure.keep_replays(runs, store, device=device)
        sample = samples.lived(runs, steps, cache, doctor.STEPS)
    diagnosis = doctor.diagnose(sample, device=device, say=say)
    path, checked = out or page.default_path(results, diagnosis), []
    if check:
        checked = _check(diagnosis, groups, check_minutes, check_seeds, Store(results, cache), device)
    page.write(diagnosis, path)
    if as_json:
        say(str(path))
    answer(as_json, diagnosis.findings, *doctor.summary(diagnosis), *checked, str(path))


def _check(diagnosis: Any, drop: tuple[str, ...], minutes: int, seeds: int, store: Store, device: str) -> list[str]:
    """Train with and without the advice, add what came of it to the findings, and give its lines."""
    trial, findings = import_module("benchmark.diagnosis.trial"), diagnosis.findings
    runs = trial.plan(findings["task"], drop, findings["recommendation"], minutes, seeds)
    missing = store.missing(runs.specs)
    if missing:
        ensure.refuse_impossible(missing, device)
        say(f"checking the advice: {len(missing)} runs of {runs.steps:,} env steps to train, within {minutes} min")
        with Watch(store.cache, say):
            ensure.ensure(missing, store, device=device)
    findings["check"] = trial.outcome(runs, store)
    return list(trial.lines(findings["check"]))


def why(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A training run: its key's first digits, or TASK+METHOD+SEED.")
    ],
    out: Annotated[Path | None, typer.Option(help="Page to write; results/diagnosis/why-KEY.html if left out.")] = None,
    results: options.Results = options.RESULTS,
    cache: options.Cache = options.CACHE,
    as_json: options.Json = False,
) -> None:
    """Say what went wrong first in one training run, and write one HTML page."""
    explain, pages = import_module("benchmark.diagnosis.why"), import_module("benchmark.diagnosis.why_page")
    store = Store(results, cache)
    account = explain.account(store, explain.find(store, run))
    path = out or results / "diagnosis" / f"why-{account.record.spec.key}.html"
    pages.write(account, path)
    if as_json:
        say(str(path))
    answer(as_json, account.found, *account.sentences, str(path))
