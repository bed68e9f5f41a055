"""Measures of the learner: critics against Monte-Carlo soft returns, where the policy lies, and rewards in a buffer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mbpo.episodes import Trace


def reward_summary(reward: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of ``reward (R, N)``: ``(R,)`` each."""
    wide = reward.double()
    return wide.mean(1), wide.std(1, unbiased=False)


SATURATED = 0.99


def policy_summary(mean: Tensor, log_std: Tensor, log_prob: Tensor) -> dict[str, Tensor]:
    """Where the Gaussian before tanh lies, over rows and action dimensions: ``(R,)`` each.

    * ``pre_tanh_mean_abs``, ``pre_tanh_mean_max``: mean and largest size of its mean. A density after tanh grows like
      twice that size a dimension, and nothing bounds it.
    * ``log_std_mean``: its log std, bounded, in nats.
    * ``log_prob_mean``: log density of a sampled action, summed over dimensions, in nats; minus the entropy.
    * ``saturated_share``: share of the dimensions of the mean's action beyond +-0.99.

    Args:
        mean: ``(R, B, A)``.
        log_std: ``(R, B, A)``.
        log_prob: ``(R, B)`` of one action a row.
    """
    size = mean.double().abs()
    return {
        "pre_tanh_mean_abs": size.mean((1, 2)),
        "pre_tanh_mean_max": size.amax((1, 2)),
        "log_std_mean": log_std.double().mean((1, 2)),
        "log_prob_mean": log_prob.double().mean(1),
        "saturated_share": (size.tanh() > SATURATED).double().mean((1, 2)),
    }


def soft_returns(
    reward: Sequence[float], log_prob: Sequence[float], discount: float, alpha: float
) -> tuple[list[float], list[float]]:
    """Monte-Carlo values of the T steps of an episode: the reward part ``(T,)`` and the entropy part ``(T,)``, nats.

    ``Q(s_t, a_t) = r_t + sum_{k>0} discount^k (r_{t+k} - alpha log pi(a_{t+k}|s_{t+k}))``: the entropy
    of the action taken at t itself is not in Q. Values after the last step count as zero.
    """
    plain, entropy = [0.0] * len(reward), [0.0] * len(reward)
    future_reward = future_entropy = 0.0
    for t in range(len(reward) - 1, -1, -1):
        plain[t] = reward[t] + discount * future_reward
        entropy[t] = discount * future_entropy
        future_reward, future_entropy = plain[t], entropy[t] - alpha * log_prob[t]
    return plain, entropy


@dataclass(frozen=True)
class CriticBias:
    """Means over visited states of one run: critic, Monte-Carlo reward part, entropy part, and the bias by its sign.

    `over` is the mean of the positive part of a state's bias, `under` that of the negative one (never above 0):
    together they are the bias, of which errors of both signs may leave nothing.
    """

    q: float
    reward_part: float
    entropy_part: float
    over: float
    under: float

    @property
    def bias(self) -> float:
        """Q minus the Monte-Carlo soft value; negative is underestimation."""
        return self.q - self.reward_part - self.entropy_part


def critic_bias(
    traces: Sequence[Trace], q: Sequence[Sequence[float]], discount: float, alpha: float, tail: float = 0.05
) -> CriticBias:
    """Bias of ``q[i][t]``, the critic's value at step t of trace i, under the policy that made the traces.

    A time limit hides the rest of the return, so only states are counted from which the hidden rest
    weighs at most `tail` (``discount^steps_left``); an episode that terminated has no hidden rest. If
    none qualifies, all means are NaN.
    """
    rows: list[tuple[float, float, float]] = []
    for trace, values in zip(traces, q, strict=True):
        plain, entropy = soft_returns(trace.reward, trace.log_prob, discount, alpha)
        length = len(plain)
        rows += [
            (values[t], plain[t], entropy[t])
            for t in range(length)
            if trace.terminated or discount ** (length - t) <= tail
        ]
    if not rows:
        return CriticBias(math.nan, math.nan, math.nan, math.nan, math.nan)
    q_mean, reward_part, entropy_part = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    errors = [q - reward - entropy for q, reward, entropy in rows]
    # Comparisons with NaN are false: a critic that is not finite must not count as one without bias.
    over = sum(0.0 if e < 0 else e for e in errors) / len(rows)
    under = sum(0.0 if e > 0 else e for e in errors) / len(rows)
    return CriticBias(q_mean, reward_part, entropy_part, over, under)
