"""Adjusted tasks: the environment within, changed as said and in nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.adjusted import ID, adjusted, original
from mbpo.config import InputError
from mbpo.envs import make_env, promises
from mbpo.envs.terminations import termination_for

LQR, WIDE, HEATER = (
    "gym:benchmark.toys:LQR-v0",
    "gym:benchmark.toys:WideLQR-v0",
    "gym:examples.thermostat:Thermostat-v0",
)


def play(task: str, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    env = make_env(task)
    obs, rewards = [env.reset(seed=5)[0]], []
    for action in actions:
        seen, reward, *_ = env.step(action.astype(np.float32))
        obs.append(seen)
        rewards.append(reward)
    return np.stack(obs), np.array(rewards)


ACTIONS = np.random.default_rng(0).uniform(-1, 1, (6, 2))


def test_ids_add_up_and_come_apart() -> None:
    assert adjusted(LQR, reward=1.0, past=0) == LQR
    inner = f"{LQR}?dt=0.05&noise_dims=2"
    once = adjusted(inner, reward=1e3)
    assert once == f"{ID}?task={LQR}?dt=0.05;noise_dims=2&reward=1000"
    twice = adjusted(once, reward=0.5, past=2)
    assert original(twice) == (inner, {"reward": 500.0, "past": 2.0}) and original(LQR) == (LQR, {})
    assert make_env(twice).info.obs_dim == 3 * 6 + 2 * 2


def test_a_reward_is_multiplied_and_nothing_else_changes() -> None:
    (obs, reward), (same, more) = play(LQR, ACTIONS), play(adjusted(LQR, reward=200.0), ACTIONS)
    assert np.array_equal(obs, same) and np.allclose(more, 200 * reward)
    assert make_env(adjusted(LQR, reward=2.0)).info.time_limit == 100


def test_dm_control_keeps_its_limit() -> None:
    info = make_env(adjusted("dmc:hopper-hop", reward=2.0)).info
    assert info.time_limit == 1_000 and info.notes == () and "touch" in info.groups


def test_narrower_bounds_give_the_action_its_range_back() -> None:
    """A hundredth of bounds of 100 is what plain bounds of 1 are."""
    assert np.allclose(play(adjusted(WIDE, actions=0.01), ACTIONS)[0], play(LQR, ACTIONS)[0], atol=1e-6)


def test_the_past_is_observed_latest_first() -> None:
    obs, _ = play(LQR, ACTIONS)
    seen, _ = play(adjusted(LQR, past=2), ACTIONS)
    assert np.allclose(seen[0], [*obs[0], *obs[0], *obs[0], *np.zeros(4)])
    assert np.allclose(seen[3], [*obs[3], *obs[2], *obs[1], *ACTIONS[2], *ACTIONS[1]], atol=1e-6)
    late, _ = play(adjusted(LQR, past_actions=1), ACTIONS)
    assert np.allclose(late[4], [*obs[4], *ACTIONS[3]], atol=1e-6)


def test_a_rule_of_its_own_reads_the_present_of_a_longer_observation() -> None:
    info = make_env(adjusted(HEATER, past=1)).info
    assert info.termination == "own" and info.obs_dim == 3 + 3 + 1
    torch = pytest.importorskip("torch")
    rows = torch.full((2, info.obs_dim), 20.0)
    rows[1, 0], rows[0, 3] = 5.0, 5.0
    assert termination_for(info)(rows).tolist() == [False, True]


def test_it_keeps_its_promises() -> None:
    assert promises.check(adjusted(LQR, reward=3.0, past=1)) == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("reward=0", "reward = 0: a positive number"),
        ("actions=2", "actions = 2: a positive number of at most 1"),
        ("past=1.5", "past = 1.5: a whole number"),
        ("reward=x", "reward = x: a positive number"),
    ],
)
def test_impossible_changes_are_refused(arguments: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_env(f"{ID}?task={LQR}&{arguments}")
