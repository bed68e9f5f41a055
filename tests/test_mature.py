"""Protocol mature: the paper's own runs under its keys, refits along a growing replay, and refused replays."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from synthetic import write_fit, write_train

from benchmark.judging.replayed import final_return
from benchmark.judging.verdicts import judge_claim
from benchmark.records import frames
from benchmark.records.frames import scalar_rows
from benchmark.records.spec import FitBudget, RunSpec
from benchmark.records.store import Store
from benchmark.report import mature
from benchmark.report.queue import queue
from benchmark.running import ensure, replays
from benchmark.running.cost import CPU
from benchmark.running.fit import data_set, task_layout
from benchmark.suite.entries import FitPlan, Protocol, ReplayPlan, TrajectoryPlan
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite, specs
from benchmark.suite.needs import runs, served
from mbpo import diagnostics, fitting
from mbpo.config import InputError
from mbpo.dynamics import GaussianEnsemble
from mbpo.state import Run
from mbpo.streams import Streams

TASK, SEVEN = "gym:Pendulum-v1", load_ledger().claim("reward-collapse").tasks
MODEL = {
    "model.hidden_dims": [8],
    "model.weight_decay": [0.0, 0.0],
    "model.ensemble_size": 2,
    "model.num_elites": 1,
    "model.updates": 4,
    "model.batch_size": 8,
}
AGENT = {"sac.hidden_dims": [8], "sac.batch_size": 8, "random_steps": 20, "real_capacity": 1000}


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return load_suite().protocol("mature")


@pytest.fixture(scope="module")
def tiny(protocol: Protocol) -> Protocol:
    """The protocol with tiny networks, a short life and two refits."""
    looks = {"env_steps": 420, "eval_every": 210, "eval_episodes": 1}
    replay = ReplayPlan(
        method="sac", step=420, more_steps=(410,), transitions=150, heldout=50, overrides=AGENT, **looks
    )
    return protocol.model_copy(
        update={
            "fit": FitPlan(transitions=60, heldout=40, overrides=MODEL),
            "replay": replay,
            "trajectory": TrajectoryPlan(refits=2, transitions=160, heldout=60),
        }
    )


# Whose runs these are


def test_random_fits_and_agents_are_those_of_the_paper_protocol(protocol: Protocol) -> None:
    paper = load_suite().protocol("paper")
    wanted = [spec for claim in load_ledger().claims for spec in runs(claim, protocol)]
    agents = {run.key for spec in wanted if (run := spec.source_run)}
    assert agents <= {spec.key for spec in specs("train", SEVEN, ["sac"], paper)} and len(agents) == 7 * protocol.seeds
    on_random = {spec.key for spec in wanted if spec.fit is not None and spec.fit.source == "random"}
    tasks = list(dict.fromkeys(spec.task for spec in wanted))
    arms = ["mbpo", "norm-only", "direct-only", "ftfl", "fitted"]
    assert on_random <= {spec.key for spec in specs("fit", tasks, arms, paper)}
    assert {spec.method for spec in wanted} == set(arms)
    model = wanted[0].constants.model
    assert model is not None and (model.ensemble_size, model.updates) == (7, 5000)
    assert {spec.fit.source_name for spec in wanted if spec.fit} == {
        *("random", "sac replay at 100,000", "sac replay at 300,000", "sac replay at 500,000"),
        "sac replay at 500,000, 20 refits",
    }


def test_a_claim_that_is_like_another_takes_over_all_it_does_not_say() -> None:
    base, again = (load_ledger().claim(name) for name in ("reward-collapse", "mature-reward-collapse"))
    assert again.like == base.id and again.form == base.form  # the same statement, judged elsewhere
    fields = ("statement", "arm", "against", "criterion", "estimand", "source", "tasks")
    assert all(getattr(again, name) == getattr(base, name) for name in fields)
    assert again.protocols == ("mature",) and base.protocols == ("quick", "reduced", "paper")
    other = load_ledger().claim("mature-reward-collapse-100k")
    assert (other.data, other.step) == ("replay", 100_000) and other.form != base.form


def test_runs_carry_the_claims_on_their_own_data_alone(protocol: Protocol) -> None:
    def named(claim: str) -> set[str]:
        return {name for name in served(runs(load_ledger().claim(claim), protocol)[0]) if "reward-collapse" in name}

    assert named("mature-reward-collapse") >= {"reward-collapse", "mature-reward-collapse"}
    assert named("mature-reward-collapse-replay") == {"mature-reward-collapse-replay"}
    assert named("mature-reward-collapse-100k") == {"mature-reward-collapse-100k"}
    assert "mature-reward-trajectory" in served(runs(load_ledger().claim("mature-reward-trajectory"), protocol)[0])


def test_defaults_keep_the_keys_of_old_fits() -> None:
    assert FitBudget().model_dump(exclude_defaults=True) == {}
    with pytest.raises(ValueError, match="refits = 20: the first has 1 rows"):
        FitBudget(transitions=20, heldout=400, refits=20)
    with pytest.raises(InputError, match="cuts replays off at 500000, 100000, 300000, not at 7"):
        specs("fit", ["dmc:hopper-hop"], ["mbpo"], "mature", source="replay", step=7)
    with pytest.raises(InputError, match="has no `trajectory` plan"):
        specs("fit", ["dmc:hopper-hop"], ["mbpo"], "replay", source="trajectory")


def test_the_worker_takes_random_data_first_and_says_what_has_to_be_trained_before(
    protocol: Protocol, tmp_path: Path
) -> None:
    batches = queue(protocol, Store(tmp_path / "results", tmp_path / "cache"), CPU)
    kinds = ["random" if not batch.agents else "replay" for batch in batches]
    assert kinds == sorted(kinds) and {"random", "replay"} == set(kinds)
    labels = {batch.label: batch for batch in batches}
    grown = labels["fit ftfl on dmc:quadruped-walk, sac replay at 500,000, 20 refits"]
    whole = labels["fit ftfl on dmc:quadruped-walk, sac replay at 500,000"]
    assert grown.hours == pytest.approx(20 * whole.hours, rel=0.05)
    assert {run.method for run in grown.agents} == {"sac"} and len(grown.agents) == protocol.seeds


# End to end


@pytest.fixture(scope="module")
def fitted(tiny: Protocol, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, RunSpec]]:
    """One arm on each kind of data, of one seed."""
    place = tmp_path_factory.mktemp("mature")
    store = Store(place / "results", place / "cache")
    plans = {"random": {}, "replay": {}, "trajectory": {}, "early": {"source": "replay", "step": 410}}
    wanted = {
        name: specs("fit", [TASK], ["ftfl"], tiny, 1, **{"source": name, **more})[0]  # type: ignore[arg-type]
        for name, more in plans.items()
    }
    assert ensure.ensure([wanted["random"]], store, device="cpu") == []
    assert not (store.cache / "replays").exists()  # random data alone need no agent
    assert ensure.ensure(wanted.values(), store, device="cpu") == []
    return store, wanted


def test_every_kind_of_data_is_fitted_and_logs_the_error_in_spreads_of_all_rewards(
    fitted: tuple[Store, dict[str, RunSpec]],
) -> None:
    store, wanted = fitted
    for name, spec in wanted.items():
        record = store.read(spec)
        error = scalar_rows(record, "reward_error_over_replay")
        assert error["value"].gt(0).all() and len(error) == (2 if name == "trajectory" else 4)
        assert error["step"].tolist() == ([4, 8] if name == "trajectory" else [1, 2, 3, 4])
    assert wanted["trajectory"].length == 8


def test_traces_hold_measures_that_are_functions_of_stored_ones() -> None:
    """At each step sqrt(1 - R2) times the spread of the held-out rewards over that of all."""
    sources = {
        "reward_r2": (0.75, 0.0),
        "reward_true_std": (2.0, 3.0),
        "real_reward_std": (4.0, 6.0),
        "q_mean": (1.0, 2.0),
    }
    rows = [(step, name, -1, values[k]) for name, values in sources.items() for k, step in enumerate((5, 10))]
    table = pd.DataFrame(rows, columns=["step", "measure", "dim", "value"])
    record: Any = SimpleNamespace(spec=SimpleNamespace(task=TASK, arm="ftfl", seed=3), diagnostics=table)
    along = frames.traces([record], ["q_mean", "reward_error_over_replay"])
    assert along["measure"].tolist() == ["q_mean"] * 2 + ["reward_error_over_replay"] * 2
    assert along["step"].tolist() == [5, 10, 5, 10] and along["value"].tolist() == [1.0, 2.0, 0.25, 0.5]


def test_a_trajectory_goes_on_from_fit_to_fit_on_rows_lived_so_far(fitted: tuple[Store, dict[str, RunSpec]]) -> None:
    """Against the same two fits made by hand."""
    store, wanted = fitted
    spec = wanted["trajectory"]
    layout, model = task_layout(spec), spec.constants.model
    assert model is not None and spec.source_run is not None
    train, held = (torch.as_tensor(rows)[None] for rows in data_set(spec, layout, store.cache))
    streams = Streams([Run(spec.constants, spec.seed).entropy], torch.device("cpu"), torch.float32)
    ensemble, split = GaussianEnsemble(model, [spec.constants.target], layout, streams), None
    lived = np.load(replays.folder(store.cache, spec.source_run) / "rows.npy")
    for part, step in ((1, 4), (2, 8)):
        seen, judged = train[:, : 80 * part], held[:, : 30 * part]
        split = fitting.fit(ensemble, seen, streams, previous=split)
        found = diagnostics.model_report(ensemble, judged)
        for name in ("reward_r2", "logvar_target", "logvar_raw"):
            rows = scalar_rows(store.read(spec), name)
            value = rows.loc[rows["step"] == step, "value"].item()
            assert value == pytest.approx(float(found[name]), rel=1e-4, abs=1e-5)
    order = [int(np.flatnonzero((lived == row).all(1))[0]) for row in train[0, ::20].numpy()]
    assert order == sorted(order)


def test_the_reward_error_by_hand() -> None:
    truth, mean = torch.zeros(1, 1, 4, 2), torch.zeros(1, 2, 4, 2)
    mean[..., -1] = torch.tensor([1.0, -1.0])[:, None]
    flat = torch.zeros(1, 1, 1, 2)
    p = diagnostics.Prediction(mean, mean, flat, flat, flat, torch.zeros(1, 1, 4, 1), truth)
    found = diagnostics.reward_error(p, torch.tensor([4.0]).double())
    assert float(found["reward_error_over_replay"]) == 0.25  # held-out rewards are all the same: R2 would be NaN
    assert math.isnan(float(diagnostics.reward_error(p, torch.zeros(1).double())["reward_error_over_replay"]))


def test_a_trajectory_is_drawn_over_the_env_steps_of_its_agent(
    fitted: tuple[Store, dict[str, RunSpec]], tmp_path: Path
) -> None:
    store, wanted = fitted
    along = mature.trajectories(store, list(wanted.values()))
    assert set(along["step"]) == {210.0, 420.0}  # two refits along a life of 420 steps
    for width, columns in ((8.6, 3), (3.9, 1)):
        figure = mature.draw(along, width)
        assert (
            len(figure.axes) == len(mature.TRAJECTORY)
            and len({axis.get_position().x0 for axis in figure.axes}) == columns
        )
        for axis, measure in zip(figure.axes, mature.TRAJECTORY, strict=True):
            seed = along[along["measure"] == measure]
            assert list(axis.lines[0].get_ydata()) == seed["value"].tolist()
    table = mature.medians(store, list(wanted.values()))
    assert table["data"].tolist() == [spec.fit.source_name for spec in wanted.values() if spec.fit]
    assert table["reward_error_over_replay"].gt(0).all()


# Verdicts


def write(store: Store, protocol: Protocol, returned: float, measures: dict[str, float]) -> None:
    claim, task = load_ledger().claim("mature-reward-collapse-replay"), "dmc:humanoid-stand"
    for spec in runs(claim, protocol, [task]):
        agent = spec.source_run
        assert agent is not None
        if not store.has(agent):
            write_train(store, agent, [1.0] * 8 + [returned + 0.1 * spec.seed] * 3)
        lift = 0.6 if spec.method == "norm-only" else 0.0
        write_fit(store, spec, {name: value + lift + 0.01 * spec.seed for name, value in measures.items()})


@pytest.mark.parametrize(("returned", "verdict"), [(220.0, "reproduced"), (4.3, "incomplete")])
def test_the_replay_of_an_agent_that_did_not_learn_is_refused(
    tmp_path: Path, protocol: Protocol, returned: float, verdict: str
) -> None:
    store = Store(tmp_path / "results", tmp_path / "cache")
    write(store, protocol, returned, {"reward_r2": 0.1})
    claim = load_ledger().claim("mature-reward-collapse-replay")
    row = next(row for row in judge_claim(claim, store, protocol) if row.task == "dmc:humanoid-stand")
    assert row.outcome.verdict == verdict
    refused = "the sac whose replays these are returns 4.5 by 500,000 steps: its mean 4.5 is not clearly above"
    assert (refused in row.outcome.reason) == (verdict == "incomplete")
    agents = mature.replays(store)
    assert agents["steps"].tolist() == [100_000, 300_000, 500_000]
    assert (agents["learned"].iloc[-1] == "yes") == (verdict == "reproduced")


def test_fits_from_before_the_measure_leave_a_claim_on_it_incomplete(tmp_path: Path, protocol: Protocol) -> None:
    store = Store(tmp_path / "results", tmp_path / "cache")
    claim = load_ledger().claim("mature-reward-error")
    for spec in runs(claim, protocol, ["dmc:humanoid-stand"]):
        write_fit(store, spec, {"reward_r2": 0.1 * spec.seed})
    row = next(row for row in judge_claim(claim, store, protocol) if row.task == "dmc:humanoid-stand")
    assert row.outcome.verdict == "incomplete"
    assert "reward_error_over_replay" in row.outcome.reason


def test_the_return_behind_a_replay_is_read_where_the_replay_ends(tmp_path: Path, protocol: Protocol) -> None:
    store = Store(tmp_path / "results", tmp_path / "cache")
    spec = specs("train", ["dmc:hopper-hop"], ["sac"], "paper", 1)[0]
    write_train(store, spec, [10.0 * i for i in range(11)])
    assert final_return(store.read(spec), 500_000) == pytest.approx(90.0)  # evaluations at 400, 450 and 500 thousand
    assert final_return(store.read(spec), 100_000) == pytest.approx(20.0)
