"""Planted pathologies are found, a healthy task gets a clean bill, and broken environments are named, not judged."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from benchmark import cli
from benchmark.diagnosis import diagnose as doctor
from benchmark.diagnosis import page as diagnosis_page
from benchmark.diagnosis import samples
from benchmark.diagnosis.advice import recommend
from benchmark.diagnosis.diagnose import ARMS, Diagnosis
from benchmark.diagnosis.samples import clean, collect
from benchmark.diagnosis.signatures import SIGNATURES, Measured, judge
from mbpo.config import InputError
from mbpo.envs import TaskInfo

SMALL = {**doctor.MODEL, "ensemble_size": 2, "num_elites": 2, "updates": 350, "hidden_dims": (48, 48, 48, 48)}


@cache
def diagnosed(name: str) -> dict[str, Any]:
    again = name == "TinyRewardLQR"  # once is enough to see that it is done
    data = collect(f"gym:benchmark.toys:{name}-v0", (), 2_400, 3)
    return doctor.diagnose(data, device="cpu", model=SMALL, again=again).findings


def severities(name: str, arm: str = "mbpo") -> dict[str, str]:
    return diagnosed(name)["arms"][arm]["signatures"]


# What was planted is found


def test_a_healthy_task_gets_a_clean_bill() -> None:
    assert set(severities("LQR").values()) == {"none"}
    advice = diagnosed("LQR")["recommendation"]
    assert advice["clean"] and (advice["arm"], advice["normalize"], advice["predict"]) == ("mbpo", "none", "delta")


def test_a_reward_scaled_by_1e_4_is_lost_raw_and_found_normalized() -> None:
    raw = severities("TinyRewardLQR")
    assert (raw["reward-collapse"], raw["reward-overspread"]) == ("severe", "severe")
    assert raw["ceiling-saturation"] == raw["noise-like-sensors"] == "none"
    cured = severities("TinyRewardLQR", "norm-only")
    assert cured["reward-collapse"] == cured["reward-overspread"] == "none"
    advice = diagnosed("TinyRewardLQR")["recommendation"]
    assert any("The reward is lost: severe for mbpo" in line for line in advice["evidence"]) and not advice["clean"]
    assert (advice["arm"], advice["burden"]["mbpo"], advice["burden_then"]["mbpo"]) == ("mbpo", 5, 0) or advice
    assert advice["burden_then"][advice["arm"]] == 0, "a multiplied reward needs no normalization"
    assert advice["adjust"]["reward"] > 1e3 and "reward=" in advice["command"]


def test_white_noise_sensors_are_named_by_group() -> None:
    found = diagnosed("NoisySensorsLQR")
    assert found["signatures"]["noise-like-sensors"]["seeds"] == [0.5] * 3
    assert severities("NoisySensorsLQR")["noise-like-sensors"] == "severe"
    groups = found["geometry"]["groups"]
    assert groups["noise"]["increment_ratio"] == pytest.approx(2.0, abs=0.15)
    assert abs(groups["noise"]["fitted_carry"]) < 0.1 < 0.8 < groups["position"]["fitted_carry"]
    assert any(
        "noise looks like noise in all of its 4 dimensions" in line for line in found["recommendation"]["evidence"]
    )
    assert not found["recommendation"]["clean"]


def test_variance_beyond_the_ceiling_is_found_and_cured_by_normalization() -> None:
    found = severities("CeilingLQR")
    assert (found["ceiling-saturation"], found["miscalibration"]) == ("severe", "severe")
    advice = diagnosed("CeilingLQR")["recommendation"]
    assert advice["normalize"] == "both"
    assert severities("CeilingLQR", advice["arm"])["ceiling-saturation"] == "none"
    assert found["floor-saturation"] == "none"


def test_on_smooth_dynamics_direct_prediction_errs_more() -> None:
    """The stress test: small steps, a reward as large as the state."""
    advice = diagnosed("SmoothLQR")["recommendation"]
    for group in ("position", "velocity"):
        assert advice["by_group"][group]["predict"] == "delta"
        assert advice["by_group"][group]["interval"][0] > 3
    assert severities("SmoothLQR", "ftfl")["target-mismatch"] == "severe" and advice["predict"] == "delta"


def test_json_has_its_parts_and_no_value_that_json_lacks() -> None:
    found = diagnosed("LQR")
    assert list(found) == ["task", "geometry", "arms", "signatures", "obstacles", "recommendation"]
    assert found == json.loads(json.dumps(found, allow_nan=False))
    assert list(found["arms"]) == list(ARMS) and list(found["signatures"]) == [sign.id for sign in SIGNATURES]
    assert len(found["arms"]["ftfl"]["dimensions"]["dim_error_std"]) == 5
    for sign in found["signatures"].values():
        assert sign["interval"] == [min(sign["seeds"]), max(sign["seeds"])]
        assert sign["value"] == pytest.approx(np.median(sign["seeds"]))


# Severity and advice, by hand


def by_hand(**changes: dict[str, Any]) -> Measured:
    """Two seeds, two observations and a reward; every arm calibrated, unless changed."""
    plain = {
        "reward_r2": [0.9, 0.9],
        "reward_std_ratio": [1.0, 1.0],
        "dim_error_std": [[0.5, 0.5, 0.5]] * 2,
        "dim_calibration": [[1.0, 1.0, 1.0]] * 2,
        "dim_logvar_target": [[0.0, 0.0, 0.0]] * 2,
        "dim_at_floor": [[0.0] * 3] * 2,
        "dim_at_ceiling": [[0.0] * 3] * 2,
    }
    arms = {arm: {**plain, **changes.get(arm.replace("-", "_"), {})} for arm in ARMS}
    values = {arm: {name: np.array(value) for name, value in v.items()} for arm, v in arms.items()}
    geometry = {"fitted_carry": np.array([[0.9, 0.9]] * 2), "increment_ratio": np.array([[0.2, 0.2]] * 2)}
    return Measured(values, np.ones((2, 3)), np.ones((2, 3)), geometry, np.ones(3, bool))


def severity(name: str, m: Measured, arm: str = "mbpo") -> Any:
    (sign,) = (s for s in SIGNATURES if s.id == name)
    return judge(sign, m, arm)["severity"]


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("reward-collapse", {"reward_r2": [-1.0, -2.0]}, "severe"),
        ("reward-collapse", {"reward_r2": [-1.0, 0.3]}, "mild"),
        ("reward-collapse", {"reward_r2": [-1.0, 0.6]}, "none"),
        ("reward-overspread", {"reward_std_ratio": [6.0, 9.0]}, "severe"),
        ("reward-overspread", {"reward_std_ratio": [3.0, 9.0]}, "mild"),
        ("reward-overspread", {"reward_std_ratio": [0.1, 9.0]}, "none"),
        ("variance-inflation-raw", {"dim_calibration": [[2.1, 2.1, 1.0]] * 2}, "severe"),
        ("variance-inflation-raw", {"dim_calibration": [[1.5, 1.5, 9.0]] * 2}, "mild"),
        ("variance-inflation-raw", {"dim_error_std": [[1.1, 1.1, 0.5]] * 2}, "severe"),
        ("variance-inflation-target", {"dim_logvar_target": [[2.0, 2.0, 9.0]] * 2}, "mild"),
        ("ceiling-saturation", {"dim_at_ceiling": [[1.0, 0.0, 0.0]] * 2}, "none"),
        (
            "ceiling-saturation",
            {"dim_at_ceiling": [[1.0, 0.0, 0.0]] * 2, "dim_calibration": [[0.5, 1.0, 1.0]] * 2},
            "severe",
        ),
        (
            "floor-saturation",
            {"dim_at_floor": [[0.0, 0.0, 1.0]] * 2, "dim_calibration": [[1.0, 1.0, 1.2]] * 2},
            "mild",
        ),
        (
            "floor-saturation",
            {"dim_at_floor": [[1.0, 1.0, 1.0]] * 2, "dim_calibration": [[1.2, 1.2, 1.2]] * 2},
            "severe",
        ),
        ("floor-saturation", {"dim_at_floor": [[1.0, 1.0, 1.0]] * 2, "dim_error_std": [[0.01] * 3] * 2}, "none"),
        ("miscalibration", {"dim_calibration": [[3.0, 1.0, 1.0]] * 2}, "mild"),
        ("miscalibration", {"dim_calibration": [[3.0, 0.3, 1.0]] * 2}, "severe"),
        ("miscalibration", {"dim_calibration": [[3.0] * 3] * 2, "dim_error_std": [[0.01] * 3] * 2}, "none"),
        ("target-mismatch", {"dim_error_std": [[0.6, 0.5, 0.5]] * 2}, "mild"),
        ("target-mismatch", {"dim_error_std": [[0.6, 0.6, 0.5]] * 2}, "severe"),
        ("target-mismatch", {"dim_error_std": [[0.51, 0.51, 9.0]] * 2}, "none"),
    ],
)
def test_severities_by_hand(name: str, change: dict[str, Any], expected: str) -> None:
    m = by_hand(mbpo=change)
    assert severity(name, m) == expected
    assert severity(name, by_hand()) == "none"


def test_a_reward_that_no_arm_predicts_is_not_the_arms_fault() -> None:
    nothing = {"reward_r2": [-0.1, -0.1]}
    m = by_hand(**{arm.replace("-", "_"): nothing for arm in ARMS})
    assert severity("reward-collapse", m) == "none"


def advised(m: Measured) -> dict[str, Any]:
    info = TaskInfo("dmc:hopper-hop", 2, 1, 50, {"a": (0, 1), "b": (1, 2)}, (), "never")
    rows = np.random.default_rng(0).normal(size=(2, 400, 7)).astype(np.float32)
    arms = {arm: {sign.id: judge(sign, m, arm) for sign in SIGNATURES} for arm in ARMS}
    return recommend(clean(info, rows, rows), m, arms)


def test_the_fewest_changes_that_cure_are_recommended() -> None:
    lost = {"reward_r2": [-1.0, -1.0]}
    assert advised(by_hand())["arm"] == "mbpo"
    assert advised(by_hand(mbpo=lost, direct_only=lost))["arm"] == "reward-norm"
    assert advised(by_hand(mbpo=lost, direct_only=lost, reward_norm=lost))["arm"] == "norm-only"
    worse = {"dim_error_std": [[0.9, 0.9, 0.5]] * 2}
    found = advised(by_hand(mbpo=lost, direct_only=lost, reward_norm=lost, norm_only=worse))
    assert found["arm"] == "fitted" and found["by_group"]["a"]["predict"] == "next_obs"


def test_a_fit_that_diverged_is_not_judged_and_not_recommended() -> None:
    """A diverged arm says nothing, hides nothing of the others, and counts as the worst."""
    gone = {"dim_calibration": [[np.nan] * 3] * 2, "reward_r2": [np.nan] * 2, "dim_error_std": [[np.nan] * 3] * 2}
    m = by_hand(mbpo=gone, ftfl={"reward_r2": [-1.0, -1.0], "dim_calibration": [[3.0] * 3] * 2})
    assert all(severity(sign.id, m) is None for sign in SIGNATURES if not sign.of_data)
    assert severity("noise-like-sensors", m) == "none"
    for name in ("reward-collapse", "miscalibration", "variance-inflation-raw"):
        assert severity(name, m, "ftfl") == "severe" and severity(name, m, "fitted") == "none"
    found = advised(m)
    assert found["arm"] == "reward-norm" and found["burden"]["mbpo"] > found["burden"]["ftfl"] and not found["clean"]


def test_observations_beyond_float32s_square_are_survived() -> None:
    gymnasium.register("HugeLQR-v0", "benchmark.toys:Lqr", max_episode_steps=100, kwargs={"obs_scale": 1e25})
    found = doctor.diagnose(collect("gym:HugeLQR-v0", (), 900, 3), device="cpu", model=TINY).findings
    assert found["signatures"]["miscalibration"]["why"] == "the fit diverged"
    assert found["arms"]["ftfl"]["signatures"]["miscalibration"] is not None
    assert found["recommendation"]["normalize"] == "both" and json.dumps(found, allow_nan=False)


def test_groups_get_the_target_that_errs_less_there() -> None:
    found = advised(by_hand(ftfl={"dim_error_std": [[0.25, 1.0, 0.5]] * 2}))
    assert [found["by_group"][g]["predict"] for g in "ab"] == ["next_obs", "delta"]
    assert found["by_group"]["a"]["error_ratio"] == pytest.approx(0.5)
    assert any("No single carry suits all groups" in line for line in found["evidence"])
    split = advised(by_hand(ftfl={"dim_error_std": [[0.25, 0.5, 0.5], [1.0, 0.5, 0.5]]}))
    assert split["by_group"]["a"]["predict"] == "either", "seeds disagree"


# Bad input


class Odd(gymnasium.Env):
    """A drifting point with the faults that its knobs say."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        parts = {"place": 2, "spare": 2}
        self.observation_space = spaces.Dict({n: spaces.Box(-np.inf, np.inf, (k,)) for n, k in parts.items()})
        self.action_space = spaces.Discrete(3) if fault == "discrete" else spaces.Box(-1, 1, (1,), np.float32)
        if fault == "blind":
            self.observation_space = spaces.Box(-1, 1, (0,))

    def _see(self):
        spare = self.np_random.normal(size=2)
        if self.fault == "constant":
            spare[1] = 7.0
        elif self.fault == "nan":
            spare[1] = np.nan
        elif self.fault == "rarely-inf" and self.np_random.uniform() < 0.001:
            spare[1] = np.inf
        elif self.fault == "all-nan":
            return {"place": np.full(2, np.nan), "spare": np.full(2, np.nan)}
        elif self.fault == "huge":
            spare[1] = 1e300
        return {"place": self.x.copy(), "spare": spare}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.normal(size=2)
        return self._see(), {}

    def step(self, action):
        self.x = 0.9 * self.x + 0.1 * float(action[0]) + 0.1 * self.np_random.normal(size=2)
        reward = {"unpaid": 0.0, "paid-nan": np.nan}.get(self.fault, float(self.x @ self.x))
        return self._see(), reward, self.fault == "ends" and bool(abs(self.x[0]) > 1), False, {}


