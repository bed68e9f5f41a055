"""One environment: every task as flat float32 observations and actions in [-1, 1].

An episode follows from its seed and its actions alone, bit for bit, in the same environment or a
fresh one. Nothing here imports torch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from mbpo.config import InputError
from mbpo.envs.load import Array, DmcEnv, load
from mbpo.envs.patience import Clock, NoAnswer
from mbpo.envs.tasks import (
    Groups,
    TaskInfo,
    check_action_space,
    group_of,
    is_partial,
    kept_columns,
    layers,
    observation_groups,
    observation_space,
    termination_rule,
    without,
)

_REAL = "fiub"
"""Kinds of NumPy's types that are real numbers."""
_LARGEST = float(np.finfo(np.float32).max)
log = logging.getLogger(__name__)
_unclosed: set[str] = set()
"""Tasks of which it was told that their environments fail to close."""
EPISODE_STEPS = 1_000
"""Env steps after which an episode without a limit is cut: the paper's. [C] STFL evaluates so"""


def _flattener(
    space: spaces.Box | spaces.Dict, whole: Groups, kept: Groups, drop: Sequence[str]
) -> Callable[[Any], Array]:
    """The map from an observation of `space` to a fresh float32 row of the `kept` groups."""
    size = max(stop for _, stop in kept.values())
    if isinstance(space, spaces.Dict) and is_partial(whole, kept):
        row_of, left = _flattener(space, whole, whole, ()), kept_columns(whole, drop)
        return lambda obs: row_of(obs)[left]
    if isinstance(space, spaces.Dict):
        parts = [(name, slice(*place), len(space[name].shape or ()) > 1) for name, place in kept.items()]

        def from_dict(obs: Any) -> Array:
            row = np.empty(size, np.float32)
            for name, place, many in parts:
                row[place] = np.ravel(obs[name]) if many else obs[name]
            return row

        return from_dict
    if kept == whole:
        return lambda obs: np.array(obs, np.float32).ravel()
    columns = np.array(kept_columns(whole, drop))
    return lambda obs: np.ravel(obs)[columns].astype(np.float32)


