"""Probes against known answers: exact models change nothing, and a planted reward collapse shows with its own size.

The fixed policy is an untrained one, the task a linear system, the models are oracles; at a share p of synthetic rows
whose reward is multiplied by c, the reward that a critic regresses is multiplied by 1 - p (1 - c), and so is the reward
part of its value.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_replays import MODEL, SAC, fit
from torch import Tensor
from toy_envs import LQR, Lqr

from benchmark.records.spec import ProbeBudget, RunSpec
from benchmark.records.store import COLUMNS, Store
from benchmark.running import ensure, replays
from benchmark.running.bench import Bench, batch, evaluators, imagine, learners, settle, traces
from benchmark.running.job import Result
from benchmark.running.probe import probe
from mbpo.buffer import Layout
from mbpo.config import Method, SacConfig, Target
from mbpo.envs.terminations import never
from mbpo.fast.engine import engine
from mbpo.sac import Sac, act, q_values, td_target
from mbpo.streams import Streams

LAYOUT = Layout(2, 1)
# The head: untrained policies of these seeds are mild enough to stay among the states that the bench has.
CONSTANTS = SacConfig(
    **{"hidden_dims": (32, 32), "learning_rate": 5e-3, "batch_size": 64, "discount": 0.7, "tau": 0.05},
    **{"init_temperature": 0.02, "log_std_head": "joint"},
)
PLACE = engine("cpu", "fp64")
BUDGET = ProbeBudget(
    shares=(0, 50, 100),
    critic_tau=0.05,
    critic_updates=800,
    policy_updates=0,
    synthetic=500,
    branch_every=100,
    look_every=100,
    bias_episodes=10,
    eval_episodes=2,
)


def oracle(*reward_scales: float) -> Any:
    """The exact model of the task for runs whose reward it multiplies."""
    a, b, q = (torch.tensor(x, dtype=PLACE.dtype) for x in (Lqr.A, Lqr.B, Lqr.Q))
    scales = torch.tensor(reward_scales, dtype=PLACE.dtype)[:, None, None]

    def sample(obs: Tensor, action: Tensor, member: Tensor, noise: Tensor) -> Tensor:
        cost = (obs.square() * q).sum(-1, keepdim=True) + Lqr.R * action.square()
        return torch.cat([obs @ a.T + action * b, -scales * cost], -1)

    return sample


def bench(seeds: tuple[int, ...] = (0,), scales: tuple[float, ...] = (1.0,), **changes: Any) -> Bench:
    """Untrained policies, one a seed, on 2,000 states around the origin and actions that the policy takes there."""
    streams = Streams([f"policy/{seed}" for seed in seeds], PLACE.device, PLACE.dtype)
    sac = Sac(CONSTANTS, LAYOUT, streams)
    obs = 4.0 * streams.uniform("obs", 2_000, 2) - 2.0
    action = act(sac, obs, streams.normal("act", 2_000, 1))
    raw = oracle(*[1.0] * len(seeds))(obs, action, None, None)
    real = LAYOUT.pack(obs, action, raw[..., :2], raw[..., 2], torch.ones_like(raw[..., 2]))
    budget = ProbeBudget(**{**BUDGET.model_dump(), **changes})
    return Bench(LQR, (), seeds, budget, sac, oracle(*scales), real, never, PLACE)


def value(result: Result, measure: str, dim: int = -1) -> float:
    """The last value of a measure."""
    rows = result.diagnostics.query("measure == @measure and dim == @dim")
    return float(rows["value"].iloc[-1])


@pytest.fixture(scope="module")
def collapsed() -> list[Result]:
    """Runs of one seed whose models give the true reward, and half of it."""
    return probe(bench((3, 3), (1.0, 0.5)))


def test_a_planted_reward_collapse_shows_with_its_size(collapsed: list[Result]) -> None:
    for result, scale in zip(collapsed, (1.0, 0.5), strict=True):
        part = value(result, "mc_reward_part")
        assert part < -0.5
        for name in ("critic_bias",):
            late = result.diagnostics.query("measure == @name and step > 500")
            bias = late.groupby("dim")["value"].mean() / -part
            # The lesser of two noisy critics, and as few episodes as a test can afford, leave some of it.
            assert bias[0] == pytest.approx(0.0, abs=0.1)
            for share in (50, 100):
                assert bias[share] - bias[0] == pytest.approx(share / 100 * (1 - scale), abs=0.05), (name, scale, share)
        assert value(result, "bias_shift") == value(result, "critic_bias", 100) - value(result, "critic_bias", 0)


def test_without_synthetic_rows_all_arms_are_the_same_to_the_bit(collapsed: list[Result]) -> None:
    first, *others = (r.diagnostics.query("dim == 0").reset_index(drop=True) for r in collapsed)
    for other in others:
        pd.testing.assert_frame_equal(first, other, check_exact=True)
    assert value(collapsed[0], "critic_q", 100) != value(collapsed[1], "critic_q", 100)


def test_a_run_depends_neither_on_its_companions_nor_on_the_other_shares() -> None:
    short: dict[str, Any] = {"critic_updates": 7, "policy_updates": 5, "branch_every": 3, "look_every": 4}
    both = probe(bench((3, 5), (1.0, 0.5), **short))
    alone = probe(bench((5,), (0.5,), **short))[0]
    single = probe(bench((5,), (0.5,), **short, shares=(50,)))[0]
    assert_same(both[1], alone)
    mine = both[1].diagnostics
    pd.testing.assert_frame_equal(
        mine[(mine["dim"] == 50)].reset_index(drop=True),
        single.diagnostics.query("dim == 50").reset_index(drop=True),
        rtol=1e-9,
    )
    expected = both[1].curve.query("share == 50").reset_index(drop=True)
    pd.testing.assert_frame_equal(expected, single.curve, rtol=1e-9)
    assert value(both[0], "critic_q", 0) != value(both[1], "critic_q", 0)


def assert_same(one: Result, other: Result) -> None:
    pd.testing.assert_frame_equal(one.curve, other.curve, rtol=1e-9)
    pd.testing.assert_frame_equal(one.diagnostics, other.diagnostics, rtol=1e-9)


def test_what_is_probed_stays_as_it_was() -> None:
    given = bench(critic_updates=3, policy_updates=3)
    before = [p.detach().clone() for p in (*given.sac.actor.parameters, *given.sac.critic.parameters)]
    probe(given)
    for old, new in zip(before, (*given.sac.actor.parameters, *given.sac.critic.parameters), strict=True):
        torch.testing.assert_close(old, new.detach(), rtol=0, atol=0)


@pytest.mark.parametrize("soft", [True, False])
def test_settling_finds_the_level_at_once(soft: bool) -> None:
    """A reward of one everywhere: reward critics are worth ``1 / (1 - discount)`` from the start."""
    given = bench((4, 5), (1.0, 1.0))
    real = given.real.clone()
    real[..., -2] = 1.0
    given = replace(given, real=real)
    sac = evaluators(given)
    if not soft:
        sac.log_alpha.detach().fill_(-math.inf)  # temperature 0
    first = sac.critic.weights[0].detach()
    assert torch.equal(first[0], first[2]) and not torch.equal(first[0], first[3])
    settle(given, sac, given.streams("any"), real)
    rows = batch(given, given.streams("any"), real, 4_000)
    noise = given.spread(given.streams("other").normal("any", 4_000, 1))
    left = td_target(sac, rows, noise) - q_values(sac.critic, LAYOUT.obs(rows), LAYOUT.action(rows)).mean(1)
    assert left.mean(1).abs().max() < 0.05
    if not soft:
        assert q_values(sac.critic, LAYOUT.obs(rows), LAYOUT.action(rows)).mean().item() == pytest.approx(
            1 / 0.3, abs=0.5
        )
    for mine, target in zip(sac.critic.parameters, sac.target_critic.parameters, strict=True):
        torch.testing.assert_close(mine.detach(), target, rtol=0, atol=0)


def test_bias_is_held_against_returns_computed_apart() -> None:
    """The record's figure for one critic, from traces, `q_values` and a sum over rewards written out here."""
    given = bench((4,), critic_updates=1, look_every=1, branch_every=1)
    result = probe(given)[0]
    (mine,) = traces(given)
    part = []
    for trace in mine:
        for t in range(len(trace.reward)):
            if CONSTANTS.discount ** (len(trace.reward) - t) <= 0.05:
                part.append(sum(CONSTANTS.discount**k * r for k, r in enumerate(trace.reward[t:])))
    assert value(result, "mc_reward_part") == pytest.approx(np.mean(part), rel=1e-9)
    expected = value(result, "critic_q", 50) - np.mean(part) - value(result, "mc_entropy_part")
    assert value(result, "critic_bias", 50) == pytest.approx(expected, rel=1e-9)


