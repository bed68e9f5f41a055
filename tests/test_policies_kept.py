"""Kept policies: they act as the trainer's did, on raw observations and in the environment's own bounds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import FTFL, drive, small
from toy_envs import LQR

from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from benchmark.running import ensure, policies
from mbpo import InputError, sac, tensorfile
from mbpo.checkpoint import of_run
from mbpo.config import Budget, Method, SacConfig
from mbpo.dynamics import GaussianEnsemble
from mbpo.envs.flat import make_env
from mbpo.envs.load import load
from mbpo.envs.native import native_of
from mbpo.loop import Run
from mbpo.models import Dynamics, load_dynamics
from mbpo.policies import Policy, find, load_policy
from mbpo.state import TrainState
from mbpo.streams import stream_seed

BUDGET = Budget(env_steps=60, eval_every=20, eval_episodes=2)


class Odd(gymnasium.Env):
    """A Dict of a matrix and a scalar, actions of shape (2, 1) in uneven bounds; the reward is the raw action's sum."""

    def __init__(self) -> None:
        box = spaces.Box(-5.0, 5.0, (2, 2), np.float64)
        self.observation_space = spaces.Dict({"matrix": box, "depth": spaces.Box(-5.0, 5.0, (), np.float64)})
        self.action_space = spaces.Box(np.array([[-1.0], [0.0]]), np.array([[3.0], [10.0]]), dtype=np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1.0, 1.0, 5)
        return self._seen(), {}

    def step(self, action):
        assert action.shape == (2, 1) and self.action_space.contains(action)
        self.state = 0.9 * self.state + 0.01 * float(action.sum())
        return self._seen(), float(action.sum()), False, False, {}

    def _seen(self):
        return {"matrix": self.state[:4].reshape(2, 2).copy(), "depth": np.float64(self.state[4])}


gymnasium.register("PolicyOdd-v0", Odd, max_episode_steps=5)
ODD = "gym:PolicyOdd-v0"


@pytest.fixture(scope="module")
def trained() -> tuple[TrainState, list]:
    """Two runs of one job, in float64, with a fitted model."""
    rows, state = drive(ODD, [Run(small(), 0), Run(small(FTFL), 1)], BUDGET)
    return state, rows


def test_raw_and_flat_are_two_names_of_one_observation() -> None:
    raw, flat, native = load(ODD), make_env(ODD), native_of(ODD)
    (seen, _), (row, _) = raw.reset(seed=3), flat.reset(seed=3)
    np.testing.assert_array_equal(native.flat(seen), row)
    np.testing.assert_array_equal(native.flat(row), row)
    for unit in np.random.default_rng(0).uniform(-1.0, 1.0, (4, 2)).astype(np.float32):
        action = native.action(unit)
        np.testing.assert_allclose(native.unit(action), unit, atol=1e-6)
        (seen, reward, *_), (row, other, *_) = raw.step(action), flat.step(unit)
        np.testing.assert_array_equal(native.flat(seen), row)
        assert reward == other
    assert native.from_json(json.loads(json.dumps(native.to_json()))) == native
    np.testing.assert_array_equal(native.action(np.array([[-1.0, 1.0], [1.0, -1.0]])), [[[-1], [10]], [[3], [0]]])


@pytest.mark.parametrize("task", ["dmc:hopper-hop", "gym:Hopper-v5"])
def test_dropped_groups_are_left_out_of_raw_observations(task: str) -> None:
    group = {"dmc:hopper-hop": "touch", "gym:Hopper-v5": None}[task]
    drop = (group,) if group else ()
    raw, flat, native = load(task), make_env(task, drop), native_of(task, drop)
    np.testing.assert_array_equal(native.flat(raw.reset(seed=1)[0]), flat.reset(seed=1)[0])
    assert native.time_limit == 1000


def test_a_saved_policy_acts_as_the_trainers_does(trained: tuple[TrainState, list], tmp_path: Path) -> None:
    state, rows = trained
    native = native_of(ODD)
    obs = np.random.default_rng(1).normal(size=(7, native.obs_dim)).astype(np.float32)
    both = sac.act(state.sac, torch.as_tensor(obs).double().expand(2, -1, -1), None).float().numpy()
    for run in range(2):
        policy = load_policy(Policy.of(state, run, label="mbpo").save(tmp_path / f"{run}.safetensors"))
        np.testing.assert_allclose(policy.act(obs), native.action(both[run]), rtol=1e-6)
        np.testing.assert_allclose(policy.act(obs[0]), native.action(both[run])[0], rtol=1e-6)
        assert policy.act(obs).shape == (7, 2, 1) and policy.act(obs[0]).dtype == np.float64
        origin = policy.origin
        assert (origin.seed, origin.env_steps, origin.label, origin.failure) == (run, 60, "mbpo", None)
        assert origin.mean_return == rows[-1].returns[run].mean()


