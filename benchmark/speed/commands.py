"""The commands `speed` and `precision`."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from typing import Annotated, Literal

import typer

from benchmark import options
from benchmark.options import answer, say
from benchmark.records.store import Store
from benchmark.running.progress import Watch


def time_parts(
    task: Annotated[str, typer.Option(help="Task, such as dmc:hopper-hop.")] = "dmc:quadruped-walk",
    max_episode_steps: options.MaxEpisodeSteps = None,
    method: Annotated[str, typer.Option(help="Method of methods.yaml, such as ftfl.")] = "mbpo",
    runs: Annotated[int, options.Count("Runs in lockstep.")] = 1,
    threads: Annotated[int | None, options.Count("CPU threads; if left out 1, and all of them beside a GPU.")] = None,
    precision: options.PrecisionName = "fp32",
    device: options.Device = "auto",
    rounds: Annotated[int, options.Count("Times that each part is timed.")] = 8,
    profile: Annotated[bool, typer.Option("--profile", help="Say which operations the time goes to.")] = False,
    save: Annotated[bool, typer.Option("--save", help="Keep it under results/speed, where status reads it.")] = False,
    scaling: Annotated[
        bool,
        typer.Option("--scaling", help="Measure and save over runs, threads and observations; write a table."),
    ] = False,
    results: options.Results = options.RESULTS,
    as_json: options.Json = False,
) -> None:
    """Measure seconds per env step at the paper's constants, by part, beside the machine's peak and torch's product."""
    speed = import_module("benchmark.speed.measure")
    question = speed.Question(options.cut_episodes(task, max_episode_steps), method, runs, 1, precision, device)
    question = replace(question, threads=threads or speed.usual_threads(question))
    if scaling:
        paths = import_module("benchmark.speed.scaling").build(question, speed.device_name(question), results, say)
        answer(as_json, {"written": [str(path) for path in paths]}, *map(str, paths))
        return
    measurement = speed.measure(question, rounds)
    if save:
        say(str(import_module("benchmark.speed.saved").save(measurement, results)))
    answer(as_json, measurement, *speed.sentences(measurement))
    if profile:
        say(speed.profile(question))


def compare_precisions(
    precision: options.PrecisionName = "bf16",
    against: options.PrecisionName = "fp32",
    kind: Annotated[
        Literal["fit", "train"] | None,
        options.Named("kind", ("fit", "train"), "Compare these alone; both if left out"),
    ] = None,
    device: options.Device = "auto",
    results: options.Results = options.RESULTS,
    cache: options.Cache = options.CACHE,
    as_json: options.Json = False,
) -> None:
    """Train what suite/precision.yaml names in two precisions and test whether they are equivalent."""
    comparison = import_module("benchmark.speed.precision")
    with Watch(cache, say):
        frame, paths = comparison.build(Store(results, cache), precision, against, device, kind)
    lines = [*comparison.sentences(frame, precision, against), *map(str, paths)]
    answer(as_json, json.loads(frame.to_json(orient="records")), *lines)
