"""One update as few large operations: its own operations are written down once and handed to torch's compiler.

On a GPU an update is bound by its many small operations and by what they read and write again. Written down are the
operations themselves, the backward pass and the optimizer among them, so the update stays as `mbpo.sac` and
`mbpo.dynamics` say it and the compiler sees no Python.
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
    """`work` with its operations fused: traced at the first call, which computes as ever, compiled at the next.

    What an `engine.Block` asks of its work is asked here too: nothing but the inputs and tensors that are never
    replaced is read, no random number is drawn, and shapes alone decide what happens.
    """

    def __init__(self, work: Callable[..., Outputs]) -> None:
        self._work = work
        self._compiled: dict[tuple[Any, ...], Callable[..., Outputs]] = {}

    def __call__(self, *inputs: Tensor) -> Outputs:
        """What the work gives for `inputs`."""
        key = tuple((x.shape, x.stride()) for x in inputs)
        if key not in self._compiled:
            done: list[Outputs] = []
            self._compiled[key] = self._trace(done, inputs)
            return done[0]
        with torch.no_grad(), torch.autocast(inputs[0].device.type, enabled=False):
            return self._compiled[key](*inputs)

    def _trace(self, done: list[Outputs], inputs: tuple[Tensor, ...]) -> Callable[..., Outputs]:
        def noted(*given: Tensor) -> Outputs:
            done.append(self._work(*given))
            return done[0]

        # `real`: the operations run while they are written down, on the parameters themselves.
        graph = make_fx(noted, decomposition_table={torch.ops.aten._fused_adam_.default: adam}, tracing_mode="real")
        return _compiled(graph(*inputs))


def _compiled(graph: Callable[..., Outputs]) -> Callable[..., Outputs]:
    """`graph` compiled at its first call; where that fails the operations as they are, and a warning."""
    chosen: list[Callable[..., Outputs]] = []
    compiled = torch.compile(graph, dynamic=False)

    def run(*inputs: Tensor) -> Outputs:
        if chosen:
            found: Outputs = chosen[0](*inputs)
            return found
        try:
            found = compiled(*inputs)
            chosen.append(compiled)
        except _failures() as error:
            warnings.warn(f"updates run as they are, for they could not be compiled: {str(error)[:500]}", stacklevel=2)
            chosen.append(graph)
            found = graph(*inputs)
        return found

    return run


def _failures() -> tuple[type[Exception], ...]:
    """What the compiler raises; asked for when it has been used, since loading it takes seconds."""
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
    """``torch._fused_adam_`` in operations that a compiler can join with their neighbours."""
    for p, grad, m, v, t in zip(parameters, grads, first, second, steps, strict=True):
        g = grad + weight_decay * p if weight_decay else grad
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        # 1 - beta^t without cancellation at the first steps.
        share1, share2 = (-torch.expm1(t.double() * math.log(beta)) for beta in (beta1, beta2))
        p.sub_(lr * (m / share1) / ((v / share2).sqrt() + eps))
