"""Hours that runs would take, from counted arithmetic and assumed or measured speeds.

An estimate for planning, good to a factor of two or three, never evidence: it counts the matrix products of every
update, a fixed cost per call into torch, and the steps of the simulator. `Rates` holds what is assumed of the machine;
`benchmark.speed.rates` fills one in from measurements.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import pairwise

from benchmark.records.spec import RunSpec, lockstep
from benchmark.running.workers import cpu_count
from benchmark.suite.load import Suite, load_suite
from mbpo.config import Method, ModelConfig

EARLY_STOPPING_EPOCHS = 20
"""Assumed length of a model fit that stops by itself."""
MAX_LOCKSTEP = 16


@dataclass(frozen=True)
class Rates:
    """What is assumed of the machine, or was measured on it."""

    flops: float  # per second, of matrix products of these sizes
    sac_update_s: float  # cost of one lockstep SAC update beyond its arithmetic
    model_update_s: float  # the same for one update of the ensemble
    env_step_s: float  # one step of one simulator
    model_flops: float | None = None  # as `flops`, of the ensemble's own products, where these were measured apart
    step_s: float = 0.0  # cost of one lockstep env step beyond updates, simulators and the rollouts' arithmetic
    kernels: bool = False  # whether they leave out what need not be computed

    @property
    def ensemble_flops(self) -> float:
        """Per second, of the ensemble's products."""
        return self.flops if self.model_flops is None else self.model_flops


CPU_FLOPS_PER_CORE = 65e9  # `python -m benchmark speed` gave 70 to 75 on a quiet core, less beside a busy one
CPU = Rates(CPU_FLOPS_PER_CORE, 1e-3, 1e-3, 3e-4, kernels=True)
GPU = Rates(10e12, 3e-3, 1.5e-3, 3e-4)


def rates(gpus: int = 0, cpus: int | None = None) -> Rates:
    """The assumptions for this machine: one GPU if there are any, else all CPUs together."""
    if gpus:
        return GPU
    cores = cpu_count() if cpus is None else cpus
    return replace(CPU, flops=CPU_FLOPS_PER_CORE * cores)


def hours(
    specs: Iterable[RunSpec],
    machine: Rates | None = None,
    suite: Suite | None = None,
    most: int = MAX_LOCKSTEP,
) -> float:
    """Estimated hours for the runs, trained in lockstep one job of at most `most` after the other."""
    machine = machine or rates()
    suite = suite or load_suite()
    return sum(_seconds(group, machine, suite) for group in lockstep(specs, most)) / 3600


def sac_update_flops(method: Method, obs: int, action: int, kernels: bool = False) -> float:
    """Floating-point operations of one update of actor, twin critics and temperature, by kernels or as written."""
    hidden = method.sac.hidden_dims
    actor, critic = _weights(obs, hidden, 2 * action), _weights(obs + action, hidden, 1)
    # In forward passes. Actor: 1 for the next action, 3 for its own step. Each critic: 1 as target, 3 for its own step,
    # 2 for the actor's. No step needs the gradient of what the first layer reads, but for the actor's of the critics.
    spared = obs * hidden[0] + 2 * (obs + action) * hidden[0]
    if kernels:  # in the actor's step only the lesser critic of a row passes a gradient on, and only to the action
        spared += critic + obs * hidden[0]
    return 2 * method.sac.batch_size * (4 * actor + 2 * 6 * critic - spared)


def model_update_flops(model: ModelConfig, obs: int, action: int) -> float:
    """Floating-point operations of one update of the whole ensemble: a forward pass and two backward ones."""
    spared = (obs + action) * model.hidden_dims[0]  # the first layer passes no gradient on
    return 2 * model.batch_size * model.ensemble_size * (3 * _model_weights(model, obs, action) - spared)


def rollout_flops(method: Method, obs: int, action: int, length: float = 1.0, kernels: bool = False) -> float:
    """Floating-point operations of the rollouts that fall on one env step: policy and members, all or one, forward."""
    assert method.model is not None
    model = _members(method.model, kernels) * _model_weights(method.model, obs, action)
    policy = _weights(obs, method.sac.hidden_dims, 2 * action)
    return 2 * method.rollout.per_step * length * (model + policy)


def env_step_flops(method: Method, obs: int, action: int, kernels: bool = False) -> float:
    """Floating-point operations of all learning that falls on one env step, fits of fixed length spread evenly."""
    flops = method.utd * sac_update_flops(method, obs, action, kernels)
    if method.model is not None:
        per_step = method.model.updates / method.model.fit_every
        flops += per_step * model_update_flops(method.model, obs, action) + rollout_flops(
            method, obs, action, kernels=kernels
        )
    return flops