class FlatEnv(gymnasium.Wrapper[Array, Array, Any, Any]):
    """Flat float32 observations and float32 actions in [-1, 1], both of fresh memory.

    Actions are rescaled to the environment's own bounds and clipped to them, which
    gymnasium.wrappers.RescaleAction leaves to rounding. What every step returns is held to the promise of
    the spaces: observations of their shape, one number as the reward, flags that are booleans, all of it
    finite; `InputError` names the first that is not. With `finite` False numbers pass as they are, for
    whoever looks into what is wrong with a task. Episodes without any limit are cut after `EPISODE_STEPS`.
    """

    def __init__(self, task: str, drop: Sequence[str] = (), finite: bool = True) -> None:
        env = load(task)
        super().__init__(env)
        clipping = any(type(layer).__name__ == "ClipAction" for layer in layers(env))
        action = check_action_space(task, env.action_space, clipping)
        space = observation_space(task, env.observation_space, by_name=not isinstance(env, DmcEnv))
        whole = observation_groups(task, space, getattr(env.unwrapped, "observation_structure", None))
        rule = termination_rule(task, env)
        kept = without(task, whole, drop, rule)
        obs_dim, action_dim = max(stop for _, stop in kept.values()), math.prod(action.shape)
        limit = _time_limit(env)
        self._cut = EPISODE_STEPS if limit is None else None
        notes = [f"task {task!r}: {rule.doubt}"] if rule.doubt else []
        if limit is None:
            notes.append(
                f"task {task!r} sets its episodes no limit: they are cut after {EPISODE_STEPS:,} steps, as in the "
                f"paper; give another as in '{task}{'&' if '?' in task else '?'}max_episode_steps=500'"
            )
        self.info = TaskInfo(
            task, obs_dim, action_dim, limit or EPISODE_STEPS, kept, tuple(drop), rule.name, tuple(notes)
        )
        self.observation_space = spaces.Box(-np.inf, np.inf, (obs_dim,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (action_dim,), np.float32)
        self._space, self._flatten = space, _flattener(space, whole, kept, drop)
        self._low, self._high = action.low.ravel(), action.high.ravel()
        self._scale, self._shift = self._high / 2 - self._low / 2, self._high / 2 + self._low / 2
        self._shape, self._steps, self._finite = action.shape, 0, finite
        parts = space.items() if isinstance(space, spaces.Dict) else ()
        self._part_shapes = [(name, part.shape) for name, part in parts]
        self._clock = Clock(task)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode, the same for the same `seed`. Returns (O,) and the environment's info."""
        returned = self._timed(lambda: self.env.reset(seed=seed, options=options))
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise InputError(f"task {self.info.id!r}: reset returned no pair; (obs, info) is needed")
        obs, info = returned
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
        returned: Any = self._timed(lambda: self.env.step(native))
        self._steps += 1
        if not isinstance(returned, tuple) or len(returned) != 5:
            raise InputError(
                f"task {self.info.id!r}: step returned {_shortly(returned)}; the five of Gymnasium are needed: "
                "next_obs, reward, terminated, truncated, info"
            )
        obs, reward, terminated, truncated, info = returned
        if not self._has_shape(obs):
            self._check_shape(obs)
        reward = float(reward) if isinstance(reward, float) else self._number(reward)
        if terminated is not True and terminated is not False:
            terminated = self._flag("terminated", terminated)
        if truncated is not True and truncated is not False:
            truncated = self._flag("truncated", truncated)
        if self._steps == self._cut and not terminated:
            truncated = True
        return self._checked(self._flatten(obs), reward), reward, terminated, truncated, info

    def close(self) -> None:
        """Close the environment. One that fails at it is told of: what was computed with it stands."""
        try:
            super().close()
        except Exception as error:
            if self.info.id not in _unclosed:
                log.warning("task %r: close raised %s: %s", self.info.id, type(error).__name__, error)
            _unclosed.add(self.info.id)

    def _timed(self, call: Callable[[], Any]) -> Any:
        """What `call` of the environment returns. Raises `InputError` where it was interrupted for taking too long."""
        try:
            try:
                self._clock.begin()
                return call()
            finally:
                self._clock.end()
        except NoAnswer as late:
            raise InputError(f"{late} at {self._when}") from None
        except SystemExit as error:
            raise InputError(f"task {self.info.id!r}: the environment calls sys.exit({error.code!r})") from error

    def _has_shape(self, obs: Any) -> bool:
        """Whether every part of `obs` holds real numbers in the shape of its space: the quick yes of `_check_shape`."""
        try:
            if not self._part_shapes:
                return _is_plain(obs, self._space.shape)
            return all([_is_plain(obs[name], shape) for name, shape in self._part_shapes])
        except (AttributeError, KeyError, TypeError, IndexError):
            return False

    def _number(self, reward: Any) -> float:
        """A reward that is no float, such as an array of one number, as the number that it is."""
        try:
            value = np.asarray(reward)
        except (TypeError, ValueError, RuntimeError):
            value = np.empty(0)
        if value.size != 1 or value.dtype.kind not in "fiub":
            raise InputError(
                f"task {self.info.id!r}: reward is {_shortly(reward)} at step {self._steps}; one number is needed"
            )
        return float(value.item())

    def _flag(self, name: str, flag: Any) -> bool:
        """A flag that is no bool of Python as the one that it is: NumPy's, an array of one, or 0 and 1."""
        value = flag if isinstance(flag, np.bool_) else np.asarray(flag)
        if value.size != 1 or value.dtype.kind not in "biu" or value.item() not in (0, 1):
            raise InputError(
                f"task {self.info.id!r}: {name} is {_shortly(flag)} at step {self._steps}; a boolean is needed"
            )
        return bool(value.item())

    def _checked(self, obs: Array, reward: float) -> Array:
        if not self._finite:
            return obs
        finite = np.isfinite(obs)
        if finite.all() and abs(reward) <= _LARGEST:
            return obs
        if finite.all():
            what = f"reward is {reward}{', too large for float32,' if math.isfinite(reward) else ''}"
        else:
            dim = int(np.argmin(finite))
            what = f"observation {dim} ({group_of(self.info.groups, dim)}) is {obs[dim]}"
        raise InputError(f"task {self.info.id!r}: {what} at {self._when}")

    def _check_shape(self, obs: Any) -> None:
        """The observation has the shapes its space promises, so none is broadcast or cut."""
        if not isinstance(self._space, spaces.Dict):
            self._expect("the observation", obs, self._space)
            return
        for name, part in self._space.items():
            if not isinstance(obs, Mapping) or name not in obs:
                raise InputError(f"task {self.info.id!r}: observation {name!r} is missing at {self._when}")
            self._expect(f"observation {name!r}", obs[name], part)

    def _expect(self, what: str, given: Any, space: spaces.Space[Any]) -> None:
        try:
            values = np.asarray(given)
            real = values.dtype.kind in _REAL or (values.dtype.kind == "O" and values.astype(np.float64) is not None)
        except (TypeError, ValueError, RuntimeError):  # rows of unequal lengths, text, tensors of another device
            values, real = np.empty(space.shape or ()), False
        shape = () if isinstance(given, Mapping) else values.shape
        if shape == space.shape and not (real and not np.ma.is_masked(given)):
            told = f"{getattr(given, 'dtype', type(given).__name__)}{' with masked entries' if real else ''}"
            raise InputError(f"task {self.info.id!r}: {what} is {told} at {self._when}; real numbers are needed")
        if shape != space.shape:
            raise InputError(
                f"task {self.info.id!r}: {what} has shape {shape} at {self._when}, its space says {space.shape}"
            )

    @property
    def _when(self) -> str:
        return f"step {self._steps}" if self._steps else "reset"


def _is_plain(part: Any, shape: tuple[int, ...] | None) -> bool:
    """Whether a NumPy value has that shape, holds real numbers and masks none."""
    return bool(part.shape == shape and part.dtype.kind in _REAL and type(part) is not np.ma.MaskedArray)


def _time_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """The limit of an episode in env steps: dm_control's, the registered one, or that of a TimeLimit inside."""
    if isinstance(env, DmcEnv):
        return env.time_limit
    limits = [layer._max_episode_steps for layer in layers(env) if isinstance(layer, TimeLimit)]
    registered = env.spec.max_episode_steps if env.spec else None
    return registered if registered is not None else min((n for n in limits if n is not None), default=None)


def _shortly(value: Any) -> str:
    """What a value is, for a sentence: an array by its shape, else by how it is written."""
    shape = getattr(value, "shape", None)
    if shape is not None and shape != ():
        return f"an array of shape {tuple(shape)}"
    return f"{len(value)} values" if isinstance(value, tuple) else f"{value!r:.60}"


def make_env(task: str, drop: Sequence[str] = (), finite: bool = True) -> FlatEnv:
    """The environment of `task` less the observations in `drop`; `finite` as for `FlatEnv`.

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
