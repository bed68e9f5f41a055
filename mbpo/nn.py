"""Stacked networks: many small networks of one shape as one batched matrix product.

A stack is any number of leading axes: ``(R,)`` actors, ``(R, 2)`` twin critics, ``(R, E)`` ensemble
members. Layer l of a stack ``S`` has weight ``(*S, in, out)`` and bias ``(*S, 1, out)``. This is the
only file with batched matmul, so the only one to change when a product should be faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Generator, Tensor
from torch.nn.functional import relu, silu

from mbpo.inits import INITS

Activation = Callable[[Tensor], Tensor]

_IN_PLACE: dict[Activation, Activation] = {relu: torch.relu_, silu: partial(silu, inplace=True)}


def stacked_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x (*S, B, in) @ weight (*S, in, out) + bias (*S, 1, out) -> (*S, B, out)``.

    ``x`` may have size 1 on a stack axis: that axis then shares its rows.
    """
    stack = weight.shape[:-2]
    out = torch.baddbmm(bias.flatten(0, -3), x.expand(*stack, *x.shape[-2:]).flatten(0, -3), weight.flatten(0, -3))
    return out.view(*stack, *out.shape[1:])


class StackedMLP:
    """A stack of multilayer perceptrons; `weights` and `biases` are leaf tensors, one pair a layer."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: Activation) -> None:
        self.weights = list(weights)
        self.biases = list(biases)
        self.activation = activation

    def __call__(self, x: Tensor) -> Tensor:
        """``x (*S, B, in) -> (*S, B, out)``; no activation after the last layer."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            z = stacked_linear(x, weight, bias)
            # Where no gradient follows, the activation may take the place of what it is computed from.
            x = self.activation(z) if torch.is_grad_enabled() else _IN_PLACE.get(self.activation, self.activation)(z)
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


class TwoHeads:
    """A network for the observations and one for the reward that share inputs and nothing else."""

    def __init__(self, obs: StackedMLP, reward: StackedMLP) -> None:
        self._parts = (obs, reward)
        self.weights = [*obs.weights, *reward.weights]
        self.biases = [*obs.biases, *reward.biases]

    def __call__(self, x: Tensor) -> Tensor:
        """``x (*S, B, in) -> (*S, B, 2 D)``: all means, then all raw log-variances, the reward last in each."""
        (obs_mean, obs_raw), (mean, raw) = (part(x).chunk(2, dim=-1) for part in self._parts)
        return torch.cat([obs_mean, mean, obs_raw, raw], dim=-1)

    @property
    def parameters(self) -> list[Tensor]:
        """Weights, then biases, the observations' network before the reward's."""
        return [*self.weights, *self.biases]


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
        [[INITS[init](shape, members or 1, g) for _ in range(members or 1)] for shape in pairwise(sizes)]
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
            lists = [[column[i] for i in which] for column in (self.parameters, grads, self.first, self.second)]
            if self.per_run:
                runs = range(len(self.steps)) if active is None else active
                lists = [[tensor[r] for tensor in column for r in runs] for column in lists]
                steps = [self.steps[r, i] for i in which for r in runs]
            else:
                steps = [self.steps[0, i] for i in which]
            self._apply([*lists, steps], decay)

    def _apply(self, columns: list[list[Tensor]], decay: float) -> None:
        """The kernel of ``torch.optim.Adam``; counts and moments stay on the device, so it can be captured."""
        parameters, grads, first, second, steps = columns
        if parameters:
            torch._foreach_add_(steps, 1.0)
            torch._fused_adam_(
                parameters,
                grads,
                first,
                second,
                [],
                steps,
                lr=self.lr,
                beta1=0.9,
                beta2=0.999,
                weight_decay=decay,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )

    def state(self) -> dict[str, list[Tensor] | Tensor]:
        """Moments and step counts, by reference."""
        return {"first": self.first, "second": self.second, "steps": self.steps}


def gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Contiguous gradients of a scalar `loss`, one a parameter."""
    return [g.contiguous() for g in torch.autograd.grad(loss, list(parameters))]
