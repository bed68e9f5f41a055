"""How weights are drawn before training: one function ``((in, out), members of the stack, generator)`` a scheme."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor


def _orthogonal(shape: tuple[int, int], fan_stack: int, generator: Generator) -> Tensor:
    return torch.nn.init.orthogonal_(torch.empty(shape), gain=math.sqrt(2.0), generator=generator)


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


INITS: dict[str, Callable[[tuple[int, int], int, Generator], Tensor]] = {
    "orthogonal": _orthogonal,
    "glorot-uniform": _glorot_uniform,
    "stacked-lecun": _stacked_lecun,
    "truncated-normal": _truncated_normal,
}
