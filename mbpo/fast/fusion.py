"""One update as few large operations: its operations are traced once and handed to torch's compiler.

On a GPU an update is bound by its many small operations and their memory traffic. The trace holds the operations
themselves, with the backward pass and the optimizer, so `mbpo.sac` and `mbpo.dynamics` stay as they are and the
compiler sees no Python.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

Outputs = dict[str, Tensor]


class Fused:
    """`work` with its operations fused: traced at the first call, which computes eagerly, and compiled at the next.

    The work must meet the conditions of an `engine.Block`: it reads only its inputs and tensors that are never
    replaced, draws no random number, and branches on shapes alone.
    """

    def __init__(self, work: Callable[..., Outputs]) -> None:
        self._work = work
        self._compiled: dict[tuple[Any, ...], Callable[..., Outputs]] = {}

    def __call__(self, *inputs: Tensor) -> Outputs:
        """The results of the work for `inputs`, by name."""
        key = tuple((x.shape, x.stride()) for x in inputs)
        if key not in self._compiled:
            traced: list[Outputs] = []
            self._compiled[key] = self._trace(traced, inputs)
            return traced[0]
        with torch.no_grad(), torch.autocast(inputs[0].device.type, enabled=False):
            return self._compiled[key](*inputs)

    def _trace(self, traced: list[Outputs], inputs: tuple[Tensor, ...]) -> Callable[..., Outputs]:
        def recorded(*tensors: Tensor) -> Outputs:
            traced.append(self._work(*tensors))
            return traced[0]

        # `real`: the operations run while they are traced, on the parameters themselves.
        graph = make_fx(recorded, decomposition_table={torch.ops.aten._fused_adam_.default: adam}, tracing_mode="real")
        return _compiled(graph(*inputs))


def _compiled(graph: Callable[..., Outputs]) -> Callable[..., Outputs]:
    """`graph`, compiled at its first call; if that fails, a warning and the graph uncompiled."""
    working: list[Callable[..., Outputs]] = []
    compiled = torch.compile(graph, dynamic=False)

    def run(*inputs: Tensor) -> Outputs:
        if working:
            outputs: Outputs = working[0](*inputs)
            return outputs
        try:
            outputs = compiled(*inputs)
            working.append(compiled)
        except _failures() as error:
            warnings.warn(f"updates run as they are, for they could not be compiled: {str(error)[:500]}", stacklevel=2)
            working.append(graph)
            outputs = graph(*inputs)
        return outputs

    return run


def _failures() -> tuple[type[Exception], ...]:
    """Exceptions of the compiler; imported after its use, because loading it takes seconds."""
    dynamo, inductor = import_module("torch._dynamo.exc"), import_module("torch._inductor.exc")
    return dynamo.TorchDynamoException, inductor.InductorError


def adam(
    parameters: Sequence[Tensor],
    grads: Sequence[Tensor],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    _: Sequence[Tensor],
    steps: Sequence[Tensor],
    *,
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
    eps: float,
    **_flags: object,
) -> None:
    """``torch._fused_adam_`` as single operations that a compiler can fuse with their neighbours."""
    for p, grad, m, v, t in zip(parameters, grads, first, second, steps, strict=True):
        g = grad + weight_decay * p if weight_decay else grad
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        # 1 - beta^t without cancellation at the first steps.
        share1, share2 = (-torch.expm1(t.double() * math.log(beta)) for beta in (beta1, beta2))
        p.sub_(lr * (m / share1) / ((v / share2).sqrt() + eps))
