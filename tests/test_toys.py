"""The toys: their optimum is scored by the policy that Riccati gives, and each knob turns what it says."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import scipy.linalg

from benchmark.suite.load import load_suite
from benchmark.toys import EFFORT, MASSES, START, VARIANTS, Lqr
from mbpo.config import InputError
from mbpo.envs import EnvBatch, task_info

SOLVABLE = [name for name, knobs in VARIANTS.items() if "wall" not in knobs]


def value(env: Lqr) -> np.ndarray:
    """P of the optimal cost-to-go ``s' P s`` before `reward_scale`, by scipy's Riccati solver; true without a wall."""
    states, forces = np.eye(2 * MASSES), EFFORT * np.eye(MASSES)
    return np.asarray(scipy.linalg.solve_discrete_are(env.A, env.B, env.dt * states, env.dt * forces))


def optimal_action(env: Lqr, obs: np.ndarray) -> np.ndarray:
    """The optimal forces ``(MASSES,)`` at an observation, noise or not."""
    state = np.asarray(obs, np.float64)[: 2 * MASSES] / env.obs_scale
    weighted = env.B.T @ value(env)
    gain = np.linalg.solve(env.dt * EFFORT * np.eye(MASSES) + weighted @ env.B, weighted @ env.A)
    return np.asarray(-gain @ state)


def optimal_return(env: Lqr, state: np.ndarray | None = None) -> float:
    """The largest possible return of an episode from `state`, or its mean over starts; what follows its end is nil.

    An episode lasts `DURATION` seconds, in which the optimal policy brings the masses to rest.
    """
    if state is None:
        return -env.reward_scale * float(np.trace(value(env))) * START**2 / 3
    return -env.reward_scale * float(state @ value(env) @ state)


def play(name: str, policy: str, episodes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Returns of whole episodes and their optima, each ``(episodes,)``."""
    env = gymnasium.make(f"benchmark.toys:{name}", disable_env_checker=True)
    toy = env.unwrapped
    assert isinstance(toy, Lqr)
    rng = np.random.default_rng(0)
    returns, optima = np.zeros(episodes), np.zeros(episodes)
    for episode in range(episodes):
        obs, _ = env.reset(seed=episode)
        optima[episode], ended = optimal_return(toy, toy.state), False
        while not ended:
            action = optimal_action(toy, obs) if policy == "optimal" else rng.uniform(-1, 1, MASSES)
            assert policy == "random" or np.abs(action).max() < 1, "the optimum needs more force than there is"
            obs, reward, terminated, ended, _ = env.step(action)
            returns[episode] += float(reward)
            assert not terminated
    return returns, optima


@pytest.mark.parametrize("name", SOLVABLE)
def test_the_optimal_policy_earns_the_optimum_and_a_random_one_does_not(name: str) -> None:
    returns, optima = play(name, "optimal")
    np.testing.assert_allclose(returns, optima, rtol=2e-3)
    worse, same = play(name, "random")
    np.testing.assert_array_equal(same, optima)
    assert (worse < 1.5 * optima).all()


def test_the_mean_optimum_is_that_over_starts() -> None:
    env = Lqr(reward_scale=3.0)
    optima = []
    for seed in range(2_000):
        env.reset(seed=seed)
        optima.append(optimal_return(env, env.state))
    assert np.mean(optima) == pytest.approx(optimal_return(env), rel=0.05)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_page_has_the_optimum_and_the_sizes(name: str) -> None:
    task = f"gym:benchmark.toys:{name}"
    entry, info, env = load_suite().tasks[task], task_info(task), Lqr(**VARIANTS[name])
    assert (entry.obs_dim, entry.action_dim, entry.time_limit) == (info.obs_dim, info.action_dim, info.time_limit)
    assert entry.suite == "toy" and entry.random_score is not None
    if env.wall is not None:
        assert entry.reference_score is None
        return
    assert entry.reference_score == pytest.approx(optimal_return(env), rel=1e-3)
    random = play(name, "random", episodes=3)[0].mean()
    assert abs(random - entry.random_score) < 3 * (entry.random_std or 0.0)


def test_no_small_change_of_the_gain_does_better() -> None:
    """The optimum is one: along any direction of the gain, the cost of the first step plus the value rises."""
    env = Lqr()
    rng = np.random.default_rng(0)
    state = rng.uniform(-0.5, 0.5, 2 * MASSES)

    def score(action: np.ndarray) -> float:
        after = env.A @ state + env.B @ action
        return -env.dt * (state @ state + action @ action) - after @ value(env) @ after

    best = score(optimal_action(env, state))
    assert best == pytest.approx(optimal_return(env, state), rel=1e-9)
    assert all(score(optimal_action(env, state) + 0.05 * rng.normal(size=MASSES)) < best for _ in range(20))


def rows(name: str, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batch = EnvBatch(f"gym:benchmark.toys:{name}", 1)
    rng = np.random.default_rng(0)
    obs, transitions = batch.reset([0]), []
    for step in range(n):
        after, reward, _, truncated = batch.step(rng.uniform(-1, 1, (1, MASSES)))
        transitions.append((obs[0], after[0], reward[0]))
        obs = batch.reset([step]) if truncated[0] else after.copy()
    first, second, paid = zip(*transitions, strict=True)
    return np.array(first), np.array(second), np.array(paid)


def test_each_knob_turns_one_thing() -> None:
    plain_obs, plain_next, plain_reward = rows("LQR-v0")
    obs, _, reward = rows("TinyRewardLQR-v0")
    np.testing.assert_array_equal(obs, plain_obs)
    np.testing.assert_allclose(reward, 1e-4 * plain_reward)
    obs, after, reward = rows("LargeLQR-v0")
    np.testing.assert_allclose(after, 100 * plain_next, rtol=1e-6)
    np.testing.assert_allclose(reward, plain_reward)
    obs, after, _ = rows("NoisySensorsLQR-v0")
    noise = after[:, 2 * MASSES :]
    assert noise.shape[1] == 4 and np.abs(np.corrcoef(obs[:, -4:].T, noise.T)[:4, 4:]).max() < 0.2
    assert noise.std() == pytest.approx(1.0, rel=0.1)
    obs, after, _ = rows("SmoothLQR-v0")
    jumps = np.var(after - obs, axis=0) / np.var(after, axis=0)
    assert jumps.max() < 0.1 * (np.var(plain_next - plain_obs, axis=0) / np.var(plain_next, axis=0)).max()
    assert np.abs(rows("ContactLQR-v0")[1][:, :MASSES]).max() <= 0.25 < np.abs(plain_next[:, :MASSES]).max()


def test_variants_name_their_groups() -> None:
    task = "gym:benchmark.toys:NoisySensorsLQR-v0"
    info = task_info(task)
    assert info.groups == {"position": (0, 2), "velocity": (2, 4), "noise": (4, 8)} and info.time_limit == 100
    assert task_info("gym:benchmark.toys:SmoothLQR-v0").time_limit == 500
    assert task_info(task, ("noise",)).obs_dim == 4


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"obs_scale": 0.0}, "obs_scale = 0.0"),
        ({"reward_scale": float("nan")}, "reward_scale = nan"),
        ({"dt": 2.0}, r"dt = 2.0: seconds per step lie in \(0, 0.5\]"),
        ({"noise_dims": -1}, "noise_dims = -1"),
        ({"wall": 0.0}, "wall = 0.0"),
    ],
)
def test_impossible_knobs_are_refused(knobs: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Lqr(**knobs)