def test_a_policy_follows_the_reward_it_is_shown() -> None:
    """On an exact model it improves as it does on real rows; on one that pays for the cost it gets worse."""
    given = bench((1, 1), (1.0, -1.0), critic_updates=1, policy_updates=400, shares=(0, 100), eval_episodes=5)
    given.sac.config = CONSTANTS.model_copy(update={"discount": 0.9, "learning_rate": 1e-2})
    good, bad = probe(given)
    gain = {
        name: result.curve.groupby(["share", "updates"])["episode_return"].mean().unstack().diff(axis=1)[400]
        for name, result in (("good", good), ("bad", bad))
    }
    assert gain["good"][0] == gain["bad"][0] > 0.5
    assert gain["good"][100] > 0.5 and gain["bad"][100] < -0.5
    assert value(good, "policy_gain") == pytest.approx(gain["good"][100])
    assert value(good, "diverged") == 0


@pytest.mark.parametrize(("size", "real"), [(128, [128, 64, 32, 7]), (64, [64, 32, 16, 4])])
def test_batches_hold_the_stated_share(size: int, real: list[int]) -> None:
    given = bench((0, 1), (1.0, 1.0), shares=(0, 50, 75, 95))
    given = replace(given, real=torch.zeros_like(given.real))
    for synthetic in (torch.ones(2, 9, LAYOUT.width), torch.ones(8, 9, LAYOUT.width)):
        rows = batch(given, given.streams("any"), synthetic.to(PLACE.dtype), size)
        assert (rows == 0).all(-1).sum(1).tolist() == real * 2
        assert rows.shape == (8, size, LAYOUT.width)


