"""Why a run failed: faults that were planted, one at a time, are named first; a healthy run gets none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import FTFL, MBPO, drive, small
from toy_envs import DRIFT, LQR

from benchmark import cli
from benchmark.diagnosis import signs, why, why_page
from benchmark.records.spec import RunSpec
from benchmark.records.store import Record, Store
from mbpo import Budget, Method
from mbpo.config import InputError
from mbpo.loop import Run

STEPS = np.arange(0, 11_000, 1_000)
HEALTHY: dict[str, float] = {
    **{"temperature": 0.1, "q_mean": 50.0, "entropy": -3.0, "log_prob_mean": 3.0, "critic_loss": 1.0, "diverged": 0.0},
    **{"real_reward_mean": 0.5, "real_reward_std": 0.2, "real_reward_low": 0.0, "real_reward_high": 1.0},
    **{"synthetic_reward_mean": 0.5, "synthetic_reward_std": 0.2, "synthetic_reward_outside": 0.0},
    **{"reward_r2": 0.9, "reward_true_std": 0.2, "at_ceiling": 0.05, "calibration_obs": 1.1, "error_over_delta": 40.0},
    **{"policy_error_over_delta": 50.0, "synthetic_obs_outside": 0.02, "pre_tanh_mean_abs": 0.8, "feature_rank": 40.0},
    **{"termination_false": 0.001, "termination_missed": 0.001, "real_terminated_share": 0.02},
}
PLANTED: dict[str, dict[str, float]] = {
    "reward-lost": {"reward_r2": -3.0},
    "reward-absurd": {"synthetic_reward_outside": 0.6},
    "reward-overspread": {"synthetic_reward_std": 3.0},
    "temperature": {"temperature": 40.0},
    "wrong-ends": {"termination_false": 0.5},
    "critic": {"q_mean": -1e5},
    "saturation": {"pre_tanh_mean_abs": 12.0},
    "variance-ceiling": {"at_ceiling": 0.6, "calibration_obs": 5.0},
    "model-at-policy": {"policy_error_over_delta": 400.0},
    "rows-off-data": {"synthetic_obs_outside": 0.9},
    "features": {"feature_rank": 3.0},
    "not-finite": {"diverged": 1.0},
}


def spec(method: str = "mbpo", seed: int = 0, constants: Method | None = None) -> RunSpec:
    budget = Budget(env_steps=10_000, eval_every=1_000)
    return RunSpec(
        kind="train",
        task=DRIFT,
        method=method,
        seed=seed,
        constants=constants or Method(random_steps=500),
        budget=budget,
    )


def tables(planted: Mapping[str, tuple[int, float]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curve and diagnostics of a healthy run but for ``planted``: measure -> (env step from which, value)."""
    rows: list[tuple[int, str, int, float]] = [
        (0, "temperature", -1, 1.0),
        (0, "diverged", -1, 0.0),
        (0, "updates", -1, 0.0),
    ]
    for step in map(int, STEPS[1:]):
        rows.append((step, "updates", -1, float(step)))
        for name, value in HEALTHY.items():
            since, wrong = planted.get(name, (10**9, value))
            rows.append((step, name, -1, wrong if step >= since else value))
    curve = pd.DataFrame({"env_steps": STEPS, "episode": 0, "episode_return": STEPS / 100.0, "length": 50})
    return curve, pd.DataFrame(rows, columns=["step", "measure", "dim", "value"])


def record(planted: Mapping[str, tuple[int, float]] | None = None, of: RunSpec | None = None) -> Record:
    return Record(of or spec(), *tables(planted or {}), {})


def named(account: why.Account) -> list[str]:
    return [o.sign.id for o in account.onsets if o.at is not None]


# Planted series


def test_a_healthy_run_gets_nothing() -> None:
    account = why.explain(record())
    assert named(account) == [] and account.unknown == [] and account.first == []
    assert account.sentences[1] == "Nothing stands out. 12 signs were looked for at every evaluation."


def test_every_sign_has_a_planted_fault() -> None:
    assert set(PLANTED) == {sign.id for sign in signs.SIGNS}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_named_where_it_began(fault: str) -> None:
    account = why.explain(record({name: (4_000, value) for name, value in PLANTED[fault].items()}))
    assert named(account) == [fault]
    (first,) = account.first
    assert (first.before, first.at) == (3_000, 4_000)
    assert "First, between 3,000 and 4,000 env steps" in account.sentences[1]


