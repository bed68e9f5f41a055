"""What the tests of the core share: methods small enough for a test, and training with a view of its state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mbpo import loop
from mbpo.config import Budget, Method, ModelConfig, RolloutConfig, SacConfig, Target
from mbpo.fast import kernels
from mbpo.fast.engine import engine
from mbpo.loop import Row, Run
from mbpo.nn import StackedMLP
from mbpo.state import TrainState

CPU = torch.device("cpu")
MBPO, FTFL = Target(), Target(normalize="both", predict="next_obs")
FITTED = Target(normalize="both", predict="fitted")

_SAC: dict[str, Any] = {"hidden_dims": (16, 16), "batch_size": 32}
_MODEL: dict[str, Any] = {
    **{"ensemble_size": 3, "num_elites": 2, "hidden_dims": (16, 16), "weight_decay": (1e-4, 1e-4, 1e-4)},
    **{"batch_size": 32, "updates": 20, "fit_every": 30},
}
_SAC_JANNER = {
    **{"init": "glorot-uniform", "target_entropy": -1.0, "temperature_loss": "log-alpha"},
    **{"log_std": "clip", "log_std_head": "joint", "min_log_std": -20.0, "critic_loss_scale": 0.5},
}
_MODEL_JANNER = {
    **{"init": "truncated-normal", "learning_rate": 1e-3, "logvar_bounds": "learned", "bootstrap": "per-member"},
    **{"stopping": "early", "patience": 1, "max_epochs": 8},
}


def small(target: Target = MBPO, sac: dict[str, Any] | None = None, **changes: Any) -> Method:
    """The paper's family of constants with tiny networks. `model`: changes to the model, or None for SAC."""
    model = changes.pop("model", {})
    rollout = RolloutConfig(**{"per_step": 8, "retain": 50, **changes.pop("rollout", {})})
    return Method(
        sac=SacConfig(**{**_SAC, **(sac or {})}),
        model=None if model is None else ModelConfig(**{**_MODEL, **model}),
        rollout=rollout,
        target=target,
        **{"utd": 2, "random_steps": 40, **changes},
    )


def small_janner(target: Target = MBPO) -> Method:
    """The original MBPO's family: clipped log std, learned bounds, bootstrap, early stopping, a schedule to 3 steps."""
    rollout = {"every": 10, "schedule": (2, 12, 1, 3), "epoch_steps": 10, "retain": 40}
    return small(target, _SAC_JANNER, model=_MODEL_JANNER, rollout=rollout)


def drive(
    task: str,
    runs: Sequence[Run],
    budget: Budget,
    at_row: Callable[[Row, TrainState], None] | None = None,
    at_step: Callable[[TrainState], None] | None = None,
    **options: Any,
) -> tuple[list[Row], TrainState]:
    """All rows of `mbpo.train`, and the state it ends in, on the CPU in float64.

    `at_row` sees every row as it is yielded, `at_step` the state after every env step.
    """
    made: list[TrainState] = []

    def build(*args: Any) -> TrainState:
        made.append(TrainState(*args))
        return made[-1]

    rows = []
    stepped = None if at_step is None else lambda _: at_step(made[0])
    given = {"device": "cpu", "precision": "fp64", "progress": stepped, **options}
    with mock.patch.object(loop, "TrainState", build), mock.patch.object(loop, "_PROGRESS_SECONDS", 0.0):
        for row in loop.train(task, runs, budget, **given):
            rows.append(row)
            if at_row is not None:
                at_row(row, made[0])
    return rows, made[0]


@contextmanager
def ready(task: str, runs: Sequence[Run], budget: Budget, precision: str = "fp32") -> Iterator[TrainState]:
    """A state that has a fitted model and rows in both buffers."""
    state = TrainState(task, runs, budget, engine("cpu", precision))
    while state.env_steps < 50:
        loop.advance(state)
    with state.engine.products():
        yield state
    state.close()


def parameters(state: TrainState, run: int) -> dict[str, list[Tensor]]:
    """Every tensor that training moved in `run`: weights, moments, bounds, target map, elites and buffers."""
    adams = [state.sac.actor_adam, state.sac.critic_adam, state.sac.alpha_adam]
    found = {
        "actor": state.sac.actor.parameters,
        "critic": state.sac.critic.parameters,
        "target_critic": state.sac.target_critic.parameters,
        "log_alpha": [state.sac.log_alpha],
        "moments": [moment for adam in adams for moment in (*adam.first, *adam.second)],
        "real": [state.real.rows[:, :-1], state.real.added],
    }
    if state.dynamics is not None and state.synthetic is not None:
        model, held = state.dynamics, state.synthetic
        found["dynamics"] = [*model.parameters, model.input_mean, model.input_std, model.elites, model.holdout_mse]
        found["map"] = [model.map.carry, model.map.shift, model.map.scale]
        found["synthetic"] = [held.rows[:, : int(held.size[run])], held.added]
    return {name: [t.detach()[run].clone() for t in tensors] for name, tensors in found.items()}


