"""The commands `speed` and `precision`."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from typing import Annotated

import typer

from benchmark.options import CACHE, RESULTS, Cache, Count, Json, Results, precision_named, print_json, say
from benchmark.records.store import Store
from benchmark.running.progress import Watch
from mbpo.config import InputError, nearest


def time_parts(
    task: Annotated[str, typer.Option(help="such as dmc:hopper-hop")] = "dmc:quadruped-walk",
    method: Annotated[str, typer.Option(help="such as ftfl")] = "mbpo",
    runs: Annotated[int, Count("runs in lockstep")] = 1,
    threads: Annotated[int | None, Count("CPU threads; if left out 1, and all of them beside a GPU")] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16, tf32 or fp64")] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    rounds: Annotated[int, Count("times each part is timed")] = 8,
    profile: Annotated[bool, typer.Option("--profile", help="say which operations the time goes to")] = False,
    save: Annotated[bool, typer.Option("--save", help="keep it under results/speed, where status finds it")] = False,
    scaling: Annotated[
        bool,
        typer.Option("--scaling", help="against runs, threads and observations: saves each, a table and a picture"),
    ] = False,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Seconds per env step at the paper's constants, by part, against this machine's peak and torch's product."""
    speed = import_module("benchmark.speed.measure")
    question = speed.Question(task, method, runs, 1, precision, device)
    question = replace(question, threads=threads or speed.usual_threads(question))
    if scaling:
        paths = import_module("benchmark.speed.scaling").build(question, speed.device_name(question), results, say)
        if as_json:
            print_json({"written": [str(path) for path in paths]})
        else:
            print("\n".join(str(path) for path in paths))
        return
    measurement = speed.measure(question, rounds)
    if save:
        say(str(import_module("benchmark.speed.saved").save(measurement, results)))
    if as_json:
        print_json(measurement)
    else:
        print("\n".join(speed.sentences(measurement)))
    if profile:
        say(speed.profile(question))


def compare_precisions(
    precision: Annotated[str, typer.Option(help="bf16, or tf32 on a GPU")] = "bf16",
    against: Annotated[str, typer.Option(help="what it has to equal")] = "fp32",
    kind: Annotated[str | None, typer.Option(help="fit or train: compare these alone; both if left out")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    results: Results = RESULTS,
    cache: Cache = CACHE,
    as_json: Json = False,
) -> None:
    """Train what suite/precision.yaml names in two precisions and test whether they are equivalent."""
    pair = [precision_named(precision), precision_named(against)]
    if kind not in (None, "fit", "train"):
        raise InputError(f"unknown kind {kind!r}; {nearest(kind, ['fit', 'train'])}")
    comparison = import_module("benchmark.speed.precision")
    with Watch(cache, say):
        frame, paths = comparison.build(Store(results, cache), *pair, device, kind)
    if as_json:
        print_json(json.loads(frame.to_json(orient="records")))
    else:
        print("\n".join([*comparison.sentences(frame, *pair), *map(str, paths)]))