@pytest.mark.parametrize(("earlier", "later"), [("temperature", "reward-lost"), ("reward-lost", "temperature")])
def test_of_two_faults_the_earlier_is_named_first(earlier: str, later: str) -> None:
    planted = {name: (3_000, value) for name, value in PLANTED[earlier].items()}
    planted |= {name: (6_000, value) for name, value in PLANTED[later].items()}
    account = why.explain(record(planted))
    assert named(account) == [earlier, later]
    assert account.sentences[2].startswith("Then, between 5,000 and 6,000 env steps")


def test_faults_of_one_evaluation_are_told_together() -> None:
    """The one furthest beyond its limit first: the temperature is 20 times beyond it, the critics 3 times or more."""
    for value, expected in ((1e5, ["temperature", "critic"]), (1e9, ["critic", "temperature"])):
        account = why.explain(record({"temperature": (5_000, 40.0), "q_mean": (5_000, value)}))
        assert [o.sign.id for o in account.first] == expected
        assert account.sentences[2].startswith("Together with it")


def test_one_evaluation_beyond_a_limit_is_an_accident_unless_it_is_the_last() -> None:
    curve, diagnostics = tables({})
    of_r2 = (diagnostics["measure"] == "reward_r2").to_numpy()
    for step, expected in ((5_000, []), (10_000, ["reward-lost"])):
        changed = diagnostics.copy()
        changed.loc[of_r2 & (changed["step"] == step).to_numpy(), "value"] = -5.0
        assert named(why.explain(Record(spec(), curve, changed, {}))) == expected


def test_values_that_entropy_pays_are_the_temperatures_fault_and_not_the_critics() -> None:
    """A critic that follows a temperature of 40 is right to hold 40 * 3 a step."""
    account = why.explain(record({"temperature": (4_000, 40.0), "q_mean": (4_000, 12_000.0)}))
    assert named(account) == ["temperature"]


def test_a_temperature_is_held_against_a_learner_without_a_model() -> None:
    high = {"temperature": (2_000, 1.5)}  # 15 times the reference's, but not 10 fifths of its own start
    reference = record(of=spec("sac", constants=Method(model=None, random_steps=500)))
    assert named(why.explain(record(high))) == []
    assert named(why.explain(record(high), reference)) == ["temperature"]
    harmless = {"temperature": (2_000, 1.5), "log_prob_mean": (0, 0.1)}  # its entropy pays less than a reward
    assert named(why.explain(record(harmless), reference)) == []


def test_an_old_record_says_what_it_cannot_tell() -> None:
    curve, diagnostics = tables({"reward_r2": (2_000, -2.0)})
    new = ("outside", "termination", "terminated", "policy_", "feature", "reward_low", "reward_high")
    old = diagnostics[~diagnostics["measure"].str.contains("|".join(new))]
    account = why.explain(Record(spec(), curve, old, {}))
    assert named(account) == ["reward-lost"]
    unknown = ["wrong-ends", "reward-absurd", "model-at-policy", "rows-off-data", "features"]
    assert [sign.id for sign in account.unknown] == unknown and ", ".join(unknown) in account.sentences[-1]


# Runs that were trained


BUDGET = Budget(env_steps=130, eval_every=15, eval_episodes=1, bias_episodes=0)
SLOW: dict[str, Any] = {"sac": {"init_temperature": 0.02}, "model": {"updates": 150, "learning_rate": 3e-3}}


def trained(task: str, method: Method, wrong_rule: bool = False) -> why.Account:
    """The account of a tiny run; `wrong_rule`: from its first step on, synthetic rollouts end at once."""

    def at_step(state: Any) -> None:
        if wrong_rule:
            state.terminated = lambda next_obs: next_obs[..., 0] > -1e9

    rows, _ = drive(task, [Run(method, 0)], BUDGET, at_step=at_step, precision="fp32")
    measured = [
        (row.env_steps, name, -1, float(values[0]))
        for row in rows
        for name, values in {**row.diagnostics, "updates": np.array([float(row.updates)])}.items()
    ]
    curve = pd.DataFrame(
        {"env_steps": [row.env_steps for row in rows], "episode_return": [row.returns[0, 0] for row in rows]}
    )
    frame = pd.DataFrame(measured, columns=["step", "measure", "dim", "value"])
    return why.explain(Record(spec(constants=method), curve, frame, {}))