def test_its_own_episodes_give_the_returns_of_the_last_evaluation(trained: tuple[TrainState, list]) -> None:
    state, rows = trained
    policy, env = Policy.of(state, 1), load(ODD)
    for episode, expected in enumerate(rows[-1].returns[1]):
        seed = stream_seed(state.runs[1].entropy, f"eval/60/{episode}") % 2**31
        obs, total, over = env.reset(seed=seed)[0], 0.0, False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(policy.act(obs))
            total, over = total + reward, terminated or truncated
        assert total == pytest.approx(expected, rel=1e-6)


def test_stochastic_actions_spread_as_the_policy_says_and_follow_the_seed(trained: tuple[TrainState, list]) -> None:
    policy = Policy.of(trained[0], 0)
    obs = np.zeros((4000, 5), np.float32)
    policy.seed(5)
    first = policy.act(obs, deterministic=False)
    policy.seed(5)
    np.testing.assert_array_equal(first, policy.act(obs, deterministic=False))
    mean, log_std = sac.policy(trained[0].sac, torch.zeros(2, 1, 5, dtype=torch.float64))
    before_tanh = np.arctanh(np.clip(policy.native.unit(first), -0.999999, 0.999999))
    np.testing.assert_allclose(np.median(before_tanh, 0), mean[0, 0].detach(), atol=0.1)
    quartiles = np.quantile(before_tanh, 0.75, 0) - np.quantile(before_tanh, 0.25, 0)
    np.testing.assert_allclose(quartiles, 1.349 * log_std[0, 0].exp().detach(), rtol=0.15)


def test_a_saved_model_samples_what_the_trainers_does(trained: tuple[TrainState, list], tmp_path: Path) -> None:
    state, _ = trained
    model = load_dynamics(Dynamics.of(state, 1).save(tmp_path / "m.safetensors"))
    rng = np.random.default_rng(2)
    obs, unit = rng.normal(size=(300, 5)).astype(np.float32), rng.uniform(-1, 1, (300, 2)).astype(np.float32)
    next_obs, reward = model.sample(obs, model.native.action(unit), noise=False)
    inputs = torch.as_tensor(np.concatenate([obs, unit], 1)).double()[None].expand(2, -1, -1)
    assert isinstance(state.dynamics, GaussianEnsemble)
    with torch.no_grad():
        decoded = torch.stack(
            [state.dynamics.map.decode(inputs[..., :5], state.dynamics(inputs)[0][:, e]) for e in range(3)]
        )[:, 1]
    elites = [decoded[int(e)].numpy() for e in state.dynamics.elites[1]]
    found = np.concatenate([next_obs, reward[:, None]], 1)
    nearest = np.min([np.abs(found - elite).max(1) for elite in elites], 0)
    assert nearest.max() < 1e-5 and next_obs.dtype == np.float32
    assert model.target == FTFL and np.shape(model.sample(obs[0], model.native.action(unit[0]))[1]) == ()
    spread = np.std([model.sample(obs[0], model.native.action(unit[0]))[1] for _ in range(40)])
    assert spread > 0


def _page_of_onnx(graph: Any) -> dict[str, Any]:
    return json.loads(next(entry.value for entry in graph.metadata_props if entry.key == "mbpo"))