FAULTS = ("constant", "nan", "rarely-inf", "all-nan", "huge", "unpaid", "paid-nan", "ends", "discrete", "blind")
for fault in ("", *FAULTS):
    gymnasium.register(f"Odd{fault}-v0", Odd, max_episode_steps=50, kwargs={"fault": fault})
TINY = {**doctor.MODEL, "updates": 20, "hidden_dims": (8, 8, 8, 8), "batch_size": 32}


def odd(fault: str, steps: int = 1_500, seeds: int = 3) -> Diagnosis:
    return doctor.diagnose(collect(f"gym:Odd{fault}-v0", (), steps, seeds), device="cpu", model=TINY)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("all-nan", r"no observation is finite often enough to measure; place\[0\] is NaN or infinite in 100%"),
        ("paid-nan", r"only 0 of 1000 transitions can be measured \(the reward is not finite in 100.0%\)"),
        ("discrete", "has a Discrete action space"),
        ("blind", "observes nothing"),
        ("absent", "unknown task"),
    ],
)
def test_what_cannot_be_measured_is_refused(fault: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        odd(fault)


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(InputError, match=f"--steps 299: too few .* at least {samples.LEAST_STEPS}"):
        odd("", steps=299)


@pytest.mark.parametrize("fault", ["nan", "huge"])
def test_a_broken_sensor_is_left_out_and_named(fault: str) -> None:
    found = odd(fault)
    (line,) = found.findings["geometry"]["left_out"]
    assert line == "spare[1]: NaN or infinite in 100% of the transitions"
    assert found.sample.names == ["place[0]", "place[1]", "spare[0]"] and np.isfinite(found.sample.train).all()
    assert [dim["name"] for dim in found.findings["geometry"]["dimensions"]] == found.sample.names
    assert found.findings["signatures"]["reward-overspread"]["severity"] is not None


def test_a_rare_fault_costs_rows_not_the_sensor() -> None:
    found = odd("rarely-inf", steps=6_000)
    (line,) = found.findings["geometry"]["left_out"]
    assert "of the transitions (an observation is not finite)" in line
    assert len(found.sample.names) == 4 and 3_900 < found.sample.train.shape[1] < 4_000


def test_a_constant_sensor_is_named_and_not_judged() -> None:
    found = odd("constant").findings
    assert "constant" in found["geometry"]["left_out"][0] and "spare[1]" in found["geometry"]["left_out"][0]
    assert found["geometry"]["groups"]["spare"]["varying"] == 1
    assert found["recommendation"]["by_dimension"][3] == {
        "name": "spare[1]", "predict": None, "error_ratio": None, "interval": None,
    }  # fmt: skip


def test_a_task_that_never_pays_is_measured_without_its_reward(tmp_path: Path) -> None:
    found = odd("unpaid")
    assert "The reward is 0 in every transition" in found.findings["geometry"]["notes"][0]
    for name in ("reward-collapse", "reward-overspread"):
        assert found.findings["signatures"][name]["severity"] is None
    assert found.findings["signatures"]["miscalibration"]["severity"] is not None
    assert not found.findings["recommendation"]["clean"]
    diagnosis_page.write(found, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "not judged" in text and "predicted / actual" in text


def test_terminations_without_a_rule_are_told() -> None:
    (note,) = odd("ends").findings["geometry"]["notes"]
    assert "Episodes terminate" in note and "no termination rule" in note
    assert odd("").findings["geometry"]["notes"] == []


# The command and the page


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    run = doctor.diagnose
    monkeypatch.setattr(doctor, "diagnose", lambda *a, **k: run(*a, **{**k, "model": TINY, "device": "cpu"}))
    return ["--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache"), "--steps", "900"]


def test_the_command_writes_json_alone_and_one_page(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["diagnose", "gym:Odd-v0", "--json", "--seeds", "2", *quick]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["task"] == "gym:Odd-v0" and "collecting 2 times 900" in err
    page = tmp_path / "results" / "diagnosis" / "gym-Odd-v0.html"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [page], "a user's own data are not cached"
    text = page.read_text()
    assert text.count("<svg") == 8 and "http" not in text.replace("http://www.w3.org", "")
    for arm in ARMS:
        assert f">{arm}<" in text
    assert "<script" not in text and "None" not in text and "nan" not in text


def test_the_command_drops_groups_and_writes_where_told(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "there" / "page.html"
    assert cli.main(["diagnose", "gym:Odd-v0", "--drop", "spare", "--out", str(page), *quick]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(page) and "spare[0]" not in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gym:Odd-v0", "--steps", "20"], "--steps 20: too few"),
        (["gym:Odd-v0", "--device", "cupu"], "device = 'cupu': not a device; did you mean 'cpu'?"),
        (["gym:Odd-v0", "--policy", "rando"], "--policy 'rando' is neither 'random' nor 6 or more digits"),
        (["gym:Odd-v0", "--drop", "spere"], "did you mean 'spare'?"),
        (["gym:no_such_module:X-v0"], "module 'no_such_module' does not import"),
        (["gym:Odddiscrete-v0"], "Discrete action space"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagnose", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1].startswith("error: ") and words in err


PACKAGE = '''
"""A small package of somebody's own, that knows nothing of this project."""
import gymnasium
import gymnasium
import numpy as np


class Cart(gymnasium.Env):
    """A mass that is pushed along a line; the reward is as tiny as somebody once found practical."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=2)
        return self.state.copy(), {}

    def step(self, action):
        position, speed = self.state
        self.state = np.array([position + 0.1 * speed, 0.9 * speed + 0.1 * float(action[0])])
        return self.state.copy(), -1e-4 * position**2, False, False, {}


gymnasium.register("Cart-v0", Cart, max_episode_steps=100)
'''


def test_an_environment_of_somebody_elses_package_is_diagnosed(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "elsewhere" / "cart_club"
    place.mkdir(parents=True)
    (place / "__init__.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(place.parent))
    assert cli.main(["diagnose", "gym:cart_club:Cart-v0", "--json", "--seeds", "1", *quick]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"task", "geometry", "arms", "signatures", "obstacles", "recommendation"}
    assert (found["geometry"]["obs_dim"], found["geometry"]["action_dim"]) == (2, 1)
    assert found["geometry"]["reward"]["std"] < 1e-3 and found["geometry"]["reward"]["varies"]
    assert (tmp_path / "results" / "diagnosis" / "gym-cart_club-Cart-v0.html").is_file()


def test_the_page_sets_prose_with_the_signs_of_a_typesetter(tmp_path: Path) -> None:
    found = odd("", seeds=1)
    found.findings["recommendation"]["evidence"] = ["R2 isn't above -4.8"]
    diagnosis_page.write(found, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "R² isn\N{RIGHT SINGLE QUOTATION MARK}t above \N{MINUS SIGN}4.8" in text
