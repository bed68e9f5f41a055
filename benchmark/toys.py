"""Gymnasium tasks with known optima and a knob for each suspected cause of a bad model.

Point masses on springs, pushed by bounded forces under a quadratic cost. The Riccati equation gives the optimum in
closed form, whatever scale the learner is shown. Importing the module registers the ids, so a task is named
`gym:benchmark.toys:LQR-v0`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from mbpo.config import InputError

MASSES = 2
STIFFNESS, FRICTION, EFFORT = 1.0, 0.5, 1.0
START = 0.5
"""Each coordinate starts uniformly in +-START."""
DURATION = 10.0
"""Length of an episode in seconds."""
VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "LQR-v0": {},
        "TinyRewardLQR-v0": {"reward_scale": 1e-4},
        "SmallRewardLQR-v0": {"reward_scale": 0.01},
        "NoisySensorsLQR-v0": {"noise_dims": 4},
        "CeilingLQR-v0": {"noise_dims": 4, "noise_scale": 30.0},
        "LargeLQR-v0": {"obs_scale": 100.0},
        "SmoothLQR-v0": {"dt": 0.02, "reward_scale": 20.0},
        "ContactLQR-v0": {"wall": 0.25},
    }
)
"""Registered ids and their knobs. SmallRewardLQR turns the knob of TinyRewardLQR only so far that an agent with exact
rewards still learns. SmoothLQR is the stress test of direct prediction: steps of a fiftieth of a second, and a reward
per second of twenty times the cost."""


class Lqr(gymnasium.Env[np.ndarray, np.ndarray]):
    """Masses on springs: ``x' = x + dt v, v' = v + dt (a - k x - c v)``, cost ``dt (|x|^2 + |v|^2 + |a|^2)`` a step.

    Args:
        obs_scale: factor of the observed state. The reward does not see it.
        reward_scale: factor of the reward.
        dt: seconds per step. Small steps make increments small beside the state.
        noise_dims: further observations of white noise, in the group `noise`; nothing depends on them.
        noise_scale: their standard deviation.
        wall: distance at which a mass bounces and loses half of its speed; None for none. With a wall there is no
            formula for the optimum.

    Raises:
        InputError: a knob out of its range.
    """

    def __init__(
        self,
        obs_scale: float = 1.0,
        reward_scale: float = 1.0,
        dt: float = 0.1,
        noise_dims: int = 0,
        noise_scale: float = 1.0,
        wall: float | None = None,
    ) -> None:
        for name, value in (("obs_scale", obs_scale), ("reward_scale", reward_scale), ("noise_scale", noise_scale)):
            if not 0 < value < np.inf:
                raise InputError(f"{name} = {value}: a positive number is needed")
        if not 0 < dt <= 0.5:
            raise InputError(f"dt = {dt}: seconds per step lie in (0, 0.5]")
        if noise_dims < 0 or (wall is not None and wall <= 0):
            raise InputError(f"noise_dims = {noise_dims}, wall = {wall}: neither may be negative, nor the wall at 0")
        self.obs_scale, self.reward_scale, self.dt, self.wall = obs_scale, reward_scale, dt, wall
        self.noise_dims, self.noise_scale = noise_dims, noise_scale
        self.observation_structure = {"position": MASSES, "velocity": MASSES, "noise": noise_dims}
        self.observation_space = spaces.Box(-np.inf, np.inf, (2 * MASSES + noise_dims,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (MASSES,), np.float32)
        eye = np.eye(MASSES)
        self.A = np.block([[eye, dt * eye], [-dt * STIFFNESS * eye, (1 - dt * FRICTION) * eye]])
        self.B = np.vstack([0 * eye, dt * eye])
        self.state = np.zeros(2 * MASSES)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start anywhere within +-START."""
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-START, START, 2 * MASSES)
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step of forces ``(MASSES,)``."""
        force = np.asarray(action, np.float64)
        cost = self.dt * (self.state @ self.state + EFFORT * force @ force)
        self.state = self.A @ self.state + self.B @ force
        if self.wall is not None:
            position, velocity = self.state[:MASSES], self.state[MASSES:]
            outside = np.abs(position) > self.wall
            position[outside] = np.sign(position[outside]) * self.wall
            velocity[outside] *= -0.5
        return self._observe(), -self.reward_scale * float(cost), False, False, {}

    def simulator_state(self) -> np.ndarray:
        """What the next step follows from, but for the noise of sensors, which is drawn anew: ``(2 MASSES,)``."""
        return self.state.copy()

    def restore_simulator(self, row: np.ndarray) -> None:
        """Go back to a state that `simulator_state` gave."""
        self.state = row

    def _observe(self) -> np.ndarray:
        noise = self.np_random.normal(0.0, self.noise_scale, self.noise_dims)
        return np.concatenate([self.obs_scale * self.state, noise])


for _name, _knobs in VARIANTS.items():
    if _name not in gymnasium.registry:
        _steps = round(DURATION / float(_knobs.get("dt", 0.1)))
        gymnasium.register(_name, "benchmark.toys:Lqr", max_episode_steps=_steps, kwargs=dict(_knobs))


class FaultyLqr(Lqr):
    """The same masses with a fault between the agent and them.

    Args:
        late: steps after which an action acts.
        blind: whether velocities are not observed.
        bound: bounds of the actions, of which forces beyond 1 are cut off.
        knobs: those of `Lqr`.
    """

    def __init__(self, late: int = 0, blind: bool = False, bound: float = 1.0, **knobs: Any) -> None:
        super().__init__(**knobs)
        self.late, self.blind = late, blind
        self.waiting: list[np.ndarray] = []
        self.action_space = spaces.Box(-bound, bound, (MASSES,), np.float32)
        if blind:
            self.observation_structure = {"position": MASSES, "noise": self.noise_dims}
            self.observation_space = spaces.Box(-np.inf, np.inf, (MASSES + self.noise_dims,), np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """As `Lqr.reset`, with no force on its way."""
        self.waiting = [np.zeros(MASSES)] * self.late
        return super().reset(seed=seed, options=options)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """As `Lqr.step`, with the force that was chosen `late` steps ago."""
        self.waiting.append(np.clip(np.asarray(action, np.float64), -1.0, 1.0))
        return super().step(self.waiting.pop(0))

    def simulator_state(self) -> np.ndarray:
        """As `Lqr.simulator_state`, and the forces on their way."""
        return np.concatenate([self.state, *self.waiting])

    def restore_simulator(self, row: np.ndarray) -> None:
        """Go back to a state that `simulator_state` gave."""
        self.state, rest = row[: 2 * MASSES], row[2 * MASSES :]
        self.waiting = list(rest.reshape(-1, MASSES))

    def _observe(self) -> np.ndarray:
        whole = super()._observe()
        return np.delete(whole, slice(MASSES, 2 * MASSES)) if self.blind else whole


FAULTY: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"LateLQR-v0": {"late": 2}, "BlindLQR-v0": {"blind": True}, "WideLQR-v0": {"bound": 100.0}}
)
"""Registered ids of `FaultyLqr` and their knobs: faults that `diagnose` was developed on."""
for _name, _knobs in FAULTY.items():
    if _name not in gymnasium.registry:
        gymnasium.register(_name, "benchmark.toys:FaultyLqr", max_episode_steps=100, kwargs=dict(_knobs))
