"""Steps of a task's simulator from any states: one copy of the environment here, or one in each of several processes.

A step is a function of state and action, so it does not matter which copy takes it. Nothing here imports torch.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from mbpo.envs.flat import make_env
from mbpo.envs.load import Array
from mbpo.envs.patience import patience
from mbpo.envs.physics import physics_of, state_size
from mbpo.envs.served import CLOSING_SECONDS, end, movable, register, registration_of
from mbpo.envs.simulators import sentence

_FEWEST_ROWS = 16
"""Rows that are worth a message to a process and back."""


class Stepped(NamedTuple):
    """One step of N rows. A row whose simulator failed is zeros, counts as terminated, and is named in `failures`."""

    states: Array  # (N, S) float64, after the step
    next_obs: Array  # (N, O) float32
    reward: Array  # (N,) float64
    terminated: Array  # (N,) bool
    failures: dict[int, str]


def pool_workers(cpus: int) -> int:
    """Processes that pay where `cpus` CPUs wait while the simulator is stepped; 1 for none."""
    return 1 if multiprocessing.current_process().daemon else max(cpus, 1)


class Pool:
    """Copies of the environment of `task`, one in each of `workers` processes, or one here."""

    def __init__(self, task: str, drop: Sequence[str] = (), workers: int = 1) -> None:
        self.state_size = state_size(task, tuple(drop))
        self._task = task
        self._here = _Copy(task, drop) if workers == 1 or not movable(task) else None
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        if self._here is not None:
            return
        methods = multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        context.set_forkserver_preload([__name__])
        for _ in range(workers):
            mine, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, registration_of(task), task, tuple(drop)), daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)
        atexit.register(self.close)

    def step(self, states: Array, actions: Array) -> Stepped:
        """One step of ``actions (N, A)`` float32 from ``states (N, S)``."""
        if self._here is not None:
            return self._here.step(states, actions)
        used = max(min(len(self._pipes), len(states) // _FEWEST_ROWS), 1)
        cuts = [len(states) * w // used for w in range(used + 1)]
        for pipe, (start, stop) in zip(self._pipes, pairwise(cuts), strict=False):
            with suppress(OSError):  # a process that has ended is reported by its missing answer
                pipe.send((states[start:stop], actions[start:stop]))
        parts = [self._answer(w) for w in range(used)]
        states, next_obs, reward, terminated = (np.concatenate([part[i] for part in parts]) for i in range(4))
        failures = {cuts[w] + row: why for w, part in enumerate(parts) for row, why in part.failures.items()}
        return Stepped(states, next_obs, reward, terminated, failures)

    def _answer(self, w: int) -> Stepped:
        with suppress(EOFError, OSError):
            if self._pipes[w].poll(patience()):
                answer: Stepped = self._pipes[w].recv()
                return answer
            self._processes[w].kill()
        self._processes[w].join(CLOSING_SECONDS)
        code = self._processes[w].exitcode
        raise RuntimeError(
            f"task {self._task!r}: a process that steps the simulator for rollouts ended with exit code {code}; a "
            "script that trains needs `if __name__ == '__main__':`"
        )

    def close(self) -> None:
        """Close every copy; returns when every process is gone."""
        if self._here is not None:
            self._here.close()
            return
        atexit.unregister(self.close)
        end(self._pipes, self._processes)
        self._pipes, self._processes = [], []


class _Copy:
    """One environment that goes from state to state."""

    def __init__(self, task: str, drop: Sequence[str]) -> None:
        self._env = make_env(task, drop)
        self._env.reset(seed=0)
        self._physics = physics_of(self._env)

    def step(self, states: Array, actions: Array) -> Stepped:
        n = len(states)
        after, next_obs = np.zeros_like(states), np.zeros((n, self._env.info.obs_dim), np.float32)
        reward, terminated = np.zeros(n), np.ones(n, bool)
        failures: dict[int, str] = {}
        for i in range(n):
            try:
                self._physics.write(states[i])
                obs, paid, terminated[i], _, _ = self._env.step(actions[i])
                next_obs[i], reward[i], after[i] = obs, paid, self._physics.read()
            except Exception as error:
                failures[i], terminated[i] = sentence(error), True
        return Stepped(after, next_obs, reward, terminated, failures)

    def close(self) -> None:
        self._env.close()


def _serve(pipe: Connection, registration: bytes | None, task: str, drop: tuple[str, ...]) -> None:
    """The life of a process: one answer to every order, until told to end."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # sent to the whole group: the trainer decides what they mean
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    with suppress(EOFError):
        register(task, registration)
        copy = _Copy(task, drop)
        while (order := pipe.recv()) is not None:
            pipe.send(copy.step(*order))
        copy.close()
