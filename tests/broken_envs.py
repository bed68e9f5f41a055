"""Environments that break one promise each: `gym:broken_envs:SeedIgnored-v0` and its neighbours."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation, TransformObservation

WALL = 0.6
"""Where `Walk` terminates."""


class Walk(gymnasium.Env):
    """A shaken point (position, speed) between two walls; the subclasses break a promise each."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.v = self.np_random.uniform(-0.3, 0.3, 2)
        return self.see(), {}

    def step(self, action):
        self.v = 0.8 * self.v + 0.2 * float(action[0]) + 0.02 * self.np_random.normal()
        self.x += 0.5 * self.v
        return self.see(), self.pay(), abs(self.x) > WALL, False, {}

    def see(self):
        return np.array([self.x, self.v])

    def pay(self):
        return 1.0 - self.x**2


class RightRule(Walk):
    def termination(self, next_obs):
        return next_obs[..., 0].abs() > WALL


class WrongRule(Walk):
    def termination(self, next_obs):
        return next_obs[..., 1].abs() > 0.05


class SeedIgnored(Walk):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None)


class Shared(Walk):
    """All copies move one point."""

    world = np.zeros(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        Shared.world[:] = self.x, self.v
        return self.see(), {}

    def step(self, action):
        self.x, self.v = Shared.world
        result = super().step(action)
        Shared.world[:] = self.x, self.v
        return result


class Clock(Walk):
    """Shows the time of day, a constant and something large beside the point."""

    observation_space = spaces.Box(-np.inf, np.inf, (5,), np.float64)

    def reset(self, *, seed=None, options=None):
        self.t = 1.7e9
        return super().reset(seed=seed)

    def see(self):
        self.t += 0.05
        return np.array([self.x, self.v, self.t, 7.0, 1e7 * self.x])


class Returns(Walk):
    """What `step` returns in the place of its reward, flags or observation, by name."""

    def __init__(self, **odd):
        self.odd = odd

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        told = {"obs": obs, "reward": reward, "terminated": terminated, "truncated": truncated, **self.odd}
        return told["obs"], told["reward"], told["terminated"], told["truncated"], info


class Sized(Walk):
    def __init__(self, size):
        self.size = size

    def pay(self):
        return float(self.size)


class Image(Walk):
    observation_space = spaces.Box(0, 255, (96, 96, 3), np.uint8)

    def see(self):
        return np.zeros((96, 96, 3), np.uint8)


class Hangs(Walk):
    """A push to the far left never ends; with `deaf` no signal reaches it, as in compiled code."""

    def __init__(self, deaf=False):
        self.deaf = deaf

    def step(self, action):
        if action[0] == -1.0 and self.deaf:
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
        while action[0] == -1.0:
            try:
                time.sleep(0.02)
            except Exception:
                continue
        return super().step(action)


class Stuck(Walk):
    """Never answers the step number `after` of a copy: in compiled code that holds Python's lock, where `how` is."""

    def __init__(self, after=3, how="hold"):
        self.left, self.how = after, how

    def step(self, action):
        self.left -= 1
        if self.left == 0 and self.how == "hold":
            ctypes.PyDLL(None).sleep(3600)
        if self.left == 0 and self.how == "die":
            os._exit(3)
        return super().step(action)


class Meddles(Walk):
    """Changes what the whole process shares: `what` of it."""

    def __init__(self, what):
        self.what = what

    def reset(self, *, seed=None, options=None):
        if self.what == "directory":
            os.chdir("/")
        elif self.what == "dtype":
            import torch  # where it is wanted alone: processes of environments do without it

            torch.set_default_dtype(torch.float64)
        elif self.what == "signals":
            signal.signal(signal.SIGTERM, lambda number, frame: None)
        return super().reset(seed=seed)


class Exits(Walk):
    """Ends the program in its second step, or raises what `how` says; with "close" it fails to close."""

    def __init__(self, how="exit"):
        self.how = how

    def step(self, action):
        if self.how == "exit":
            sys.exit(7)
        if self.how == "raise":
            raise KeyError("gear")
        return super().step(action)

    def close(self):
        if self.how == "close":
            raise OSError("no such window")


class Dies(Walk):
    """A push to the far left ends the process: each time, or with `mark` until that file is there."""

    def __init__(self, mark=""):
        self.mark = mark

    def step(self, action):
        if action[0] == -1.0 and not os.path.exists(self.mark):
            if self.mark:
                open(self.mark, "w").close()
            os._exit(3)
        return super().step(action)


class Edited(Walk):
    """What it pays depends on a variable, as if a line had been edited."""

    def pay(self):
        return float(os.environ.get("EDITED_SCALE", "1")) * super().pay()


def rescaled(rule=False):
    """The observation in other units than the rule's; with `rule` the wrapper brings its own."""
    env = TransformObservation(RightRule(), lambda obs: 10 * obs, Walk.observation_space)
    if rule:
        env.termination = lambda next_obs: next_obs[..., 0].abs() > 10 * WALL
    return env


for _kind in (
    Walk,
    RightRule,
    WrongRule,
    SeedIgnored,
    Shared,
    Clock,
    Returns,
    Sized,
    Image,
    Hangs,
    Dies,
    Edited,
    Stuck,
    Meddles,
    Exits,
):
    gymnasium.register(f"{_kind.__name__}-v0", _kind, max_episode_steps=20)
gymnasium.register("Endless-v0", Walk, kwargs={}, additional_wrappers=())
gymnasium.register("RunningNorm-v0", lambda: NormalizeObservation(Walk()), max_episode_steps=20)
gymnasium.register("Rescaled-v0", rescaled, max_episode_steps=20)
HOPPER = "gymnasium.envs.mujoco.hopper_v5:HopperEnv"
gymnasium.register("LowHopper-v0", HOPPER, max_episode_steps=20, kwargs={"healthy_z_range": (0.2, 9.0)})
gymnasium.register("FreeHopper-v0", HOPPER, max_episode_steps=20, kwargs={"terminate_when_unhealthy": False})
gymnasium.register("MyHopper-v0", HOPPER, max_episode_steps=20, kwargs={"healthy_z_range": (0.7, float("inf"))})
