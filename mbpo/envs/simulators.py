"""Where the environments of a batch live: in this process, stepped in turn, or in processes that step side by side.

Both give the same numbers. Processes pay where environments are many and CPUs are free, as beside a GPU: every step
costs one message to each process and one back, and observations pass through memory that all of them share.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol

import gymnasium
import numpy as np

from mbpo.config import InputError
from mbpo.envs.flat import make_env, task_info
from mbpo.envs.load import Array, gym_spec, split_task
from mbpo.envs.tasks import TaskInfo

Steps = tuple[Array, Array, Array, Array]
"""next_obs (n, O) float32, reward (n,) float64, terminated (n,) and truncated (n,) bool."""

_FEWEST_ENVS = 8
_FEWEST_CPUS = 4
_ENVS_PER_PROCESS = 4
_CLOSING_SECONDS = 5.0
PATIENCE = "MBPO_ENV_PATIENCE"
"""Environment variable: seconds within which an environment has to answer, 600 unless set."""
log = logging.getLogger(__name__)


def patience() -> float:
    """Seconds within which an environment has to answer a step or reset. Raises `InputError` if set to nonsense."""
    given = os.environ.get(PATIENCE, "600")
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise InputError(f"{PATIENCE} = {given!r}: a number of seconds is needed")
    return seconds


def workers_for(n: int, cpus: int) -> int:
    """Processes that pay for `n` environments where `cpus` CPUs wait while they are stepped; 1 for none.

    A round trip costs about as much as one step of a dm_control task, so a process gets several environments.
    """
    if n < _FEWEST_ENVS or cpus < _FEWEST_CPUS or multiprocessing.current_process().daemon:
        return 1
    return max(min(cpus, n // _ENVS_PER_PROCESS), 1)


class Simulators(Protocol):
    """`n` environments of one task; `rows` are their numbers.

    `failures` holds a sentence for every environment that has raised, whose rows are zeros from then on and which is
    not to be asked again; where it is None an error is raised instead.
    """

    info: TaskInfo
    failures: dict[int, str] | None

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> Array:
        """Start an episode per seed: (len(rows), O)."""

    def step(self, rows: Sequence[int], actions: Array) -> Steps:
        """One step of ``actions (len(rows), A)``."""

    def close(self) -> None:
        """Close every environment."""


class InTurn:
    """In this process, one after the other."""

    def __init__(self, task: str, n: int, drop: Sequence[str], finite: bool, isolate: bool = False) -> None:
        self.envs = [make_env(task, drop, finite) for _ in range(n)]
        self.info = self.envs[0].info
        self.failures: dict[int, str] | None = {} if isolate else None
        self.busy: tuple[int, float] | None = None  # the environment that is at work, and since when
        _watched.add(self)
        _start_watching()

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> Array:
        """As in `Simulators`."""
        obs = np.empty((len(rows), self.info.obs_dim), np.float32)
        for k, (i, seed) in enumerate(zip(rows, seeds, strict=True)):
            self.busy = (i, time.monotonic())
            try:
                obs[k], _ = self.envs[i].reset(seed=seed)
            except Exception as error:
                if self.failures is None:
                    raise
                self.failures[i], obs[k] = sentence(error), 0.0
        self.busy = None
        return obs

    def step(self, rows: Sequence[int], actions: Array) -> Steps:
        """As in `Simulators`."""
        n = len(rows)
        next_obs, reward = np.empty((n, self.info.obs_dim), np.float32), np.empty(n)
        terminated, truncated = np.empty(n, bool), np.empty(n, bool)
        for k, i in enumerate(rows):
            self.busy = (i, time.monotonic())
            try:
                next_obs[k], reward[k], terminated[k], truncated[k], _ = self.envs[i].step(actions[k])
            except Exception as error:
                if self.failures is None:
                    raise
                self.failures[i] = sentence(error)
                next_obs[k], reward[k], terminated[k], truncated[k] = 0.0, 0.0, False, False
        self.busy = None
        return next_obs, reward, terminated, truncated

    def close(self) -> None:
        """As in `Simulators`."""
        for env in self.envs:
            env.close()


def sentence(error: Exception) -> str:
    """An environment's error in one line."""
    said = " ".join(str(error).split())
    return said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"


_watched: weakref.WeakSet[InTurn] = weakref.WeakSet()


@cache
def _start_watching() -> None:
    """From now on, a thread names environments that take longer than `patience` allows; it cannot free them."""
    threading.Thread(target=_watch, args=(patience(),), daemon=True, name="environments").start()


def _watch(seconds: float) -> None:
    told: set[tuple[int, tuple[int, float]]] = set()
    while True:
        time.sleep(min(seconds / 4, 30.0))
        for simulators in list(_watched):
            busy = simulators.busy
            if busy is None or time.monotonic() - busy[1] < seconds or (id(simulators), busy) in told:
                continue
            told.add((id(simulators), busy))
            log.error(
                "task %r: environment %d has not answered for %g s (%s sets how long is waited); it hangs, or is slow",
                *(simulators.info.id, busy[0], seconds, PATIENCE),
            )


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
    """In `workers` processes, each with a stretch of the environments.

    An error in an environment is raised here, that of the lowest place in `rows` if there are several, as `InputError`
    with its own sentence if it is one and else as `RuntimeError`; its process has then ended. With `isolate` it goes
    on, and only the end of a process is raised.
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
        """As in `Simulators`."""
        self._ask(rows, seeds)
        return self._obs[list(rows)]

    def step(self, rows: Sequence[int], actions: Array) -> Steps:
        """As in `Simulators`."""
        rows = list(rows)
        self._action[rows] = actions
        self._ask(rows, None)
        return self._obs[rows], self._reward[rows], self._ended[rows, 0], self._ended[rows, 1]

    def close(self) -> None:
        """As in `Simulators`; returns when every process is gone."""
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
            failed, is_input, sentence = min(failures, key=lambda failure: rows.index(failure[0]))
            if is_input:
                raise InputError(sentence)
            raise RuntimeError(f"task {self.info.id!r}: environment {failed}: {sentence}")

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
    """The life of a process with environments `start` to `stop`: one answer to every order, until told to end."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # sent to the whole group: the trainer decides what they mean
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    obs, action, reward, ended = board.arrays()
    with _Forward(pipe, start) as place, suppress(EOFError):
        _register(task, registration)
        envs = InTurn(task, stop - start, drop, finite, isolate)
        while (order := pipe.recv()) is not None:
            for place.row, seed in order:
                i, mine = place.row, [place.row - start]
                if seed is not None:
                    obs[i] = envs.reset(mine, [seed])[0]
                else:
                    obs[i], reward[i], ended[i, 0], ended[i, 1] = (x[0] for x in envs.step(mine, action[i : i + 1]))
            failed = {start + i: said for i, said in (envs.failures or {}).items()}
            pipe.send(failed or None)
        envs.close()
