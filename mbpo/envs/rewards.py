"""Rewards of dm_control tasks as functions of action and next observation: what a synthetic transition would pay.

Only tasks whose reward can be read off the observation are here: quadruped and humanoid observe all that theirs is made
of (torso velocity and uprightness; head height, uprightness, velocity of the centre of mass). dm_control computes a
reward from the physics after the action, the same moment that next_obs is taken at.

Every rule maps action (..., A), in [-1, 1], and next_obs (..., O) to the reward (...).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mbpo.config import InputError
from mbpo.envs.tasks import Groups, TaskInfo

Reward = Callable[[Tensor, Tensor], Tensor]


def reward_for(info: TaskInfo) -> Reward:
    """The reward of a task.

    Raises:
        InputError: a task whose reward is not known as a function of action and next_obs, or groups left out that it
            reads.
    """
    if info.id not in _RULES:
        raise InputError(
            f"task {info.id!r}: rollout.reward = 'oracle' needs a reward that can be read off action and next_obs; "
            f"it is known of {', '.join(_RULES)}"
        )
    reads, rule = _RULES[info.id]
    lacking = [name for name in reads if name not in info.groups]
    if lacking:
        raise InputError(f"task {info.id!r}: its reward reads {', '.join(lacking)}, which drop leaves out")
    return partial(rule, info.groups)


def _linear(x: Tensor, bound: float, margin: float, at_margin: float) -> Tensor:
    """dm_control's `tolerance` for x >= bound with a linear sigmoid: 1 there, `at_margin` a margin below."""
    distance = (bound - x) / margin * (1.0 - at_margin)
    return torch.where(x >= bound, torch.ones_like(x), (1.0 - distance).clamp(min=0.0))


def _quadruped(speed: float, groups: Groups, action: Tensor, next_obs: Tensor) -> Tensor:
    """Uprightness times forward speed (dm_control suite/quadruped.py, Move)."""
    upright, forward = next_obs[..., groups["torso_upright"][0]], next_obs[..., groups["torso_velocity"][0]]
    return _linear(upright, 1.0, 2.0, 0.0) * _linear(forward, speed, speed, 0.5)


def _quadratic(x: Tensor, at_margin: float) -> Tensor:
    """`tolerance` of x around 0 with margin 1 and a quadratic sigmoid."""
    scaled = x * (1.0 - at_margin) ** 0.5
    return torch.where(scaled.abs() < 1, 1.0 - scaled.square(), torch.zeros_like(x))


def _gaussian(x: Tensor, margin: float, bound: float) -> Tensor:
    """`tolerance` for x >= bound with a Gaussian sigmoid of 0.1 at its margin."""
    below = (math.log(0.1) * ((bound - x) / margin).square()).exp()
    return torch.where(x >= bound, torch.ones_like(x), below)


def _still(x: Tensor, margin: float) -> Tensor:
    """`tolerance` of x around 0 with a Gaussian sigmoid of 0.1 at its margin."""
    return _gaussian(-x.abs(), margin, 0.0)


def _humanoid(speed: float, groups: Groups, action: Tensor, next_obs: Tensor) -> Tensor:
    """Standing, upright, with little control, and still or moving (dm_control suite/humanoid.py, Humanoid)."""
    head, vertical = next_obs[..., groups["head_height"][0]], next_obs[..., groups["torso_vertical"][0] + 2]
    first = groups["com_velocity"][0]
    velocity = next_obs[..., first : first + 2]
    standing, upright = _gaussian(head, 1.4 / 4, 1.4), _linear(vertical, 0.9, 1.9, 0.0)
    small = (4.0 + _quadratic(action, 0.0).mean(-1)) / 5.0
    if speed == 0.0:
        return small * standing * upright * _still(velocity, 2.0).mean(-1)
    move = _linear(velocity.norm(dim=-1), speed, speed, 0.0)
    return small * standing * upright * (5.0 * move + 1.0) / 6.0


_QUADRUPED, _HUMANOID = ("torso_upright", "torso_velocity"), ("head_height", "torso_vertical", "com_velocity")
_RULES: dict[str, tuple[tuple[str, ...], Callable[[Groups, Tensor, Tensor], Tensor]]] = {
    "dmc:quadruped-walk": (_QUADRUPED, partial(_quadruped, 0.5)),
    "dmc:quadruped-run": (_QUADRUPED, partial(_quadruped, 5.0)),
    "dmc:humanoid-stand": (_HUMANOID, partial(_humanoid, 0.0)),
    "dmc:humanoid-walk": (_HUMANOID, partial(_humanoid, 1.0)),
    "dmc:humanoid-run": (_HUMANOID, partial(_humanoid, 10.0)),
}
