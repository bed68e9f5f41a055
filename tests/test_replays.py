"""Replays are kept, split by episode, made again from their keys, and handed to fits with their policy."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.records.spec import FitBudget, ProbeBudget, Replay, RunSpec
from benchmark.records.store import Store
from benchmark.running import ensure, replays
from mbpo.buffer import Layout
from mbpo.config import Budget, InputError, Method, ModelConfig, SacConfig, Target
from mbpo.fast.engine import engine
from mbpo.sac import Sac
from mbpo.streams import Streams

TASK = "gym:Pendulum-v1"
SAC = Method(model=None, utd=1, random_steps=20, real_capacity=1000, sac=SacConfig(hidden_dims=(8,), batch_size=8))
MODEL = ModelConfig(hidden_dims=(8,), weight_decay=(0.0, 0.0), ensemble_size=2, num_elites=1, updates=3, batch_size=8)


def fit(seed: int, predict: str = "delta", step: int = 420, version: int = 2) -> RunSpec:
    budget = Budget(env_steps=420, eval_every=210, eval_episodes=1)
    source = Replay(method="sac", constants=SAC, budget=budget, step=step, numerics_version=version)
    return RunSpec(
        kind="fit",
        task=TASK,
        method="mbpo",
        seed=seed,
        constants=Method(sac=SAC.sac, model=MODEL, target=Target(predict=predict)),
        fit=FitBudget(transitions=150, heldout=50, source=source),
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Store:
    place = tmp_path_factory.mktemp("replays")
    store = Store(place / "results", place / "cache")
    assert ensure.ensure([fit(0), fit(1), fit(0, "next_obs")], store, device="cpu") == []
    return store


def test_the_run_that_collects_is_trained_stored_and_kept(stored: Store) -> None:
    for seed in (0, 1):
        run = fit(seed).source_run
        assert run is not None and stored.has(run) and replays.has(stored.cache, run)
        rows = np.load(replays.folder(stored.cache, run) / "rows.npy")
        assert rows.shape == (420, Layout(3, 1).width)
        policies = sorted(path.name for path in replays.folder(stored.cache, run).glob("policy-*"))
        assert policies == ["policy-0.pt", "policy-210.pt", "policy-420.pt"]


def test_replay_is_remade_from_its_key_and_its_record_left_alone(stored: Store, tmp_path: Path) -> None:
    run = fit(1).source_run
    assert run is not None
    before = (stored.read(run).provenance, np.load(replays.folder(stored.cache, run) / "rows.npy"))
    elsewhere = Store(stored.results, tmp_path / "cache")
    longer = fit(1).model_copy(
        update={"constants": fit(1).constants.model_copy(update={"target": Target(normalize="obs")})}
    )
    assert ensure.ensure([longer], elsewhere, device="cpu") == []
    after = (elsewhere.read(run).provenance, np.load(replays.folder(elsewhere.cache, run) / "rows.npy"))
    assert before[0] == after[0]  # not overwritten
    # Alone or in company: to rounding, for an element's may depend on whether it ends a vector.
    np.testing.assert_allclose(before[1], after[1], rtol=1e-4, atol=1e-5)


def test_a_replay_of_an_older_version_is_used_but_not_collected(stored: Store, tmp_path: Path) -> None:
    old, new = fit(5, version=1), fit(0).source_run
    run = old.source_run
    assert run is not None and new is not None
    store = Store(tmp_path / "results", tmp_path / "cache")
    with pytest.raises(InputError, match=r"train sac on .* is a 'train' run of numerics version 1 and this code makes"):
        ensure.ensure([old], store, device="cpu")
    assert not store.results.exists()
    replays.folder(store.cache, run).mkdir(parents=True)
    for path in replays.folder(stored.cache, new).iterdir():
        (replays.folder(store.cache, run) / path.name).write_bytes(path.read_bytes())
    assert ensure.ensure([old], store, device="cpu") == [] and store.has(old) and not store.has(run)


def test_training_and_held_out_rows_come_from_different_episodes(stored: Store) -> None:
    train, held = replays.transitions(stored.cache, fit(0), Layout(3, 1))
    assert train.shape == (150, 9) and held.shape == (50, 9)
    run = fit(0).source_run
    assert run is not None
    rows = np.load(replays.folder(stored.cache, run) / "rows.npy")
    episode = {row.tobytes(): i // 200 for i, row in enumerate(rows)}  # Pendulum's episodes last 200 steps
    assert {episode[row.tobytes()] for row in train}.isdisjoint({episode[row.tobytes()] for row in held})


def chain(lengths: list[int]) -> np.ndarray:
    """Packed rows (one obs, one action) of episodes that count upwards from 100 times their index."""
    rows = [
        [100.0 * i + t, 0.0, 100.0 * i + t + 1, 0.0, 1.0] for i, length in enumerate(lengths) for t in range(length)
    ]
    return np.array(rows, np.float32)


@pytest.mark.parametrize(
    ("lengths", "n", "episodes"),
    [([10] * 9, 10, {4}), ([10] * 9, 11, {3, 5}), ([5, 30, 5], 20, {1}), ([30, 5, 30], 20, {1, 0, 2})],
)
def test_held_out_episodes_by_hand(lengths: list[int], n: int, episodes: set[int]) -> None:
    rows = chain(lengths)
    held = replays.held_out(rows, Layout(1, 1), n)
    assert set((rows[held, 0] // 100).astype(int)) == episodes
    assert held.sum() == sum(lengths[i] for i in episodes)


def test_too_few_rows_are_named(stored: Store) -> None:
    greedy = fit(0).model_copy(update={"fit": fit(0).fit.model_copy(update={"transitions": 300})})
    with pytest.raises(InputError, match=r"transitions = 300: 2\d\d of the 420 rows of the sac replay remain"):
        replays.transitions(stored.cache, greedy, Layout(3, 1))
    with pytest.raises(InputError, match="heldout = 50: the replay has 9 rows in 1 episodes"):
        replays.held_out(chain([9]), Layout(1, 1), 50)


def test_the_kept_learner_comes_back_run_by_run(stored: Store) -> None:
    place = engine("cpu", "fp32")
    specs = [fit(1), fit(0)]
    sac = Sac(SAC.sac, Layout(3, 1), Streams(["a", "b"], place.device, place.dtype))
    replays.load_policy(stored.cache, specs, sac)
    for r, spec in enumerate(specs):
        run = spec.source_run
        assert run is not None
        saved = torch.load(replays.folder(stored.cache, run) / "policy-420.pt", weights_only=True)["sac"]
        torch.testing.assert_close(sac.actor.weights[0][r : r + 1], saved["actor"][0], rtol=0, atol=0)
        torch.testing.assert_close(sac.critic_adam.second[0][r : r + 1], saved["adam"][1]["second"][0], rtol=0, atol=0)
    assert not torch.equal(sac.actor.weights[0][0], sac.actor.weights[0][1])
    with pytest.raises(InputError, match=r"step = 300: no policy was kept then; there are \[0, 210, 420\]"):
        replays.load_policy(stored.cache, [fit(0, step=300), fit(1)], sac)


def test_source_decides_the_key_and_is_checked() -> None:
    assert len({fit(0).key, fit(0, step=210).key, fit(1).key}) == 3
    assert fit(0).job == fit(1).job
    with pytest.raises(ValueError, match="the run has 420 env steps"):
        fit(0, step=421)
    with pytest.raises(ValueError, match=r"transitions \+ heldout = 200: the replay has 199 rows"):
        fit(0, step=199)
    probe = {**fit(0).model_dump(), "kind": "probe", "probe": ProbeBudget()}
    assert RunSpec(**probe).source_run == fit(0).source_run
    with pytest.raises(ValueError, match="must be a replay"):
        RunSpec(**{**probe, "fit": FitBudget()})
