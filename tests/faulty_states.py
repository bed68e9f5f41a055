"""An environment whose simulator fails in rollouts and not in real steps: `gym:faulty_states:FaultyState-v0`."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces


class FaultyState(gymnasium.Env):
    """Counts its steps; from a state that was put back, episodes of odd seeds fail after their fifteenth step."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.restored = 0.0, False
        self.weak = float(seed is not None and seed >= 10 and seed % 2)  # small seeds are those of the trial
        return self._observe(), {}

    def _observe(self):
        return np.array([self.count], np.float32)

    def step(self, action):
        if self.restored and self.weak and self.count > 15:
            raise ArithmeticError(f"no step from {self.count:g}")
        self.count += 1.0
        return self._observe(), self.count, False, False, {}

    def simulator_state(self):
        return np.array([self.count, self.weak])

    def restore_simulator(self, row):
        (self.count, self.weak), self.restored = row, True


gymnasium.register("FaultyState-v0", FaultyState, max_episode_steps=100)