def assert_same_run(mine: dict[str, list[Tensor]], other: dict[str, list[Tensor]], **tolerance: float) -> None:
    """Equal parameters; to the bit unless `tolerance` (rtol, atol) is given."""
    for name in mine:
        for i, (a, b) in enumerate(zip(mine[name], other[name], strict=True)):
            torch.testing.assert_close(
                a,
                b,
                **(tolerance or {"rtol": 0, "atol": 0}),
                equal_nan=True,
                msg=lambda m, n=name, i=i: f"{n}[{i}]: {m}",
            )


def assert_same_rows(
    mine: Sequence[Row], other: Sequence[Row], run: int = 0, of: int | None = None, rtol: float = 0
) -> None:
    """Rows of `run` here equal those of run `of` there, diagnostics included; to the bit unless `rtol` is given."""
    of = run if of is None else of
    assert [(row.env_steps, row.updates) for row in mine] == [(row.env_steps, row.updates) for row in other]
    for a, b in zip(mine, other, strict=True):
        np.testing.assert_array_equal(a.lengths[run], b.lengths[of])
        np.testing.assert_allclose(a.returns[run], b.returns[of], rtol=rtol, err_msg=f"returns at {a.env_steps}")
        assert a.diagnostics.keys() == b.diagnostics.keys()
        for name in a.diagnostics:
            place = f"{name} at {a.env_steps}"
            np.testing.assert_allclose(a.diagnostics[name][run], b.diagnostics[name][of], rtol, rtol, err_msg=place)


NEEDS_KERNELS = pytest.mark.skipif(kernels.library() is None, reason=f"no kernels: no gcc, or {kernels.SWITCH}=torch")


def double(net: StackedMLP) -> StackedMLP:
    """The same numbers in double precision, which torch takes."""
    weights, biases = ([t.detach().double().requires_grad_() for t in part] for part in (net.weights, net.biases))
    return StackedMLP(weights, biases, net.activation)


def same(ours: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    """Equal to the bit, and as many."""
    assert len(ours) == len(others) and all(torch.equal(a, b) for a, b in zip(ours, others, strict=True))


@contextmanager
def seen_kernels(see: Callable[..., object]) -> Iterator[None]:
    """`see` is told the name and the structures of every call of a kernel, which no mode of torch's sees."""
    inner = kernels.call

    def call(name: str, *structures: Any) -> None:
        see(name, *structures)
        inner(name, *structures)

    with mock.patch.object(kernels, "call", call):
        yield


@contextmanager
def counted_flops() -> Iterator[Callable[[], int]]:
    """What the matrix products inside take, those of the kernels included: how much so far."""
    done: list[int] = []
    with FlopCounterMode(display=False) as counted, seen_kernels(lambda *call: done.append(_kernel_flops(*call))):
        yield lambda: counted.get_total_flops() + sum(done)


def _kernel_flops(name: str, *given: Any) -> int:
    """What the matrix products of a call take."""
    if name == "critic_gradients":
        soft, actor, target, critic, gradients = given
        return 2 * soft.rows * (_row(actor) + _row(target) + _row(critic, back=gradients))
    if name == "actor_gradients":
        soft, actor, critic, gradients = given
        back = sum(_products(critic)) - soft.obs * critic.sizes[1]  # through one of two critics, to the action
        return 2 * soft.rows * (_row(actor, back=gradients) + _row(critic) + critic.stack // 2 * back)
    stack = given[0]
    if name == "stack_chosen":
        return 2 * stack.stack // given[1].each * stack.rows * sum(_products(stack))
    back = None if name == "stack_forward" else given[-1]
    return 2 * stack.rows * _row(stack, name != "stack_backward", back)


def _products(stack: Any) -> list[int]:
    return [stack.sizes[i] * stack.sizes[i + 1] for i in range(stack.layers)]


def _row(stack: Any, forward: bool = True, back: Any = None) -> int:
    """Multiplications a row: forward one product a layer, and back for its weight and for what it reads."""
    products = _products(stack)
    once = sum(products) * forward
    if back is not None:
        once += sum(products) * bool(back.dw) + sum(products[1:]) + products[0] * bool(back.dx)
    return int(stack.stack * once)