def test_each_share_imagines_with_its_own_policy() -> None:
    given = bench((0, 1), (1.0, 0.5), synthetic=1_500)
    sac = learners(given, given.sac, given.row_runs)
    before = imagine(given, sac, given.streams("any"))
    assert before.shape == (6, 1_500, LAYOUT.width)
    assert torch.equal(before[0], before[1]) and not torch.equal(before[0], before[3])
    with torch.no_grad():
        sac.actor.biases[-1][1] += 1.0
    after = imagine(given, sac, given.streams("any"))
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, False, True, True, True, True]
    obs, action = LAYOUT.obs(after), LAYOUT.action(after)
    exact = oracle(*[1.0] * 3, *[0.5] * 3)(obs, action, None, None)
    torch.testing.assert_close(LAYOUT.targets(after), exact)


# --- as runs


def spec(predict: str = "delta", **changes: Any) -> RunSpec:
    small = {"critic_updates": 4, "policy_updates": 4, "look_every": 2, "branch_every": 3, "synthetic": 30}
    episodes = {"bias_episodes": 1, "eval_episodes": 2}
    return RunSpec(
        kind="probe",
        task=fit(0).task,
        method="mbpo",
        seed=0,
        constants=Method(
            model=MODEL, target=Target(predict=predict), sac=SacConfig(hidden_dims=(8,), batch_size=16, discount=0.9)
        ),
        fit=fit(0).fit,
        probe=ProbeBudget(**{**small, **episodes, **changes}),
    )


def test_a_probe_becomes_a_record(tmp_path: Path) -> None:
    store = Store(tmp_path / "results", tmp_path / "cache")
    wanted = [spec(), spec("next_obs")]
    assert wanted[0].job == wanted[1].job and wanted[0].key != wanted[1].key
    assert ensure.ensure(wanted, store, device="cpu") == []
    for one in wanted:
        record = store.read(one)
        assert list(record.curve.columns) == COLUMNS["probe"]
        counts = record.curve.groupby(["share", "updates"]).size()
        assert counts.to_dict() == {(share, at): 2 for share in (0, 50, 75, 95) for at in (0, 4)}
        assert math.isfinite(record.last("reward_r2")) and math.isfinite(record.last("bias_shift"))
        assert sorted(record.diagnostics.query("measure == 'critic_bias'")["step"].unique()) == [0, 2, 4]
        returns = record.curve.query("updates == 0").groupby("share")["episode_return"].apply(list)
        assert all(value == returns[0] for value in returns)
    one, other = (store.read(each).diagnostics.query("dim == 0").reset_index(drop=True) for each in wanted)
    pd.testing.assert_frame_equal(one, other)
    kept = torch.load(replays.folder(store.cache, wanted[0].source_run) / "policy-420.pt", weights_only=True)
    assert store.read(wanted[0]).diagnostics.query("measure == 'policy_temperature'")["value"].between(0.9, 1.1).all()
    assert float(kept["sac"]["log_alpha"].exp()) == pytest.approx(1.0, abs=0.2)


def test_impossible_probes_are_named() -> None:
    with pytest.raises(ValueError, match=r"shares = \[50, 0\]: give percentages in order"):
        ProbeBudget(shares=(50, 0))
    with pytest.raises(ValueError, match=r"shares = \[0, 101\]"):
        ProbeBudget(shares=(0, 101))
    wide = {**spec().model_dump(), "constants": {"sac": {"hidden_dims": (16,)}, "model": MODEL.model_dump()}}
    with pytest.raises(
        ValueError, match=r"sac.hidden_dims = \(16,\): the policy that the probe starts from has \(8,\)"
    ):
        RunSpec(**wide)
    assert SAC.sac.hidden_dims == (8,)
