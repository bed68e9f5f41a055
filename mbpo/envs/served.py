"""What a process of environments does, and the memory that it shares with the one that asks (`mbpo.envs.processes`)."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

import gymnasium
import numpy as np

from mbpo.config import InputError
from mbpo.envs.load import Array, gym_spec, split_task
from mbpo.envs.simulators import InTurn
from mbpo.envs.tasks import TaskInfo

NOBODY = -1.0
CLOSING_SECONDS = 5.0
"""A process that does not end by then, once it is told to, is killed."""
Order = list[tuple[int, int | None]]
"""Environments to step, or to reset where there is a seed."""


@dataclass(frozen=True)
class Board:
    """What all processes see: a row an environment, and of `calls` a row a process."""

    obs: Any
    action: Any
    reward: Any
    ended: Any
    calls: Any
    info: TaskInfo

    def arrays(self) -> tuple[Array, Array, Array, Array, Array]:
        """Observations (n, O) and actions (n, A) float32, rewards (n,) float64, terminated and truncated (n, 2).

        The last are calls (workers, 2) float64: the environment that is at work, -1 for none, and their number so far.
        """
        return (
            np.frombuffer(self.obs, np.float32).reshape(-1, self.info.obs_dim),
            np.frombuffer(self.action, np.float32).reshape(-1, self.info.action_dim),
            np.frombuffer(self.reward, np.float64),
            np.frombuffer(self.ended, bool).reshape(-1, 2),
            np.frombuffer(self.calls, np.float64).reshape(-1, 2),
        )


class _Forward:
    """Sends what ends the block as an error of environment `row` to the other end of the pipe."""

    def __init__(self, pipe: Connection, row: int) -> None:
        self._pipe, self.row = pipe, row

    def __enter__(self) -> _Forward:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if isinstance(error, Exception):
            is_input = isinstance(error, InputError)
            self._pipe.send((self.row, is_input, str(error) if is_input else f"{type(error).__name__}: {error}"))
        return isinstance(error, Exception)


def end(pipes: Sequence[Connection], processes: Sequence[BaseProcess]) -> None:
    """Tell processes to end, each through its pipe; returns when every one is gone."""
    for pipe in pipes:
        with suppress(OSError):
            pipe.send(None)
        pipe.close()
    for process in processes:
        process.join(CLOSING_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


def movable(task: str) -> bool:
    """Whether a process that is started now could make the environment: what registers it must be sendable."""
    try:
        return registration_of(task) is not None or split_task(task)[0] == "dmc"
    except InputError:
        return True  # refused where it is made


def registration_of(task: str) -> bytes | None:
    """What is registered under a `gym:` task's id, to be sent to a process that has not run the caller's script."""
    if split_task(task)[0] != "gym":
        return None
    try:
        return pickle.dumps(gym_spec(task))
    except (pickle.PicklingError, AttributeError, TypeError):  # a local class or a lambda
        return None


def register(task: str, registration: bytes | None) -> None:
    """Make the environment of `task` known in this process, as `registration_of` told of it in another."""
    if registration is not None and ":" not in split_task(task)[1]:
        spec = pickle.loads(registration)
        gymnasium.registry[spec.id] = spec


def serve(
    pipe: Connection,
    board: Board,
    w: int,
    start: int,
    stop: int,
    registration: bytes | None,
    task: str,
    drop: tuple[str, ...],
    finite: bool,
    isolate: bool,
) -> None:
    """The life of process `w` with environments `start` to `stop`: one answer to every order, until told to end."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # sent to the whole group: the trainer decides what they mean
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    obs, action, reward, ended, calls = board.arrays()
    with _Forward(pipe, start) as place, suppress(EOFError):
        register(task, registration)
        envs = InTurn(task, stop - start, drop, finite, isolate)
        while (order := pipe.recv()) is not None:
            for place.row, seed in order:
                i, mine = place.row, [place.row - start]
                calls[w] = i, calls[w, 1] + 1
                if seed is not None:
                    obs[i] = envs.reset(mine, [seed])[0]
                else:
                    obs[i], reward[i], ended[i, 0], ended[i, 1] = (x[0] for x in envs.step(mine, action[i : i + 1]))
                calls[w, 0] = NOBODY
            failed = {start + i: said for i, said in (envs.failures or {}).items()}
            pipe.send(failed or None)
        envs.close()
