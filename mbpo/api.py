"""`train` as users call it: a task by id or by factory, one run or many, loggers and callbacks.

`mbpo.loop.train` is the algorithm and takes ids and runs alone. This module turns other forms into these, or refuses
them in one sentence that says what to pass instead.
"""

from __future__ import annotations

import functools
import numbers
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium

from mbpo import loop
from mbpo.config import Budget, InputError, Method
from mbpo.loggers import loggers
from mbpo.methods import method
from mbpo.state import Row, Run, TrainState
from mbpo.views import View

Factory = Callable[[], gymnasium.Env[Any, Any]]
Callback = Callable[[View], object]
"""Called at each evaluation; training ends after that row once one returns True."""
Runs = Run | Sequence[Run | tuple[Method | str, int]]


def train(
    task: str | Factory,
    runs: Runs,
    budget: Budget,
    *,
    logger: Any = None,
    callbacks: Callback | Sequence[Callback] = (),
    drop: str | Sequence[str] = (),
    device: str = "auto",
    precision: str = "fp32",
    checkpoint: Path | str | Sequence[Path | str] | None = None,
    checkpoint_seconds: float = 300.0,
    keep_last: bool = False,
    stop: Callable[[], bool] | None = None,
    progress: Callable[[int], None] | None = None,
    keep: Callable[[TrainState], None] | None = None,
    env_workers: int | None = None,
) -> Iterator[Row]:
    """Train R runs in lockstep; yield one `Row` untrained and one every ``budget.eval_every`` steps.

    Args:
        task: an id, ``dmc:domain-task``, ``gym:Id-v5`` or ``gym:module:Id-v0``; or a factory: a class or function that
            makes a fresh Gymnasium environment each time it is called without arguments.
        runs: a `Run`, or several that differ in target and seed alone; a pair ``("ftfl", 0)`` names its method.
        budget: steps and evaluations.
        logger: where rows are written: a ``.csv`` or ``.jsonl`` path, ``"tensorboard:FOLDER"``,
            ``"wandb:FOLDER"``, an object with ``log(row, runs)`` and ``close()``, or a list of these.
        callbacks: functions of a read-only `View`, called at each evaluation before its row is yielded; training ends
            after a row at which one of them returns True.
        drop: names of observation groups to leave out, or one name.
        device: "auto", "cpu", "cuda", "cuda:1".
        precision: "fp32", "fp64", "tf32", "bf16".
        checkpoint: a folder of snapshots, or one for each run; the same call goes on from what it holds.
        checkpoint_seconds: least time between two snapshots.
        keep_last: make one at the end too.
        stop: asked after every env step; once it says yes a snapshot is made and `KeyboardInterrupt` raised.
        progress: called with env_steps about once a second.
        keep: called with the live state at each evaluation; a callback's `View` is the safer way to look.
        env_workers: processes that step environments, by default as many as pay; it changes no number.

    Raises:
        InputError: what `mbpo.loop.train` refuses, and arguments of another kind, with what to pass instead.
    """
    name, chosen, watching = task_id(task), as_runs(runs), _callbacks(callbacks)
    if not isinstance(budget, Budget):
        raise InputError(f"budget is {_kind(budget)}: give Budget(env_steps=20_000), which also says how to evaluate")
    options = {
        **{
            "drop": (drop,) if isinstance(drop, str) else drop,
            "device": device,
            "precision": precision,
            "checkpoint": _folders(checkpoint),
            "env_workers": env_workers,
        },
        **{"checkpoint_seconds": checkpoint_seconds, "keep_last": keep_last, "stop": stop, "progress": progress},
    }
    return _rows(name, chosen, budget, logger, watching, keep, options)


def _rows(
    task: str,
    runs: list[Run],
    budget: Budget,
    logger: Any,
    callbacks: Sequence[Callback],
    keep: Callable[[TrainState], None] | None,
    options: dict[str, Any],
) -> Iterator[Row]:
    """The rows of training; files of loggers are opened with the first."""
    ending: list[bool] = []

    def watch(state: TrainState) -> None:
        if keep is not None:
            keep(state)
        ending.extend(True for callback in callbacks if callback(View(state)) is True)

    writing = loggers(logger)
    try:
        for row in loop.train(task, runs, budget, keep=watch, **options):
            for each in writing:
                each.log(row, runs)
            yield row
            if ending:
                return
    finally:
        for each in writing:
            each.close()


