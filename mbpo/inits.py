"""Initial weights: one function ``((in, out), members of the stack, generator) -> (in, out)`` per scheme."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor

Init = Callable[[tuple[int, int], int, Generator], Tensor]


def _orthogonal(shape: tuple[int, int], fan_stack: int, generator: Generator, gain: float = math.sqrt(2.0)) -> Tensor:
    return torch.nn.init.orthogonal_(torch.empty(shape), gain=gain, generator=generator)


def _glorot_uniform(shape: tuple[int, int], fan_stack: int, generator: Generator) -> Tensor:
    bound = math.sqrt(6.0 / sum(shape))
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def _stacked_lecun(shape: tuple[int, int], fan_stack: int, generator: Generator) -> Tensor:
    # 0.8796 is the std of a unit normal truncated at 2; JAX divides by it, so that the result has the std above.
    std = 1.0 / math.sqrt(fan_stack * shape[0]) / 0.87962566103423978
    return torch.nn.init.trunc_normal_(torch.empty(shape), std=std, a=-2 * std, b=2 * std, generator=generator)


def _truncated_normal(shape: tuple[int, int], fan_stack: int, generator: Generator) -> Tensor:
    std = 1.0 / (2.0 * math.sqrt(shape[0]))
    return torch.nn.init.trunc_normal_(torch.empty(shape), std=std, a=-2 * std, b=2 * std, generator=generator)


INITS: dict[str, Init] = {
    "orthogonal": _orthogonal,
    "glorot-uniform": _glorot_uniform,
    "stacked-lecun": _stacked_lecun,
    "truncated-normal": _truncated_normal,
}

_OF_LOG_STD: dict[str, Init] = {**INITS, "orthogonal": partial(_orthogonal, gain=1.0)}
"""Schemes of a layer that outputs log stds: orthogonal has gain 1 in jaxrl, and sqrt 2 in all other layers."""


def _own_log_std(init: str) -> Init:
    """Draw a layer ``(in, 2 A)`` as two layers of their own, that of the means first."""

    def draw(shape: tuple[int, int], fan_stack: int, generator: Generator) -> Tensor:
        half = shape[0], shape[1] // 2
        mean = INITS[init](half, fan_stack, generator)
        return torch.cat([mean, _OF_LOG_STD[init](half, fan_stack, generator)], dim=1)

    return draw


HEADS: dict[str, Callable[[str], Init]] = {"own": _own_log_std, "joint": INITS.__getitem__}
"""`SacConfig.log_std_head` -> scheme's name -> initializer of the actor's last layer ``(in, 2 A)``."""
