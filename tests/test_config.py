"""Constants: what is refused and in which words, the rollout schedule and the mix of a batch by hand tables."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mbpo.config import Budget, InputError, Method, ModelConfig, RolloutConfig, SacConfig, Target, build, nearest

ROOT = Path(__file__).parents[1]


def sentence(cls: Any, data: dict[str, Any], where: str = "") -> str:
    with pytest.raises(InputError) as caught:
        build(cls, data, where)
    text = str(caught.value)
    assert "\n" not in text and "pydantic" not in text
    return text


def test_sound_data_is_built_with_its_values_and_the_defaults() -> None:
    method = build(Method, {"target": {"normalize": "both", "predict": "next_obs"}, "utd": 5})
    assert method == Method(target=Target(normalize="both", predict="next_obs"), utd=5)
    assert (method.utd, method.sac.discount, method.model.ensemble_size) == (5, 0.99, 7)
    assert build(Method, {"model": None}).model is None


# Names


@pytest.mark.parametrize(
    ("cls", "data", "where", "expected"),
    [
        (
            Method,
            {"model": {"lerning_rate": 1}},
            "methods.ftfl",
            "methods.ftfl.model.lerning_rate: unknown field; did you mean 'learning_rate'?",
        ),
        (
            Method,
            {"sac": {"discont": 1}},
            "methods.sac",
            "methods.sac.sac.discont: unknown field; did you mean 'discount'?",
        ),
        (Method, {"targett": {}}, "", "targett: unknown field; did you mean 'target'?"),
        (Method, {"rollout": {"retian": 1}}, "", "rollout.retian: unknown field; did you mean 'retain'?"),
        (
            Budget,
            {"env_step": 5},
            "protocols.quick",
            "protocols.quick.env_step: unknown field; did you mean 'env_steps'?",
        ),
        (Target, {"predict": "next-obs"}, "m", "m.predict = 'next-obs': not a choice; did you mean 'next_obs'?"),
        (
            Method,
            {"target": {"normalize": "rewards"}},
            "m",
            "m.target.normalize = 'rewards': not a choice; did you mean 'reward'?",
        ),
        (ModelConfig, {"init": "lecun"}, "", "init = 'lecun': not a choice; did you mean 'stacked-lecun'?"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(cls: Any, data: dict[str, Any], where: str, expected: str) -> None:
    assert sentence(cls, data, where) == expected


def test_without_a_near_name_all_are_listed() -> None:
    assert sentence(Target, {"zzz": 1}) == "zzz: unknown field; known: normalize, predict"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
    assert nearest("cup", ["gpu", "cpu"]) == "did you mean 'cpu'?"


# Values


@pytest.mark.parametrize(
    ("cls", "data", "says"),
    [
        (Method, {"utd": -1}, "m.utd = -1: should be greater than or equal to 1"),
        (Method, {"utd": 0}, "m.utd = 0: should be greater than or equal to 1"),
        (Method, {"utd": 2.5}, "m.utd = 2.5: should be a valid integer"),
        (Method, {"real_ratio": 1.5}, "m.real_ratio = 1.5: should be less than or equal to 1"),
        (Method, {"real_ratio": math.nan}, "m.real_ratio = nan: should be a finite number"),
        (Method, {"sac": {"discount": 1.01}}, "m.sac.discount = 1.01: should be less than or equal to 1"),
        (Method, {"sac": {"init_temperature": 0}}, "m.sac.init_temperature = 0: should be greater than 0"),
        (Method, {"sac": {"target_entropy": math.inf}}, "m.sac.target_entropy = inf: should be a finite number"),
        (Method, {"model": {"learning_rate": math.nan}}, "m.model.learning_rate = nan: should be a finite number"),
        (Method, {"model": {"batch_size": 0}}, "m.model.batch_size = 0: should be greater than or equal to 1"),
        (Method, {"model": {"holdout_ratio": 1}}, "m.model.holdout_ratio = 1: should be less than 1"),
        (Budget, {"env_steps": 10**12}, "m.env_steps = 1000000000000: should be less than or equal to 1000000000"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(cls: Any, data: dict[str, Any], says: str) -> None:
    assert sentence(cls, data, "m").startswith(says)


@pytest.mark.parametrize("index", [0, 4])
def test_a_value_inside_a_list_is_named_by_its_index(index: int) -> None:
    decay = [1e-5] * 5
    decay[index] = math.nan
    assert sentence(ModelConfig, {"weight_decay": decay}).startswith(f"weight_decay.{index} = nan")


def test_num_elites_beyond_the_ensemble() -> None:
    assert sentence(Method, {"model": {"num_elites": 8}}, "m") == "m.model: num_elites = 8 exceeds ensemble_size = 7"
    assert ModelConfig(num_elites=7).num_elites == 7


def test_weight_decay_needs_one_entry_a_layer() -> None:
    says = "weight_decay has 3 entries for 5 layers: give one per layer, or one number for all"
    assert sentence(ModelConfig, {"weight_decay": [0, 0, 0]}) == says
    assert ModelConfig(hidden_dims=(8, 8), weight_decay=(0.0, 0.0, 0.0)).hidden_dims == (8, 8)
    assert "must not be negative" in sentence(ModelConfig, {"weight_decay": [0, 0, 0, 0, -1e-5]})


@pytest.mark.parametrize(
    ("cls", "data", "says"),
    [
        (ModelConfig, {"hidden_dims": [200, 0, 200, 200]}, "hidden_dims must be positive"),
        (ModelConfig, {"hidden_dims": []}, "hidden_dims = []"),
        (ModelConfig, {"min_logvar": 0.5}, "min_logvar = 0.5 is not below max_logvar = 0.5"),
        (SacConfig, {"hidden_dims": [0]}, "widths must be positive"),
        (ModelConfig, {"min_logvar": -200.0}, "min_logvar = -200.0: float32, which trains, cannot hold exp of it"),
        (ModelConfig, {"max_logvar": 89.0}, "max_logvar = 89.0: float32, which trains, cannot hold exp of it"),
        (SacConfig, {"max_log_std": 100.0}, "max_log_std = 100.0: float32"),
        (SacConfig, {"min_log_std": -89.0}, "give a bound within +-88"),
        (SacConfig, {"min_log_std": 3}, "min_log_std = 3.0 is not below max_log_std = 2.0"),
    ],
)
def test_inconsistent_constants(cls: Any, data: dict[str, Any], says: str) -> None:
    assert says in sentence(cls, data)


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ((100, 100, 1, 5), "its second epoch must exceed its first"),
        ((200, 100, 1, 5), "its second epoch must exceed its first"),
        ((-1, 100, 1, 5), "neither be negative"),
        ((0, 1, 0, 5), "lengths must lie in 1..1000"),
        ((0, 1, 1, 1001), "lengths must lie in 1..1000"),
    ],
)
def test_schedule_errors(schedule: tuple[int, ...], says: str) -> None:
    text = sentence(RolloutConfig, {"schedule": schedule})
    assert says in text and str(schedule) in text


def test_a_schedule_has_four_entries() -> None:
    assert sentence(RolloutConfig, {"schedule": [0, 1, 1]}).startswith("schedule.3: this field is required")


def test_constants_are_frozen() -> None:
    method = Method()
    with pytest.raises(ValidationError):
        method.utd = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        method.sac.discount = 0.5  # type: ignore[misc]


# What is derived from constants


@pytest.mark.parametrize(
    ("env_steps", "length"),
    # jannerm's Hopper: 1 to 15 between epochs 20 and 150, one more per 130 / 14 = 9.3 epochs of 1,000 steps; the first
    # epoch follows 5,000 random steps, so that env step 30,000 is in epoch 25: int(1 + 5 / 130 * 14) = 1.
    [
        *[(0, 1), (5_000, 1), (30_000, 1), (34_999, 1), (35_000, 2), (90_000, 8), (90_999, 8)],
        *[(154_999, 14), (155_000, 15), (1_000_000, 15)],
    ],
)
def test_rollout_length_by_hand(env_steps: int, length: int) -> None:
    hopper = Method(rollout=RolloutConfig(schedule=(20, 150, 1, 15), epoch_steps=1_000), random_steps=5_000)
    assert hopper.rollout_length(env_steps) == length
    assert hopper.rollout.max_length == 15


@pytest.mark.parametrize("random_steps", [2, 10_000])
def test_without_a_schedule_the_length_is_1_from_the_first_step_on(random_steps: int) -> None:
    method = Method(random_steps=random_steps)
    assert {method.rollout_length(t) for t in (0, 1, random_steps, 10_001, 500_000)} == {1}


def test_rollout_length_may_fall_and_may_stand() -> None:
    falling = RolloutConfig(schedule=(0, 10, 5, 1))
    assert [falling.length(t) for t in (0, 5, 10, 11)] == [5, 3, 1, 1]
    assert falling.max_length == 5
    assert {RolloutConfig().length(t) for t in (0, 1, 1_000, 500_000)} == {1}


@pytest.mark.parametrize(("ratio", "rows"), [(0.05, 13), (12 / 256, 12), (0.0, 0), (1.0, 256), (0.5, 128), (1e-3, 1)])
def test_real_rows_of_256(ratio: float, rows: int) -> None:
    assert Method(real_ratio=ratio).real_rows == rows


def test_without_a_model_all_rows_are_real() -> None:
    assert Method(model=None, real_ratio=0.05).real_rows == 256


def test_an_exact_share_is_not_rounded_up() -> None:
    """0.1 * 30 and 0.07 * 100 come out a little above 3 and 7 in floating point."""
    assert 0.1 * 30 > 3 - 1e-15 and 0.07 * 100 > 7
    assert Method(sac=SacConfig(batch_size=30), real_ratio=0.1).real_rows == 3
    assert Method(sac=SacConfig(batch_size=100), real_ratio=0.07).real_rows == 7


def test_entropy_target_is_per_dimension_unless_absolute() -> None:
    assert SacConfig().entropy_target(6) == -3.0
    assert SacConfig(target_entropy=-8.0).entropy_target(6) == -8.0
    assert SacConfig(target_entropy=0.0).entropy_target(6) == 0.0


def test_arms_share_all_but_the_target() -> None:
    ftfl = Method(target=Target(normalize="both", predict="next_obs"), utd=7)
    assert ftfl.shared() == Method(utd=7)
    assert ftfl.target.normalize == "both"
    assert ftfl.shared() != Method(utd=8).shared()


def test_every_constant_states_its_meaning_and_source() -> None:
    for cls in (Target, ModelConfig, RolloutConfig, SacConfig, Budget):
        for name, field in cls.model_fields.items():
            assert field.description, f"{cls.__name__}.{name}"
            assert isinstance(field.json_schema_extra, dict) and field.json_schema_extra["source"], (
                f"{cls.__name__}.{name}"
            )


def test_reading_constants_never_imports_torch() -> None:
    code = "import mbpo, mbpo.config, sys; mbpo.Method(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
