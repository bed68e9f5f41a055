"""The command `diagnose`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from benchmark.options import CACHE, RESULTS, Cache, Count, Json, Results, print_json, say
from benchmark.records.store import Store
from benchmark.running import ensure
from benchmark.running.cost import hours
from benchmark.running.progress import Watch
from benchmark.words import duration


def diagnose(
    task: Annotated[str, typer.Argument(help="such as dmc:hopper-hop, or your own gym:my_package:MyEnv-v0")],
    steps: Annotated[int | None, Count("env steps per seed, a third of them held out; 6000 if left out")] = None,
    policy: Annotated[str, typer.Option(help="who collects: random, or the key of a training run")] = "random",
    drop: Annotated[list[str] | None, typer.Option(help="observation group to leave out; may be repeated")] = None,
    seeds: Annotated[int | None, Count("data sets, each with its own fits; 3 if left out")] = None,
    out: Annotated[Path | None, typer.Option(help="the page; results/diagnosis/TASK.html if left out")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    results: Results = RESULTS,
    cache: Cache = CACHE,
    as_json: Json = False,
) -> None:
    """Would MBPO break on this task, why, and which arm to use? Writes one HTML page."""
    doctor, pages = import_module("benchmark.diagnosis.diagnose"), import_module("benchmark.diagnosis.page")
    asked, sets, less = steps or doctor.STEPS, seeds or doctor.SEEDS, tuple(drop or ())
    if policy == "random":
        found = doctor.diagnose(task, asked, less, sets, cache=cache, device=device, say=say)
    else:
        store = Store(results, cache)
        runs = import_module("benchmark.diagnosis.policies").runs_of(policy, task, less, store, sets)
        if not import_module("benchmark.running.replays").has(cache, runs[0]):
            ensure.refuse_untrainable(runs[:1], store)
            needed = duration(3600 * hours(runs[:1]))
            say(f"the replay of {runs[0].label} is not kept; it is trained again, estimated {needed}")
        with Watch(cache, say):
            ensure.keep_replays(runs, store, device=device)
        sample = import_module("benchmark.diagnosis.samples").lived(runs, asked, cache)
        found = doctor.examine(sample, device=device, say=say)
    path = out or pages.default_path(results, found)
    pages.write(found, path)
    if as_json:
        say(str(path))
        print_json(found.found)
    else:
        print("\n".join([*doctor.summary(found), str(path)]))


def why(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="a training run: its key's first digits or TASK+METHOD+SEED")
    ],
    out: Annotated[Path | None, typer.Option(help="the page; results/diagnosis/why-KEY.html if left out")] = None,
    results: Results = RESULTS,
    cache: Cache = CACHE,
    as_json: Json = False,
) -> None:
    """What went wrong first in one training run? Says it in words and writes one HTML page."""
    explain, pages = import_module("benchmark.diagnosis.why"), import_module("benchmark.diagnosis.why_page")
    store = Store(results, cache)
    account = explain.account(store, explain.find(store, run))
    path = out or results / "diagnosis" / f"why-{account.record.spec.key}.html"
    pages.write(account, path)
    if as_json:
        say(str(path))
        print_json(account.found)
    else:
        print("\n".join([*account.sentences, str(path)]))
