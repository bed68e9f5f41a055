"""One `Row`: deterministic-policy returns and the diagnostics of this moment, for all runs together."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mbpo import diagnostics, sac, vitals
from mbpo.buffer import gather_rows
from mbpo.episodes import play
from mbpo.state import Row, TrainState

_SAMPLE = 2_048
_BIAS = ("critic_bias", "critic_bias_over", "critic_bias_under", "mc_reward_part", "mc_entropy_part", "mc_q")


def evaluate(state: TrainState) -> Row:
    """Play ``budget.eval_episodes`` episodes a run with the tanh of the mean action; measure.

    Seeds and samples come from streams of their own: evaluating more often changes no training.
    """
    episodes = state.budget.eval_episodes
    played = play(
        state.eval_envs(episodes),
        lambda obs: (sac.act(state.sac, obs, None), None),
        _eval_seeds(state, "eval", episodes),
        state.engine.device,
        state.engine.dtype,
        record=state.updates > 0,
        skip=state.ended,
    )
    _take_failures(state, "evaluation")
    measured = _training(state) | _buffers(state) | _model(state) | _bias(state)
    if state.updates:
        measured |= vitals.model_at_policy(state, played.traces) | vitals.critics_at_policy(state, played.traces)
    _mark_diverged(state)
    for r in state.ended if state.rows else ():
        played.returns[r], played.lengths[r] = state.rows[-1].returns[r], state.rows[-1].lengths[r]
    as_arrays = {name: value.detach().double().cpu().numpy() for name, value in measured.items()}
    as_arrays["diverged"] = state.diverged.astype(float)
    return Row(state.env_steps, state.updates, played.returns, played.lengths, as_arrays, dict(state.failures))


def _take_failures(state: TrainState, purpose: str) -> None:
    """Mark the runs of which an episode could not be played to its end."""
    episodes = max(state.budget.eval_episodes, 1)
    for n in dict.fromkeys((episodes, state.budget.bias_episodes)):
        for i, cause in (state.eval_envs(n).failed if n else {}).items():
            state.fail(i // n, f"in the {purpose}: {cause}")


def _eval_seeds(state: TrainState, name: str, episodes: int) -> Tensor:
    return torch.tensor(
        [[state.env_seed(r, f"{name}/{state.env_steps}/{i}") for i in range(episodes)] for r in range(len(state.runs))]
    )


def _mark_diverged(state: TrainState) -> None:
    """A run is lost once a parameter of its actor or critic is not finite; it counts as what it scores."""
    finite = [p.detach().isfinite().flatten(1).all(1) for p in state.sac.actor.parameters + state.sac.critic.parameters]
    for r in np.flatnonzero(~torch.stack(finite).all(0).cpu().numpy()):
        state.fail(int(r), "a parameter of its actor or critic is not finite", ended=False)


def _training(state: TrainState) -> dict[str, Tensor]:
    """Losses, Q and entropy of the last update, the temperature, and the policy on the newest real rows."""
    return {**state.info, "temperature": state.sac.alpha} | _policy(state) | vitals.networks(state)


@torch.no_grad()
def _policy(state: TrainState) -> dict[str, Tensor]:
    if not state.env_steps:
        return {}
    obs = state.layout.obs(vitals.newest(state.real, _SAMPLE))
    action_noise = vitals.moment(state, "policy").normal("act", obs.shape[1], state.layout.action_dim)
    seen = state.sac.scaled(obs)
    mean, log_std = sac.policy(state.sac, seen)
    return diagnostics.policy_summary(mean, log_std, sac.sample_action(state.sac, seen, action_noise)[1])


def _buffers(state: TrainState) -> dict[str, Tensor]:
    """Rewards in the two buffers side by side: a collapse shows as synthetic ones bunched near zero."""
    measured: dict[str, Tensor] = {}
    for name, buffer in (("real", state.real), ("synthetic", state.synthetic)):
        if buffer is not None and state.env_steps and int(buffer.size.min()):
            mean, std = diagnostics.reward_summary(state.layout.reward(vitals.newest(buffer, _SAMPLE)))
            measured |= {f"{name}_reward_mean": mean, f"{name}_reward_std": std}
    return measured | vitals.synthetic_rows(state, _SAMPLE)


def _model(state: TrainState) -> dict[str, Tensor]:
    """The model measures on held-out rows, and its target map."""
    if state.dynamics is None or state.split is None:
        return {}
    held = gather_rows(state.real.rows, _spread(state.split.holdout))
    length = torch.full((len(state.runs),), float(state.method.rollout_length(state.env_steps)))
    scalars = {"model_holdout_mse": state.dynamics.holdout_mse.mean(1), "rollout_length": length}
    predicted = diagnostics.predict(state.dynamics, held)
    ends = vitals.terminations(state.terminated, predicted, state.layout.mask(held))
    return diagnostics.scalars(predicted) | ends | diagnostics.target_map(state.dynamics) | scalars


def _spread(holdout: Tensor) -> Tensor:
    """At most `_SAMPLE` of ``holdout (R, m)``, evenly over its length: it is in order of age, fit by fit."""
    m = holdout.shape[1]
    picks = torch.arange(min(m, _SAMPLE), device=holdout.device)
    return holdout[:, picks * m // len(picks)]


def _bias(state: TrainState) -> dict[str, Tensor]:
    """Critic bias against Monte-Carlo soft returns of the stochastic policy, if episodes are granted."""
    episodes = state.budget.bias_episodes
    if not episodes:
        return {}
    noise = state.streams.fork(f"bias/{state.env_steps}")

    def stochastic(obs: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return sac.sample_action(
                state.sac, state.sac.scaled(obs), noise.normal("act", obs.shape[1], state.layout.action_dim)
            )

    seeds = _eval_seeds(state, "bias", episodes)
    played = play(
        state.eval_envs(episodes), stochastic, seeds, state.engine.device, state.engine.dtype, True, state.ended
    )
    _take_failures(state, "episodes that its critic is held against")
    out: list[dict[str, float]] = []
    for r, traces in enumerate(played.traces):
        if r in state.ended:
            out.append(dict.fromkeys(_BIAS, np.nan))
            continue
        q = [_q_of_run(state, r, np.stack(t.obs), np.stack(t.action)) for t in traces]
        found = diagnostics.critic_bias(traces, q, state.method.sac.discount, float(state.sac.alpha[r]))
        bias = {"critic_bias": found.bias, "critic_bias_over": found.over, "critic_bias_under": found.under}
        parts = {"mc_reward_part": found.reward_part, "mc_entropy_part": found.entropy_part, "mc_q": found.q}
        out.append(bias | parts)
    return {name: torch.tensor([measured[name] for measured in out]) for name in _BIAS}


@torch.no_grad()
def _q_of_run(state: TrainState, run: int, obs: np.ndarray, action: np.ndarray) -> list[float]:
    """Mean of the twin critics of one run on ``obs (T, O), action (T, A)``."""
    runs = len(state.runs)
    seen = state.sac.scaled(state.tensor(obs).expand(runs, -1, -1))
    q = sac.q_values(state.sac.critic, seen, state.tensor(action).expand(runs, -1, -1))
    return [float(x) for x in q[run].mean(0)]
