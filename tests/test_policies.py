"""Diagnosing by the replay of a trained run: which runs are meant, and whose rows are looked at."""

import numpy as np
import pytest

from benchmark.diagnosis import diagnose as doctor
from benchmark.diagnosis.policies import runs_of
from benchmark.diagnosis.samples import check_length, lived
from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from benchmark.running import ensure, replays
from benchmark.suite.load import specs
from mbpo.config import Budget, InputError, Method, SacConfig

TASK = "gym:Pendulum-v1"
SMALL = {"ensemble_size": 2, "num_elites": 1, "hidden_dims": (8,), "weight_decay": (0, 0), "updates": 4}


def trained(seed: int, steps: int = 1200) -> RunSpec:
    return RunSpec(
        kind="train",
        task=TASK,
        method="sac",
        seed=seed,
        constants=Method(
            model=None,
            utd=1,
            random_steps=steps - 5,
            real_capacity=steps,
            sac=SacConfig(hidden_dims=(8,), batch_size=8),
        ),
        budget=Budget(env_steps=steps, eval_every=steps, eval_episodes=1),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = tmp_path_factory.mktemp("policies")
    store = Store(place / "results", place / "cache")
    ensure.ensure([trained(2)], store, device="cpu")  # a record, but no replay
    ensure.keep_replays([trained(0), trained(1)], store, device="cpu")
    return store


def test_a_key_names_its_run_and_the_kept_ones_that_differ_in_seed(store):
    key = trained(1).key
    assert runs_of(key[:6], TASK, (), store, 3) == [trained(1), trained(0)]
    assert runs_of(key, TASK, (), store, 1) == [trained(1)]
    assert runs_of(trained(2).key, TASK, (), store, 9)[0] == trained(2)


@pytest.mark.parametrize(
    ("key", "task", "message"),
    [
        ("randm", TASK, "--policy 'randm' is neither 'random' nor 6 or more digits .* did you mean 'random'"),
        ("0" * 16, TASK, "is neither .* runs with a record: .*sac on gym:Pendulum-v1 seed"),
        (trained(0).key, "dmc:hopper-hop", "is train sac on gym:Pendulum-v1 seed 0, not of 'dmc:hopper-hop'"),
        (trained(0).key[:3], TASK, "6 or more digits"),
    ],
)
def test_a_policy_that_is_none_is_told(store, key, task, message):
    with pytest.raises(InputError, match=message):
        runs_of(key, task, (), store, 3)


def test_rows_are_those_that_the_runs_lived(store):
    sample = lived([trained(0), trained(1)], 600, store.cache)
    assert sample.train.shape == (2, 400, 9) and sample.held.shape == (2, 200, 9)
    assert sample.policy == "sac replay of 1,200 steps"
    for seed in (0, 1):
        rows = np.load(replays.folder(store.cache, trained(seed)) / "rows.npy")
        known = {row.tobytes() for row in rows}
        assert {row.tobytes() for row in [*sample.train[seed], *sample.held[seed]]} <= known


def test_a_diagnosis_says_whose_rows_it_saw(store):
    found = doctor.diagnose(lived([trained(0)], 600, store.cache), device="cpu", model=SMALL).findings
    assert found["geometry"]["policy"] == "sac replay of 1,200 steps"
    assert (found["geometry"]["seeds"], found["geometry"]["heldout_rows"]) == (1, 200)
    assert found["recommendation"]["arm"]


@pytest.mark.parametrize(
    ("steps", "message"),
    [(299, "--steps 299: too few"), (1201, "lived 1200 steps, 300 to 1200 can be used .*; give --steps 1200")],
)
def test_more_steps_than_lived_are_refused(store, steps, message):
    with pytest.raises(InputError, match=message):
        lived([trained(0)], steps, store.cache)


def test_a_run_too_short_for_any_diagnosis_is_refused_before_it_is_trained_again():
    (short,) = specs("train", ["gym:Pendulum-v1"], ["sac"], "smoke", 1)
    with pytest.raises(InputError, match=r"lived 60 steps, too few .* diagnose one of at least 300"):
        check_length(short)
