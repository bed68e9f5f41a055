"""When an episode ends early, as a function of the next observation: what ends a synthetic rollout.

Each rule agrees with the `terminated` flag of the Gymnasium task of its name, v5, as far as an
observation can tell (Hopper clips the velocities that it observes). Positions, without the
horizontal ones, come first in those that have a truncated form, so the rules hold for that too.
dm_control tasks never terminate.

Every rule maps next_obs (..., O) to a bool tensor (...), is pure, and stays on its device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mbpo.config import InputError
from mbpo.envs.flat import make_env
from mbpo.envs.simulators import sentence
from mbpo.envs.tasks import OWN, TaskInfo, layers

Termination = Callable[[Tensor], Tensor]


def never(next_obs: Tensor) -> Tensor:
    """Tasks that end by their time limit alone: HalfCheetah, Swimmer, Reacher and the like, all of dm_control."""
    return torch.zeros(next_obs.shape[:-1], dtype=torch.bool, device=next_obs.device)


def inverted_pendulum(next_obs: Tensor) -> Tensor:
    """The pole leans by more than 0.2 rad."""
    return ~_finite(next_obs) | (next_obs[..., 1].abs() > 0.2)


def inverted_double_pendulum(next_obs: Tensor) -> Tensor:
    """The tip of two poles, 0.6 each, is no higher than 1; the second's angle is that against the first."""
    (sin_1, sin_2), (cos_1, cos_2) = (next_obs[..., part].unbind(-1) for part in (slice(1, 3), slice(3, 5)))
    return ~(0.6 * (cos_1 + cos_1 * cos_2 - sin_1 * sin_2) > 1.0)


def hopper(next_obs: Tensor) -> Tensor:
    """Too low, leaning too far, or any other entry of the state beyond +-100."""
    height, angle = next_obs[..., 0], next_obs[..., 1]
    bounded = (next_obs[..., 1:].abs() < 100.0).all(-1)
    return ~(_finite(next_obs) & bounded & (height > 0.7) & (angle.abs() < 0.2))


def walker2d(next_obs: Tensor) -> Tensor:
    """Too low, too high, or leaning too far."""
    height, angle = next_obs[..., 0], next_obs[..., 1]
    return ~((height > 0.8) & (height < 2.0) & (angle.abs() < 1.0))


def ant(next_obs: Tensor) -> Tensor:
    """Torso height outside [0.2, 1]."""
    height = next_obs[..., 0]
    return ~(_finite(next_obs) & (height >= 0.2) & (height <= 1.0))


def humanoid(next_obs: Tensor) -> Tensor:
    """Torso height outside (1, 2)."""
    height = next_obs[..., 0]
    return ~((height > 1.0) & (height < 2.0))


def _finite(next_obs: Tensor) -> Tensor:
    return torch.isfinite(next_obs).all(-1)


_RULES = (never, inverted_pendulum, inverted_double_pendulum, hopper, walker2d, ant, humanoid)
TERMINATIONS: dict[str, Termination] = {rule.__name__: rule for rule in _RULES}


def termination_for(info: TaskInfo) -> Termination:
    """The rule of a task: by name, or the attribute `termination` of the environment or its outermost wrapper.

    Raises `InputError` if an environment's own rule does not map (..., O) to a bool tensor (...).
    """
    if info.termination != OWN:
        return TERMINATIONS[info.termination]
    layers_of = layers(make_env(info.id, info.drop))
    rules = (getattr(layer, "termination", None) for layer in layers_of)
    own: Termination = next(rule for rule in rules if rule is not None)
    probe = torch.zeros(2, 3, info.obs_dim)
    try:
        result = own(probe)
    except Exception as error:
        told = f"its `termination` raises {sentence(error)} on next_obs {tuple(probe.shape)}"
        raise InputError(f"task {info.id!r}: {told}; a function of a tensor is needed") from error
    if not isinstance(result, Tensor) or result.dtype != torch.bool or result.shape != probe.shape[:-1]:
        got = f"{result.dtype} {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise InputError(
            f"task {info.id!r}: its `termination` maps next_obs {tuple(probe.shape)} to {got}; "
            f"a bool tensor {tuple(probe.shape[:-1])} is needed"
        )
    return own
