"""The learners on a task whose optimum has a formula: a linear system with quadratic cost (Riccati).

The margin: a run's cost, averaged over its last evaluations, lies within 15 % of the optimum. Doing nothing costs six
times the optimum, acting at random twenty times and more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from helpers import CPU
from toy_envs import LQR, Lqr, riccati

from mbpo import Budget, Method, ModelConfig, RolloutConfig, SacConfig, train
from mbpo.config import Target
from mbpo.envs import EnvBatch
from mbpo.episodes import play
from mbpo.loop import Run

MARGIN = 1.15
SMALL_SAC = SacConfig(
    hidden_dims=(64, 64),
    learning_rate=3e-3,
    batch_size=128,
    init_temperature=0.1,
    target_entropy=-2.0,
    discount=0.95,
    tau=0.02,
)
SMALL_MODEL = ModelConfig(
    ensemble_size=3,
    num_elites=2,
    hidden_dims=(64, 64),
    weight_decay=(0.0, 0.0, 0.0),
    learning_rate=3e-3,
    batch_size=64,
    updates=400,
    fit_every=100,
)


def costs(policy: Callable[[np.ndarray, int], np.ndarray], episodes: int = 40) -> np.ndarray:
    """Cost of every episode, as a share of the optimum, of a policy ``(obs (n, 2), step) -> (n, 1)``."""
    step = iter(range(Lqr.LIMIT))

    def actor(obs: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.as_tensor(policy(obs[0].numpy(), next(step)))[None], None

    played = play(EnvBatch(LQR, episodes), actor, torch.arange(episodes)[None], CPU, torch.float64)
    assert (played.lengths == Lqr.LIMIT).all()
    return -played.returns[0] / Lqr.COST


def test_the_stated_optimum_is_the_optimum() -> None:
    """The finite-horizon gains score it from every start, inside the action bounds; the textbook solution agrees."""
    value, gains = riccati(Lqr, Lqr.LIMIT)
    algebraic = scipy.linalg.solve_discrete_are(
        np.array(Lqr.A), np.array(Lqr.B)[:, None], np.diag(Lqr.Q), np.array([[Lqr.R]])
    )
    np.testing.assert_allclose(value, algebraic, rtol=1e-6)

    def optimal(obs: np.ndarray, step: int) -> np.ndarray:
        action = -obs @ gains[step].T
        assert (np.abs(action) < 1.0).all()
        return action

    np.testing.assert_allclose(costs(optimal), 1.0, rtol=1e-5)


def test_idle_and_random_policies_are_far_outside_the_margin() -> None:
    rng = np.random.default_rng(0)
    assert costs(lambda obs, _: np.zeros((len(obs), 1))).min() > 3 * MARGIN
    assert costs(lambda obs, _: rng.uniform(-1, 1, (len(obs), 1))).min() > 3 * MARGIN


@pytest.mark.parametrize(
    ("method", "budget"),
    [
        (
            Method(sac=SMALL_SAC, model=None, utd=1, random_steps=300),
            Budget(env_steps=1_200, eval_every=100, eval_episodes=5),
        ),
        (
            Method(sac=SMALL_SAC, model=SMALL_MODEL, rollout=RolloutConfig(per_step=40), utd=5, random_steps=150),
            Budget(env_steps=600, eval_every=25, eval_episodes=5),
        ),
    ],
    ids=["sac", "mbpo"],
)
def test_every_run_reaches_the_optimal_cost(method: Method, budget: Budget) -> None:
    """SAC in 1,200 env steps; with a model, in 600."""
    runs = [Run(method, seed) for seed in range(2)]
    if method.model is not None:
        runs.append(Run(method.model_copy(update={"target": Target(normalize="both", predict="next_obs")}), 0))
    rows = list(train(LQR, runs, budget, device="cpu"))
    cost = np.stack([-row.returns / Lqr.COST for row in rows])  # (evaluations, R, episodes)
    assert cost.min() > 1 - 1e-5, "an episode cheaper than the optimum: rewards or lengths are miscounted"
    assert (cost[0].mean(1) > 2).all(), "the untrained policy is already good: nothing was shown"
    assert (cost[-6:].mean((0, 2)) < MARGIN).all(), cost[-6:].mean((0, 2))
