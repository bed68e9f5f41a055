"""Environments of a batch that live in this process, stepped in turn, and when processes pay (`mbpo.envs.processes`).

Both give the same numbers.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mbpo.config import InputError
from mbpo.envs.flat import make_env
from mbpo.envs.load import Array
from mbpo.envs.tasks import TaskInfo

Steps = tuple[Array, Array, Array, Array]
"""next_obs (n, O) float32, reward (n,) float64, terminated (n,) and truncated (n,) bool."""

_FEWEST_ENVS = 8
_FEWEST_CPUS = 4
_ENVS_PER_PROCESS = 4


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

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> Array:
        """As in `Simulators`."""
        obs = np.empty((len(rows), self.info.obs_dim), np.float32)
        for k, (i, seed) in enumerate(zip(rows, seeds, strict=True)):
            try:
                obs[k], _ = self.envs[i].reset(seed=seed)
            except Exception as error:
                if self.failures is None:
                    raise
                self.failures[i], obs[k] = sentence(error), 0.0
        return obs

    def step(self, rows: Sequence[int], actions: Array) -> Steps:
        """As in `Simulators`."""
        n = len(rows)
        next_obs, reward = np.empty((n, self.info.obs_dim), np.float32), np.empty(n)
        terminated, truncated = np.empty(n, bool), np.empty(n, bool)
        for k, i in enumerate(rows):
            try:
                next_obs[k], reward[k], terminated[k], truncated[k], _ = self.envs[i].step(actions[k])
            except Exception as error:
                if self.failures is None:
                    raise
                self.failures[i] = sentence(error)
                next_obs[k], reward[k], terminated[k], truncated[k] = 0.0, 0.0, False, False
        return next_obs, reward, terminated, truncated

    def close(self) -> None:
        """As in `Simulators`."""
        for env in self.envs:
            env.close()


def sentence(error: Exception) -> str:
    """An environment's error in one line."""
    said = " ".join(str(error).split())
    return said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"
