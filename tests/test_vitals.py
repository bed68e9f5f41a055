"""What is measured of the learner at an evaluation: known answers, and no trace in training."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from helpers import FTFL, MBPO, assert_same_run, drive, parameters, small
from toy_envs import DRIFT

from mbpo import Budget, diagnostics, look, sac, vitals
from mbpo.diagnostics import Prediction
from mbpo.episodes import Trace
from mbpo.loop import Run
from mbpo.state import Row, TrainState

RUNS = [Run(small(MBPO), 0), Run(small(FTFL), 1)]
Trained = tuple[list[Row], TrainState]


@pytest.fixture(scope="module")
def trained() -> Iterator[Trained]:
    yield drive(DRIFT, RUNS, Budget(env_steps=90, eval_every=90, eval_episodes=2))


def doubles(*rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# Synthetic rows


def test_out_of_range_is_beyond_a_tenth_of_the_range() -> None:
    real = doubles([[0.0, 5.0], [1.0, 5.0]], [[-1.0, 0.0], [1.0, 4.0]])
    values = doubles(
        [[0.5, 5.0], [1.09, 5.0], [1.11, 5.0], [0.5, 5.01]],  # the second column is constant: any other number is out
        [[-1.1, 0.0], [0.0, 4.3], [0.0, 4.5], [math.nan, 1.0]],
    )
    assert vitals.outside(values, real).tolist() == [0.5, 0.5]


def test_a_record_tells_of_planted_rows(trained: Trained) -> None:
    _, state = trained
    assert state.synthetic is not None
    kept, layout = state.synthetic.rows.clone(), state.layout
    n = int(state.synthetic.size.min())
    real = state.real.filled()
    state.synthetic.rows[:] = real[:, :1]
    assert vitals.synthetic_rows(state, 512)["synthetic_reward_outside"].tolist() == [0.0, 0.0]
    layout.reward(state.synthetic.rows[1, : n // 4]).add_(1e3)
    layout.next_obs(state.synthetic.rows[0, : n // 2]).sub_(1e3)
    state.synthetic.rows[1, :, -1] = 0.0
    found = vitals.synthetic_rows(state, 512)
    state.synthetic.rows.copy_(kept)
    assert found["synthetic_reward_outside"].tolist() == pytest.approx([0.0, 0.25], abs=0.03)
    assert found["synthetic_obs_outside"].tolist() == pytest.approx([0.5, 0.0], abs=0.03)
    assert found["synthetic_terminated_share"][1] == 1.0
    reward = layout.reward(real)
    assert torch.equal(found["real_reward_low"], reward.amin(1)) and torch.equal(
        found["real_reward_high"], reward.amax(1)
    )


def test_wrong_ends_by_hand() -> None:
    """Two elites, four rows; an end is a first number above 1."""
    truth = doubles([[[2.0, 0.0], [0.0, 0.0], [0.0, 0.0], [2.0, 0.0]]])
    mean = doubles([[[2.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    zeros = torch.zeros_like(mean)
    p = Prediction(mean, zeros, zeros, zeros, zeros, truth[..., :1], truth)
    found = vitals.terminations(lambda next_obs: next_obs[..., 0] > 1, p, torch.tensor([[0.0, 1.0, 1.0, 0.0]]))
    assert {name: value.tolist() for name, value in found.items()} == {
        "termination_false": [1 / 8],
        "termination_missed": [2 / 8],
    }


# The model and the critics where the policy goes


def test_rows_of_the_policy_are_the_steps_that_were_played(trained: Trained) -> None:
    _, state = trained
    episodes = [[_trace(5, 0.0), _trace(4, 100.0)], []]
    rows, known = vitals.policy_rows(state, episodes, 7)
    layout = state.layout
    assert known.tolist() == [True, False] and rows.shape == (2, 7, layout.width)
    assert layout.obs(rows)[0, :, 0].tolist() == [0, 1, 2, 3, 100, 101, 102], "without the last steps"
    assert torch.equal(layout.next_obs(rows)[0], layout.obs(rows)[0] + 1.0)
    assert torch.equal(layout.reward(rows)[0], layout.obs(rows)[0, :, 0] * 10)
    measured = vitals.model_at_policy(state, episodes)
    assert all(values[1].isnan() and values[0].isfinite() for values in measured.values())


def _trace(n: int, first: float) -> Trace:
    obs = [np.full(2, first + t, np.float32) for t in range(n)]
    return Trace(obs, [np.zeros(1, np.float32)] * n, [10 * (first + t) for t in range(n)], [0.0] * n, terminated=True)


def test_a_model_without_error_has_none_at_the_policy(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    _, state = trained

    def oracle(ensemble: object, rows: torch.Tensor) -> Prediction:
        truth = state.layout.targets(rows)[:, None]
        zeros = torch.zeros_like(truth)
        return Prediction(truth + zeros.add(0.0), zeros, zeros, zeros, zeros, state.layout.obs(rows)[:, None], truth)

    monkeypatch.setattr(vitals.diagnostics, "predict", oracle)
    found = vitals.model_at_policy(state, [[_trace(5, 0.0)], [_trace(5, 1.0)]])
    assert {name: values.tolist() for name, values in found.items()} == {
        "policy_error_over_delta": [0.0, 0.0],
        "policy_reward_r2": [1.0, 1.0],
        "policy_reward_error": [0.0, 0.0],
    }


def test_critics_that_say_nothing_lie_below_rewards_by_what_these_are_worth(trained: Trained) -> None:
    _, state = trained
    kept = [p.detach().clone() for p in state.sac.critic.parameters]
    for p in state.sac.critic.parameters:
        p.detach().zero_()
    found = vitals.critics_at_policy(state, [[_trace(2, 1.0)], []])  # rewards 10, 20
    for p, value in zip(state.sac.critic.parameters, kept, strict=True):
        p.detach().copy_(value)
    assert found["eval_q"][0] == 0.0 and found["eval_reward_part"][0] == pytest.approx((10 + 0.99 * 20 + 20) / 2)
    total = float(found["eval_reward_part"][0] + found["eval_entropy_part"][0])
    assert float(found["eval_bias_over"][0] + found["eval_bias_under"][0]) == pytest.approx(-total)
    assert all(values[1].isnan() for values in found.values())


def test_both_parts_add_up_to_the_monte_carlo_value_that_sound_critics_have() -> None:
    """Against the definition, summed state by state: later densities count, the action's own does not."""
    rng, discount, alpha = np.random.default_rng(0), 0.9, 0.3
    traces = [
        Trace(reward=rng.normal(size=n).tolist(), log_prob=rng.normal(size=n).tolist(), terminated=True) for n in (5, 9)
    ]
    values = [
        [
            sum(discount**k * (t.reward[i + k] - alpha * t.log_prob[i + k] * (k > 0)) for k in range(len(t.reward) - i))
            for i in range(len(t.reward))
        ]
        for t in traces
    ]
    found = diagnostics.critic_bias(traces, values, discount, alpha)
    assert found.reward_part + found.entropy_part == pytest.approx(np.mean([v for each in values for v in each]))
    assert found.bias == pytest.approx(0.0, abs=1e-12) and found.over - found.under == pytest.approx(0.0, abs=1e-12)
    assert abs(found.entropy_part) > 0.01


