"""The state of a simulator as one row of float64 numbers: read before a step, and put back to take that step again.

A row holds all that the next step follows from besides its action. With dm_control and Gymnasium's MuJoCo tasks that
is MuJoCo's own state (time, positions, velocities, activations, controls, the solver's warm start), the positions of
bodies that Gymnasium's rewards read before they step, and what the task writes into its model at a reset, such as the
place of a target. Any other environment brings two methods along: `simulator_state()` returns a 1-D array, and
`restore_simulator(row)` takes it back. Time limits are no part of a state: a step from a row never truncates. Nothing
here imports torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from mbpo.config import InputError
from mbpo.envs.flat import FlatEnv, make_env
from mbpo.envs.load import Array, DmcEnv
from mbpo.envs.tasks import layers

GIVE_STATE = (
    "give the environment, or its outermost wrapper, the methods `simulator_state()`, which returns all that its next "
    "step follows from as a 1-D array, and `restore_simulator(row)`, which takes it back"
)
_PARTS = ("FULLPHYSICS", "WARMSTART", "CTRL", "QFRC_APPLIED", "EQ_ACTIVE", "MOCAP_POS", "MOCAP_QUAT", "USERDATA")
"""Parts of MuJoCo's integration state: all but the forces on single bodies, which are many zeros."""
_READ_BEFORE_A_STEP = ("xpos", "xipos")
"""Of MuJoCo's data: Gymnasium's Ant and Humanoid take velocities from where these stood, a substep behind qpos."""
_TRIAL_STEPS, _TRIAL_SEEDS = 25, (0, 1)


class Physics(Protocol):
    """Reads and writes the state of one environment."""

    def read(self) -> Array:
        """What the next step follows from: (S,) float64."""

    def write(self, state: Array) -> None:
        """Go back to a state that was read, in this environment or another of the same task."""


class _Mujoco:
    """MuJoCo's state, then the arrays `beside` it, one after the other."""

    def __init__(self, model: Any, data: Any, beside: Sequence[Array], settle: Callable[[], None]) -> None:
        self._mujoco = importlib.import_module("mujoco")  # 0.3 s that a task without it is spared
        self._parts = sum(int(getattr(self._mujoco.mjtState, f"mjSTATE_{part}")) for part in _PARTS)
        self._model, self._data, self._beside, self._settle = model, data, list(beside), settle
        self._own = np.empty(self._mujoco.mj_stateSize(model, self._parts))

    def read(self) -> Array:
        """As in `Physics`."""
        self._mujoco.mj_getState(self._model, self._data, self._own, self._parts)
        return np.concatenate([self._own, *(part.ravel() for part in self._beside)])

    def write(self, state: Array) -> None:
        """As in `Physics`."""
        start = len(self._own)
        self._mujoco.mj_setState(self._model, self._data, np.ascontiguousarray(state[:start]), self._parts)
        for part in self._beside:
            part[...] = state[start : start + part.size].reshape(part.shape)
            start += part.size
        self._settle()


class _Own:
    """What an environment, or its outermost wrapper that can, says of itself."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def read(self) -> Array:
        """As in `Physics`."""
        return np.array(self._env.simulator_state(), np.float64).ravel()

    def write(self, state: Array) -> None:
        """As in `Physics`."""
        self._env.restore_simulator(state.copy())


def physics_of(env: FlatEnv) -> Physics:
    """The state of `env`, which was reset before. Raises `InputError` where nobody knows how to read it."""
    for layer in layers(env):
        if hasattr(layer, "simulator_state") and hasattr(layer, "restore_simulator"):
            return _Own(layer)
    bare: Any = env.unwrapped
    if isinstance(bare, DmcEnv):
        return _of_dmc(bare, env.info.id)
    if type(getattr(bare, "model", None)).__name__ == "MjModel":
        moved = [getattr(bare.model, name) for name in _moved_at_reset(env.info.id)]
        passive = [getattr(bare.data, name) for name in _READ_BEFORE_A_STEP]
        return _Mujoco(bare.model, bare.data, [*moved, *passive], lambda: None)
    raise InputError(f"task {env.info.id!r}: its simulator's state cannot be read and put back; {GIVE_STATE}")


def _of_dmc(env: DmcEnv, task: str) -> Physics:
    inner = env._env
    model, data = inner.physics.model.ptr, inner.physics.data.ptr
    step1 = importlib.import_module("mujoco").mj_step1

    def settle() -> None:
        # A control step of dm_control begins in the middle of a substep: positions and velocities are worked out.
        step1(model, data)
        inner._step_count, inner._reset_next_step = 0, False

    return _Mujoco(model, data, [getattr(model, name) for name in _moved_at_reset(task)], settle)


@lru_cache(maxsize=64)
def _moved_at_reset(task: str) -> tuple[str, ...]:
    """Arrays of the MuJoCo model that differ from episode to episode."""
    env = make_env(task)
    try:
        bare: Any = env.unwrapped
        model = bare._env.physics.model.ptr if isinstance(bare, DmcEnv) else bare.model
        seen: dict[str, Array] = {}
        moved: set[str] = set()
        for seed in range(3):
            env.reset(seed=seed)
            for name in dir(model):
                value = None if name.startswith("_") else getattr(model, name, None)
                if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
                    continue
                if not np.array_equal(seen.setdefault(name, value.copy()), value):
                    moved.add(name)
        return tuple(sorted(moved))
    finally:
        env.close()


@lru_cache(maxsize=64)
def state_size(task: str, drop: tuple[str, ...] = ()) -> int:
    """S, the numbers in a state of `task`, whose steps are tried first.

    Raises:
        InputError: a state that cannot be read, or from which the step that was lived cannot be taken again to the bit.
    """
    lived, other = make_env(task, drop), make_env(task, drop)
    try:
        rng, steps = np.random.default_rng(0), []
        for seed in _TRIAL_SEEDS:
            lived.reset(seed=seed)
            physics = physics_of(lived)
            for _ in range(_TRIAL_STEPS):
                action = rng.uniform(-1.0, 1.0, lived.info.action_dim).astype(np.float32)
                before = physics.read()
                obs, reward, terminated, truncated, _ = lived.step(action)
                steps.append((before, action, obs, reward, terminated))
                if terminated or truncated:
                    break
        other.reset(seed=max(_TRIAL_SEEDS) + 1)
        physics = physics_of(other)
        for i in rng.permutation(len(steps)):
            before, action, *after = steps[i]
            physics.write(before)
            obs, reward, terminated, _, _ = other.step(action)
            if not (np.array_equal(obs, after[0]) and (reward, terminated) == tuple(after[1:])):
                raise InputError(
                    f"task {task!r}: a step from a restored state is not the step that was lived, so its simulator "
                    f"cannot stand in for a model; it draws random numbers, or {GIVE_STATE}"
                )
        return len(steps[0][0])
    finally:
        lived.close()
        other.close()
