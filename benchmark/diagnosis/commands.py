"""The command `diagnose`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from benchmark.options import (
    CACHE,
    RESULTS,
    Cache,
    Count,
    Device,
    Drop,
    Json,
    MaxEpisodeSteps,
    Results,
    answer,
    cut_episodes,
    say,
)
from benchmark.records.store import Store
from benchmark.running import ensure
from benchmark.running.cost import hours
from benchmark.running.progress import Watch
from benchmark.words import duration


def diagnose(
    task: Annotated[str, typer.Argument(help="Task, such as dmc:hopper-hop, or your own gym:my_package:MyEnv-v0.")],
    steps: Annotated[int | None, Count("Env steps per seed, a third of them held out; 6000 if left out.")] = None,
    max_episode_steps: MaxEpisodeSteps = None,
    policy: Annotated[str, typer.Option(help="Policy that collects: random, or the key of a training run.")] = "random",
    drop: Drop = None,
    seeds: Annotated[int | None, Count("Data sets, each with its own fits; 3 if left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Page to write; results/diagnosis/TASK.html if left out.")] = None,
    device: Device = "auto",
    results: Results = RESULTS,
    cache: Cache = CACHE,
    as_json: Json = False,
) -> None:
    """Say whether MBPO would break on this task, why, and which arm to use, on one HTML page."""
    doctor, page = import_module("benchmark.diagnosis.diagnose"), import_module("benchmark.diagnosis.page")
    length, data_sets, groups = steps or doctor.STEPS, seeds or doctor.SEEDS, tuple(drop or ())
    task = cut_episodes(task, max_episode_steps)
    if policy == "random":
        diagnosis = doctor.diagnose(task, length, groups, data_sets, cache=cache, device=device, say=say)
    else:
        store = Store(results, cache)
        runs = import_module("benchmark.diagnosis.policies").runs_of(policy, task, groups, store, data_sets)
        if not import_module("benchmark.running.replays").has(cache, runs[0]):
            ensure.refuse_untrainable(runs[:1], store)
            needed = duration(3600 * hours(runs[:1]))
            say(f"the replay of {runs[0].label} is not kept; it is trained again, estimated {needed}")
        with Watch(cache, say):
            ensure.keep_replays(runs, store, device=device)
        sample = import_module("benchmark.diagnosis.samples").lived(runs, length, cache)
        diagnosis = doctor.examine(sample, device=device, say=say)
    path = out or page.default_path(results, diagnosis)
    page.write(diagnosis, path)
    if as_json:
        say(str(path))
    answer(as_json, diagnosis.findings, *doctor.summary(diagnosis), str(path))
