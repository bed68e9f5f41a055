"""An environment of one's own: a room with a heater, registered with Gymnasium as ``Thermostat-v0``.

It has what MBPO asks of an environment: Box observations, a Box of bounded actions, episodes that follow from their
seed, and a rule `termination` for synthetic rollouts that says of predicted states what `step` says of real ones.

    python -m benchmark diagnose gym:examples.thermostat:Thermostat-v0
"""

import gymnasium
import numpy as np
from gymnasium import spaces

COLD = 10.0
"""Degrees below which the episode ends: the pipes freeze."""


class Thermostat(gymnasium.Env):
    """Keep a room at 20 degrees, with a heater of 0 to 3 kW, while the weather changes.

    Observed are the room's temperature, the wall's and the air's outside, in degrees. A step is five minutes; it costs
    the square of the deviation and a little for the heat.
    """

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-50.0, 60.0, (3,), np.float64)
        self.action_space = spaces.Box(0.0, 3.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        """Start anywhere between 15 and 25 degrees."""
        super().reset(seed=seed)
        room, outside = self.np_random.uniform(15.0, 25.0), self.np_random.uniform(-5.0, 10.0)
        self.state = np.array([room, 0.5 * (room + outside), outside])
        return self.state.copy(), {}

    def step(self, action):
        """Five minutes of heating with `action` kW."""
        room, wall, outside = self.state
        heat = float(action[0])
        drift = 0.1 * self.np_random.normal()
        self.state = np.array(
            [
                room + 0.10 * (wall - room) + 0.5 * heat,
                wall + 0.05 * (room - wall) + 0.05 * (outside - wall),
                outside + drift,
            ]
        )
        reward = -0.01 * (self.state[0] - 20.0) ** 2 - 0.01 * heat
        return self.state.copy(), reward, bool(self.state[0] < COLD), False, {}

    @staticmethod
    def termination(next_obs):
        """Whether a state ends the episode: ``next_obs (..., 3)``, a tensor, gives a bool ``(...)``."""
        return next_obs[..., 0] < COLD


if "Thermostat-v0" not in gymnasium.registry:
    gymnasium.register("Thermostat-v0", "examples.thermostat:Thermostat", max_episode_steps=100)
