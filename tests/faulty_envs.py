"""An environment that fails on demand: `gym:faulty_envs:Faulty-v0`. The first action entry says how."""

from __future__ import annotations

import os

import gymnasium
import numpy as np
from gymnasium import spaces

FAULTY = "gym:faulty_envs:Faulty-v0"
FINE, RAISE, NOT_FINITE, DIE = 0.0, 0.25, 0.5, 1.0
"""What an action's first entry asks for."""


class Faulty(gymnasium.Env):
    """Counts its steps from its seed on."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = float(self.np_random.integers(100))
        return np.array([self.count], np.float32), {}

    def step(self, action):
        wish = float(action[0])
        if wish == RAISE:
            raise ArithmeticError(f"no step from {self.count:g}")
        if wish == DIE:
            os._exit(3)
        self.count += 1.0
        reward = np.nan if wish == NOT_FINITE else self.count
        return np.array([self.count], np.float32), reward, False, False, {}


gymnasium.register("Faulty-v0", Faulty, max_episode_steps=100)