def _run(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of an exported graph by name, by what reads it without this package, and its page."""
    if path.suffix == ".onnx":
        onnx = pytest.importorskip("onnx")
        graph = onnx.load(path)
        onnx.checker.check_model(graph)
        reference = pytest.importorskip("onnx.reference").ReferenceEvaluator(graph)
        assert reference.input_names == list(inputs)
        page, outs = _page_of_onnx(graph), reference.run(None, inputs)
    else:
        extra = {"mbpo.json": ""}
        module = torch.export.load(path, extra_files=extra).module()
        page, outs = (
            json.loads(extra["mbpo.json"]),
            [out.numpy() for out in module(*map(torch.as_tensor, inputs.values()))],
        )
    assert list(page["inputs"]) == list(inputs)
    return dict(zip(page["outputs"], outs, strict=True))


@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_an_exported_policy_acts_as_the_kept_one(trained: tuple[TrainState, list], tmp_path: Path, ending: str) -> None:
    if ending == ".onnx":
        pytest.importorskip("onnxscript")
    policy = Policy.of(trained[0], 0)
    path = policy.export(tmp_path / "deep" / f"policy{ending}")
    rng = np.random.default_rng(4)
    for rows in (1, 7):  # N is free, and one row is no special case
        obs = {"matrix": rng.normal(size=(rows, 2, 2)), "depth": rng.normal(size=(rows,))}
        obs = {name: obs[name].astype(np.float32) for name, _ in policy.native.parts}
        out = _run(path, obs)["action"]
        assert out.shape == (rows, 2, 1) and out.dtype == np.float64
        np.testing.assert_allclose(out, policy.act(obs), rtol=1e-5, atol=1e-6)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("ending", "head"), [(".pt2", "shared"), (".onnx", "separate"), (".onnx", "shared")])
def test_an_exported_model_predicts_as_the_kept_one(tmp_path: Path, ending: str, head: str) -> None:
    if ending == ".onnx":
        pytest.importorskip("onnxscript")
    _, state = drive(LQR, [Run(small(FTFL, model={"reward_head": head}), 4)], BUDGET)
    model = Dynamics.of(state, 0)
    rng = np.random.default_rng(5)
    inputs = {name: rng.normal(size=(6, n)).astype(np.float32) for name, n in (("obs", 2), ("action", 1))}
    out, expected = _run(model.export(tmp_path / f"model{ending}"), inputs), model.predict(**inputs)
    for name, values in expected._asdict().items():
        np.testing.assert_allclose(out[name], values, rtol=1e-4, atol=1e-5)
    sampled, reward = model.sample(**inputs, noise=False)
    both = np.concatenate([expected.next_obs, expected.reward[..., None]], -1)
    off = np.abs(both - np.concatenate([sampled, reward[:, None]], -1)).max(-1)  # (K, N)
    assert both.shape[0] == len(state.dynamics.elites[0]) and off.min(0).max() < 1e-5
    draws = np.stack([model.sample(inputs["obs"][:1], inputs["action"][:1])[1] for _ in range(400)])
    mixed = np.sqrt((expected.reward_std[:, 0] ** 2).mean() + expected.reward[:, 0].var())
    assert draws.std() == pytest.approx(mixed, rel=0.2)


def test_dropped_and_normalized_observations_are_exported_too(tmp_path: Path) -> None:
    """Columns that the learner does not read stay inputs, since the graph takes what the environment gives."""
    native = replace(native_of(LQR), obs_shape=(3,), columns=(0, 2))
    state = drive(LQR, [Run(small(sac={"obs_norm": "frozen"}), 0)], BUDGET)[1]
    policy = Policy.of(state, 0, native)
    obs = np.random.default_rng(6).normal(size=(5, 3)).astype(np.float32)
    out = _run(policy.export(tmp_path / "policy.pt2"), {"obs": obs})["action"]
    np.testing.assert_allclose(out, policy.act(obs), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_exported_is_one_sentence(
    trained: tuple[TrainState, list], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy.of(trained[0], 0)
    with pytest.raises(InputError, match=r"give a name that ends in \.onnx or \.pt2"):
        policy.export(tmp_path / "policy.pt")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs onnx and onnxscript: pip install onnx onnxscript, or give a \.pt2"):
        policy.export(tmp_path / "policy.onnx")


def test_a_snapshot_gives_its_model_to_who_knows_the_method(tmp_path: Path) -> None:
    method = small()
    _, state = drive(LQR, [Run(method, 4)], BUDGET, checkpoint=tmp_path, keep_last=True)
    folder = tmp_path / Run(method, 4).name
    model, other = load_dynamics(folder, method), Dynamics.of(state, 0)
    (a, b), (c, d) = model.sample(np.ones(2), np.zeros(1)), other.sample(np.ones(2), np.zeros(1))
    np.testing.assert_array_equal(a, c)
    assert b == d
    for given, message in ((None, "does not say its constants"), (small(FTFL), "other constants than the method")):
        with pytest.raises(InputError, match=message):
            load_dynamics(folder, given)


def spec(steps: int = 60) -> RunSpec:
    method = Method(model=None, utd=1, random_steps=10, sac=SacConfig(hidden_dims=(8,), batch_size=8))
    return RunSpec(
        kind="train",
        task=LQR,
        method="sac",
        seed=0,
        constants=method,
        budget=Budget(env_steps=steps, eval_every=10, eval_episodes=1),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    place = tmp_path_factory.mktemp("kept")
    store = Store(place / "results", place / "cache")
    ensure.ensure([spec()], store, device="cpu")
    return store


def test_training_keeps_the_last_policy_and_that_of_the_best_window(store: Store) -> None:
    folders = [store.cache / "policies"]
    final, best = (load_policy(spec().key[:8], which, folders) for which in ("final", "best"))
    curve = store.read(spec()).curve
    means = curve[curve["env_steps"] >= 10].set_index("env_steps")["episode_return"]  # updates begin at step 10
    assert (final.origin.env_steps, final.origin.label) == (60, "sac")
    assert final.origin.mean_return == pytest.approx(means.loc[60])
    windows = means.rolling(3, min_periods=1).mean()
    assert best.origin.env_steps == windows.idxmax()
    assert best.origin.window_mean == pytest.approx(windows.max())
    files = sorted((store.cache / "policies" / spec().key).iterdir())
    assert [file.name for file in files] == ["best.safetensors", "final.safetensors"]
    assert max(file.stat().st_size for file in files) < 4_000
    assert sorted(path.name for path in store.runs.rglob(f"{spec().key}/*")) == [
        *("curve.csv", "diagnostics.csv", "provenance.json", "spec.json"),
    ]


def test_policies_are_placed_in_the_results_when_asked(store: Store) -> None:
    copied, lacking = policies.publish([spec(), spec(70)], store)
    assert lacking == [spec(70)] and [path.parent.name for path in copied] == [spec().key] * 2
    assert policies.has(store.results, spec()) and not policies.has(store.results, spec(70))
    assert find(spec().key, "best", [store.results / "policies"]) in copied


def test_a_folder_that_cannot_be_written_stops_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "policies").write_text("a file")
    keep = policies.keeper([spec()], tmp_path)
    rows, _ = drive(LQR, [Run(spec().constants, 0)], BUDGET, keep=keep)
    assert rows[-1].env_steps == 60 and caplog.text.count("policies are not kept") == 1


def test_what_cannot_be_loaded_is_said(
    store: Store, trained: tuple[TrainState, list], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [store.cache / "policies"]
    policy = Policy.of(trained[0], 0)
    whole = policy.save(tmp_path / "whole.safetensors")
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(whole.read_bytes()[:-9])
    found, page = tensorfile.read(whole, "policy")
    tensorfile.write(tmp_path / "narrow.safetensors", "policy", {**found, "biases.0": found["biases.0"][:-1]}, page)
    with monkeypatch.context() as later:
        later.setattr(tensorfile, "VERSION", 9)
        policy.save(tmp_path / "newer.safetensors")
    cases = {
        "0" * 16: "is neither a file nor the key of a run whose policy is kept",
        str(torn): "is not a whole .safetensors file",
        str(tmp_path / "narrow.safetensors"): "does not fit what its own page says at biases.0",
        str(tmp_path / "newer.safetensors"): "written by a newer version",
        str(Dynamics.of(trained[0], 0).save(tmp_path / "model.safetensors")): "holds dynamics, not a policy",
        str(tmp_path): "has no 'final' policy; there is model, narrow, newer, torn, whole",
    }
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            load_policy(name, folders=folders)
    for obs, message in ((np.zeros(4), "does not fit"), ({"matrix": np.zeros((2, 2))}, "'depth' of .* is missing")):
        with pytest.raises(InputError, match=message):
            policy.act(obs)


def test_a_policy_that_diverged_gives_no_action(trained: tuple[TrainState, list]) -> None:
    policy = Policy.of(trained[0], 0)
    with torch.no_grad():
        policy._sac.actor.weights[0].fill_(torch.nan)
    with pytest.raises(InputError, match="gives no finite action"):
        policy.act(np.zeros(5))


def test_the_state_of_one_run_is_all_that_a_policy_takes(trained: tuple[TrainState, list]) -> None:
    state, _ = trained
    mine = of_run(state.sac.state(), 1, 2)["actor"]
    for kept, theirs in zip(Policy.of(state, 1)._sac.actor.parameters, mine, strict=True):
        assert torch.equal(kept, theirs) and kept.data_ptr() != theirs.data_ptr()
