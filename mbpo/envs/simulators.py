"""The environments of a batch in this process, stepped in turn; `processes` steps them side by side."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
import weakref
from collections.abc import Sequence
from functools import cache

import numpy as np

from mbpo.config import InputError
from mbpo.envs.flat import make_env
from mbpo.envs.load import Array

Steps = tuple[Array, Array, Array, Array]
"""next_obs (n, O) float32, reward (n,) float64, terminated (n,) and truncated (n,) bool."""

_FEWEST_ENVS = 8
_FEWEST_CPUS = 4
_ENVS_PER_PROCESS = 4
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


class InTurn:
    """`n` environments of one task in this process; `rows` are their numbers.

    `failures` holds a sentence for every environment that has raised, whose rows are zeros from then on and which is
    not to be asked again; without `isolate` it is None, and an error is raised instead.
    """

    def __init__(self, task: str, n: int, drop: Sequence[str], finite: bool, isolate: bool = False) -> None:
        self.envs = [make_env(task, drop, finite) for _ in range(n)]
        self.info = self.envs[0].info
        self.failures: dict[int, str] | None = {} if isolate else None
        self.busy: tuple[int, float] | None = None  # the environment that is at work, and since when
        _watched.add(self)
        _start_watching()

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> Array:
        """Start an episode per seed: observations ``(len(rows), O)``."""
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
        """One step of ``actions (len(rows), A)``."""
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
        """Close every environment."""
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
    named: set[tuple[int, tuple[int, float]]] = set()
    while True:
        time.sleep(min(seconds / 4, 30.0))
        for simulators in list(_watched):
            busy = simulators.busy
            if busy is None or time.monotonic() - busy[1] < seconds or (id(simulators), busy) in named:
                continue
            named.add((id(simulators), busy))
            log.error(
                "task %r: environment %d has not answered for %g s (%s sets how long is waited); it hangs, or is slow",
                *(simulators.info.id, busy[0], seconds, PATIENCE),
            )