def _seconds(group: Sequence[RunSpec], machine: Rates, suite: Suite) -> float:
    spec = group[0]
    obs, action = dimensions(spec, suite)
    one = {"train": _train_seconds, "fit": _fit_seconds, "probe": _probe_seconds}[spec.kind]
    arithmetic, calls, simulator = one(spec, obs, action, machine)
    # Arms that are fitted on the same data share the simulator that collects it.
    simulators = len({spec.seed for spec in group}) if spec.kind == "fit" else len(group)
    return len(group) * arithmetic + calls + simulators * simulator


def _fit_seconds(spec: RunSpec, obs: int, action: int, machine: Rates) -> tuple[float, float, float]:
    assert spec.fit is not None and spec.constants.model is not None
    updates = spec.fit.refits * _updates_per_fit(spec.constants.model, spec.fit.transitions)
    flops = updates * model_update_flops(spec.constants.model, obs, action)
    steps = spec.fit.transitions + spec.fit.heldout if spec.source_run is None else 0
    return flops / machine.ensemble_flops, updates * machine.model_update_s, steps * machine.env_step_s


def _probe_seconds(spec: RunSpec, obs: int, action: int, machine: Rates) -> tuple[float, float, float]:
    """A fit, updates of critics and policy, and the episodes that they are held against; no env step of training."""
    assert spec.probe is not None
    arithmetic, calls, _ = _fit_seconds(spec, obs, action, machine)
    updates, shares = spec.probe.updates, len(spec.probe.shares)
    arithmetic += updates * shares * sac_update_flops(spec.constants, obs, action, machine.kernels) / machine.flops
    episodes = spec.probe.bias_episodes + (1 + shares) * spec.probe.eval_episodes
    return arithmetic, calls + updates * machine.sac_update_s, episodes * 1000 * machine.env_step_s


def _train_seconds(spec: RunSpec, obs: int, action: int, machine: Rates) -> tuple[float, float, float]:
    assert spec.budget is not None
    method, steps = spec.constants, spec.budget.env_steps
    learning = max(steps - method.random_steps, 0)
    updates = learning * method.utd
    arithmetic = updates * sac_update_flops(method, obs, action, machine.kernels) / machine.flops
    calls = updates * machine.sac_update_s + learning * machine.step_s
    model, simulated = method.model, 0.0
    if model is not None:
        fits = -(-learning // model.fit_every)
        fitted = fits * _updates_per_fit(model, (method.random_steps + steps) // 2) if method.fits_model else 0
        flops = fitted * model_update_flops(model, obs, action)
        calls += fitted * machine.model_update_s
        lengths = [method.rollout_length(method.random_steps + learning * i // 100) for i in range(100)]
        rows = learning * method.rollout.per_step * sum(lengths) / len(lengths)
        flops += 2 * rows * _members(model, machine.kernels) * _model_weights(model, obs, action) * method.fits_model
        simulated = rows if method.simulated else 0.0
        arithmetic += flops / machine.ensemble_flops
    looks = 1 + steps // spec.budget.eval_every
    episodes = looks * (spec.budget.eval_episodes + spec.budget.bias_episodes) * 1000
    return arithmetic, calls, (steps + episodes + simulated) * machine.env_step_s


def _updates_per_fit(model: ModelConfig, rows: int) -> int:
    if model.stopping == "fixed":
        return model.updates
    return min(EARLY_STOPPING_EPOCHS, model.max_epochs) * -(-rows // model.batch_size)


def _members(model: ModelConfig, kernels: bool) -> int:
    """Networks that a row of a rollout passes through: with kernels the one whose word it takes."""
    return 1 if kernels and model.reward_head == "shared" else model.ensemble_size


def _model_weights(model: ModelConfig, obs: int, action: int) -> int:
    return _weights(obs + action, model.hidden_dims, 2 * (obs + 1))


def _weights(inputs: int, hidden: Sequence[int], outputs: int) -> int:
    return sum(a * b for a, b in pairwise([inputs, *hidden, outputs]))


def dimensions(spec: RunSpec, suite: Suite | None = None) -> tuple[int, int]:
    """Numbers in an observation and in an action of the run's task."""
    entry = (suite or load_suite()).task(spec.task)
    if entry.obs_dim is not None and entry.action_dim is not None:
        return entry.obs_dim, entry.action_dim
    info = import_module("mbpo.envs").task_info(spec.task, spec.drop)
    return info.obs_dim, info.action_dim