def test_a_run_that_learns_gets_nothing() -> None:
    assert named(trained(LQR, small(FTFL, **SLOW))) == []


def test_a_temperature_that_cannot_reach_its_target_is_named_first() -> None:
    sac = {**SLOW["sac"], "target_entropy": 50.0, "temperature_learning_rate": 0.3}
    assert named(trained(LQR, small(FTFL, **{**SLOW, "sac": sac})))[:1] == ["temperature"]


def test_a_model_that_learns_nothing_loses_the_reward_first() -> None:
    assert named(trained(LQR, small(MBPO, **{**SLOW, "model": {"updates": 3, "learning_rate": 1.0}})))[:1] == [
        "reward-lost"
    ]


def test_rollouts_that_end_at_once_are_named_first() -> None:
    assert named(trained(DRIFT, small(FTFL, **SLOW), wrong_rule=True))[:1] == ["wrong-ends"]


def test_critics_with_steps_far_too_large_are_named_first() -> None:
    sac = {"init_temperature": 0.001, "temperature": "fixed", "mean_bound": 1.0, "learning_rate": 0.1, "tau": 1.0}
    assert named(trained(LQR, small(FTFL, **{**SLOW, "sac": sac}, utd=8)))[:1] == ["critic"]


# The command and its page


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    place = tmp_path_factory.mktemp("why")
    store = Store(place / "results", place / "cache")
    provenance = {"engine": "e0", "versions": {}, "device": "cpu", "commit": None}
    store.write(spec(), *tables({"temperature": (4_000, 4.0)}), provenance)
    store.write(spec(seed=1), *tables({}), provenance)
    plain = Method(model=None, random_steps=500)
    store.write(spec("sac", seed=1, constants=plain), *tables({}), provenance)
    store.write(spec("sac", seed=2, constants=Method(model=None, utd=1, random_steps=500)), *tables({}), provenance)
    return store


def test_a_run_is_named_by_key_or_by_task_method_and_seed(store: Store) -> None:
    assert why.find(store, spec().key[:8]) == why.find(store, f"{DRIFT}+mbpo+0") == spec()
    found = why.account(store, spec(seed=1))
    assert found.reference is not None and (found.reference.spec.seed, found.reference.spec.constants.utd) == (1, 20)
    for name, message in (
        ("abc", "neither 6 or more digits"),
        (f"{DRIFT}+mbpo+7", rf"did you mean '{DRIFT}\+mbpo\+[01]'"),
        ("0" * 16, "4 training runs here"),
    ):
        with pytest.raises(InputError, match=message):
            why.find(store, name)


def test_several_runs_of_a_name_are_told_by_their_keys(store: Store, tmp_path: Path) -> None:
    twice = Store(tmp_path / "results", tmp_path / "cache")
    provenance = {"engine": "e0", "versions": {}, "device": "cpu", "commit": None}
    for utd in (5, 20):
        twice.write(spec(constants=Method(utd=utd)), *tables({}), provenance)
    with pytest.raises(InputError, match=r"names 2 runs, give the key of one: .*5 updates each"):
        why.find(twice, f"{DRIFT}+mbpo+0")


def test_the_command_says_it_and_writes_a_page(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--results", str(store.results), "--cache", str(store.cache)]
    assert cli.main(["why", f"{DRIFT}+mbpo+0", *places]) == 0
    said = capsys.readouterr().out.splitlines()
    page = store.results / "diagnosis" / f"why-{spec().key}.html"
    assert said[-1] == str(page) and said[1].startswith(
        "First, between 3,000 and 4,000 env steps: the temperature winds up."
    )
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 2 and "Limits" not in text.split("<h1>")[0]
    for sign in signs.SIGNS:
        assert why_page.prose(sign.title) in text
    assert cli.main(["why", spec().key, "--json", *places]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["first"] == ["temperature"] and found["signs"][0]["at"] == 4_000
    assert cli.main(["why", "nobody", *places]) == 2
