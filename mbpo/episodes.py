"""Episodes of all runs in one batch of environments."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mbpo.envs import EnvBatch

Actor = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""obs (R, n, O) -> action (R, n, A) and, if stochastic, its log density (R, n)."""


@dataclass
class Trace:
    """One episode, step by step."""

    obs: list[np.ndarray] = field(default_factory=list)  # (O,)
    action: list[np.ndarray] = field(default_factory=list)  # (A,)
    reward: list[float] = field(default_factory=list)
    log_prob: list[float] = field(default_factory=list)
    terminated: bool = False


@dataclass(frozen=True)
class Episodes:
    """Returns and lengths ``(R, n)``; traces ``[R][n]`` if they were asked for."""

    returns: np.ndarray
    lengths: np.ndarray
    traces: list[list[Trace]]


def play(
    envs: EnvBatch,
    actor: Actor,
    seeds: Tensor,
    device: torch.device,
    dtype: torch.dtype,
    record: bool = False,
    skip: Collection[int] = (),
) -> Episodes:
    """Play one episode per environment from ``seeds (R, n)``; `envs` holds R * n environments, run by run.

    An episode ends where its environment terminates or truncates it. Actions that are not finite (a
    diverged policy) are taken as zero. Runs in `skip` play nothing, and an environment that fails (under
    `isolate`) ends its episode where it was: their rows hold what was reached.
    """
    runs, n = seeds.shape
    active = np.array([i for i in range(runs * n) if i // n not in skip], dtype=np.int64)
    obs = np.zeros((runs * n, envs.info.obs_dim), np.float32)
    if len(active):
        obs[active] = envs.reset(seeds.flatten()[active].tolist(), active.tolist())
        active = _sound(active, envs)
    returns, lengths = np.zeros(runs * n), np.zeros(runs * n, dtype=np.int64)
    traces = [Trace() for _ in range(runs * n)] if record else []
    while len(active):
        action, log_prob = actor(torch.as_tensor(obs, device=device, dtype=dtype).view(runs, n, -1))
        actions = np.nan_to_num(action.reshape(runs * n, -1).cpu().numpy(), nan=0.0, posinf=0.0, neginf=0.0)
        log_probs = None if log_prob is None else log_prob.flatten().cpu().numpy()
        next_obs, reward, terminated, truncated = envs.step(actions[active], which=active.tolist())
        for row, i in enumerate(active if record else ()):
            trace = traces[i]
            trace.obs.append(obs[i].copy())
            trace.action.append(actions[i])
            trace.reward.append(float(reward[row]))
            trace.log_prob.append(0.0 if log_probs is None else float(log_probs[i]))
            trace.terminated = bool(terminated[row])
        returns[active] += reward
        lengths[active] += 1
        obs[active] = next_obs
        active = _sound(active[~(terminated | truncated)], envs)
    grouped = [traces[r * n : (r + 1) * n] for r in range(runs)] if record else []
    return Episodes(returns.reshape(runs, n), lengths.reshape(runs, n), grouped)


def _sound(active: np.ndarray, envs: EnvBatch) -> np.ndarray:
    """Those of `active` whose environments have not failed."""
    return active[[i not in envs.failed for i in active]] if envs.failed else active
