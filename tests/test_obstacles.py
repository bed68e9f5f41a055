"""Obstacles between reward and policy: each sign against a sample of known scale, and what it tells to change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmark.diagnosis import advice, changes, obstacles, past
from benchmark.diagnosis.evidence import Evidence, Obstacle, rounded
from benchmark.diagnosis.samples import Sample, clean, collect
from benchmark.suite.load import load_suite
from mbpo.config import Method
from mbpo.envs import TaskInfo

SEEDS, ROWS, EPISODE = 2, 1_200, 60


def sample(
    reward: Any = None, decay: float = 0.8, ends: float = 0.0, scale: float = 1.0, limit: int = EPISODE, notes: Any = ()
) -> Sample:
    """Two observations that decay and are pushed by one action; ``reward(rng, obs, action) -> (N,)``."""
    rng = np.random.default_rng(0)

    def rows(n: int) -> np.ndarray:
        obs, action = np.zeros((n + 1, 2)), rng.uniform(-1, 1, (n, 1))
        starts = np.arange(n) % EPISODE == 0
        fresh, after = rng.normal(size=(n, 2)), np.zeros((n, 2))
        for t in range(n):
            obs[t] = fresh[t] if starts[t] else after[t - 1]
            after[t] = decay * obs[t] + 0.3 * action[t] * np.array([1.0, 0.5]) + 0.1 * rng.normal(size=2)
        paid = (reward or (lambda r, o, a: o[:, 0] + 0.1 * r.normal(size=len(o))))(rng, obs[:-1], action)
        mask = 1.0 - (rng.uniform(size=n) < ends)
        return np.concatenate([scale * obs[:-1], action, scale * after, paid[:, None], mask[:, None]], 1)

    info = TaskInfo("gym:InvertedPendulum-v5", 2, 1, limit, {"obs": (0, 2)}, (), "never", notes)
    train, held = (np.stack([rows(n) for _ in range(SEEDS)]).astype(np.float32) for n in (ROWS, ROWS // 2))
    return clean(info, train, held)


def found(data: Sample, **sac: Any) -> dict[str, Obstacle]:
    method = load_suite().method("mbpo", data.info.id, "quick")
    learner = method.model_copy(update={"sac": method.sac.model_copy(update=sac)})
    return {o.id: o for o in obstacles.obstacles(Evidence(data, learner))}


def scaled(factor: float) -> Any:
    return lambda rng, obs, action: factor * (obs[:, 0] + 0.1 * rng.normal(size=len(obs)))


def test_a_healthy_sample_has_no_obstacle() -> None:
    assert {o.severity for o in found(sample()).values()} == {"none"}


def spread_of(data: Sample) -> float:
    return float(np.median(data.train[..., -2].std(1)))


@pytest.mark.parametrize(("factor", "severity"), [(0.3, "none"), (0.03, "mild"), (1e-4, "severe")])
def test_a_small_reward_is_told_by_its_factor(factor: float, severity: str) -> None:
    data = sample(scaled(factor))
    sign = found(data)["small-reward"]
    assert sign.severity == severity and sign.value == pytest.approx(1 / spread_of(data), rel=0.05)
    if severity == "mild":
        assert sign.settings == {"sac.init_temperature": rounded(spread_of(data))} and not sign.adjust
    if severity == "severe":
        scale = sign.adjust["reward"]
        after = obstacles.worth(Evidence(data, Method())) * scale
        assert np.all((after > 5) & (after < 20)), "values of about ten"
        assert sign.settings["sac.init_temperature"] == pytest.approx(scale * spread_of(data), rel=0.6)
        assert f"Multiply the reward by {scale:,.15g}" in sign.change


def test_the_temperature_that_counts_is_the_learners_own() -> None:
    assert found(sample(scaled(1e-3)), init_temperature=1e-3)["small-reward"].severity == "none"
    assert found(sample(scaled(1e-3)), init_temperature_unit="reward-std")["small-reward"].severity == "none"


def test_a_huge_reward_is_divided() -> None:
    sign = found(sample(scaled(1e4)))["large-reward"]
    assert sign.severity == "severe" and sign.adjust["reward"] < 1e-4 and "Divide the reward by" in sign.change


def test_rare_rewards_are_counted_and_their_size_is_that_of_the_paid_steps() -> None:
    data = sample(lambda rng, obs, action: (rng.uniform(size=len(obs)) < 0.03).astype(float))
    signs = found(data)
    assert signs["rare-reward"].severity == "mild" and signs["rare-reward"].value == pytest.approx(0.03, abs=0.01)
    assert signs["rare-reward"].settings == {"random_steps": 1_000}
    assert signs["small-reward"].value == pytest.approx(1.0), "paid 1, however seldom"


def test_a_reward_that_is_constant_is_not_judged() -> None:
    signs = found(sample(lambda rng, obs, action: np.ones(len(obs))))
    assert {signs[name].severity for name in ("small-reward", "large-reward", "rare-reward", "short-sight")} == {None}


@pytest.mark.parametrize(
    ("limit", "severity", "discount"), [(60, "none", None), (20, "mild", 0.95), (5, "severe", 0.8)]
)
def test_short_episodes_lower_the_discount(limit: int, severity: str, discount: float | None) -> None:
    sign = found(sample(limit=limit))["short-episodes"]
    assert (sign.severity, sign.settings.get("sac.discount")) == (severity, discount)


def test_the_memory_of_a_reward_is_its_correlation_time() -> None:
    """Of an autoregressive process of factor c it is -1 / log c steps."""
    rng, reward = np.random.default_rng(0), np.zeros(40_000)
    for t in range(1, len(reward)):
        reward[t] = 0.9 * reward[t - 1] + rng.normal()
    starts = np.arange(len(reward)) % 1_000 == 0
    assert obstacles._memory(reward, starts) == pytest.approx(-1 / np.log(0.9), abs=2)


def test_slow_rewards_raise_the_discount() -> None:
    sign = found(sample(), discount=0.5)["short-sight"]
    assert sign.severity in ("mild", "severe") and 0.5 < sign.settings["sac.discount"] < 0.99


def test_episodes_that_never_end_and_that_end_at_once() -> None:
    note = ("task 'x' sets its episodes no limit: they are cut",)
    assert found(sample(notes=note))["no-limit"].severity == "mild"
    assert "--max-episode-steps" in found(sample(notes=note))["no-limit"].change
    signs = found(sample(ends=0.4))
    assert signs["early-ends"].severity == "severe" and signs["early-ends"].value == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize(("scale", "severity"), [(1.0, "none"), (30.0, "mild"), (1e-3, "severe")])
def test_observations_far_from_1_are_normalized(scale: float, severity: str) -> None:
    sign = found(sample(scale=scale))["observation-size"]
    assert sign.severity == severity
    assert sign.settings == ({} if severity == "none" else {"sac.obs_norm": "running"})


# Actions and the past, on the toys they were developed on


def toy(name: str) -> dict[str, Obstacle]:
    return found(collect(f"gym:benchmark.toys:{name}-v0", (), 1_500, 2))


def test_bounds_a_hundred_times_too_wide_are_told_by_about_that_factor() -> None:
    sign = toy("WideLQR")["wide-actions"]
    assert sign.severity == "severe" and 1 / 128 <= sign.adjust["actions"] <= 1 / 32
    assert "bounds are \N{MINUS SIGN}100 to 100" in sign.change


def test_an_action_that_does_nothing_is_named() -> None:
    data = sample()
    rng = np.random.default_rng(2)
    for rows in (data.train, data.held):
        rows[..., 2] = rng.uniform(-1, 1, rows.shape[:2])  # not what the environment was given
    sign = found(data)["idle-actions"]
    assert sign.severity in ("mild", "severe") and sign.change.startswith("Action 0 changes nothing")


@pytest.mark.parametrize(("name", "adjust"), [("LQR", {}), ("LateLQR", {"past_actions": 2}), ("BlindLQR", {"past": 1})])
def test_what_the_past_tells_is_what_is_to_be_observed_too(name: str, adjust: dict[str, int]) -> None:
    signs = toy(name)
    assert signs["hidden-state"].adjust == adjust
    if adjust:
        assert signs["hidden-state"].severity == "severe" and signs["idle-actions"].severity is None


def test_rows_out_of_order_say_nothing_of_the_past() -> None:
    data = sample()
    rng = np.random.default_rng(0)
    for rows in (data.train, data.held):
        for seed in rows:
            rng.shuffle(seed)
    signs = found(data)
    assert signs["hidden-state"].severity is None and signs["short-sight"].severity is None


def test_changes_add_up_and_the_command_applies_them() -> None:
    signs = found(sample(scaled(1e-4), scale=30.0))
    change = obstacles.change(list(signs.values()))
    assert set(change.settings) == {"sac.init_temperature", "sac.obs_norm"} and set(change.adjust) == {"reward"}
    assert len(change.sentences) == 2
    line = advice.command("gym:a:B-v0?x=1&y=2", "ftfl", ["3:7"], change.settings)
    assert "--task 'gym:a:B-v0?x=1&y=2' --method ftfl --drop 3:7 --set sac.init_temperature=" in line


@pytest.mark.parametrize(("value", "expected"), [(0.0434, 0.05), (14.9, 20), (13.0, 10), (7.5, 10), (2e-6, 2e-6)])
def test_numbers_are_rounded_to_1_2_5(value: float, expected: float) -> None:
    assert rounded(value) == pytest.approx(expected)


def test_past_columns_stay_within_their_episode() -> None:
    rows = np.arange(6.0)[:, None]
    starts = np.array([True, False, False, True, False, False])
    columns, known = past.with_past([rows, rows], starts, [1, 2])
    assert known.tolist() == [False, False, True, False, False, True]
    assert columns[known].tolist() == [[1.0, 0.0], [4.0, 3.0]]


def test_rows_as_they_will_be_have_the_reward_multiplied_and_the_sensors_gone() -> None:
    task = "gym:benchmark.toys:NoisySensorsLQR-v0"
    data = collect(task, ("3",), 600, 2)
    then = changes.applied(data, 5.0, ["3", "5:7"])
    assert then.names == [name for name in data.names if name not in ("noise[1]", "noise[2]")]
    expected = collect(task, ("3", "5:7"), 600, 2)
    assert then.layout.width == expected.train.shape[-1] and then.columns == expected.columns
    kept = [i for i, name in enumerate(data.names) if name in then.names]
    assert np.array_equal(then.layout.obs(torch.as_tensor(then.train)), data.train[..., kept])
    assert np.allclose(then.train[..., -2], 5 * data.train[..., -2])
    assert changes.applied(data, 1.0, ["3"]) is data


def test_noise_is_named_by_its_range_unless_something_depends_on_it() -> None:
    """One Box of four dimensions: a state, two sensors of noise, and one of noise that the reward is made of."""
    rng = np.random.default_rng(0)

    def rows(n: int) -> np.ndarray:
        noise, action, x = rng.normal(size=(n + 1, 3)), rng.uniform(-1, 1, (n, 1)), np.zeros(n + 1)
        for t in range(n):
            x[t + 1] = 0.9 * x[t] + 0.3 * action[t, 0]
        obs = np.column_stack([x, noise])
        return np.concatenate([obs[:-1], action, obs[1:], np.column_stack([x[:-1] + obs[:-1, 3], np.ones(n)])], 1)

    info = TaskInfo("gym:benchmark.toys:LQR-v0", 4, 1, 100, {"obs": (0, 4)}, (), "never")
    train, held = (np.stack([rows(n) for _ in range(2)]).astype(np.float32) for n in (1_500, 800))
    data = clean(info, train, held)
    assert advice._says_nothing(data, np.array([False, True, True, False]))
    assert not advice._says_nothing(data, np.array([False, True, True, True]))
    assert advice._ranges(data, [1, 2]) == ["1:3"] and advice._ranges(data, [0, 2, 3]) == ["0", "2:4"]


def test_an_observation_that_never_changes_hides_no_saturation() -> None:
    """A goal that is constant within an episode has no increment to explain."""
    signs = found(collect("gym:benchmark.studies.advice.environments:PointWide-v0", (), 1_500, 2))
    assert signs["wide-actions"].severity == "severe" and signs["wide-actions"].adjust["actions"] < 1 / 16
