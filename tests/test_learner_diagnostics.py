"""Measures of the learner on values made up so that the answer is known by hand."""

import math

import numpy as np
import pytest
import torch
from test_diagnostics import normal

from mbpo import learner_diagnostics
from mbpo.episodes import Trace
from mbpo.learner_diagnostics import CriticBias, critic_bias, soft_returns


def test_reward_summary_against_numpy() -> None:
    reward = 1e4 + 1e-3 * normal(2, 500)
    mean, std = learner_diagnostics.reward_summary(reward)
    np.testing.assert_allclose(mean, reward.numpy().mean(1), rtol=1e-12)
    np.testing.assert_allclose(std, reward.numpy().std(1), rtol=1e-6)
    assert learner_diagnostics.reward_summary(torch.full((1, 9), 2.0))[1].tolist() == [0.0]


def test_soft_returns_of_three_steps_by_hand() -> None:
    """Discount 0.5, alpha 2; the entropy of the step's own action is not in its value."""
    plain, entropy = soft_returns([1.0, 10.0, 100.0], [-1.0, -3.0, -7.0], discount=0.5, alpha=2.0)
    assert plain == [1 + 0.5 * 10 + 0.25 * 100, 10 + 0.5 * 100, 100]
    assert entropy == [0.5 * 2 * 3 + 0.25 * 2 * 7, 0.5 * 2 * 7, 0]
    assert soft_returns([], [], 0.9, 1.0) == ([], [])


def test_soft_returns_solve_the_bellman_equation() -> None:
    """Q(s_t) = r_t + discount (Q(s_t+1) - alpha log pi(a_t+1)), the last Q being its reward."""
    reward, log_prob = normal(20).tolist(), normal(20, seed=1).tolist()
    plain, entropy = soft_returns(reward, log_prob, 0.9, 0.3)
    q = [p + e for p, e in zip(plain, entropy, strict=True)]
    for t in range(19):
        assert q[t] == pytest.approx(reward[t] + 0.9 * (q[t + 1] - 0.3 * log_prob[t + 1]))
    assert q[19] == reward[19]


def trace(length: int, terminated: bool, reward: float = 1.0) -> Trace:
    return Trace(reward=[reward] * length, log_prob=[-1.0] * length, terminated=terminated)


def test_bias_of_a_terminated_episode_counts_every_step() -> None:
    """Discount 0.5, two steps: plain 1.5, 1; entropy 0.5, 0."""
    found = critic_bias([trace(2, True)], [[4.0, 2.0]], discount=0.5, alpha=1.0)
    assert found == CriticBias(q=3.0, reward_part=1.25, entropy_part=0.25, over=1.5, under=0.0)
    assert found.bias == 1.5


def test_errors_of_both_signs_show_where_the_bias_is_none() -> None:
    """Values 1, discount 0: errors 3, -2, 0, -1 of four states."""
    found = critic_bias([trace(4, True)], [[4.0, -1.0, 1.0, 0.0]], discount=0.0, alpha=1.0)
    assert (found.bias, found.over, found.under) == (0.0, 0.75, -0.75)
    lost = critic_bias([trace(2, True)], [[math.nan, 1.0]], discount=0.0, alpha=1.0)
    assert math.isnan(lost.over) and math.isnan(lost.under)


def test_bias_of_a_truncated_episode_leaves_its_tail_out() -> None:
    """0.5^5 = 0.03 and 0.5^4 = 0.06: of seven steps those with five or more left count, the first three."""
    values = [10.0, 20.0, 30.0, 1e6, 1e6, 1e6, 1e6]
    found = critic_bias([trace(7, False)], [values], discount=0.5, alpha=0.0)
    assert found.q == 20.0
    assert found.reward_part == pytest.approx(np.mean([sum(0.5**k for k in range(n)) for n in (7, 6, 5)]))
    wider = critic_bias([trace(7, False)], [values], discount=0.5, alpha=0.0, tail=0.0625)
    assert wider.q == pytest.approx((60 + 1e6) / 4)


def test_bias_is_a_mean_over_states_and_not_over_episodes() -> None:
    found = critic_bias([trace(1, True), trace(3, True)], [[8.0], [0.0] * 3], discount=0.0, alpha=1.0)
    assert (found.q, found.reward_part, found.entropy_part) == (2.0, 1.0, 0.0)


def test_bias_of_episodes_that_are_all_tail_is_unknown() -> None:
    found = critic_bias([trace(3, False)], [[1.0] * 3], discount=0.99, alpha=1.0)
    assert all(math.isnan(x) for x in (found.q, found.bias, found.over, found.under))


def test_policy_summary_by_hand() -> None:
    mean = torch.tensor([[[0.0, -3.0], [1.0, 4.0]], [[0.5, 0.5], [0.5, -0.5]]])
    log_std = torch.tensor([[[0.0, 1.0], [2.0, -1.0]], [[-4.0, -4.0], [-4.0, -4.0]]])
    found = learner_diagnostics.policy_summary(mean, log_std, torch.tensor([[1.0, 3.0], [-2.0, 0.0]]))
    assert {name: values.tolist() for name, values in found.items()} == {
        "pre_tanh_mean_abs": [2.0, 0.5],
        "pre_tanh_mean_max": [4.0, 0.5],
        "log_std_mean": [0.5, -4.0],
        "log_prob_mean": [2.0, -1.0],
        "saturated_share": [0.5, 0.0],  # tanh 3 = 0.995, tanh 1 = 0.76
    }
