"""An environment's own observations and actions beside the learner's flat float32 rows: the map there and back.

`FlatEnv` trains on flat rows and actions in [-1, 1]. `Native` holds what is needed to use what was trained outside of
it: raw observations in, raw actions out. It is small, plain data, so it travels with a kept policy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from mbpo.config import InputError
from mbpo.envs.flat import make_env
from mbpo.envs.load import Array, DmcEnv
from mbpo.envs.tasks import is_partial, kept_columns, observation_groups, observation_space


@dataclass(frozen=True)
class Native:
    """What the learner of `task` reads and gives, O observation dimensions and A action dimensions.

    `parts` are names and shapes of a Dict observation that are read, in order; of a Box it is empty, `obs_shape` is the
    Box's shape and `columns` are the dimensions read of its flattened form. Of a Dict `columns` is empty, unless a part
    of a group was left out: then all parts are listed, and `columns` are the dimensions read of them together. `low`,
    `high` (A,), `action_shape` and `action_dtype` are the environment's action space. `time_limit` is in env steps.
    """

    task: str
    drop: tuple[str, ...]
    parts: tuple[tuple[str, tuple[int, ...]], ...]
    obs_shape: tuple[int, ...]
    columns: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    action_shape: tuple[int, ...]
    action_dtype: str
    time_limit: int | None = None

    @property
    def obs_dim(self) -> int:
        """O."""
        return len(self.columns) if self.columns else sum(math.prod(shape) for _, shape in self.parts)

    @property
    def action_dim(self) -> int:
        """A."""
        return len(self.low)

    def flat(self, obs: Any) -> Array:
        """Raw observations as the learner reads them: ``(..., O)`` float32.

        `obs` is what the environment returns, a mapping or an array, with any leading axes; an array ``(..., O)`` that
        is flat already is taken as it is. Raises `InputError` for any other shape and for a part that is missing.
        """
        if isinstance(obs, Mapping):
            return self._from_parts(obs)
        values = np.asarray(obs)
        own = len(self.obs_shape)
        if not self.parts and values.shape[values.ndim - own :] == self.obs_shape:
            whole = values.reshape(*values.shape[: values.ndim - own], -1)
            return np.ascontiguousarray(whole[..., self.columns], dtype=np.float32)
        if values.ndim and values.shape[-1] == self.obs_dim and values.dtype.kind in "fiub":
            return np.ascontiguousarray(values, dtype=np.float32)
        wanted = f"a mapping with {', '.join(name for name, _ in self.parts)}" if self.parts else str(self.obs_shape)
        raise InputError(
            f"an observation of shape {values.shape} does not fit {self.task!r}: give {wanted}, or a flat row of "
            f"{self.obs_dim}"
        )

    def _from_parts(self, obs: Mapping[str, Any]) -> Array:
        if not self.parts:
            raise InputError(f"task {self.task!r} observes one array of shape {self.obs_shape}, not a mapping")
        rows = []
        for name, shape in self.parts:
            if name not in obs:
                raise InputError(f"observation {name!r} of {self.task!r} is missing; there are {', '.join(obs)}")
            values = np.asarray(obs[name], dtype=np.float32)
            if values.shape[values.ndim - len(shape) :] != shape:
                raise InputError(f"observation {name!r} of {self.task!r} has shape {values.shape}, not {shape}")
            rows.append(values.reshape(*values.shape[: values.ndim - len(shape)], math.prod(shape)))
        row = np.concatenate(rows, axis=-1)
        return np.ascontiguousarray(row[..., self.columns]) if self.columns else row

    def action(self, unit: Array) -> Array:
        """Actions ``(..., A)`` in [-1, 1] as the environment takes them: ``(..., *action_shape)``, within its bounds.

        The arithmetic is that of `FlatEnv.step`, to the bit.
        """
        low, high, scale, shift = self.bounds()
        native = np.multiply(unit, scale, dtype=scale.dtype, casting="same_kind")
        native += shift
        np.minimum(native, high, out=native)
        np.maximum(native, low, out=native)
        return native.reshape(*unit.shape[:-1], *self.action_shape)

    def unit(self, action: Any) -> Array:
        """The inverse of `action`: raw actions ``(..., *action_shape)`` in [-1, 1], ``(..., A)`` float32."""
        values = np.asarray(action, dtype=np.float64)
        own = len(self.action_shape)
        if values.shape[values.ndim - own :] != self.action_shape:
            raise InputError(f"an action of shape {values.shape} does not fit {self.task!r}: give {self.action_shape}")
        _, _, scale, shift = self.bounds()
        rows = values.reshape(*values.shape[: values.ndim - own], self.action_dim)
        return np.clip((rows - shift) / scale, -1.0, 1.0).astype(np.float32)

    def bounds(self) -> tuple[Array, Array, Array, Array]:
        """Least and largest actions ``(A,)``, and the factor and the shift by which ``[-1, 1]`` becomes them."""
        low, high = (np.asarray(bound, dtype=self.action_dtype) for bound in (self.low, self.high))
        return low, high, high / 2 - low / 2, high / 2 + low / 2

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON knows them."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Native:
        """The inverse of `to_json`."""
        lists: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        lists["parts"] = tuple((name, tuple(shape)) for name, shape in data["parts"])
        return cls(**lists)


def native_of(task: str, drop: tuple[str, ...] = ()) -> Native:
    """The spaces of `task`, from an environment made for it. Raises `InputError` as `make_env` does."""
    env = make_env(task, drop)
    try:
        inner, info = env.env, env.info
        space = observation_space(task, inner.observation_space, by_name=not isinstance(inner, DmcEnv))
        action = inner.action_space
        assert isinstance(action, spaces.Box), "make_env takes no other"
        structure = getattr(inner.unwrapped, "observation_structure", None)
        whole = observation_groups(task, space, structure)
        parts: tuple[tuple[str, tuple[int, ...]], ...] = ()
        shape: tuple[int, ...] = ()
        columns: tuple[int, ...] = ()
        if isinstance(space, spaces.Dict):
            some = is_partial(whole, info.groups)
            parts = tuple((name, tuple(space[name].shape or ())) for name in (whole if some else info.groups))
            columns = tuple(kept_columns(whole, info.drop)) if some else ()
        else:
            shape = space.shape
            columns = tuple(kept_columns(whole, info.drop))
        return Native(
            task,
            info.drop,
            parts,
            shape,
            columns,
            tuple(action.low.ravel().tolist()),
            tuple(action.high.ravel().tolist()),
            action.shape,
            str(action.dtype),
            info.time_limit,
        )
    finally:
        env.close()
