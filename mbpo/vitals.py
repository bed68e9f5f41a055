"""What the learner sees and how it fares, measured at an evaluation: cheap, and without a trace in training.

Every explanation of a failure has its measure here, so that a run's record tells which of them came first: synthetic
rows off the data, episodes that end where real ones do not, a model that errs where the policy goes, critics that
hold too much, features that collapse, gradients that grow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mbpo import diagnostics, sac
from mbpo.buffer import ReplayBuffer
from mbpo.diagnostics import Prediction
from mbpo.envs.terminations import Termination
from mbpo.episodes import Trace
from mbpo.state import TrainState
from mbpo.streams import Streams

Measures = dict[str, Tensor]
"""Name -> ``(R,)``."""
BEYOND = 0.1
"""A synthetic number is out of range if it lies beyond the real ones by more than this share of their range."""
_SPECTRUM = 0.99
"""Share of the singular values that the effective rank covers (Kumar et al. 2021)."""
_BATCH = 256
"""Rows that networks are looked at with."""
_EPISODES = 2
"""Episodes of a run's evaluation that its critics are held against."""


def newest(buffer: ReplayBuffer, n: int) -> Tensor:
    """`n` rows of a buffer that is not empty, newest to oldest at equal distances: ``(R, n, W)``."""
    ages = torch.linspace(0, 1, n, device=buffer.rows.device, dtype=buffer.rows.dtype)
    return buffer.gather(buffer.recent(ages.expand(len(buffer.rows), -1) * (1 - 1e-6)))


# Synthetic rows


def outside(values: Tensor, real: Tensor) -> Tensor:
    """Share of the rows of ``values (R, N, C)`` with a number out of the range of ``real (R, M, C)``: ``(R,)``.

    Out of range is what lies beyond it by more than a tenth of it: noise around a bound is not absurd. A number that is
    not finite is out of any range.
    """
    low, high = real.amin(1, keepdim=True), real.amax(1, keepdim=True)
    margin = BEYOND * (high - low)
    within = (values >= low - margin) & (values <= high + margin)
    return (~within).any(-1).double().mean(1)


def synthetic_rows(state: TrainState, n: int) -> Measures:
    """How far the newest synthetic rows are from real ones, and what the policy is where their critics bootstrap.

    * ``real_reward_low``, ``real_reward_high``: the range of the real rewards.
    * ``synthetic_reward_outside``, ``synthetic_obs_outside``: share of synthetic rows whose reward, or any number of
      whose next_obs, is out of the range of the real rows held: see `outside`.
    * ``real_terminated_share``, ``synthetic_terminated_share``: share of rows that end an episode.
    * ``synthetic_log_prob_mean``, ``synthetic_saturated_share``, ``synthetic_q_mean``: as their namesakes of
      `diagnostics.policy_summary`, and the target critics' mean, at synthetic next observations and sampled actions.
    """
    real = state.real.rows[:, : int(state.real.size.min())]
    if not real.shape[1]:
        return {}
    layout = state.layout
    reward = layout.reward(real)
    measured = {
        "real_reward_low": reward.amin(1),
        "real_reward_high": reward.amax(1),
        "real_terminated_share": 1.0 - layout.mask(real).double().mean(1),
    }
    if state.synthetic is None or not int(state.synthetic.size.min()):
        return measured
    rows = newest(state.synthetic, n)
    some = layout.next_obs(newest(state.synthetic, _BATCH))
    mean, log_std, action, log_prob = _acted(state, state.sac.scaled(some), "synthetic")
    summary = diagnostics.policy_summary(mean, log_std, log_prob)
    return measured | {
        "synthetic_reward_outside": outside(layout.reward(rows)[..., None], reward[..., None]),
        "synthetic_obs_outside": outside(layout.next_obs(rows), layout.next_obs(real)),
        "synthetic_terminated_share": 1.0 - layout.mask(rows).double().mean(1),
        "synthetic_log_prob_mean": summary["log_prob_mean"],
        "synthetic_saturated_share": summary["saturated_share"],
        "synthetic_q_mean": sac.q_values(state.sac.target_critic, state.sac.scaled(some), action).mean((1, 2)),
    }


