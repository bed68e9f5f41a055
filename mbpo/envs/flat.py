"""One environment: every task as flat float32 observations and actions in [-1, 1].

An episode follows from its seed and its actions alone, bit for bit, in the same environment or a
fresh one. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from mbpo.config import InputError
from mbpo.envs.load import Array, DmcEnv, load
from mbpo.envs.tasks import (
    Groups,
    TaskInfo,
    check_action_space,
    group_of,
    observation_groups,
    observation_space,
    termination_rule,
    without,
)


def _flattener(space: spaces.Box | spaces.Dict, whole: Groups, kept: Groups) -> Callable[[Any], Array]:
    """The map from an observation of `space` to a fresh float32 row of the `kept` groups."""
    size = max(stop for _, stop in kept.values())
    if isinstance(space, spaces.Dict):
        parts = [(name, slice(*place), len(space[name].shape or ()) > 1) for name, place in kept.items()]

        def from_dict(obs: Any) -> Array:
            row = np.empty(size, np.float32)
            for name, place, many in parts:
                row[place] = np.ravel(obs[name]) if many else obs[name]
            return row

        return from_dict
    if len(kept) == len(whole):
        return lambda obs: np.array(obs, np.float32).ravel()
    columns = np.concatenate([np.arange(*whole[name]) for name in kept])
    return lambda obs: np.ravel(obs)[columns].astype(np.float32)


class FlatEnv(gymnasium.Wrapper[Array, Array, Any, Any]):
    """Flat float32 observations and float32 actions in [-1, 1], both of fresh memory.

    Actions are rescaled to the environment's own bounds and clipped to them, which
    gymnasium.wrappers.RescaleAction leaves to rounding. Every observation and reward is checked to
    be finite; `InputError` names the first that is not. With `finite` False they pass as they are, for
    whoever looks into what is wrong with a task.
    """

    def __init__(self, task: str, drop: Sequence[str] = (), finite: bool = True) -> None:
        env = load(task)
        super().__init__(env)
        action = check_action_space(task, env.action_space)
        space = observation_space(task, env.observation_space, by_name=not isinstance(env, DmcEnv))
        whole = observation_groups(task, space, getattr(env.unwrapped, "observation_structure", None))
        rule = termination_rule(task, env)
        kept = without(task, whole, drop, rule)
        obs_dim, action_dim = max(stop for _, stop in kept.values()), math.prod(action.shape)
        limit = env.time_limit if isinstance(env, DmcEnv) else env.spec.max_episode_steps if env.spec else None
        self.info = TaskInfo(task, obs_dim, action_dim, limit, kept, tuple(drop), rule.name)
        self.observation_space = spaces.Box(-np.inf, np.inf, (obs_dim,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (action_dim,), np.float32)
        self._space, self._flatten = space, _flattener(space, whole, kept)
        self._low, self._high = action.low.ravel(), action.high.ravel()
        self._scale, self._shift = self._high / 2 - self._low / 2, self._high / 2 + self._low / 2
        self._shape, self._steps, self._finite = action.shape, 0, finite

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode, the same for the same `seed`. Returns (O,) and the environment's info."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._steps = 0
        self._check_shape(obs)
        return self._checked(self._flatten(obs), 0.0), info

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step of `action` (A,)."""
        native = np.multiply(action, self._scale, dtype=self._scale.dtype, casting="same_kind")
        native += self._shift
        np.minimum(native, self._high, out=native)
        np.maximum(native, self._low, out=native)
        if len(self._shape) != 1:
            native = native.reshape(self._shape)
        obs, reward, terminated, truncated, info = self.env.step(native)
        self._steps += 1
        reward = float(reward)
        return self._checked(self._flatten(obs), reward), reward, bool(terminated), bool(truncated), info

    def _checked(self, obs: Array, reward: float) -> Array:
        if not self._finite:
            return obs
        finite = np.isfinite(obs)
        if finite.all() and math.isfinite(reward):
            return obs
        if finite.all():
            what = f"reward is {reward}"
        else:
            dim = int(np.argmin(finite))
            what = f"observation {dim} ({group_of(self.info.groups, dim)}) is {obs[dim]}"
        raise InputError(f"task {self.info.id!r}: {what} at {f'step {self._steps}' if self._steps else 'reset'}")

    def _check_shape(self, obs: Any) -> None:
        """The observation at reset has the shapes its space promises, so none is broadcast or cut later."""
        if not isinstance(self._space, spaces.Dict):
            self._expect("the observation", np.shape(obs), self._space)
            return
        for name, part in self._space.items():
            if not isinstance(obs, Mapping) or name not in obs:
                raise InputError(f"task {self.info.id!r}: observation {name!r} is missing at reset")
            self._expect(f"observation {name!r}", np.shape(obs[name]), part)

    def _expect(self, what: str, shape: tuple[int, ...], space: spaces.Space[Any]) -> None:
        if shape != space.shape:
            raise InputError(f"task {self.info.id!r}: {what} has shape {shape} at reset, its space says {space.shape}")


def make_env(task: str, drop: Sequence[str] = (), finite: bool = True) -> FlatEnv:
    """The environment of `task` less the observation groups in `drop`; `finite` as for `FlatEnv`.

    Flat float32 observations (O,) and actions (A,) in [-1, 1]. Raises `InputError` for an unknown
    task or group, and for spaces that do not fit.
    """
    return FlatEnv(task, (drop,) if isinstance(drop, str) else tuple(drop), finite)


def task_info(task: str, drop: Sequence[str] = ()) -> TaskInfo:
    """Sizes, groups and termination rule of a task. Raises `InputError` as `make_env` does."""
    return _task_info(task, (drop,) if isinstance(drop, str) else tuple(drop))


@lru_cache(maxsize=256)
def _task_info(task: str, drop: tuple[str, ...]) -> TaskInfo:
    env = make_env(task, drop)
    env.close()
    return env.info