# The networks


def test_rank_and_length_of_known_features() -> None:
    rows = torch.zeros(4, 1, 64, 16, dtype=torch.float64)
    rows[0, 0, :16] = 3.0 * torch.eye(16)  # all directions alike: 16 of them are needed for 99 %
    rows[1, 0, :, 2] = 1.0
    rows[3, 0, 0, 0] = math.nan
    rank, norm = vitals.features(rows)
    assert rank[:3].tolist() == [16, 1, 0] and norm[:3].tolist() == [0.75, 1.0, 0.0]
    assert rank[3].isnan() and norm[3].isnan()


def test_gradient_norms_are_those_of_the_losses(trained: Trained) -> None:
    _, state = trained
    learner, rows = state.sac, state.real.filled()[:, :32]
    noise = torch.randn(2, 2, 32, state.layout.action_dim, generator=torch.Generator().manual_seed(0), dtype=rows.dtype)
    before = [p.detach().clone() for p in learner._learned()]
    found = sac.gradient_norms(learner, rows, noise)
    assert all(torch.equal(a, b) for a, b in zip(before, learner._learned(), strict=True))
    y = sac.td_target(learner, rows, noise[:, 0])
    q = sac.q_values(learner.critic, state.layout.obs(rows), state.layout.action(rows))
    for r in range(2):
        loss = (q[r] - y[r]).square().mean(1).sum()
        grads = torch.autograd.grad(loss, learner.critic.parameters, retain_graph=True)
        length = math.sqrt(sum(float(g.square().sum()) for g in grads))
        assert float(found["critic_gradient_norm"][r]) == pytest.approx(length, rel=1e-9)
    assert (found["actor_gradient_norm"] > 0).all()


def test_what_is_measured_moves_no_training(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any of it, the same run to the bit."""
    rows, state = trained
    for name in ("synthetic_rows", "networks", "model_at_policy", "critics_at_policy", "terminations"):
        monkeypatch.setattr(look.vitals, name, lambda *_: {})
    plain_rows, plain = drive(DRIFT, RUNS, Budget(env_steps=90, eval_every=90, eval_episodes=2))
    for r in range(2):
        assert_same_run(parameters(state, r), parameters(plain, r))
    assert plain_rows[-1].diagnostics.keys() < rows[-1].diagnostics.keys()
    for name, values in plain_rows[-1].diagnostics.items():
        np.testing.assert_array_equal(values, rows[-1].diagnostics[name], err_msg=name)
