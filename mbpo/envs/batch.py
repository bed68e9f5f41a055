"""Many environments of one task at a time.

An episode follows from its seed and its actions alone, bit for bit, in the same environment or a
fresh one. `EnvBatch` builds on it: its state is each episode's seed and actions, and a resume
replays them. Nothing here imports torch.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mbpo.config import InputError
from mbpo.envs.load import Array, is_named
from mbpo.envs.patience import processes
from mbpo.envs.physics import Physics, physics_of
from mbpo.envs.processes import InProcesses
from mbpo.envs.served import movable
from mbpo.envs.simulators import InTurn


class EnvBatch:
    """`n` independent environments of one task, never reset by themselves.

    They are stepped one after the other, or by `workers` processes side by side, which changes no number. An
    environment that no process could make, registered by a local class or a lambda, is stepped here. `which` picks
    environments by index (all by default); rows of arguments and results follow it.

    With `isolate` an environment that raises, or that does not answer in time, does not stop the others: `failed` says
    why, its rows are zeros from then on, and it never ends an episode nor is stepped again. What hangs in compiled code
    can be ended in a process alone; `patience.PROCESSES` asks for some where they would not pay, unless all have to be
    stepped `here`.
    """

    def __init__(
        self,
        task: str,
        n: int,
        drop: Sequence[str] = (),
        finite: bool = True,
        workers: int = 1,
        isolate: bool = False,
        here: bool = False,
    ) -> None:
        if n < 1:
            raise InputError(f"a batch of {n} environments of {task!r}: at least 1 is needed")
        if not 1 <= workers <= n:
            raise InputError(f"workers = {workers}: {n} environments are stepped by 1 to {n} processes")
        alone = here or multiprocessing.current_process().daemon  # the process of a pool may not have others
        asked = 0 if alone else min(processes(own=not is_named(task)), n)
        self._simulators: InProcesses | InTurn
        if (workers > 1 or asked) and movable(task):
            self._simulators = InProcesses(task, n, drop, finite, max(workers, asked), isolate)
            self._simulators.life = lambda i: (self._seeds[i], self._actions[i])
        else:
            self._simulators = InTurn(task, n, drop, finite, isolate)
        self.info = self._simulators.info
        self._seeds = [-1] * n
        self._actions: list[list[Array]] = [[] for _ in range(n)]  # since each episode's start
        self._obs = np.zeros((n, self.info.obs_dim), np.float32)
        self._over = [True] * n
        self._physics: list[Physics] = []

    def __len__(self) -> int:
        return len(self._seeds)

    @property
    def failed(self) -> dict[int, str]:
        """The environments that have raised under `isolate`, each with its cause."""
        return self._simulators.failures or {}

    def reset(self, seeds: Sequence[int], which: Sequence[int] | None = None) -> Array:
        """Start an episode per seed. Returns (len(which), O) float32."""
        rows = self._rows(which)
        for seed in seeds:
            if not 0 <= seed < 2**32:
                raise InputError(f"seed = {seed}: an episode's seed lies in 0..2**32-1")
        live = [(i, int(seed)) for i, seed in zip(rows, seeds, strict=True) if i not in self.failed]
        if live:
            self._obs[[i for i, _ in live]] = self._simulators.reset([i for i, _ in live], [seed for _, seed in live])
        for i, seed in live:
            self._seeds[i], self._actions[i], self._over[i] = seed, [], False
        return self._obs[rows]

    def step(self, actions: Array, which: Sequence[int] | None = None) -> tuple[Array, Array, Array, Array]:
        """One step of `actions` (n, A) in [-1, 1].

        Returns next_obs (n, O) float32, reward (n,) float64, terminated (n,) and truncated (n,) bool.
        Raises `InputError` for actions, observations or rewards that are not finite.
        """
        rows = self._rows(which)
        actions = np.array(actions, np.float32)  # a copy: it is kept for `state`
        self._check_actions(actions, rows)
        if self.failed:
            next_obs, reward, terminated, truncated = self._step_live(rows, actions)
        else:
            next_obs, reward, terminated, truncated = self._simulators.step(rows, actions)
        for k, i in enumerate(rows):
            if i not in self.failed:
                self._actions[i].append(actions[k])
                self._over[i] = bool(terminated[k] or truncated[k])
        self._obs[rows] = next_obs
        return next_obs, reward, terminated, truncated

    def _step_live(self, rows: Sequence[int], actions: Array) -> tuple[Array, Array, Array, Array]:
        """One step of those of `rows` that have not failed; zeros for the others."""
        n = len(rows)
        found: tuple[Array, Array, Array, Array] = (
            np.zeros((n, self.info.obs_dim), np.float32),
            np.zeros(n),
            np.zeros(n, bool),
            np.zeros(n, bool),
        )
        live = [k for k, i in enumerate(rows) if i not in self.failed]
        if live:
            for whole, part in zip(found, self._simulators.step([rows[k] for k in live], actions[live]), strict=True):
                whole[live] = part
        return found

    def simulator_states(self, size: int) -> Array:
        """What the next step of each environment follows from besides its action: (n, `size`) float64.

        Those that failed have zeros. Only of a batch without processes, after every environment was reset.
        """
        if not isinstance(self._simulators, InTurn):
            raise ValueError("the states of environments in other processes are not read: give workers = 1")
        if not self._physics:
            self._physics = [physics_of(env) for env in self._simulators.envs]
        states = np.zeros((len(self), size))
        for i, physics in enumerate(self._physics):
            if i not in self.failed:
                states[i] = physics.read()
        return states

    def state(self) -> list[dict[str, Any]]:
        """Per environment: `seed` of its episode, `actions` (t, A) since, and `obs` (O,) to check a replay by.

        One that failed has its cause as `failed`.
        """
        if not self.failed and -1 in self._seeds:
            raise ValueError("state() before every environment was reset")
        empty = np.empty((0, self.info.action_dim), np.float32)
        found: list[dict[str, Any]] = [
            {"seed": seed, "actions": np.stack(actions) if actions else empty, "obs": obs.copy()}
            for seed, actions, obs in zip(self._seeds, self._actions, self._obs, strict=True)
        ]
        for i, why in self.failed.items():
            found[i]["failed"] = why
        return found

    def restore(self, state: Sequence[Mapping[str, Any]]) -> Array:
        """Replay a `state`. Returns the current observations (n, O), bit-identical to then.

        Raises `InputError` if a replay ends elsewhere: the task does not follow from seed and actions.
        """
        if len(state) != len(self):
            raise InputError(f"a state of {len(state)} environments does not fit a batch of {len(self)}")
        live = [i for i, env in enumerate(state) if "failed" not in env]
        self.reset([state[i]["seed"] for i in live], live)
        for t in range(max((len(state[i]["actions"]) for i in live), default=0)):
            rows = [i for i in live if t < len(state[i]["actions"])]
            self.step(np.stack([state[i]["actions"][t] for i in rows]), rows)
        for i, env in enumerate(state):
            if "failed" in env:
                assert self._simulators.failures is not None, "only under `isolate` does an environment fail alone"
                self._simulators.failures[i] = env["failed"]
                self._obs[i], self._seeds[i], self._actions[i] = 0.0, env["seed"], list(env["actions"])
            elif i not in self.failed and not np.array_equal(self._obs[i], env["obs"]):
                raise InputError(
                    f"task {self.info.id!r}: replaying {len(env['actions'])} actions from seed {env['seed']} "
                    "led elsewhere; its episodes do not follow from seed and actions alone, or its simulator changed"
                )
        return self._obs.copy()

    def close(self) -> None:
        """Close every environment."""
        self._simulators.close()

    def _rows(self, which: Sequence[int] | None) -> Sequence[int]:
        return range(len(self)) if which is None else [int(i) for i in which]

    def _check_actions(self, actions: Array, rows: Sequence[int]) -> None:
        if actions.shape != (len(rows), self.info.action_dim):
            raise ValueError(f"actions have shape {actions.shape}, expected {(len(rows), self.info.action_dim)}")
        if not np.isfinite(actions).all():
            k, dim = np.argwhere(~np.isfinite(actions))[0]
            raise InputError(f"task {self.info.id!r}: action {dim} of environment {rows[k]} is {actions[k, dim]}")
        for i in rows:
            if self._over[i] and i not in self.failed:
                raise ValueError(f"environment {i} has ended its episode: reset it before the next step")