def as_runs(runs: Any) -> list[Run]:
    """What `train` takes as runs, as a list. Raises `InputError` that says what to pass instead."""
    if isinstance(runs, Run):
        return [_checked(runs, "runs")]
    if isinstance(runs, Method):
        raise InputError("runs is a bare Method: give Run(method, seed=0), or a list of runs with a seed each")
    if isinstance(runs, str):
        raise InputError(f"runs is the name {runs!r}: give [({runs!r}, seed)], such as [({runs!r}, 0)]")
    if isinstance(runs, tuple) and len(runs) == 2 and isinstance(runs[0], Method | str) and _whole(runs[1]):
        return [_checked(runs, "runs")]
    try:
        given = list(runs)
    except TypeError:
        raise InputError(f"runs is {_kind(runs)}: give a Run(method, seed), or a list of them") from None
    return [_checked(run, f"runs[{i}]") for i, run in enumerate(given)]


def _checked(run: Any, where: str) -> Run:
    if isinstance(run, Method):
        raise InputError(f"{where} is a bare Method: give Run(method, seed=0)")
    if not isinstance(run, tuple) or len(run) != 2:
        raise InputError(f"{where} is {_kind(run)}: give Run(method, seed)")
    what, seed = run
    if isinstance(what, str):
        what = method(what)
    if not isinstance(what, Method):
        raise InputError(f"{where}.method is {_kind(what)}: give a Method, or a name such as 'ftfl'")
    if not _whole(seed):
        raise InputError(f"{where}.seed is {_kind(seed)}: give a whole number")
    return Run(what, int(seed))


def _whole(value: Any) -> bool:
    """Whether a value is a whole number, numpy's among them."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _callbacks(given: Any) -> list[Callback]:
    if given is None:
        return []
    listed: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    for callback in listed:
        if not callable(callback):
            raise InputError(f"callbacks: {_kind(callback)} cannot be called; give functions of a View")
    return listed


def _folders(given: Any) -> Path | list[Path] | None:
    """The folder of snapshots, or one for each run. Raises `InputError` for what is no path, and for a file."""
    if given is None:
        return None
    return [_folder(each) for each in given] if isinstance(given, list | tuple) else _folder(given)


def _folder(given: Any) -> Path:
    if not isinstance(given, str | Path):
        raise InputError(f"checkpoint: {_kind(given)} is no folder; give a path, or one for each run")
    if Path(given).is_file():
        raise InputError(f"checkpoint: {str(given)!r} is a file; give a folder, which is made if it is not there")
    return Path(given)


def task_id(task: Any) -> str:
    """The id of `task`; a factory is registered with Gymnasium under an id of its own name, the same at every call.

    Two factories of one name get ids of their own, in the order in which they come. Checkpoints know their task by
    this id, so a factory's name should not change between two trainings that go on from one another.
    """
    if isinstance(task, str):
        return task
    if isinstance(task, gymnasium.Env):
        what = type(task.unwrapped).__name__
        raise InputError(
            f"task is an environment, of which training needs many copies: give its id, such as 'gym:{what}-v0', or a "
            f"function that makes one, such as lambda: {what}(...)"
        )
    if not callable(task):
        raise InputError(
            f"task is {_kind(task)}: give an id such as 'dmc:hopper-hop', or a function that makes an environment"
        )
    name = _name(task)
    for number in range(1, 1_000):
        env_id = f"Factory{name}-v{number - 1}"
        spec = gymnasium.registry.get(env_id)
        if spec is None:
            gymnasium.register(env_id, entry_point=functools.partial(_made, task))
        elif getattr(spec.entry_point, "args", None) != (task,):
            continue
        return f"gym:{env_id}"
    raise InputError(f"task: a thousand different factories are called {name}; give the environment an id of its own")


def _made(factory: Factory, **arguments: Any) -> gymnasium.Env[Any, Any]:
    """The environment that a factory makes; it takes none of the arguments that an id may carry."""
    env = factory()
    if not isinstance(env, gymnasium.Env):
        raise InputError(f"the factory made {_kind(env)}; a gymnasium.Env is needed")
    return env


def _name(factory: Any) -> str:
    inner = factory.func if isinstance(factory, functools.partial) else factory
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name) if part)


def _kind(value: Any) -> str:
    """What a value is, for a sentence."""
    return "None" if value is None else f"a {type(value).__name__}"
