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
from mbpo import fitting, guards, sac, saving
from mbpo.buffer import ReplayBuffer
from mbpo.config import Budget
from mbpo.envs import promises
from mbpo.fast.engine import engine
from mbpo.look import evaluate
from mbpo.rollouts import draw_noise
from mbpo.state import Failure, Row, Run, TrainState

__all__ = ["Failure", "Row", "Run", "train"]

_BRANCH_CHUNK = 8_192
_PROGRESS_SECONDS = 1.0
_SAVING_SHARE = 0.01
"""Most of the time that goes into snapshots: where one takes longer, the next comes later."""


def train(
    task: str,
    runs: Sequence[Run],
    budget: Budget,
    *,
    drop: Sequence[str] = (),
    device: str = "auto",
    precision: str = "fp32",
    checkpoint: Path | Sequence[Path] | None = None,
    checkpoint_seconds: float = 300.0,
    keep_last: bool = False,
    stop: Callable[[], bool] | None = None,
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
        checkpoint: a folder for each run's snapshots, or one that holds such folders. If they hold snapshots at one
            step, training resumes there, whatever company they were made in and if the budget was shorter, and the rows
            made before are yielded again first, so that the caller sees one uninterrupted job.
        checkpoint_seconds: least time between two snapshots.
        keep_last: make one at the end too, so that a longer budget can go on from there.
        stop: asked after every env step; once it says yes a snapshot is made and `KeyboardInterrupt` raised.
        progress: called with env_steps about once a second.
        keep: called with the live state at each evaluation, before its row is yielded; it may read, not change. After a
            resume it is not called again for the rows that are only repeated.
        env_workers: processes that step environments; 1 for none, by default as many as pay. It changes no number.

    A run whose environment fails ends there and its companions go on: see `Failure`.

    Raises:
        InputError: unusable task, runs, device or checkpoint, and a task that breaks its promises, before anything
            trains; every run has failed before it had a score; a termination rule that the random steps prove wrong.
    """
    folders = saving.folders_of(checkpoint, runs)
    used = engine(device, precision)
    promises.check(task, drop, repeatable=checkpoint is not None)
    guards.require_memory(task, drop, runs, budget, used)
    state = TrainState(task, runs, budget, used, drop, env_workers)
    try:
        step = snapshots.common_step(folders) if folders else None
        if step is not None:
            saving.restore(state, folders, step)
            for folder in folders:
                snapshots.keep_only(folder / f"step-{step:012d}")
            yield from state.rows
        else:
            yield _record(state, keep)
        rule = guards.RuleGuard(state)
        due = time.monotonic() + checkpoint_seconds
        told_at = time.monotonic()
        while state.env_steps < budget.env_steps:
            if len(state.ended) < len(runs):
                advance(state, rule.after_step)
            else:  # nothing is left to train: only rows are left to repeat
                state.env_steps = min((state.env_steps // budget.eval_every + 1) * budget.eval_every, budget.env_steps)
            if state.env_steps % budget.eval_every == 0 or state.env_steps == budget.env_steps:
                yield _record(state, keep)
            now = time.monotonic()
            if stop is not None and stop():
                saved = saving.save(state, folders)
                raise KeyboardInterrupt(f"{'saved' if saved else 'stopped'} at env step {state.env_steps}")
            if folders and now >= due:
                saving.save(state, folders)
                after = time.monotonic()
                due = after + max(checkpoint_seconds, (after - now) / _SAVING_SHARE if checkpoint_seconds else 0.0)
            if progress is not None and now - told_at >= _PROGRESS_SECONDS:
                progress(state.env_steps)
                told_at = now
        if folders and keep_last:
            saving.save(state, folders)
    finally:
        state.close()


def _record(state: TrainState, keep: Callable[[TrainState], None] | None) -> Row:
    with state.engine.products():
        row = evaluate(state)
    state.check_any_score()
    state.rows.append(row)
    if keep is not None:
        keep(state)
    return row


def advance(state: TrainState, check: Callable[[TrainState], None] | None = None) -> None:
    """One env step of every run and all the learning that follows it; `check` is called between the two."""
    step_environments(state)
    if check is not None:
        check(state)
    learn(state)


def learn(state: TrainState) -> None:
    """All the learning that follows one env step of every run."""
    method = state.method
    learned = state.env_steps - method.random_steps
    if learned < 0:
        return
    if learned == 0:
        start_temperature(state)
    if method.sac.obs_norm != "none" and learned % method.obs_fit_every == 0:
        state.sac.fit_obs(state.layout.obs(state.real.filled()))
    with state.engine.products():
        if method.model is not None:
            if method.fits_model and learned % method.model.fit_every == 0:
                fit_model(state)
            if learned % method.rollout.every == 0:
                branch_rollouts(state)
        update_block(state)


def start_temperature(state: TrainState) -> None:
    """Give the temperature its first value where that depends on the rewards lived so far."""
    if state.method.sac.init_temperature_unit == "reward-std":
        state.sac.start_temperature(state.layout.reward(state.real.filled()))


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
    for r in np.flatnonzero(lost):
        state.fail(int(r), "an action of its policy is not finite", ended=False)
    chosen[lost] = 0.0
    if state.states is not None:
        state.states.add(torch.as_tensor(state.envs.simulator_states(state.states.width))[:, None])
    next_obs, reward, terminated, truncated = state.envs.step(chosen)
    if state.envs.failed:
        state.take_failures()
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
    state.split = fitting.fit(state.dynamics, rows, state.streams, block=state.model_block, previous=state.split)


def branch_rollouts(state: TrainState) -> None:
    """Branch ``per_step * every`` rollouts into the synthetic buffer, in pieces that fit the memory."""
    assert state.synthetic is not None
    rollout, layout = state.method.rollout, state.layout
    length, left = state.method.rollout_length(state.env_steps), rollout.per_step * rollout.every
    while left:
        n = min(left, _BRANCH_CHUNK)
        slots = state.real.recent(state.streams.slots("rollout-start", n))
        start = state.real.gather(slots)
        if state.simulator is not None and state.states is not None:
            state.simulator.begin(state.states.gather(slots.cpu()), skip=state.ended)
        noise = draw_noise(state.streams, length, n, layout)
        found = state.branch_block(layout.obs(start), noise.action, noise.member, noise.model)
        state.synthetic.add(found["rows"], found["valid"])
        left -= n
    if state.simulator is not None and state.simulator.failures:
        state.take_failures()


def update_block(state: TrainState) -> None:
    """K updates on batches, indices and noise that are drawn beforehand; then a reset of the learner if one is due."""
    method, streams = state.method, state.streams
    k, size, real = method.utd, method.sac.batch_size, method.real_rows
    parts = [_draw(state.real, streams.slots("batch-real", k * real), k)]
    if state.synthetic is not None and real < size:
        rollout = method.rollout
        window = rollout.per_step * method.rollout_length(state.env_steps) * rollout.retain
        parts.append(_draw(state.synthetic, streams.slots("batch-synthetic", k * (size - real)), k, window))
    batches = torch.cat(parts, dim=2)
    noise = streams.normal("sac", k, 2, size, state.layout.action_dim)
    state.info = state.sac_block(batches, noise, *sac.draw_critics(method.sac, streams, k))
    state.updates += k
    every = method.sac.reset_every
    if every is not None and state.updates // every > (state.updates - k) // every:
        state.sac.restart(streams)
        start_temperature(state)


def _draw(buffer: ReplayBuffer, uniform: Tensor, k: int, window: int | None = None) -> Tensor:
    """``k`` batches from a buffer: ``(R, K, B, W)``."""
    rows = buffer.gather(buffer.recent(uniform, window))
    return rows.view(len(rows), k, -1, rows.shape[-1])
