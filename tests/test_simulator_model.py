"""The simulator as the model: from a kept state and a lived action it gives the lived transition, to the bit."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import MBPO, assert_same_rows, assert_same_run, drive, parameters, small
from toy_envs import DRIFT, FIXED_POINT, FixedPoint

from benchmark.suite.load import load_suite
from mbpo import Budget, InputError, Method, RolloutConfig, Run, guards, saving
from mbpo.envs.physics import state_size
from mbpo.envs.pool import Pool
from mbpo.fast.engine import engine
from mbpo.loop import advance
from mbpo.simulator_model import SimulatorModel
from mbpo.state import TrainState

TOY = "gym:benchmark.toys:LQR-v0"
PERFECT = {"dynamics": "simulator", "reward": "simulator"}
TASKS = (TOY, FIXED_POINT, "dmc:hopper-stand", "dmc:reacher-hard", "gym:Hopper-v5", "gym:AntTruncatedObs-v5")


def lived(task: str, steps: int, rollout: dict[str, object] | None = None, runs: int = 1) -> TrainState:
    """A state of training after `steps` env steps, in fp32 as it trains."""
    method = small(MBPO, rollout=PERFECT | (rollout or {}), random_steps=steps - 3)
    state = TrainState(task, [Run(method, seed) for seed in range(runs)], Budget(env_steps=steps), engine("cpu"))
    while state.env_steps < steps:
        advance(state)
    return state


@pytest.mark.parametrize("task", TASKS)
def test_from_a_kept_state_and_a_lived_action_the_model_is_the_real_transition(task: str) -> None:
    state = lived(task, 30)
    layout, real = state.layout, state.real.filled()
    assert state.states is not None and state.simulator is not None
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    state.simulator.begin(state.states.filled()[:, order])
    raw = state.simulator.step(layout.action(real[:, order]))
    torch.testing.assert_close(raw, layout.targets(real[:, order]), rtol=0, atol=0)
    assert torch.equal(state.simulator.terminated(raw), layout.mask(real[:, order]) == 0)
    state.close()


def test_rollouts_start_at_real_states_and_step_the_simulator_as_often_as_they_are_long() -> None:
    state = lived(FIXED_POINT, 40, {"per_step": 32, "schedule": (0, 1, 3, 3)}, runs=2)
    assert state.synthetic is not None and state.dynamics is None
    rows, layout, length = state.synthetic.rows, state.layout, 3
    for run in range(2):
        made = rows[run, : int(state.synthetic.size[run])]
        truth = FixedPoint.model(layout.obs(made), layout.action(made))
        torch.testing.assert_close(layout.targets(made), truth, rtol=0, atol=1e-6)
        assert torch.equal(layout.mask(made) == 0, layout.next_obs(made)[:, 0] >= 1.0)
    whole = [int(n) for n in state.synthetic.added]
    assert all(32 * 4 < n <= 32 * 4 * length for n in whole) and not bool((rows[:, : min(whole), -1] == 0).all())
    state.close()


def test_halves_come_from_where_the_constants_say() -> None:
    """Crossed oracles: the simulator's reward on learned dynamics, learned rewards on the simulator's dynamics."""
    for rollout in ({"reward": "simulator"}, {"dynamics": "simulator"}):
        state = TrainState(TOY, [Run(small(MBPO, rollout=rollout), 0)], Budget(env_steps=44), engine("cpu"))
        while state.env_steps < 44:
            advance(state)
        assert state.synthetic is not None and state.dynamics is not None and state.split is not None
        made, layout = state.synthetic.rows[0, : int(state.synthetic.size[0])], state.layout
        env = state.envs._simulators.envs[0].unwrapped  # type: ignore[union-attr]
        obs, action = layout.obs(made).double().numpy(), layout.action(made).double().numpy()
        paid = -env.dt * ((obs**2).sum(1) + (action**2).sum(1))
        after = obs @ env.A.T + action @ env.B.T
        exact = (
            np.allclose(layout.next_obs(made), after, atol=1e-5),
            np.allclose(layout.reward(made), paid, atol=1e-5),
        )
        assert exact == ("dynamics" in rollout, "reward" in rollout)
        state.close()


def test_the_number_of_processes_changes_no_number() -> None:
    rng = np.random.default_rng(0)
    states, actions = rng.uniform(-0.5, 0.5, (40, 4)), rng.uniform(-1, 1, (40, 2)).astype(np.float32)
    made = []
    for workers in (1, 2):
        pool = Pool(TOY, workers=workers)
        made.append(pool.step(states, actions))
        pool.close()
        pool.close()
    for a, b in zip(made[0][:4], made[1][:4], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_simulator_that_fails_in_a_rollout_is_one_runs_failure() -> None:
    state = lived("gym:faulty_states:FaultyState-v0", 30, runs=2)
    assert set(state.failures) == {1} and "in a rollout of the simulator: ArithmeticError" in state.failures[1].cause
    assert state.synthetic is not None and int(state.synthetic.added[0]) > 0
    state.close()


@pytest.mark.parametrize("task", ["gym:Pendulum-v1", DRIFT, "gym:benchmark.toys:NoisySensorsLQR-v0"])
def test_a_state_that_cannot_be_put_back_is_refused_before_training(task: str) -> None:
    words = "a step from a restored state is not the step" if "toys" in task else "cannot be read and put back"
    method = small(MBPO, rollout=PERFECT)
    with pytest.raises(InputError, match=words):
        guards.require_memory(task, (), [Run(method, 0)], Budget(env_steps=50), engine("cpu"))


@pytest.mark.parametrize(
    ("rollout", "words"),
    [
        ({"reward": "simulator", "schedule": (0, 1, 1, 2)}, "cannot follow learned dynamics beyond a replayed state"),
        ({**PERFECT, "clip": "data-range"}, "leaves it nothing to predict"),
        ({**PERFECT, "noise": "none"}, "leaves it nothing to predict"),
    ],
)
def test_constants_that_contradict_each_other_are_refused(rollout: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RolloutConfig(**rollout)  # type: ignore[arg-type]


def test_the_arms_of_the_suite_are_mbpo_but_for_who_says_what() -> None:
    arms = {
        "simulator": PERFECT,
        "mbpo-simulator-reward": {"reward": "simulator"},
        "mbpo-simulator-dynamics": {"dynamics": "simulator"},
    }
    for name, rollout in arms.items():
        method = load_suite().method(name, "dmc:quadruped-walk")
        assert method == Method(rollout=RolloutConfig(**rollout))  # type: ignore[arg-type]
        assert (method.fits_model, method.simulated) == (name != "simulator", True)


def test_a_resumed_run_has_the_states_and_is_the_uninterrupted_one(tmp_path: Path) -> None:
    budget = Budget(env_steps=60, eval_every=30, eval_episodes=1)
    runs = [Run(small(MBPO, rollout=PERFECT), seed) for seed in (0, 1)]
    rows, whole = drive(TOY, runs, budget)

    class Interrupted(Exception):
        pass

    def stop(state: TrainState) -> None:
        if state.env_steps == 50:
            saving.save(state, saving.folders_of(tmp_path, runs))
            raise Interrupted

    with pytest.raises(Interrupted):
        drive(TOY, runs, budget, at_step=stop, checkpoint=tmp_path)
    again, resumed = drive(TOY, runs, budget, checkpoint=tmp_path)
    for r in range(2):
        assert_same_rows(rows, again, run=r)
        assert_same_run(parameters(whole, r), parameters(resumed, r))
    assert whole.states is not None and resumed.states is not None
    torch.testing.assert_close(whole.states.filled(), resumed.states.filled(), rtol=0, atol=0)


def test_a_target_that_is_moved_in_the_model_is_part_of_the_state() -> None:
    """Reacher's target lies in the model, hopper's state in the data alone; a row is small beside MuJoCo's own data."""
    assert state_size("dmc:reacher-hard") > 9 + 3 and state_size("dmc:hopper-stand") < 69


def test_rows_of_ended_runs_are_zeros_and_cost_no_step() -> None:
    pool = Pool(TOY)
    model = SimulatorModel(pool)
    model.begin(torch.zeros(2, 3, 4, dtype=torch.float64), skip=[1])
    with mock.patch.object(pool, "step", wraps=pool.step) as step:
        raw = model.step(torch.ones(2, 3, 2))
    assert step.call_args.args[0].shape == (3, 4)
    assert bool((raw[1] == 0).all()) and bool((raw[0, :, -1] < 0).all())
    assert model.terminated(raw).tolist() == [[False] * 3, [True] * 3]
    pool.close()
