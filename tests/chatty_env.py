"""Prints at import and while stepping, through Python and straight to descriptor 1, as simulators do."""

from __future__ import annotations

import os

import gymnasium
from broken_envs import Walk

print("hello from the simulator", flush=True)
os.write(1, b"build time: today\n")


class Chatty(Walk):
    def reset(self, *, seed=None, options=None):
        print("episode starts")
        return super().reset(seed=seed)


gymnasium.register("Chatty-v0", Chatty, max_episode_steps=20)
