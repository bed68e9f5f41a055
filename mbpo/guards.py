"""What a task is checked for before and while it is learned: the memory that it takes, its termination rule."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mbpo import memory
from mbpo.buffer import Layout
from mbpo.config import Budget
from mbpo.envs import agreement, task_info
from mbpo.envs.physics import state_size
from mbpo.fast.engine import Engine
from mbpo.state import Run, TrainState, check_runs

_RULE_EVERY = 1_000
"""Env steps between two looks at whether the termination rule holds."""


def require_memory(task: str, drop: Sequence[str], runs: Sequence[Run], budget: Budget, engine: Engine) -> None:
    """Raise `InputError` if the buffers of all runs would not fit in memory, or a simulator's state cannot be kept."""
    method, info = check_runs(runs), task_info(task, drop)
    count = min(method.real_capacity, budget.env_steps)
    states = 8 * len(runs) * count * state_size(task, tuple(drop)) if method.simulated else 0
    if method.model is not None:
        rollout = method.rollout
        batches = min(rollout.retain, max(budget.env_steps - method.random_steps, 0) + rollout.every)
        count += rollout.per_step * rollout.max_length * batches
    width = Layout(info.obs_dim, info.action_dim).width
    needed = len(runs) * count * width * torch.empty((), dtype=engine.dtype).element_size()
    on_gpu = engine.device.type == "cuda"
    if states and on_gpu:  # beside the simulators, whatever trains
        memory.require(states, memory.free_memory(), f"task {task!r}: the simulator's states of {len(runs)} runs need")
    needed += 0 if on_gpu else states
    free = torch.cuda.mem_get_info(engine.device)[0] if on_gpu else memory.free_memory()
    memory.require(
        needed,
        free,
        f"task {task!r}: {len(runs)} runs of {count:,} rows with observations of {info.obs_dim:,} numbers need",
    )


class RuleGuard:
    """Holds the termination rule of synthetic rollouts against the flags of real steps, every 1,000 steps."""

    def __init__(self, state: TrainState) -> None:
        self._watch = agreement.Watch(state.envs.info, state.terminated)
        self._compared = state.env_steps

    def after_step(self, state: TrainState) -> None:
        """Call between a step of the environments and the learning that follows it.

        Raises `InputError` for a wrong rule before anything was learned with it.
        """
        due = state.env_steps in (state.method.random_steps, state.budget.env_steps)
        if state.dynamics is None or not (due or state.env_steps - self._compared >= _RULE_EVERY):
            return
        buffer, alive = state.real, [r for r in range(len(state.runs)) if r not in state.ended]
        steps = min(state.env_steps - self._compared, buffer.capacity)
        self._compared = state.env_steps
        if not alive or not steps:
            return
        age = torch.arange(steps, device=buffer.added.device)
        rows = buffer.gather((buffer.added[:, None] - 1 - age) % buffer.capacity)[alive]
        early = state.env_steps <= state.method.random_steps
        self._watch.look(state.layout.next_obs(rows), state.layout.mask(rows) == 0, early)
