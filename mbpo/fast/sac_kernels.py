"""Gradients of soft actor-critic on a CPU in single precision: C kernels for the losses of `mbpo.sac`.

Torch spends a fifth of an update on some 200 small operations between the networks. ``native/soft.h`` computes a run's
networks and what lies between them in one call. It also leaves out products that change nothing: of the two critics
only the lesser one passes a gradient on, and of its inputs only the actions need one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import relu

from mbpo.buffer import Layout
from mbpo.config import SacConfig
from mbpo.fast import kernels
from mbpo.nn import StackedMLP

LossGradients = tuple[list[Tensor], Tensor, Tensor]
"""Gradients of the parameters, the loss ``(R,)``, and the mean value or entropy ``(R,)``."""
_SUPPORTED: dict[str, object] = {
    **{"mean_bound": None, "mean_penalty": 0.0},
    **{"critics": 2, "target_value": "min", "actor_value": "min", "backup": "soft"},
}
"""The fields of `SacConfig` whose other values torch takes."""
_Address, _Long, _Float = ctypes.c_void_p, ctypes.c_long, ctypes.c_float


class Learner(Protocol):
    """The attributes of `mbpo.sac.Sac` that the kernels read."""

    actor: StackedMLP
    critic: StackedMLP
    target_critic: StackedMLP
    config: SacConfig
    layout: Layout

    @property
    def alpha(self) -> Tensor:
        """Temperatures ``(R,)``."""


class _Soft(ctypes.Structure):
    _fields_ = (
        *((name, _Long) for name in ("runs", "rows", "obs", "action", "threads")),
        *(("data", _Address), ("run", _Long), ("ld", _Long)),
        *(("noise", _Address), ("noise_run", _Long), ("noise_ld", _Long)),
        ("alpha", _Address),
        *(("low", _Float), ("high", _Float), ("clips", _Long), ("discount", _Float), ("scale", _Float)),
        *(("first", _Address), ("second", _Address)),
    )


def critic_gradients(sac: Learner, rows: Tensor, noise: Tensor) -> LossGradients | None:
    """Gradients of the critics' loss for their parameters, the loss and the mean value ``(R,)``.

    None where the kernels do not apply: see `mbpo.fast.kernels.serve`.

    Args:
        sac: the learner; it is not changed.
        rows: ``(R, B, W)`` packed transitions.
        noise: ``(R, B, A)`` standard normal, for the next action.
    """
    return _call("critic_gradients", sac, rows, noise, (sac.actor, sac.target_critic, sac.critic), sac.critic)


def actor_gradients(sac: Learner, rows: Tensor, noise: Tensor) -> LossGradients | None:
    """Gradients of the actor's loss for its parameters, the loss and the entropy ``(R,)``; None as above.

    Args:
        sac: the learner; it is not changed.
        rows: ``(R, B, W)`` packed transitions; only observations are read.
        noise: ``(R, B, A)`` standard normal, for the action.
    """
    return _call("actor_gradients", sac, rows, noise, (sac.actor, sac.critic), sac.actor)


def _serves(sac: Learner, rows: Tensor, noise: Tensor, nets: Sequence[StackedMLP]) -> bool:
    """Whether the kernels support this update; torch reports shapes that do not match."""
    runs, layout = len(sac.actor.weights[0]), sac.layout
    return (
        rows.dtype == noise.dtype == torch.float32
        and kernels.exact_std(sac.config.max_log_std)
        and rows.shape == (runs, rows.shape[1], layout.width)
        and noise.shape == (runs, rows.shape[1], layout.action_dim)
        and rows.stride(-1) == noise.stride(-1) == 1
        and all(getattr(sac.config, name) == value for name, value in _SUPPORTED.items())
        and not sac.config.draws_critics
        and all(net.uniform is relu and kernels.serve(rows, net.parameters, relu) for net in nets)
    )


def _call(
    name: str, sac: Learner, rows: Tensor, noise: Tensor, nets: Sequence[StackedMLP], net: StackedMLP
) -> LossGradients | None:
    if not _serves(sac, rows, noise, nets):
        return None
    config, layout, alpha = sac.config, sac.layout, sac.alpha
    first, second = rows.new_empty(2, rows.shape[0])
    arguments = _Soft(
        *(*rows.shape[:2], layout.obs_dim, layout.action_dim, torch.get_num_threads()),
        *(rows.data_ptr(), rows.stride(0), rows.stride(1), noise.data_ptr(), noise.stride(0), noise.stride(1)),
        *(alpha.data_ptr(), config.min_log_std, config.max_log_std, config.log_std == "clip"),
        *(config.discount, config.critic_loss_scale, first.data_ptr(), second.data_ptr()),
    )
    dw, db = kernels.like_parameters(net.weights)
    stacks = [kernels.networks(net.weights, kernels.ACTS[relu], b=kernels.addresses(net.biases)) for net in nets]
    kernels.call(name, arguments, *stacks, kernels.Gradients(dw=kernels.addresses(dw), db=kernels.addresses(db)))
    return [*dw, *db], first, second
