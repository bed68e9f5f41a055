"""The environments of a batch in processes that step side by side, to the same numbers as `simulators.InTurn`.

Processes pay where environments are many and CPUs are free, as beside a GPU: every step costs one message to each
process and one back, and observations pass through memory that all of them share.
"""

from __future__ import annotations

import atexit
import multiprocessing
import pickle
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np

from mbpo.config import InputError
from mbpo.envs.flat import task_info
from mbpo.envs.load import Array, gym_spec, split_task
from mbpo.envs.simulators import PATIENCE, InTurn, Steps, patience, sentence
from mbpo.envs.tasks import TaskInfo

_CLOSING_SECONDS = 5.0


@dataclass(frozen=True)
class _Board:
    """What all processes see: a row an environment."""

    obs: Any
    action: Any
    reward: Any
    ended: Any
    info: TaskInfo

    def arrays(self) -> tuple[Array, Array, Array, Array]:
        """Observations (n, O) and actions (n, A) float32, rewards (n,) float64, terminated and truncated (n, 2)."""
        return (
            np.frombuffer(self.obs, np.float32).reshape(-1, self.info.obs_dim),
            np.frombuffer(self.action, np.float32).reshape(-1, self.info.action_dim),
            np.frombuffer(self.reward, np.float64),
            np.frombuffer(self.ended, bool).reshape(-1, 2),
        )


class InProcesses:
    """`InTurn` in `workers` processes, each with a stretch of the environments.

    An error in an environment is raised, the first of `rows` if there are several, as `InputError` with its own
    sentence if it is one and else as `RuntimeError`; its process has then ended. With `isolate` it goes on, and only
    the end of a process is raised.
    """

    def __init__(
        self, task: str, n: int, drop: Sequence[str], finite: bool, workers: int, isolate: bool = False
    ) -> None:
        self.failures: dict[int, str] | None = {} if isolate else None
        self.info = task_info(task, drop)
        methods = multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        context.set_forkserver_preload([__name__])
        sizes = {"obs": 4 * n * self.info.obs_dim, "action": 4 * n * self.info.action_dim, "reward": 8 * n}
        raw = {name: context.RawArray("b", size) for name, size in {**sizes, "ended": 2 * n}.items()}
        board = _Board(**raw, info=self.info)
        self._obs, self._action, self._reward, self._ended = board.arrays()
        cuts = [n * w // workers for w in range(workers + 1)]
        self._of = [w for w, (start, stop) in enumerate(pairwise(cuts)) for _ in range(start, stop)]
        self._cuts, self._patience = cuts, patience()
        self._pipes, self._processes = [], []
        for start, stop in pairwise(cuts):
            mine, theirs = context.Pipe()
            arguments = (theirs, board, _registration(task), task, tuple(drop), finite, start, stop, isolate)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)
        # Before multiprocessing's own farewell, which terminates and joins: these processes do not heed that signal.
        atexit.register(self.close)

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> Array:
        """As `InTurn.reset`."""
        self._ask(rows, seeds)
        return self._obs[list(rows)]

    def step(self, rows: Sequence[int], actions: Array) -> Steps:
        """As `InTurn.step`."""
        rows = list(rows)
        self._action[rows] = actions
        self._ask(rows, None)
        return self._obs[rows], self._reward[rows], self._ended[rows, 0], self._ended[rows, 1]

    def close(self) -> None:
        """Close every environment; returns when every process is gone."""
        atexit.unregister(self.close)
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(None)
            pipe.close()
        for process in self._processes:
            process.join(_CLOSING_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        self._pipes, self._processes = [], []

    def _ask(self, rows: Sequence[int], seeds: Sequence[int] | None) -> None:
        """Have every process step (or reset, if there are seeds) those of `rows` that are its own."""
        orders: dict[int, list[tuple[int, int | None]]] = {}
        for i, seed in zip(rows, [None] * len(rows) if seeds is None else seeds, strict=True):
            orders.setdefault(self._of[i], []).append((i, seed))
        for w, order in orders.items():
            with suppress(OSError):  # a process that has ended is reported by its missing answer
                self._pipes[w].send(order)
        failures = [failure for w in orders if (failure := self._answer(w)) is not None]
        if failures:
            failed, is_input, why = min(failures, key=lambda failure: rows.index(failure[0]))
            if is_input:
                raise InputError(why)
            raise RuntimeError(f"task {self.info.id!r}: environment {failed}: {why}")

    def _answer(self, w: int) -> tuple[int, bool, str] | None:
        try:
            if not self._pipes[w].poll(self._patience):
                self._processes[w].kill()
                first, last = self._cuts[w], self._cuts[w + 1] - 1
                who = f"of environments {first} to {last}" if last > first else f"of environment {first}"
                why = (
                    f"the process {who} did not answer for {self._patience:g} s and was ended; {PATIENCE} sets how long"
                )
                return first, False, why
            answer: tuple[int, bool, str] | dict[int, str] | None = self._pipes[w].recv()
            if not isinstance(answer, dict):
                return answer
            assert self.failures is not None
            self.failures.update(answer)
            return None
        except (EOFError, OSError):
            self._processes[w].join(_CLOSING_SECONDS)
            code = self._processes[w].exitcode
            why = f"its process ended with exit code {code}; a script that trains needs `if __name__ == '__main__':`"
            return self._of.index(w), False, why


def movable(task: str) -> bool:
    """Whether a process that is started now could make the environment: what registers it must be sendable."""
    try:
        return _registration(task) is not None or split_task(task)[0] == "dmc"
    except InputError:
        return True  # refused where it is made


def _registration(task: str) -> bytes | None:
    """What is registered under a `gym:` task's id, to be sent to a process that has not run the caller's script."""
    if split_task(task)[0] != "gym":
        return None
    try:
        return pickle.dumps(gym_spec(task))
    except (pickle.PicklingError, AttributeError, TypeError):  # a local class or a lambda
        return None


def _register(task: str, registration: bytes | None) -> None:
    if registration is not None and ":" not in split_task(task)[1]:
        spec = pickle.loads(registration)
        gymnasium.registry[spec.id] = spec


def _serve(
    pipe: Connection,
    board: _Board,
    registration: bytes | None,
    task: str,
    drop: tuple[str, ...],
    finite: bool,
    start: int,
    stop: int,
    isolate: bool,
) -> None:
    """The life of a process with environments `start` to `stop`: one answer to every order, until one says to end."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # sent to the whole group: the trainer decides what they mean
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    obs, action, reward, ended = board.arrays()
    row = start
    try:
        _register(task, registration)
        envs = InTurn(task, stop - start, drop, finite, isolate)
        while (order := pipe.recv()) is not None:
            for row, seed in order:
                own = [row - start]
                if seed is not None:
                    obs[row] = envs.reset(own, [seed])[0]
                else:
                    step = envs.step(own, action[row : row + 1])
                    obs[row], reward[row], ended[row, 0], ended[row, 1] = (part[0] for part in step)
            failed = {start + i: why for i, why in (envs.failures or {}).items()}
            pipe.send(failed or None)
        envs.close()
    except EOFError:
        pass  # the trainer is gone
    except Exception as error:
        pipe.send((row, isinstance(error, InputError), sentence(error)))
