"""One `Row`: deterministic-policy returns and the diagnostics of this moment, for all runs together."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mbpo import diagnostics, sac
from mbpo.buffer import gather_rows
from mbpo.evaluation import play
from mbpo.state import Row, TrainState

_SAMPLE = 2_048


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
    )
    measured = _training(state) | _buffers(state) | _model(state) | _bias(state)
    _mark_diverged(state)
    as_arrays = {name: value.detach().double().cpu().numpy() for name, value in measured.items()}
    as_arrays["diverged"] = state.diverged.astype(float)
    return Row(state.env_steps, state.updates, played.returns, played.lengths, as_arrays)


def _eval_seeds(state: TrainState, name: str, episodes: int) -> Tensor:
    return torch.tensor(
        [[state.env_seed(r, f"{name}/{state.env_steps}/{i}") for i in range(episodes)] for r in range(len(state.runs))]
    )


def _mark_diverged(state: TrainState) -> None:
    """A run is lost once a parameter of its actor or critic is not finite; it counts as what it scores."""
    finite = [p.detach().isfinite().flatten(1).all(1) for p in state.sac.actor.parameters + state.sac.critic.parameters]
    state.diverged |= ~torch.stack(finite).all(0).cpu().numpy()


def _training(state: TrainState) -> dict[str, Tensor]:
    """Losses, Q and entropy of the last update, and the temperature."""
    return {**state.info, "temperature": state.sac.alpha}


def _buffers(state: TrainState) -> dict[str, Tensor]:
    """Rewards in the two buffers side by side: a collapse shows as synthetic ones bunched near zero."""
    measured: dict[str, Tensor] = {}
    for name, buffer in (("real", state.real), ("synthetic", state.synthetic)):
        if buffer is not None and state.env_steps and int(buffer.size.min()):
            newest = torch.linspace(0, 1, _SAMPLE, device=state.engine.device, dtype=state.engine.dtype)
            slots = buffer.recent(newest.expand(len(state.runs), -1) * (1 - 1e-6))
            mean, std = diagnostics.reward_summary(state.layout.reward(buffer.gather(slots)))
            measured |= {f"{name}_reward_mean": mean, f"{name}_reward_std": std}
    return measured


def _model(state: TrainState) -> dict[str, Tensor]:
    """The model measures on rows that the last fit held out."""
    if state.dynamics is None or state.split is None:
        return {}
    held = gather_rows(state.real.rows, state.split.holdout[:, :_SAMPLE])
    length = torch.full((len(state.runs),), float(state.method.rollout.length(state.env_steps)))
    scalars = {"model_holdout_mse": state.dynamics.holdout_mse.mean(1), "rollout_length": length}
    return diagnostics.model_report(state.dynamics, held) | scalars


def _bias(state: TrainState) -> dict[str, Tensor]:
    """Critic bias against Monte-Carlo soft returns of the stochastic policy, if episodes are granted."""
    episodes = state.budget.bias_episodes
    if not episodes:
        return {}
    noise = state.streams.fork(f"bias/{state.env_steps}")

    def stochastic(obs: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return sac.sample_action(
                state.sac, state.sac.seen(obs), noise.normal("act", obs.shape[1], state.layout.action_dim)
            )

    seeds = _eval_seeds(state, "bias", episodes)
    played = play(state.eval_envs(episodes), stochastic, seeds, state.engine.device, state.engine.dtype, record=True)
    out: dict[str, list[float]] = {"critic_bias": [], "mc_reward_part": [], "mc_entropy_part": [], "mc_q": []}
    for r, traces in enumerate(played.traces):
        q = [_q_of_run(state, r, np.stack(t.obs), np.stack(t.action)) for t in traces]
        found = diagnostics.critic_bias(traces, q, state.method.sac.discount, float(state.sac.alpha[r]))
        for name, value in zip(out, (found.bias, found.reward_part, found.entropy_part, found.q), strict=True):
            out[name].append(value)
    return {name: torch.tensor(values) for name, values in out.items()}


@torch.no_grad()
def _q_of_run(state: TrainState, run: int, obs: np.ndarray, action: np.ndarray) -> list[float]:
    """Mean of the twin critics of one run on ``obs (T, O), action (T, A)``."""
    runs = len(state.runs)
    seen = state.sac.seen(state.tensor(obs).expand(runs, -1, -1))
    q = sac.q_values(state.sac.critic, seen, state.tensor(action).expand(runs, -1, -1))
    return [float(x) for x in q[run].mean(0)]
