"""Stacked networks: many small networks of one shape as one batched matrix product.

A stack is any number of leading axes: ``(R,)`` actors, ``(R, 2)`` twin critics, ``(R, E)`` ensemble
members. Layer l of a stack ``S`` has weight ``(*S, in, out)`` and bias ``(*S, 1, out)``. This is the
only file with batched matmul, so the only one to change when a product should be faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor
from torch.optim.adam import adam as functional_adam

Activation = Callable[[Tensor], Tensor]


def stacked_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x (*S, B, in) @ weight (*S, in, out) + bias (*S, 1, out) -> (*S, B, out)``.

    ``x`` may have size 1 on a stack axis: that axis then shares its rows.
    """
    stack, (rows, width) = weight.shape[:-2], x.shape[-2:]
    flat = x.expand(*stack, rows, width).reshape(-1, rows, width)
    out = torch.baddbmm(bias.flatten(0, -3), flat, weight.flatten(0, -3))
    return out.view(*stack, rows, weight.shape[-1])


class StackedMLP:
    """A stack of multilayer perceptrons; `weights` and `biases` are leaf tensors, one pair a layer."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: Activation) -> None:
        self.weights = list(weights)
        self.biases = list(biases)
        self.activation = activation

    def __call__(self, x: Tensor) -> Tensor:
        """``x (*S, B, in) -> (*S, B, out)``; no activation after the last layer."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = self.activation(stacked_linear(x, weight, bias))
        # Under a reduced product precision losses still see the parameters' own.
        return stacked_linear(x, self.weights[-1], self.biases[-1]).to(self.weights[-1].dtype)

    @property
    def parameters(self) -> list[Tensor]:
        """Weights, then biases, layer by layer."""
        return [*self.weights, *self.biases]

    def frozen(self) -> StackedMLP:
        """The same network as a constant: gradients pass through it to its input, not into it."""
        return StackedMLP([w.detach() for w in self.weights], [b.detach() for b in self.biases], self.activation)

    def clone(self) -> StackedMLP:
        """An independent copy without gradients (a target network)."""
        return StackedMLP(
            [w.detach().clone() for w in self.weights], [b.detach().clone() for b in self.biases], self.activation
        )

    def lerp_(self, other: StackedMLP, share: float) -> None:
        """Move every parameter by `share` of the way to `other`."""
        with torch.no_grad():
            torch._foreach_lerp_(self.parameters, [p.detach() for p in other.parameters], share)


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


_INITS: dict[str, Callable[[tuple[int, int], int, Generator], Tensor]] = {
    "orthogonal": _orthogonal,
    "glorot-uniform": _glorot_uniform,
    "stacked-lecun": _stacked_lecun,
    "truncated-normal": _truncated_normal,
}


def stacked_mlp(
    sizes: Sequence[int],
    members: int | None,
    init: str,
    activation: Activation,
    generators: Sequence[Generator],
    device: torch.device,
    dtype: torch.dtype,
) -> StackedMLP:
    """A new stack ``(R, members)``, or ``(R,)`` for `members` None; zero biases.

    Run r draws all of its weights from ``generators[r]``, so they do not depend on its companions.
    """
    inner = () if members is None else (members,)
    weights, biases = [], []
    per_run = [
        [[_INITS[init](shape, members or 1, g) for _ in range(members or 1)] for shape in pairwise(sizes)]
        for g in generators
    ]
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        stacked = torch.stack([w for run in per_run for w in run[layer]])
        shape = (len(generators), *inner, fan_in, fan_out)
        weights.append(stacked.view(shape).to(device, dtype).requires_grad_())
        biases.append(torch.zeros(len(generators), *inner, 1, fan_out, device=device, dtype=dtype).requires_grad_())
    return StackedMLP(weights, biases, activation)


class Adam:
    """Adam on stacked parameters ``(R, ...)``, elementwise, hence independent between runs.

    With `per_run` every run has its own step count and can be left out of a step: early stopping
    ends at another epoch in each run. Defaults and the coupled weight decay are those of
    ``torch.optim.Adam``, whose fused kernel does the work.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        weight_decay: Sequence[float] | None = None,
        per_run: bool = False,
    ) -> None:
        self.parameters = list(parameters)
        self.lr = lr
        self.weight_decay = list(weight_decay) if weight_decay is not None else [0.0] * len(self.parameters)
        self.per_run = per_run
        self.first = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.second = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        runs = self.parameters[0].shape[0] if per_run else 1
        self.steps = torch.zeros(runs, len(self.parameters), device=self.parameters[0].device)

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor], active: Sequence[int] | None = None) -> None:
        """One update of all runs, or of the runs `active` (only with `per_run`)."""
        for decay in dict.fromkeys(self.weight_decay):
            which = [i for i, d in enumerate(self.weight_decay) if d == decay]
            columns: list[list[Tensor]] = [[], [], [], [], []]
            for i in which:
                if self.per_run:
                    for r in range(len(self.steps)) if active is None else active:
                        parts = (
                            self.parameters[i][r],
                            grads[i][r],
                            self.first[i][r],
                            self.second[i][r],
                            self.steps[r, i],
                        )
                        for column, part in zip(columns, parts, strict=True):
                            column.append(part)
                else:
                    parts = (self.parameters[i], grads[i], self.first[i], self.second[i], self.steps[0, i])
                    for column, part in zip(columns, parts, strict=True):
                        column.append(part)
            self._apply(columns, decay)

    def _apply(self, columns: list[list[Tensor]], decay: float) -> None:
        parameters, grads, first, second, steps = columns
        if parameters:
            functional_adam(
                parameters,
                grads,
                first,
                second,
                [],
                steps,
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=self.lr,
                weight_decay=decay,
                eps=1e-8,
                maximize=False,
            )

    def state(self) -> dict[str, list[Tensor] | Tensor]:
        """Moments and step counts, by reference."""
        return {"first": self.first, "second": self.second, "steps": self.steps}


def gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Contiguous gradients of a scalar `loss`, one a parameter."""
    return [g.contiguous() for g in torch.autograd.grad(loss, list(parameters))]
