"""Episodes whose returns are known beforehand, and evaluations that leave training alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import CPU, assert_same_run, drive, parameters, small
from torch import Tensor
from toy_envs import COUNT, DRIFT, Count

from mbpo import Budget, sac
from mbpo.envs import EnvBatch, make_env
from mbpo.episodes import Episodes, play
from mbpo.fast.engine import engine
from mbpo.look import evaluate
from mbpo.loop import Run
from mbpo.state import TrainState

SEEDS = torch.tensor([[0, 3, 6, 1], [5, 2, 7, 4]])  # lengths 2, 3, 5, 2 and 4, 3, 5, 4; even seeds terminate


def count(value: float, record: bool = False) -> Episodes:
    """Episodes of `Count` with the constant action `value` in the first run and half of it in the second."""

    def actor(obs: Tensor) -> tuple[Tensor, Tensor]:
        assert obs.shape == (2, 4, 2)
        action = torch.tensor([value, value / 2], dtype=obs.dtype)[:, None, None].expand(2, 4, 1)
        return action, obs[..., 0] + 0.5

    return play(EnvBatch(COUNT, 8), actor, SEEDS, CPU, torch.float64, record)


def test_returns_and_lengths_are_those_of_the_toy() -> None:
    played = count(0.5)
    lengths = [[2, 3, 5, 2], [4, 3, 5, 4]]
    assert played.lengths.tolist() == lengths
    paid = {2: 3, 3: 6, 4: 10, 5: 15}
    assert played.returns[0].tolist() == [paid[n] + 10 * 0.5 * n for n in lengths[0]]
    assert played.returns[1].tolist() == [paid[n] + 10 * 0.25 * n for n in lengths[1]]
    assert played.traces == []


def test_traces_hold_each_step_and_how_the_episode_ended() -> None:
    for run, traces in enumerate(count(0.5, record=True).traces):
        for seed, trace in zip(SEEDS[run].tolist(), traces, strict=True):
            n = Count.length(seed)
            assert np.stack(trace.obs).tolist() == [[t, n] for t in range(n)]
            assert np.stack(trace.action).tolist() == [[0.5 / (run + 1)]] * n
            assert trace.reward == [t + 1 + 5.0 / (run + 1) for t in range(n)]
            assert trace.log_prob == [t + 0.5 for t in range(n)]
            assert trace.terminated is (seed % 2 == 0)


@pytest.mark.parametrize("lost", [torch.nan, torch.inf, -torch.inf])
def test_an_action_that_is_not_finite_counts_as_zero(lost: float) -> None:
    np.testing.assert_array_equal(count(lost).returns, count(0.0).returns)


def test_a_row_scores_the_deterministic_policy_of_each_run_on_its_own_seeds() -> None:
    """Episode by episode in an environment of its own, without batches."""
    state = TrainState(DRIFT, [Run(small(), 0), Run(small(), 1)], Budget(eval_episodes=3), engine("cpu", "fp64"))
    row, env = evaluate(state), make_env(DRIFT)
    for r in range(2):
        for i in range(3):
            obs, _ = env.reset(seed=state.env_seed(r, f"eval/0/{i}"))
            total, steps, over = 0.0, 0, False
            while not over:
                given = torch.as_tensor(obs, dtype=torch.float64).expand(2, 1, -1)
                action = sac.policy(state.sac, given)[0].tanh()[r, 0].detach().numpy()
                obs, reward, terminated, truncated, _ = env.step(action)
                total, steps, over = total + reward, steps + 1, terminated or truncated
            assert row.lengths[r, i] == steps
            np.testing.assert_allclose(row.returns[r, i], total, rtol=1e-12)
    assert len(np.unique(row.returns)) == 6


def test_evaluating_more_often_changes_nothing() -> None:
    """Every 20 steps with critic bias against every 60 without: the same training, the same scores in common."""
    runs = [Run(small(), 0), Run(small(), 1)]
    often = Budget(env_steps=120, eval_every=20, eval_episodes=2, bias_episodes=1)
    seldom = Budget(env_steps=120, eval_every=60, eval_episodes=2)
    (many, state), (few, other) = drive(DRIFT, runs, often), drive(DRIFT, runs, seldom)
    assert [row.env_steps for row in many] == [0, 20, 40, 60, 80, 100, 120]
    assert [row.env_steps for row in few] == [0, 60, 120]
    for a, b in zip(many[::3], few, strict=True):
        np.testing.assert_array_equal(a.returns, b.returns)
        for name in b.diagnostics:
            np.testing.assert_array_equal(a.diagnostics[name], b.diagnostics[name])
    for r in range(2):
        assert_same_run(parameters(state, r), parameters(other, r))


def test_every_evaluation_has_new_episodes() -> None:
    """An untrained policy scores differently at each evaluation, since its starts differ."""
    method = small(model=None, random_steps=1_000)
    rows, _ = drive(DRIFT, [Run(method, 0), Run(method, 1)], Budget(env_steps=60, eval_every=20, eval_episodes=4))
    returns = np.stack([row.returns for row in rows])
    assert len(np.unique(returns)) == returns.size
