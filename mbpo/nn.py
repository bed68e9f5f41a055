"""Stacked networks: many small networks of one shape as one batched matrix product.

A stack is any number of leading axes: ``(R,)`` actors, ``(R, 2)`` twin critics, ``(R, E)`` ensemble
members. Layer l of a stack ``S`` has weight ``(*S, in, out)`` and bias ``(*S, 1, out)``. This is the
only file with batched matmul, so the only one to change when a product should be faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import relu, silu

from mbpo.fast import kernels
from mbpo.inits import INITS, Init

Activation = Callable[[Tensor], Tensor]

_IN_PLACE: dict[Activation, Activation] = {relu: torch.relu_, silu: partial(silu, inplace=True)}


def stacked_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x (*S, B, in) @ weight (*S, in, out) + bias (*S, 1, out) -> (*S, B, out)``.

    ``x`` may have size 1 on a stack axis: that axis then shares its rows.
    """
    stack = weight.shape[:-2]
    rows, matrices, offsets = (t.flatten(0, -3) for t in (x.expand(*stack, *x.shape[-2:]), weight, bias))
    if torch.is_autocast_enabled(x.device.type) and rounds_bf16(x.device):
        out = _RoundedProduct.apply(rows, matrices, offsets)
    elif x.is_cuda:
        # baddbmm would first copy the bias to every row; a separate sum is fused with the activation.
        out = torch.bmm(rows, matrices) + offsets
    else:
        out = torch.baddbmm(offsets, rows, matrices)
    return out.view(*stack, *out.shape[1:])


@cache
def rounds_bf16(device: torch.device) -> bool:
    """Whether bf16 products are computed in fp32: on a CPU without the instructions torch's own are far slower."""
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


