"""Small environments on which the advice is judged, and was not developed: healthy ones, and ones with a planted fault.

Four systems: a pendulum on its head, a mass in the plane, two tanks and a rotor. Each has a controller by hand, which
sees the true state: its return is 1 on the scale of the study. Faults are knobs of them all.
Importing the module registers the ids.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

Array = np.ndarray[Any, Any]
STEPS = 100


class Plant(gymnasium.Env[Array, Array], ABC):
    """A system `move`d by actions in [-1, 1] at a `cost` a step, seen by `see`.

    Args:
        reward: factor of the reward.
        size: factor of the observations, or of each by its index.
        noise: further observations of white noise, and `loud` their standard deviation.
        late: steps after which an action acts.
        blind: whether the observations `hidden` are left out.
        bound: bounds of the actions, which are cut off at 1.
        near: if given, the reward is 1 within this cost and 0 elsewhere.
        fine: into how many steps one is cut.
    """

    actions: ClassVar[int]
    sight: ClassVar[int]
    hidden: ClassVar[tuple[int, ...]] = ()
    dt: ClassVar[float] = 0.1

    def __init__(
        self,
        reward: float = 1.0,
        size: float | Mapping[int, float] = 1.0,
        noise: int = 0,
        loud: float = 1.0,
        late: int = 0,
        blind: bool = False,
        bound: float = 1.0,
        near: float | None = None,
        fine: int = 1,
    ) -> None:
        self.factor, self.noise, self.loud, self.late, self.near, self.fine = reward, noise, loud, late, near, fine
        self.size = np.ones(self.sight)
        for i, value in (size if isinstance(size, Mapping) else dict.fromkeys(range(self.sight), size)).items():
            self.size[i] = value
        self.seen = [i for i in range(self.sight) if not (blind and i in self.hidden)]
        self.observation_space = spaces.Box(-np.inf, np.inf, (len(self.seen) + noise,), np.float64)
        self.action_space = spaces.Box(-bound, bound, (self.actions,), np.float32)
        self.waiting: list[Array] = []
        self.state = np.zeros(1)

    @abstractmethod
    def start(self) -> Array:
        """A state to begin with."""

    @abstractmethod
    def move(self, state: Array, action: Array, dt: float) -> Array:
        """The state after `dt` seconds."""

    @abstractmethod
    def see(self, state: Array) -> Array:
        """All that may be observed ``(sight,)``."""

    @abstractmethod
    def cost(self, state: Array, action: Array) -> float:
        """Of one step."""

    @abstractmethod
    def control(self, state: Array) -> Array:
        """What the controller by hand does."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        self.state = self.start()
        self.waiting = [np.zeros(self.actions)] * self.late
        return self._observe(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step of `action`, within its bounds."""
        self.waiting.append(np.clip(np.asarray(action, np.float64), -1.0, 1.0))
        force = self.waiting.pop(0)
        self.state = self.move(self.state, force, self.dt / self.fine)
        cost = self.cost(self.state, force)
        paid = -cost / self.fine if self.near is None else float(cost < self.near)
        return self._observe(), self.factor * paid, False, False, {}

    def _observe(self) -> Array:
        values = (self.size * self.see(self.state))[self.seen]
        return np.concatenate([values, self.np_random.normal(0.0, self.loud, self.noise)])


class Pendulum(Plant):
    """A pendulum near its upper rest, which falls unless it is held."""

    actions, sight, hidden, dt = 1, 3, (2,), 0.05

    def start(self) -> Array:
        """A state to begin with."""
        return self.np_random.uniform([-0.6, -0.5], [0.6, 0.5])

    def move(self, state: Array, action: Array, dt: float) -> Array:
        """The state after `dt` seconds."""
        angle, speed = state
        speed = np.clip(speed + dt * (6.0 * np.sin(angle) + 8.0 * action[0] - 0.1 * speed), -10.0, 10.0)
        return np.array([(angle + dt * speed + np.pi) % (2 * np.pi) - np.pi, speed])

    def see(self, state: Array) -> Array:
        """All that may be observed."""
        return np.array([np.cos(state[0]), np.sin(state[0]), state[1]])

    def cost(self, state: Array, action: Array) -> float:
        """Of one step."""
        return float(state[0] ** 2 + 0.1 * state[1] ** 2 + 0.01 * action[0] ** 2)

    def control(self, state: Array) -> Array:
        """What the controller by hand does."""
        return np.clip([-3.0 * state[0] - 0.8 * state[1]], -1.0, 1.0)


class Point(Plant):
    """A mass in the plane that is to come to a goal and rest there."""

    actions, sight, hidden = 2, 6, (2, 3)

    def start(self) -> Array:
        """A state to begin with."""
        return np.concatenate([self.np_random.uniform(-1, 1, 2), np.zeros(2), self.np_random.uniform(-1, 1, 2)])

    def move(self, state: Array, action: Array, dt: float) -> Array:
        """The state after `dt` seconds."""
        place, speed, goal = state[:2], state[2:4], state[4:]
        speed = speed + dt * (2.0 * action - 0.5 * speed)
        return np.concatenate([place + dt * speed, speed, goal])

    def see(self, state: Array) -> Array:
        """All that may be observed."""
        return state

    def cost(self, state: Array, action: Array) -> float:
        """Of one step."""
        gap = state[:2] - state[4:]
        return float(gap @ gap + 0.02 * action @ action)

    def control(self, state: Array) -> Array:
        """What the controller by hand does."""
        return np.clip(2.0 * (state[4:] - state[:2]) - 1.6 * state[2:4], -1.0, 1.0)


class Tanks(Plant):
    """Two tanks, the first draining into the second, whose levels are to be those that are asked for."""

    actions, sight = 2, 4

    def start(self) -> Array:
        """A state to begin with."""
        return np.concatenate([self.np_random.uniform(-1, 1, 2), self.np_random.uniform(-0.8, 0.8, 2)])

    def move(self, state: Array, action: Array, dt: float) -> Array:
        """The state after `dt` seconds."""
        upper, lower, *asked = state
        upper, lower = (
            upper + dt * (1.5 * action[0] - 0.6 * upper),
            lower + dt * (0.6 * upper - 0.5 * lower + 1.5 * action[1]),
        )
        return np.array([upper, lower, *asked])

    def see(self, state: Array) -> Array:
        """All that may be observed."""
        return state

    def cost(self, state: Array, action: Array) -> float:
        """Of one step."""
        gap = state[:2] - state[2:]
        return float(gap @ gap + 0.01 * action @ action)

    def control(self, state: Array) -> Array:
        """What the controller by hand does."""
        upper, lower, first, second = state
        return np.clip(
            [0.4 * first + 4 * (first - upper), (0.5 * second - 0.6 * upper) / 1.5 + 4 * (second - lower)], -1, 1
        )


class Rotor(Plant):
    """A rotor with drag that is to turn at the speed that is asked for."""

    actions, sight = 1, 2

    def start(self) -> Array:
        """A state to begin with."""
        return self.np_random.uniform([-2.0, -2.0], [2.0, 2.0])

    def move(self, state: Array, action: Array, dt: float) -> Array:
        """The state after `dt` seconds."""
        speed, asked = state
        return np.array([speed + dt * (4.0 * action[0] - 0.5 * speed - 0.3 * speed * abs(speed)), asked])

    def see(self, state: Array) -> Array:
        """All that may be observed."""
        return state

    def cost(self, state: Array, action: Array) -> float:
        """Of one step."""
        return float((state[0] - state[1]) ** 2 + 0.01 * action[0] ** 2)

    def control(self, state: Array) -> Array:
        """What the controller by hand does."""
        speed, asked = state
        return np.clip(
            [(0.5 * asked + 0.3 * asked * abs(asked)) / 4 + 2 / (1 + 2 * self.late) * (asked - speed)], -1, 1
        )


class Case(NamedTuple):
    """One environment of the study: its id, the fault in words (none for a healthy one), system and knobs."""

    name: str
    fault: str
    system: str
    knobs: Mapping[str, Any]

    @property
    def task(self) -> str:
        """Its id for `diagnose` and `run`."""
        return f"gym:{__name__}:{self.name}-v0"

    def make(self) -> Plant:
        """A fresh environment without a time limit."""
        made: Plant = globals()[self.system](**self.knobs)
        return made

    @property
    def steps(self) -> int:
        """Of an episode."""
        return STEPS * int(self.knobs.get("fine", 1))


CASES = (
    Case("Pendulum", "", "Pendulum", {}),
    Case("Point", "", "Point", {}),
    Case("Tanks", "", "Tanks", {}),
    Case("Rotor", "", "Rotor", {}),
    Case("PendulumTinyReward", "reward times 0.0001", "Pendulum", {"reward": 1e-4}),
    Case("TanksTinyReward", "reward times 0.00001", "Tanks", {"reward": 1e-5}),
    Case("RotorHugeReward", "reward times 10,000", "Rotor", {"reward": 1e4}),
    Case("PointMillimetres", "observations times 1,000", "Point", {"size": 1e3}),
    Case("TanksPascal", "one observation times 10,000", "Tanks", {"size": {0: 1e4}}),
    Case("RotorNoise", "6 sensors of noise", "Rotor", {"noise": 6}),
    Case("PendulumLoudNoise", "4 sensors of noise of size 30", "Pendulum", {"noise": 4, "loud": 30.0}),
    Case("PendulumLate", "actions act 2 steps late", "Pendulum", {"late": 2}),
    Case("RotorLate", "actions act 3 steps late", "Rotor", {"late": 3}),
    Case("PointBlind", "speeds are not observed", "Point", {"blind": True}),
    Case("PendulumBlind", "the speed is not observed", "Pendulum", {"blind": True}),
    Case("PointSparse", "paid 1 near the goal, 0 elsewhere", "Point", {"near": 0.06}),
    Case("PendulumWide", "bounds 100 times too wide", "Pendulum", {"bound": 100.0}),
    Case("PointWide", "bounds 1,000 times too wide", "Point", {"bound": 1e3}),
    Case("TanksFine", "steps ten times shorter, 1,000 an episode", "Tanks", {"fine": 10}),
)
for _case in CASES:
    if f"{_case.name}-v0" not in gymnasium.registry:
        gymnasium.register(
            f"{_case.name}-v0", f"{__name__}:{_case.system}", max_episode_steps=_case.steps, kwargs=dict(_case.knobs)
        )
