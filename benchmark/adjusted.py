"""Another task with its reward multiplied, its actions within a part of their bounds, or its past observed as well.

What `diagnose` advises to change in an environment can be tried before the environment is edited:

    gym:benchmark.adjusted:Adjusted-v0?task=gym:my_package:MyEnv-v0&reward=1000&actions=0.01&past=2

Returns are those of the multiplied reward. An ampersand in the inner task's id is written as a semicolon.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from mbpo.config import InputError
from mbpo.envs.load import DmcEnv, arguments_of, load

ID = "gym:benchmark.adjusted:Adjusted-v0"


def adjusted(task: str, **changes: float) -> str:
    """The id of `task` with the changes that are not 1 or 0; `task` itself where none is left.

    A task that is adjusted already keeps its earlier changes; rewards and parts of bounds are multiplied.
    """
    inner, known = original(task)
    for name, value in changes.items():
        known[name] = known.get(name, 1.0) * value if name in ("reward", "actions") else value
    kept = {name: value for name, value in known.items() if value != (1 if name in ("reward", "actions") else 0)}
    if not kept:
        return inner
    return f"{ID}?task={inner.replace('&', ';')}&" + "&".join(f"{name}={value:g}" for name, value in kept.items())


def original(task: str) -> tuple[str, dict[str, float]]:
    """The task that `task` adjusts, or itself, and the changes by name."""
    if task.partition("?")[0] != ID:
        return task, {}
    arguments = arguments_of(task)
    inner = str(arguments.pop("task")).replace(";", "&")
    return inner, {name: float(value) for name, value in arguments.items()}


class Adjusted(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The environment of `task`, changed.

    Args:
        task: its id.
        reward: factor of every reward.
        actions: part of the bounds, about their middle, within which actions are to lie.
        past: earlier observations and actions that are observed too, after the present one.
        past_actions: earlier actions alone.

    Raises:
        InputError: a change out of its range, or an environment that cannot be so changed.
    """

    def __init__(
        self, task: str, reward: float = 1.0, actions: float = 1.0, past: int = 0, past_actions: int = 0
    ) -> None:
        for name, value, most in (("reward", reward, math.inf), ("actions", actions, 1.0)):
            if not isinstance(value, int | float) or not 0 < value <= most or math.isinf(value):
                raise InputError(f"{name} = {value}: a positive number{' of at most 1' if most == 1 else ''} is needed")
        for name, value in (("past", past), ("past_actions", past_actions)):
            if not isinstance(value, int) or value < 0:
                raise InputError(f"{name} = {value}: a whole number of at least 0 is needed")
        inner = load(task.replace(";", "&"))
        if isinstance(inner, DmcEnv) and inner.time_limit is not None:
            inner = TimeLimit(inner, inner.time_limit)  # whose limit is known to others, as those of gym: tasks are
        super().__init__(inner)
        self.factor = reward
        box = self.env.action_space
        if isinstance(box, spaces.Box) and actions != 1:
            middle, half = box.high / 2 + box.low / 2, actions * (box.high / 2 - box.low / 2)
            self.action_space = spaces.Box(middle - half, middle + half, dtype=box.dtype.type)
        self._observations, self._actions = past, max(past, past_actions)
        self._seen: deque[np.ndarray] = deque(maxlen=past or 1)
        self._done: deque[np.ndarray] = deque(maxlen=self._actions or 1)
        if self._actions:
            self._widen(task)

    def _widen(self, task: str) -> None:
        space, box = self.env.observation_space, self.env.action_space
        if not isinstance(space, spaces.Box | spaces.Dict) or not isinstance(box, spaces.Box):
            raise InputError(f"task {task!r}: its past cannot be observed; observations and actions are to be Boxes")
        self._now = spaces.utils.flatdim(space)
        size = self._now * (1 + self._observations) + math.prod(box.shape) * self._actions
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float64)
        rule = getattr(self.env.unwrapped, "termination", None)
        if rule is not None:
            self.termination = lambda next_obs: rule(next_obs[..., : self._now])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode: as if it had stood still before, with actions of zero."""
        obs, info = self.env.reset(seed=seed, options=options)
        if not self._actions:
            return obs, info
        row = self._flat(obs)
        self._seen.extend([row] * self._observations)
        zero = np.zeros(math.prod(self.env.action_space.shape or ()))
        self._done.extend([zero] * self._actions)
        return self._whole(row), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of the environment's own `action`."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        reward = self.factor * float(reward)
        if not self._actions:
            return obs, reward, terminated, truncated, info
        row = self._flat(obs)
        self._done.append(self._unit(action))
        whole = self._whole(row)
        self._seen.append(row)
        return whole, reward, terminated, truncated, info

    def _flat(self, obs: Any) -> np.ndarray:
        return np.asarray(spaces.utils.flatten(self.env.observation_space, obs), np.float64)

    def _unit(self, action: Any) -> np.ndarray:
        """An action as a part of its bounds, in [-1, 1]."""
        box = self.action_space
        assert isinstance(box, spaces.Box)
        return ((np.asarray(action, np.float64) - box.low) / (box.high - box.low) * 2 - 1).ravel()

    def _whole(self, row: np.ndarray) -> np.ndarray:
        """The present, then earlier observations and actions, the latest first."""
        earlier = list(self._seen)[::-1][: self._observations]
        return np.concatenate([row, *earlier, *list(self._done)[::-1]])


if "Adjusted-v0" not in gymnasium.registry:
    gymnasium.register("Adjusted-v0", "benchmark.adjusted:Adjusted")
