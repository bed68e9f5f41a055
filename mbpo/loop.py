"""The algorithm: MBPO (Janner et al. 2019, algorithm 2), FTFL, every arm between them, and SAC.

    for every env step
        step the environments, with random actions at first          -> real buffer
        every `fit_every` steps fit target map and ensemble          <- real buffer
        branch rollouts from real states under the current policy    -> synthetic buffer
        K = utd SAC updates on mixed batches                         <- both buffers
        at evaluation steps yield a Row

SAC is the same loop with `model=None`. The caller decides what to store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mbpo import checkpoint as snapshots
from mbpo import fitting, memory, sac
from mbpo.buffer import Layout, ReplayBuffer
from mbpo.config import Budget
from mbpo.envs import agreement, promises, task_info
from mbpo.fast.engine import Engine, engine
from mbpo.look import evaluate
from mbpo.rollouts import draw_noise
from mbpo.state import Row, Run, TrainState, check_runs

__all__ = ["Row", "Run", "train"]

_BRANCH_CHUNK = 8_192
_PROGRESS_SECONDS = 1.0
_RULE_EVERY = 1_000
"""Env steps between two looks at whether the termination rule holds."""


def train(
    task: str,
    runs: Sequence[Run],
    budget: Budget,
    *,
    drop: Sequence[str] = (),
    device: str = "auto",
    precision: str = "fp32",
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 300.0,
    progress: Callable[[int], None] | None = None,
    keep: Callable[[TrainState], None] | None = None,
    env_workers: int | None = None,
) -> Iterator[Row]:
    """Train R runs in lockstep; yield one `Row` untrained and one every ``budget.eval_every`` steps.

    Args:
        task: ``dmc:domain-task``, ``gym:Id-v5``, ``gym:module:Id-v0``.
        runs: they share the task, the budget and every constant but ``method.target`` and the seed.
        budget: steps and evaluations.
        drop: names of observation groups to leave out.
        device: "auto", "cpu", "cuda", "cuda:1".
        precision: "fp32", "fp64", "tf32", "bf16".
        checkpoint: a folder; if it holds a snapshot, training resumes there and the rows made before
            are yielded again first, so that the caller sees one uninterrupted job.
        checkpoint_seconds: least time between two snapshots.
        progress: called with env_steps about once a second.
        keep: called with the live state at each evaluation, before its row is yielded; it may read, not change. After a
            resume it is not called again for the rows that are only repeated.
        env_workers: processes that step environments; 1 for none, by default as many as pay. It changes no number.

    Raises:
        InputError: unusable task, runs, device or checkpoint, and a task that breaks its promises, before anything
            trains; a termination rule that the random steps prove wrong.
    """
    place = engine(device, precision)
    promises.check(task, drop, repeatable=checkpoint is not None)
    _require_memory(task, drop, runs, budget, place)
    state = TrainState(task, runs, budget, place, drop, env_workers)
    rule = agreement.Watch(state.envs.info, state.terminated)
    try:
        saved = None if checkpoint is None else snapshots.load(checkpoint)
        if saved is not None:
            state.restore(saved)
            yield from state.rows
        else:
            yield _record(state, keep)
        saved_at = told_at = time.monotonic()
        compared, random_steps = state.env_steps, state.method.random_steps
        while state.env_steps < budget.env_steps:
            step_environments(state)
            if state.env_steps - compared == _RULE_EVERY or state.env_steps in (random_steps, budget.env_steps):
                compare_rule(state, rule, state.env_steps - compared)
                compared = state.env_steps
            learn(state)
            if state.env_steps % budget.eval_every == 0 or state.env_steps == budget.env_steps:
                yield _record(state, keep)
            now = time.monotonic()
            if checkpoint is not None and now - saved_at >= checkpoint_seconds:
                snapshots.save(checkpoint, state.env_steps, state.state())
                saved_at = time.monotonic()
            if progress is not None and now - told_at >= _PROGRESS_SECONDS:
                progress(state.env_steps)
                told_at = now
    finally:
        state.close()


def _record(state: TrainState, keep: Callable[[TrainState], None] | None) -> Row:
    with state.engine.products():
        row = evaluate(state)
    state.rows.append(row)
    if keep is not None:
        keep(state)
    return row


def compare_rule(state: TrainState, rule: agreement.Watch, steps: int) -> None:
    """Hold the termination rule against the flags of the last `steps` real steps; only synthetic rollouts need it.

    Raises `InputError` for a wrong rule before anything was learned with it.
    """
    if state.dynamics is None:
        return
    buffer = state.real
    age = torch.arange(min(steps, buffer.capacity), device=buffer.added.device)
    rows = buffer.gather((buffer.added[:, None] - 1 - age) % buffer.capacity)
    early = state.env_steps <= state.method.random_steps
    rule.look(buffer.layout.next_obs(rows), buffer.layout.mask(rows) == 0, early)


def _require_memory(task: str, drop: Sequence[str], runs: Sequence[Run], budget: Budget, place: Engine) -> None:
    """Raise `InputError` if the buffers of all runs would not fit in memory."""
    method, info = check_runs(runs), task_info(task, drop)
    count = min(method.real_capacity, budget.env_steps)
    if method.model is not None:
        rollout = method.rollout
        kept = min(rollout.retain, max(budget.env_steps - method.random_steps, 0) + rollout.every)
        count += rollout.per_step * rollout.max_length * kept
    width = Layout(info.obs_dim, info.action_dim).width
    needed = len(runs) * count * width * torch.empty((), dtype=place.dtype).element_size()
    free = torch.cuda.mem_get_info(place.device)[0] if place.device.type == "cuda" else memory.free_memory()
    memory.require(
        needed,
        free,
        f"task {task!r}: {len(runs)} runs of {count:,} rows with observations of {info.obs_dim:,} numbers need",
    )


def advance(state: TrainState) -> None:
    """One env step of every run and all the learning that follows it."""
    step_environments(state)
    learn(state)


def learn(state: TrainState) -> None:
    """All the learning that follows one env step of every run."""
    method = state.method
    learned = state.env_steps - method.random_steps
    if learned < 0:
        return
    if method.sac.obs_norm != "none" and learned % method.obs_fit_every == 0:
        state.sac.fit_obs(state.layout.obs(state.real.filled()))
    with state.engine.products():
        if method.model is not None:
            if learned % method.model.fit_every == 0:
                fit_model(state)
            if learned % method.rollout.every == 0:
                branch_rollouts(state)
        update_block(state)


def step_environments(state: TrainState) -> None:
    """One step of every run, at random before ``random_steps``, else by the stochastic policy."""
    runs, action_dim = len(state.runs), state.layout.action_dim
    obs = state.tensor(state.obs)
    if state.env_steps < state.method.random_steps:
        action = 2.0 * state.streams.uniform("explore", action_dim) - 1.0
    else:
        action = sac.act(state.sac, obs[:, None], state.streams.normal("act", 1, action_dim))[:, 0]
    chosen = action.cpu().numpy()
    lost = ~np.isfinite(chosen).all(1)
    state.diverged |= lost
    chosen[lost] = 0.0
    next_obs, reward, terminated, truncated = state.envs.step(chosen)
    mask = 1.0 - terminated
    # Packed on the host, so that one copy goes to the device.
    row = state.layout.pack(*(torch.as_tensor(x) for x in (state.obs, chosen, next_obs, reward, mask)))
    state.real.add(row.to(state.engine.device, state.engine.dtype)[:, None])
    state.obs[:] = next_obs
    state.env_steps += 1
    ended = [r for r in range(runs) if terminated[r] or truncated[r]]
    if ended:
        state.reset(ended)


def fit_model(state: TrainState) -> None:
    """Fit target map, input statistics and weights to the real rows; those once held out remain so."""
    assert state.dynamics is not None
    rows = state.real.filled()
    if state.method.rollout.clip == "data-range":
        state.fit_range(rows)
    state.split = fitting.fit(state.dynamics, rows, state.streams, block=state.model_block, kept=state.split)


def branch_rollouts(state: TrainState) -> None:
    """Branch ``per_step * every`` rollouts into the synthetic buffer, in pieces that fit the memory."""
    assert state.dynamics is not None and state.synthetic is not None
    rollout, layout = state.method.rollout, state.layout
    length, left = state.method.rollout_length(state.env_steps), rollout.per_step * rollout.every
    while left:
        n = min(left, _BRANCH_CHUNK)
        start = state.real.gather(state.real.recent(state.streams.slots("rollout-start", n)))
        noise = draw_noise(state.streams, length, n, layout)
        found = state.branch_block(layout.obs(start), noise.action, noise.member, noise.model)
        state.synthetic.add(found["rows"], found["valid"])
        left -= n


def update_block(state: TrainState) -> None:
    """K updates on batches, indices and noise that are drawn beforehand."""
    method, streams = state.method, state.streams
    k, size, real = method.utd, method.sac.batch_size, method.real_rows
    parts = [_draw(state.real, streams.slots("batch-real", k * real), k)]
    if state.synthetic is not None and real < size:
        rollout = method.rollout
        window = rollout.per_step * method.rollout_length(state.env_steps) * rollout.retain
        parts.append(_draw(state.synthetic, streams.slots("batch-synthetic", k * (size - real)), k, window))
    batches = torch.cat(parts, dim=2)
    noise = streams.normal("sac", k, 2, size, state.layout.action_dim)
    state.info = state.sac_block(batches, noise)
    state.updates += k


def _draw(buffer: ReplayBuffer, uniform: Tensor, k: int, window: int | None = None) -> Tensor:
    """``k`` batches from a buffer: ``(R, K, B, W)``."""
    rows = buffer.gather(buffer.recent(uniform, window))
    return rows.view(len(rows), k, -1, rows.shape[-1])
