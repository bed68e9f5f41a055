"""Small Gymnasium environments whose answers are known: `gym:toy_envs:ToyLqr-v0` and its neighbours.

Arithmetic is on Python floats, element by element: no linear algebra library, so the same on every machine.
"""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

LQR = "gym:toy_envs:ToyLqr-v0"
DRIFT = "gym:toy_envs:ToyDrift-v0"
COUNT = "gym:toy_envs:ToyCount-v0"
FIXED_POINT = "gym:toy_envs:ToyFixedPoint-v0"
ENDLESS = "gym:toy_envs:ToyEndless-v0"
PLANTED = "gym:toy_envs:ToyPlanted-v0"


def _box(size: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,), np.float64)


def _unit(size: int) -> spaces.Box:
    return spaces.Box(-1.0, 1.0, (size,), np.float32)


class Lqr(gymnasium.Env):
    """s' = A s + B a with cost s'Q s + R a^2, never terminating: a damped point mass pushed by a weak motor.

    Episodes start on one level set of the optimal cost, so the optimum is `COST` from every start.
    """

    A = ((0.95, 0.25), (-0.25, 0.95))
    B = (0.0, 0.4)
    Q = (1.0, 1.0)  # diagonal
    R = 0.3
    LIMIT = 30
    COST = 0.9

    def __init__(self) -> None:
        self.observation_space, self.action_space = _box(2), _unit(1)
        value, _ = riccati(Lqr, Lqr.LIMIT)
        self._root = np.linalg.inv(np.linalg.cholesky(value).T)  # maps the unit circle onto s'P s = 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        angle = self.np_random.uniform(0.0, 2.0 * math.pi)
        x, v = self._root @ np.array([math.cos(angle), math.sin(angle)]) * math.sqrt(self.COST)
        self.state = (float(x), float(v))
        return np.array(self.state), {}

    def step(self, action):
        (x, v), a = self.state, float(action[0])
        cost = self.Q[0] * x * x + self.Q[1] * v * v + self.R * a * a
        (a00, a01), (a10, a11) = self.A
        self.state = (a00 * x + a01 * v + self.B[0] * a, a10 * x + a11 * v + self.B[1] * a)
        return np.array(self.state), -cost, False, False, {}


def riccati(system: type[Lqr], horizon: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Value matrix of the undiscounted optimum over `horizon` steps and its gains, first step first: a = -K s."""
    a, b, q = np.array(system.A), np.array(system.B)[:, None], np.diag(system.Q)
    value, gains = np.zeros((2, 2)), []
    for _ in range(horizon):
        gain = np.linalg.solve(system.R + b.T @ value @ b, b.T @ value @ a)
        value = q + a.T @ value @ (a - b @ gain)
        gains.append(gain)
    return value, gains[::-1]


class Drift(gymnasium.Env):
    """A point on a line, pushed and shaken; its episode terminates where it leaves [-wall, wall].

    It brings its termination rule along, so synthetic rollouts end there too.
    """

    def __init__(self, wall: float = 0.6) -> None:
        self.observation_space, self.action_space = _box(2), _unit(1)
        self.wall = wall

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.v = (float(value) for value in self.np_random.uniform(-0.3, 0.3, 2))
        return np.array([self.x, self.v]), {}

    def step(self, action):
        a = float(action[0])
        self.v = 0.8 * self.v + 0.2 * a + 0.02 * float(self.np_random.normal())
        self.x += 0.5 * self.v
        reward = 1.0 - self.x * self.x - 0.1 * a * a
        return np.array([self.x, self.v]), reward, abs(self.x) > self.wall, False, {}

    def termination(self, next_obs: torch.Tensor) -> torch.Tensor:
        return next_obs[..., 0].abs() > self.wall


class Count(gymnasium.Env):
    """Shows the step and its own length, which is 2 to 5, by seed; pays the number of the step plus 10 a.

    An even seed terminates at that length, an odd one truncates: the return is `Count.paid(seed)` plus 10 sum a.
    """

    def __init__(self) -> None:
        self.observation_space, self.action_space = _box(2), _unit(1)

    @staticmethod
    def length(seed: int) -> int:
        return 2 + seed // 2 % 4

    @staticmethod
    def paid(seed: int) -> int:
        return Count.length(seed) * (Count.length(seed) + 1) // 2

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        assert seed is not None
        self.t, self.seed = 0, seed
        return np.array([0.0, self.length(seed)]), {}

    def step(self, action):
        self.t += 1
        ended, even = self.t == self.length(self.seed), self.seed % 2 == 0
        obs = np.array([self.t, self.length(self.seed)], float)
        return obs, self.t + 10.0 * float(action[0]), ended and even, ended and not even, {}


class FixedPoint(gymnasium.Env):
    """x' = x + v / 2, v' = v + a / 4, reward x a: exact in float32 for actions in steps of 1/8.

    Terminates at x' >= 1. Torch and Python agree on every bit, so a model that is the truth has no rounding to excuse.
    """

    def __init__(self) -> None:
        self.observation_space, self.action_space = _box(2), _unit(1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.v = (float(value) / 8 for value in self.np_random.integers(-4, 4, 2))
        return np.array([self.x, self.v]), {}

    def step(self, action):
        a = float(action[0])
        reward = self.x * a
        self.x, self.v = self.x + self.v / 2, self.v + a / 4
        return np.array([self.x, self.v]), reward, self.x >= 1.0, False, {}

    def termination(self, next_obs: torch.Tensor) -> torch.Tensor:
        return next_obs[..., 0] >= 1.0

    def simulator_state(self) -> np.ndarray:
        return np.array([self.x, self.v])

    def restore_simulator(self, row: np.ndarray) -> None:
        self.x, self.v = (float(value) for value in row)

    @staticmethod
    def model(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """The truth, in torch: (next_obs, reward)."""
        (x, v), a = obs.unbind(-1), action[..., 0]
        return torch.stack([x + v / 2, v + a / 4, x * a], dim=-1)


class Planted(gymnasium.Env):
    """Observations of the order of 50 that noise moves, beside a reward of the order of 0.01 that actions decide.

    The reward is 0.02 a exactly, so whoever sees it at its own scale predicts it; R2 has no excuse.
    """

    def __init__(self) -> None:
        self.observation_space, self.action_space = _box(4), _unit(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(0.0, 50.0, 4)
        return self.state.copy(), {}

    def step(self, action):
        self.state = 0.7 * self.state + self.np_random.normal(0.0, 30.0, 4)
        return self.state.copy(), 0.02 * float(action[0]), False, False, {}


gymnasium.register("ToyLqr-v0", Lqr, max_episode_steps=Lqr.LIMIT)
gymnasium.register("ToyDrift-v0", Drift, max_episode_steps=25)
gymnasium.register("ToyEndless-v0", Drift, max_episode_steps=5, kwargs={"wall": math.inf})
gymnasium.register("ToyCount-v0", Count)
gymnasium.register("ToyFixedPoint-v0", FixedPoint)
gymnasium.register("ToyPlanted-v0", Planted, max_episode_steps=50)
