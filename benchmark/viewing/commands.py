"""The commands `play`, `plot` and `compare`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.options import CACHE, RESULTS, Cache, Count, Json, Results, answer, say
from benchmark.records.store import RETURN, Store
from benchmark.words import count, duration, number
from mbpo.config import InputError


def play(
    key: Annotated[str, typer.Argument(help="digits of a run's key, or the file of a policy")],
    episodes: Annotated[int, Count("episodes to play")] = 5,
    which: Annotated[str, typer.Option(help="final, after the last step, or best, at the best evaluations")] = "final",
    stochastic: Annotated[bool, typer.Option("--stochastic", help="sample actions, as in training")] = False,
    seed: Annotated[int, typer.Option(min=0, help="seed of the first episode; the others follow it")] = 0,
    video: Annotated[
        Path | None, typer.Option(help="film all episodes: a .gif, or an .mp4 with imageio-ffmpeg")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="write the policy as a graph too: an .onnx, or a .pt2 of torch alone")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="train the run again where its policy was not kept")] = False,
    results: Results = RESULTS,
    cache: Cache = CACHE,
    as_json: Json = False,
) -> None:
    """Play episodes of a trained policy in its own environment and print their returns; film or export it."""
    policies, viewing = import_module("mbpo.policies"), import_module("benchmark.viewing.episodes")
    store = Store(results, cache)
    folders = [cache / "policies", results / "policies"]
    if again:
        _train_again(key, store)
    try:
        policy = policies.load_policy(key, which, folders)
    except InputError as error:
        raise _with_a_way_out(key, store, error) from None
    if export is not None:
        policy.export(export)
    played = viewing.play(policy, range(seed, seed + episodes), not stochastic, video)
    returns = [episode.total for episode in played]
    origin, mean = policy.origin, sum(returns) / len(returns)
    rows = [episode._asdict() for episode in played]
    answer(
        as_json,
        {"task": policy.native.task, "policy": vars(origin), "episodes": rows, "mean": mean},
        f"{origin.label or 'policy'} on {policy.native.task}, seed {origin.seed}, after {origin.env_steps:,} env steps",
        *(_told(episode) for episode in played),
        f"mean {number(mean)}, from {number(min(returns))} to {number(max(returns))}",
        *(str(path) for path in (video, export) if path is not None),
    )


def _told(episode: Any) -> str:
    end = "terminated" if episode.terminated else "cut"
    return f"episode {episode.seed}: return {number(episode.total)} in {episode.steps:,} steps, {end}"


def _train_again(key: str, store: Store) -> None:
    ensure = import_module("benchmark.running.ensure")
    spec = import_module("benchmark.viewing.runs").of_key(store, key)
    if not import_module("benchmark.running.policies").has(store.cache, spec):
        estimate = import_module("benchmark.running.cost").hours([spec])
        say(f"{spec.label} is trained again, estimated {duration(3600 * estimate)}")
        with import_module("benchmark.running.progress").Watch(store.cache, say):
            ensure.keep_replays([spec], store)


def _with_a_way_out(key: str, store: Store, error: InputError) -> InputError:
    """The error, and what to type, where `key` is of a run that was trained before policies were kept."""
    if Path(key).exists() or "names several" in str(error) or "has no" in str(error):
        return error
    try:
        spec = import_module("benchmark.viewing.runs").of_key(store, key)
    except InputError:
        return error
    return InputError(
        f"the policy of {spec.label} was not kept; python -m benchmark play {spec.key} --again trains it once more"
    )


def plot(
    task: Annotated[str, typer.Argument(help="such as gym:my_package:MyEnv-v0")],
    method: Annotated[list[str] | None, typer.Option(help="of this method alone; may be repeated")] = None,
    steps: Annotated[int | None, Count("of runs of this length; that with most runs if left out")] = None,
    measure: Annotated[str, typer.Option(help="what is drawn: returns, or any diagnostic such as q_mean")] = RETURN,
    out: Annotated[
        Path | None, typer.Option(help="a .png, .svg or .pdf; results/tasks/TASK/curves.png if left out")
    ] = None,
    results: Results = RESULTS,
    cache: Cache = CACHE,
    as_json: Json = False,
) -> None:
    """Draw the learning curves of all online runs of a task, your own included."""
    curves, runs = import_module("benchmark.viewing.curves"), import_module("benchmark.viewing.runs")
    store = Store(results, cache)
    chosen = runs.of_task(store, task, method or (), steps)
    name = "curves" if measure == RETURN else measure
    path = out or results / "tasks" / chosen.runs[0].slug / f"{name}.png"
    curves.picture(curves.draw(curves.table(chosen, store, measure), task, measure), path)
    if chosen.note:
        say(chosen.note)
    final = curves.finals(chosen, store)
    answer(
        as_json,
        {"task": task, "path": str(path), "arms": {arm: [s.key for s in group] for arm, group in chosen.arms.items()}},
        *(
            f"{row.arm}: {number(row.mean)} in the last fifth of training, {count(row.seeds, 'seed')}, "
            f"from {number(row.least)} to {number(row.largest)}"
            for row in final.itertuples()
        ),
        str(path),
    )


def compare(
    task: Annotated[str, typer.Argument(help="such as gym:my_package:MyEnv-v0")],
    arm: Annotated[str, typer.Option(help="the method that should be better")],
    against: Annotated[str, typer.Option(help="the method that it is held against")],
    margin: Annotated[float, typer.Option(min=0, help="by more than so much, in units of the measure")] = 0.0,
    lower: Annotated[bool, typer.Option("--lower", help="better is lower")] = False,
    measure: Annotated[str, typer.Option(help="returns, or a diagnostic such as reward_r2")] = RETURN,
    since: Annotated[float, typer.Option(min=0, max=1, help="share of training after which evaluations count")] = 0.8,
    steps: Annotated[int | None, Count("of runs of this length; that with most runs if left out")] = None,
    results: Results = RESULTS,
    cache: Cache = CACHE,
    as_json: Json = False,
) -> None:
    """Hold two methods against one another on one task, by the tests that claims are judged by."""
    criterion, pairs = import_module("benchmark.suite.criterion"), import_module("benchmark.viewing.compare")
    estimand = criterion.Estimand(measure=measure, window=(since, 1.0))
    estimand.check("train", "--measure")
    rule = criterion.Criterion(kind="difference", direction="lower" if lower else "higher", margin=margin)
    found = pairs.compare(Store(results, cache), task, arm, against, estimand, rule, steps)
    answer(as_json, found.to_json(), *found.lines())
