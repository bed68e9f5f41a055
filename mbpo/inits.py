"""How weights are drawn before training: one function ``((in, out), members of the stack, generator)`` a scheme."""

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
    # 0.8796 is the std of a unit normal truncated at two: JAX divides by it, so that std is as named.
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
"""A layer that gives log stds: in jaxrl it has gain 1 where all others have sqrt 2."""


def _own_log_std(init: str) -> Init:
    """A layer ``(in, 2 A)`` of which either half is drawn as a layer of its own, the means' first."""

    def drawn(shape: tuple[int, int], fan_stack: int, generator: Generator) -> Tensor:
        half = shape[0], shape[1] // 2
        mean = INITS[init](half, fan_stack, generator)
        return torch.cat([mean, _OF_LOG_STD[init](half, fan_stack, generator)], dim=1)

    return drawn


HEADS: dict[str, Callable[[str], Init]] = {"own": _own_log_std, "joint": INITS.__getitem__}
"""How the last layer ``(in, 2 A)`` of an actor is drawn, by `SacConfig.log_std_head`, given the scheme's name."""