class _RoundedProduct(torch.autograd.Function):
    """A product as bf16 instructions compute it: of rounded numbers, exact and summed in fp32."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrices: Tensor, offsets: Tensor) -> Tensor:
        with torch.autocast(rows.device.type, enabled=False):
            offsets, rows, matrices = (x.to(torch.bfloat16).to(torch.float32) for x in (offsets, rows, matrices))
            ctx.save_for_backward(rows, matrices)
            return torch.baddbmm(offsets, rows, matrices).to(torch.bfloat16)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, matrices = ctx.saved_tensors
        with torch.autocast(rows.device.type, enabled=False):
            grad = grad.to(torch.float32)
            grads = (grad @ matrices.mT, rows.mT @ grad, grad.sum(1, keepdim=True))
            d_rows, d_matrices, d_offsets = (x.to(torch.bfloat16).to(torch.float32) for x in grads)
            return d_rows, d_matrices, d_offsets


class StackedMLP:
    """A stack of multilayer perceptrons; `weights` and `biases` are leaf tensors, one pair per layer.

    `last` is the activation of the last hidden layer, where it is another than that of the others.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        activation: Activation,
        last: Activation | None = None,
    ) -> None:
        self.weights = list(weights)
        self.biases = list(biases)
        self.activation = activation
        self.last = last

    def __call__(self, x: Tensor) -> Tensor:
        """``x (*S, B, in) -> (*S, B, out)``; no activation after the last layer."""
        if kernels.serve(x, self.weights, self.uniform):
            return kernels.forward(x, self.weights, self.biases, self.activation)
        # Losses are computed in the parameters' dtype, also where products are of lower precision.
        return stacked_linear(self.features(x), self.weights[-1], self.biases[-1]).to(self.weights[-1].dtype)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer reads, the output of the last hidden one: ``x (*S, B, in) -> (*S, B, width)``."""
        activations = [self.activation] * (len(self.weights) - 2) + [self.last or self.activation]
        for weight, bias, activation in zip(self.weights[:-1], self.biases[:-1], activations, strict=False):
            z = stacked_linear(x, weight, bias)
            # Without gradients the activation may overwrite its input.
            x = activation(z) if torch.is_grad_enabled() else _IN_PLACE.get(activation, activation)(z)
        return x

    @property
    def uniform(self) -> Activation | None:
        """The activation of all hidden layers, as the kernels need it; None where the last has another."""
        return self.activation if self.last is None else None

    def gaussian_gradients(self, x: Tensor, y: Tensor, low: Tensor, high: Tensor) -> list[Tensor] | None:
        """Gradients of a Gaussian likelihood for `parameters` from one kernel; None where there is none.

        The likelihood is `mbpo.dynamics.nll` with constant bounds ``low, high (*S, 1, D)`` of the log-variance, on
        inputs ``x (*S, B, in)`` and targets ``y (*S, B, D)``; each may be size 1 on a stack axis.
        """
        if self.uniform is silu and kernels.serve(x, self.weights, self.uniform):
            return kernels.gaussian_gradients(x, y, self.weights, self.biases, low, high)
        return None

    def forward_members(self, x: Tensor, member: Tensor) -> Tensor:
        """``x (R, 1 or E, B, in) -> (R, B, out)``: row b of run r goes through network ``member[r, b]``, one of E."""
        if not torch.is_grad_enabled() and kernels.serve(x, self.weights, self.uniform):
            return kernels.forward_members(x, self.weights, self.biases, self.activation, member)
        return _select_member(self(x), member)

    def forward_all(self, x: Tensor) -> Tensor:
        """``x (R, 1 or E, B, in) -> (R, E, B, out)``: every row through all E networks, without gradients."""
        if kernels.serve(x, self.weights, self.uniform):
            runs, members = self.weights[0].shape[:2]
            through = [torch.full((runs, x.shape[-2]), e, device=x.device) for e in range(members)]
            each = [kernels.forward_members(x, self.weights, self.biases, self.activation, e) for e in through]
            return torch.stack(each, dim=1)
        return self(x)

    @property
    def parameters(self) -> list[Tensor]:
        """Weights, then biases, layer by layer."""
        return [*self.weights, *self.biases]

    def frozen(self) -> StackedMLP:
        """The same network as a constant: its input has gradients, its parameters have none."""
        weights, biases = ([t.detach() for t in tensors] for tensors in (self.weights, self.biases))
        return StackedMLP(weights, biases, self.activation, self.last)

    def clone(self) -> StackedMLP:
        """An independent copy without gradients (a target network)."""
        weights, biases = ([t.detach().clone() for t in tensors] for tensors in (self.weights, self.biases))
        return StackedMLP(weights, biases, self.activation, self.last)

    def lerp_(self, other: StackedMLP, share: float) -> None:
        """Move every parameter by `share` of the way to `other`."""
        with torch.no_grad():
            torch._foreach_lerp_(self.parameters, other.parameters, share)


def _select_member(out: Tensor, member: Tensor) -> Tensor:
    """``out (R, E, B, D), member (R, B) -> (R, B, D)``."""
    return out.gather(1, member[:, None, :, None].expand(-1, 1, -1, out.shape[-1]))[:, 0]


class TwoHeads:
    """A network for the observations and one for the reward that share inputs and nothing else."""

    def __init__(self, obs: StackedMLP, reward: StackedMLP) -> None:
        self.parts = (obs, reward)
        self.weights = [*obs.weights, *reward.weights]
        self.biases = [*obs.biases, *reward.biases]

    def __call__(self, x: Tensor) -> Tensor:
        """``x (*S, B, in) -> (*S, B, 2 D)``: all means, then all raw log-variances, the reward last in each."""
        return self.joined([part(x) for part in self.parts])

    @staticmethod
    def joined(outs: Sequence[Tensor]) -> Tensor:
        """The outputs of both networks as one: all means, then all raw log-variances, the reward last in each."""
        (obs_mean, obs_raw), (mean, raw) = (out.chunk(2, dim=-1) for out in outs)
        return torch.cat([obs_mean, mean, obs_raw, raw], dim=-1)

    def forward_members(self, x: Tensor, member: Tensor) -> Tensor:
        """As `StackedMLP.forward_members`."""
        return _select_member(self(x), member)

    def forward_all(self, x: Tensor) -> Tensor:
        """As `StackedMLP.forward_all`."""
        return self(x)

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
    last: Init | None = None,
) -> StackedMLP:
    """A new stack ``(R, members)``, or ``(R,)`` for `members` None; zero biases.

    Run r draws all of its weights from ``generators[r]``, so they do not depend on the other runs. `last` draws the
    last layer, `init` by default.
    """
    inner = () if members is None else (members,)
    weights, biases = [], []
    inits = [*[INITS[init]] * (len(sizes) - 2), last or INITS[init]]
    per_run = [
        [
            [draw(shape, members or 1, g) for _ in range(members or 1)]
            for draw, shape in zip(inits, pairwise(sizes), strict=True)
        ]
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

    With `per_run` every run has its own step count and can be left out of a step, as early stopping
    ends at a different epoch in each run. Defaults and the coupled weight decay are those of
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
        decays = dict.fromkeys(self.weight_decay)
        self._groups = [(decay, [i for i, d in enumerate(self.weight_decay) if d == decay]) for decay in decays]

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor], active: Sequence[int] | None = None) -> None:
        """One update of all runs, or of the runs `active` (only with `per_run`)."""
        tensors = [self.parameters, grads, self.first, self.second]
        if self.per_run:
            runs = list(range(len(self.steps)) if active is None else active)
            for decay, which in self._groups:
                columns = [[column[i][r] for i in which for r in runs] for column in tensors]
                steps = [self.steps[r, i] for i in which for r in runs]
                if steps:
                    torch._foreach_add_(steps, 1.0)
                    self._apply([*columns, steps], decay)
            return
        counts = self.steps.add_(1.0)[0].unbind()
        for decay, which in self._groups:
            self._apply([[column[i] for i in which] for column in (*tensors, counts)], decay)

    def _apply(self, columns: list[list[Tensor]], decay: float) -> None:
        """Call the kernel of ``torch.optim.Adam``; counts and moments stay on the device, so it can be captured."""
        parameters, grads, first, second, steps = columns
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
    """Contiguous gradients of a scalar `loss`, one per parameter."""
    return [g.contiguous() for g in torch.autograd.grad(loss, list(parameters))]
