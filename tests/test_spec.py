"""Keys: what changes a run's numbers changes its key, and nothing else does."""

import json
from typing import Any

import pytest

from benchmark.records.spec import FitBudget, ProbeBudget, Replay, RunSpec, lockstep, unique
from mbpo.config import Budget, InputError, Method, ModelConfig, RolloutConfig, SacConfig, Target, build

FTFL = Target(normalize="both", predict="next_obs")


def train(**changes: Any) -> RunSpec:
    base: dict[str, Any] = {"kind": "train", "task": "dmc:hopper-hop", "method": "mbpo", "seed": 3}
    return RunSpec(**{**base, "constants": Method(), "budget": Budget(), **changes})


def fit(**changes: Any) -> RunSpec:
    base: dict[str, Any] = {"kind": "fit", "task": "dmc:hopper-hop", "method": "mbpo", "seed": 3}
    return RunSpec(**{**base, "constants": Method(), "fit": FitBudget(), **changes})


def on_replay(**changes: Any) -> FitBudget:
    source = Replay(**{"method": "sac", "constants": Method(model=None), "budget": Budget(), "step": 50_000, **changes})
    return FitBudget(source=source)


def probe() -> RunSpec:
    return fit(kind="probe", fit=on_replay(), probe=ProbeBudget())


def test_golden_keys() -> None:
    # If these move, stored records are orphaned. A changed default must raise NUMERICS_VERSIONS and may then move them;
    # a new field with a default, or a new name, must not.
    sac: dict[str, Any] = {"constants": Method(model=None, utd=1), "drop": ("touch",), "precision": "bf16"}
    assert train().key == "f8b60e00bbbe4754"
    assert fit().key == "ab1962460be59535"
    assert train(**sac).key == "76def53cb24f457d"
    assert train(numerics_version=1).key == "dc96749e93503452"
    assert train(**sac, numerics_version=1).key == "31aead697f064bd3"
    assert fit(fit=on_replay()).key == "78624e602f8f965e"


def test_every_kind_of_run_has_its_own_version() -> None:
    early = Method(model=ModelConfig(stopping="early"))
    assert (train().numerics_version, train(constants=early).numerics_version) == (2, 2)
    assert (fit().numerics_version, fit(constants=early).numerics_version) == (1, 2)
    assert probe().numerics_version == 1
    for spec in (train(), fit(), fit(constants=early), probe()):
        assert spec.trainable and not spec.model_copy(update={"numerics_version": 0}).trainable
    assert RunSpec.from_json(train(numerics_version=1).to_json()) == train(numerics_version=1) != train()


def test_the_version_of_a_replays_training_is_part_of_the_key_unless_it_is_the_first() -> None:
    first, second = fit(fit=on_replay()), fit(fit=on_replay(numerics_version=2))
    assert first.source_run is not None and second.source_run is not None
    assert (first.source_run.numerics_version, second.source_run.numerics_version) == (1, 2)
    assert not first.source_run.trainable and second.source_run.trainable
    assert first == fit(fit=on_replay(numerics_version=1)) and first.key != second.key
    assert (first.numerics_version, second.numerics_version) == (1, 1)


def test_the_name_of_a_method_is_not_part_of_its_runs() -> None:
    assert train(method="ftfl").key == train(method="mbpo").key
    assert train(method="ftfl").job == train(method="mbpo").job
    assert train(method="ftfl").same_run(train()) and not train(seed=4).same_run(train())


CHANGES: list[dict[str, Any]] = [
    {"task": "dmc:hopper-stand"},
    {"drop": ("touch",)},
    {"precision": "bf16"},
    {"numerics_version": 0},
    {"constants": Method(utd=19)},
    {"constants": Method(model=None)},
    {"constants": Method(sac=SacConfig(target_entropy=-1.0))},
    {"constants": Method(model=ModelConfig(max_logvar=0.6))},
    {"constants": Method(rollout=RolloutConfig(schedule=(0, 1, 1, 2)))},
    {"budget": Budget(env_steps=499_999)},
    {"budget": Budget(eval_episodes=11)},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_whatever_changes_numbers_changes_key_and_job(change: dict[str, Any]) -> None:
    assert train(**change).key != train().key
    assert train(**change).job != train().job


@pytest.mark.parametrize("change", [{"seed": 4}, {"constants": Method(target=FTFL)}], ids=str)
def test_target_and_seed_change_the_key_but_not_the_job(change: dict[str, Any]) -> None:
    assert train(**change).key != train().key
    assert train(**change).job == train().job


def test_a_fit_and_a_training_are_two_runs() -> None:
    assert fit().key != train().key
    assert fit(fit=FitBudget(heldout=4_999)).key != fit().key


def test_defaults_written_out_are_still_defaults() -> None:
    assert train(constants=Method(utd=20, sac=SacConfig(tau=0.005)), budget=Budget(eval_every=5_000)).key == train().key


def test_the_order_and_repetition_of_dropped_groups_do_not_matter() -> None:
    assert train(drop=("touch", "velocity", "touch")) == train(drop=("velocity", "touch"))


def test_json_holds_every_constant_and_comes_back_equal() -> None:
    spec = train(constants=Method(target=FTFL), drop=("touch",))
    data = json.loads(json.dumps(spec.to_json()))
    assert data["key"] == spec.key and data["constants"]["sac"]["tau"] == 0.005 and data["seed"] == 3
    assert RunSpec.from_json(data) == spec


@pytest.mark.parametrize(
    ("make", "change", "words"),
    [
        (train, {"budget": None}, "a 'train' run takes budget"),
        (train, {"fit": FitBudget()}, "a 'train' run takes budget"),
        (fit, {"budget": Budget()}, "a 'fit' run takes fit"),
        (fit, {"constants": Method(model=None)}, "method 'mbpo' has no model to fit"),
        (train, {"seed": -1}, "seed = -1"),
        (train, {"method": "My Method"}, "method = 'My Method'"),
        (train, {"sead": 1}, "did you mean 'seed'?"),
        (train, {"kind": "trian"}, "did you mean 'train'?"),
    ],
)
def test_impossible_runs_are_refused(make: Any, change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as error:
        build(RunSpec, {**make().model_dump(), **change})
    assert words in str(error.value)


def test_lockstep_groups_by_job_in_order_of_appearance() -> None:
    sac = [train(method="sac", constants=Method(model=None), seed=seed) for seed in range(2)]
    mbpo = [train(seed=seed) for seed in range(3)]
    ftfl = [train(method="ftfl", constants=Method(target=FTFL), seed=seed) for seed in range(2)]
    mixed = [mbpo[0], sac[0], mbpo[1], ftfl[0], mbpo[2], sac[1], ftfl[1], mbpo[0]]
    assert lockstep(mixed, most=10) == [[mbpo[0], mbpo[1], ftfl[0], mbpo[2], ftfl[1]], sac]
    assert lockstep(mixed, most=2) == [[mbpo[0], mbpo[1]], [ftfl[0], mbpo[2]], [ftfl[1]], sac]


def test_unique_keeps_the_first_of_equal_runs_and_the_order() -> None:
    one, same, other = train(method="norm-only"), train(method="mbpo"), train(seed=9)
    assert unique([one, other, same]) == [one, other]


def test_length_is_what_progress_counts() -> None:
    assert train(budget=Budget(env_steps=70)).length == 70
    assert fit(constants=Method(model=ModelConfig(updates=400))).length == 400