def terminations(rule: Termination, p: Prediction, mask: Tensor) -> Measures:
    """Where predicted next observations would end an episode and the true ones do not, and the reverse: ``(R,)`` each.

    * ``termination_false``: share of predictions that end where the true step, with ``mask (R, B)`` 1, goes on.
    * ``termination_missed``: share that go on where the true step ends.
    """
    ends = rule(p.mean[..., :-1].flatten(1, 2)).view(p.mean.shape[:-1])  # (R, n, B)
    true = (mask == 0)[:, None]
    return {
        "termination_false": (ends & ~true).double().mean((1, 2)),
        "termination_missed": (~ends & true).double().mean((1, 2)),
    }


# The model where the policy goes, and critics against what it then collects


def policy_rows(state: TrainState, traces: Sequence[Sequence[Trace]], n: int) -> tuple[Tensor, Tensor]:
    """Real steps of the evaluated policy, which no fit has seen: rows ``(R, n, W)`` and which runs have any ``(R,)``.

    They are spread evenly over a run's steps. The last step of an episode has no next observation and is left out.
    """
    rows = np.zeros((len(traces), n, state.layout.width), np.float32)
    known = np.zeros(len(traces), dtype=bool)
    for r, episodes in enumerate(traces):
        steps = [(trace, t) for trace in episodes for t in range(len(trace.reward) - 1)]
        known[r] = bool(steps)
        for i in range(n if steps else 0):
            trace, t = steps[i * len(steps) // n]
            rows[r, i] = np.concatenate(
                [trace.obs[t], trace.action[t], trace.obs[t + 1], np.array([trace.reward[t], 1.0])]
            )
    return state.tensor(rows), torch.as_tensor(known, device=state.engine.device)


def model_at_policy(state: TrainState, traces: Sequence[Sequence[Trace]]) -> Measures:
    """The model's error on real steps of the evaluated policy: ``(R,)`` each.

    * ``policy_error_over_delta``: as ``error_over_delta`` on held-out rows.
    * ``policy_reward_r2``: as ``reward_r2``.
    * ``policy_reward_error``: mean predicted less mean true reward; above 0, the model promises what is not paid.
    """
    if state.dynamics is None or state.split is None:
        return {}
    rows, known = policy_rows(state, traces, _BATCH)
    p = diagnostics.predict(state.dynamics, rows)
    reward = diagnostics.reward_collapse(p)
    measured = {
        "policy_error_over_delta": diagnostics.model_error(p)["error_over_delta"],
        "policy_reward_r2": reward["reward_r2"],
        "policy_reward_error": reward["reward_pred_mean"] - reward["reward_true_mean"],
    }
    return {name: values.masked_fill(~known, math.nan) for name, values in measured.items()}


@torch.no_grad()
def critics_at_policy(state: TrainState, traces: Sequence[Sequence[Trace]]) -> Measures:
    """Critics against the discounted rewards that the evaluated policy collects and the entropy it has: ``(R,)`` each.

    As `diagnostics.critic_bias`, without an episode of its own: the actions are the policy's means, and the entropy
    part counts densities of actions sampled at the same states. ``eval_q``, ``eval_reward_part``,
    ``eval_entropy_part``; ``eval_bias_over`` and ``eval_bias_under`` are the means of the error's two signs.
    """
    if not state.env_steps:
        return {}
    names = ("eval_q", "eval_reward_part", "eval_entropy_part", "eval_bias_over", "eval_bias_under")
    found = []
    for r, episodes in enumerate(traces):
        chosen = [trace for trace in episodes[:_EPISODES] if trace.reward]
        if not chosen:
            found.append([math.nan] * len(names))
            continue
        q, log_prob = _along(state, r, chosen)
        seen = [
            Trace(reward=t.reward, log_prob=p, terminated=t.terminated) for t, p in zip(chosen, log_prob, strict=True)
        ]
        bias = diagnostics.critic_bias(seen, q, state.method.sac.discount, float(state.sac.alpha[r]))
        found.append([bias.q, bias.reward_part, bias.entropy_part, bias.over, bias.under])
    return {name: torch.tensor(column) for name, column in zip(names, zip(*found, strict=True), strict=True)}


def _along(state: TrainState, run: int, episodes: Sequence[Trace]) -> tuple[list[list[float]], list[list[float]]]:
    """Mean of a run's critics at each step of its episodes, and the log density of an action sampled there."""
    runs, lengths = len(state.runs), [len(trace.reward) for trace in episodes]
    obs, action = (
        state.tensor(np.concatenate([np.stack(getattr(trace, name)) for trace in episodes])).expand(runs, -1, -1)
        for name in ("obs", "action")
    )
    seen = state.sac.scaled(obs)
    q = sac.q_values(state.sac.critic, seen, action)[run].mean(0).tolist()
    log_prob = _acted(state, seen, "eval")[3][run].tolist()
    ends = np.cumsum(lengths)
    return tuple([values[end - n : end] for n, end in zip(lengths, ends, strict=True)] for values in (q, log_prob))  # type: ignore[return-value]


def _acted(state: TrainState, seen: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, log std and a sampled action ``(R, B, A)`` at ``seen (R, B, O)``, and its log density ``(R, B)``."""
    with torch.no_grad():
        noise = moment(state, name).normal("act", seen.shape[1], state.layout.action_dim)
        return *sac.policy(state.sac, seen), *sac.sample_action(state.sac, seen, noise)


def moment(state: TrainState, name: str) -> Streams:
    """Random streams of this moment's own: no draw of training moves, and no checkpoint has to hold them."""
    names = [f"{entropy}/{name}/{state.env_steps}" for entropy in state.streams.entropies]
    return Streams(names, state.engine.device, state.engine.dtype)


# The networks


def networks(state: TrainState) -> Measures:
    """The critics' features on the newest real rows, and gradients on a batch as it is trained on: ``(R,)`` each.

    * ``feature_rank``, ``feature_norm``: of the critics' last hidden layer: see `features`.
    * ``critic_gradient_norm``, ``actor_gradient_norm``: length of the gradients.
    """
    if not state.updates:
        return {}
    layout, learner = state.layout, state.sac
    real = newest(state.real, _BATCH)
    with torch.no_grad():
        rank, norm = features(learner.critic.features(layout.inputs(learner.scaled_rows(real))[:, None]))
    batch = real
    if state.synthetic is not None and int(state.synthetic.size.min()):
        count = round(_BATCH * state.method.real_rows / state.method.sac.batch_size)
        parts = [newest(b, n) for b, n in ((state.real, count), (state.synthetic, _BATCH - count)) if n]
        batch = torch.cat(parts, dim=1)
    streams = moment(state, "gradients")
    noise = streams.normal("act", 2, _BATCH, layout.action_dim)
    norms = sac.gradient_norms(learner, batch, noise, *sac.draw_critics(learner.config, streams))
    return {"feature_rank": rank, "feature_norm": norm, **norms}


def features(values: Tensor) -> tuple[Tensor, Tensor]:
    """Effective rank and mean length of features ``(R, N, B, width)``, means over the N critics: ``(R,)`` each.

    The rank is the least number of singular values that add up to 99 % of their sum (Kumar et al. 2021, srank). Both
    are NaN where a feature is not finite.
    """
    wide = values.double()
    finite = wide.isfinite().flatten(1).all(1)
    wide = torch.where(finite[:, None, None, None], wide, torch.zeros_like(wide))
    singular = torch.linalg.svdvals(wide)
    share = singular.cumsum(-1) / singular.sum(-1, keepdim=True).clamp(min=torch.finfo(wide.dtype).tiny)
    needed = (share < _SPECTRUM).sum(-1) + 1
    rank = torch.where(singular[..., 0] > 0, needed, torch.zeros_like(needed))
    nan = torch.full_like(rank[:, 0], 0, dtype=wide.dtype) + math.nan
    return (
        torch.where(finite, rank.double().mean(1), nan),
        torch.where(finite, wide.norm(dim=-1).mean((1, 2)), nan),
    )
