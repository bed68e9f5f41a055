"""The laboratory: its closed forms against Monte Carlo, and each of its switches does what it says and nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark.drawing.gallery import Gallery
from benchmark.studies import show
from benchmark.studies.laboratory import arms, learner, study
from benchmark.studies.laboratory.arms import ARMS, CHAIN, HEALTHY, SYSTEM, gain, known_q
from benchmark.studies.laboratory.learner import LAYOUT, Bench
from benchmark.studies.laboratory.system import Springs
from mbpo import sac
from mbpo.streams import Streams

SMALL = Springs(masses=2)
ALPHA = 0.02


def rollout(system: Springs, states: np.ndarray, actions: np.ndarray, alpha: float, noise: np.ndarray | None, n: int):
    """Monte-Carlo parts of Q of the soft optimum at one state and action: `n` returns each."""
    rng, steps, g = np.random.default_rng(0), 700, system.discount
    s, a = np.repeat(states[None], n, 0), np.repeat(actions[None], n, 0)
    root, wide = np.linalg.cholesky(system.covariance(alpha)), None if noise is None else np.sqrt(np.diag(noise))
    paid, entropy = np.zeros(n), np.zeros(n)
    sigma = system.covariance(alpha)
    normal = -0.5 * np.linalg.slogdet(2 * np.pi * sigma)[1]
    for k in range(steps):
        if k:
            z = rng.normal(size=a.shape)
            a = -s @ system.K.T + z @ root.T
            entropy += g**k * alpha * (0.5 * (z * z).sum(1) - normal)
        paid -= g**k * (
            np.einsum("ni,ij,nj->n", s, system.state_cost, s) + np.einsum("ni,ij,nj->n", a, system.effort_cost, a)
        )
        s = s @ system.A.T + a @ system.B.T + (0.0 if wide is None else wide * rng.normal(size=s.shape))
    return paid, entropy


@pytest.mark.parametrize("noise", [None, 0.05 * np.eye(4)], ids=["exact", "displaced"])
def test_both_parts_of_the_soft_value_are_those_of_monte_carlo(noise: np.ndarray | None) -> None:
    state, action = np.array([0.3, -0.2, 0.1, 0.4]), np.array([0.2, -0.1])
    paid, entropy = rollout(SMALL, state, action, ALPHA, noise, 300)
    for returns, known in (
        (paid, float(SMALL.reward_part(ALPHA, state, action, noise))),
        (entropy, SMALL.entropy_part(ALPHA)),
    ):
        assert abs(returns.mean() - known) < 4 * returns.std() / np.sqrt(len(returns)) + 2e-3 * abs(known)


def test_the_soft_optimum_is_one() -> None:
    """Its density is exp(Q / alpha) up to a factor, and no other gain or covariance has a larger soft value."""
    state, rng = np.array([0.3, -0.2, 0.1, 0.4]), np.random.default_rng(0)
    actions = rng.normal(size=(50, 2))
    off = actions + state @ SMALL.K.T
    log_density = -0.5 * np.einsum("ni,ij,nj->n", off, np.linalg.inv(SMALL.covariance(ALPHA)), off)
    q = SMALL.reward_part(ALPHA, np.broadcast_to(state, (50, 4)), actions)
    np.testing.assert_allclose(np.ptp(q / ALPHA - log_density), 0.0, atol=1e-9)


def test_a_target_entropy_settles_at_the_temperature_that_has_it() -> None:
    for target in (-1.0, -3.0, 0.5):
        assert SMALL.entropy(SMALL.temperature(target)) == pytest.approx(target)
    assert SYSTEM.entropy(arms.KNOWN_TEMPERATURE) == pytest.approx(-2.0)


def test_doing_nothing_costs_what_it_costs() -> None:
    state = np.array([0.3, -0.2, 0.1, 0.4])
    s, cost = state, 0.0
    for k in range(2_000):
        cost += SMALL.discount**k * s @ SMALL.state_cost @ s
        s = SMALL.A @ s
    assert SMALL.doing_nothing(state) == pytest.approx(-cost) and SMALL.optimum(state) > SMALL.doing_nothing(state)


def test_noise_lowers_the_known_value_and_nothing_else() -> None:
    one, three = (known_q(dataclasses.replace(CHAIN, displacement=d), 0.01) for d in (1.0, 3.0))
    exact = known_q(HEALTHY, 0.01)
    assert (exact - three) / (exact - one) == pytest.approx(9.0)


def test_the_gain_is_the_growth_of_one_weight_in_a_sweep_of_least_squares() -> None:
    for arm in (HEALTHY, CHAIN, next(a for a in ARMS if a.name == "trained-there")):
        bench = Bench([(arm, seed) for seed in range(40)])
        rows = bench.rows().flatten(0, 1)
        obs, next_obs = LAYOUT.obs(rows).norm(dim=1), LAYOUT.next_obs(rows).norm(dim=1)
        weight = torch.linalg.lstsq(obs[:, None], SYSTEM.discount * 2.0 * next_obs[:, None]).solution.item()
        assert weight / 2.0 == pytest.approx(gain(arm), rel=0.05)
    assert gain(HEALTHY) < 1.05 and gain(CHAIN) > 2.0
    assert gain(next(a for a in ARMS if a.name == "layer-norm")) == SYSTEM.discount


def rows_of(**switches: object) -> torch.Tensor:
    """A batch ``(64, W)``, real rows first, of the chain with other switches; the same draws each time."""
    arm = dataclasses.replace(CHAIN, obs_scale=1.0, **switches)
    return Bench([(arm, 0)]).rows()[0]


def test_each_switch_of_the_rows_does_what_it_says() -> None:
    plain, exact = rows_of(), rows_of(displacement=0.0)
    bench = Bench([(CHAIN, 0)])
    torch.testing.assert_close(plain[:4], exact[:4])  # real rows are not displaced
    after = LAYOUT.obs(exact) @ bench.A + LAYOUT.action(exact) @ bench.B
    torch.testing.assert_close(LAYOUT.next_obs(exact), after)
    moved = (LAYOUT.next_obs(plain) - LAYOUT.next_obs(exact))[4:] / bench.std
    assert moved.std() == pytest.approx(3.0, rel=0.1)
    torch.testing.assert_close(LAYOUT.reward(plain), LAYOUT.reward(exact))
    clipped = LAYOUT.next_obs(rows_of(clip=True))
    assert bool(((clipped >= bench.low - 1e-6) & (clipped <= bench.high + 1e-6))[4:].all())
    assert bool((LAYOUT.next_obs(plain) > bench.high).any())
    elsewhere = (LAYOUT.obs(rows_of(displaced_starts=True)) - LAYOUT.obs(plain)).abs().amax(1) > 0
    assert elsewhere.tolist() == [i >= 4 and i % 2 == 0 for i in range(64)]
    assert bool((LAYOUT.reward(rows_of(reward=False)) == 0).all())
    half = rows_of(real_rows=32)
    torch.testing.assert_close(
        LAYOUT.next_obs(half)[:32], (LAYOUT.obs(half) @ bench.A + LAYOUT.action(half) @ bench.B)[:32]
    )
    large = Bench([(dataclasses.replace(CHAIN, displacement=0.0), 0)]).rows()[0]
    torch.testing.assert_close(LAYOUT.obs(large), 30 * LAYOUT.obs(exact))


def test_each_switch_of_the_target_does_what_it_says() -> None:
    switches = ({}, {"soft": False}, {"pessimist": False}, {"own_action": False})
    bench = Bench([(dataclasses.replace(CHAIN, **changes), 0) for changes in switches])
    rows, noise = bench.rows(), bench.streams.normal("z", 64, SYSTEM.masses)
    with torch.no_grad():
        for weight in bench.learner.target_critic.weights:  # as if they were no copies
            weight += 0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    target = sac.td_target(bench.learner, bench.adjusted(rows, noise), noise)
    next_obs = LAYOUT.next_obs(rows)
    action, log_prob = sac.sample_action(bench.learner, next_obs, noise)
    q = sac.q_values(bench.learner.target_critic, next_obs, action).detach()
    soft = -bench.learner.alpha[:, None] * log_prob.detach()
    known = torch.stack([q[0].amin(0) + soft[0], q[1].amin(0), q[2].mean(0) + soft[2]])
    torch.testing.assert_close(target[:3], LAYOUT.reward(rows)[:3] + SYSTEM.discount * known, rtol=1e-4, atol=2e-3)
    again = Streams(bench.streams.entropies, bench.streams.device, bench.streams.dtype)
    elsewhere = 2 * again.uniform("random-next-action", 64, SYSTEM.masses) - 1
    known = sac.q_values(bench.learner.target_critic, next_obs, elsewhere)[3].amin(0).detach() + soft[3]
    torch.testing.assert_close(target[3], LAYOUT.reward(rows)[3] + SYSTEM.discount * known, rtol=1e-4, atol=2e-3)


def test_the_temperature_winds_up_about_as_fast_as_adam_can() -> None:
    """Entropy that cannot reach its target is integrated without end: at first a learning rate an update, in logs."""
    frame = learner.train([arm for arm in ARMS if arm.name == "low-entropy-alone"], seeds=1, updates=40, looks=2)
    grown = np.log(frame["temperature"].to_numpy() / arms.START_TEMPERATURE)
    most = 1e-3 * frame["updates"].to_numpy()
    assert (grown < 1.001 * most).all() and (grown > 0.75 * most).all()


def test_a_run_does_not_depend_on_its_company() -> None:
    together = learner.train([HEALTHY, CHAIN], seeds=1, updates=3, looks=1).set_index("arm").loc["chain"]
    alone = learner.train([CHAIN], seeds=1, updates=3, looks=1).set_index("arm").loc["chain"]
    assert together["q_mean"] == pytest.approx(alone["q_mean"], rel=1e-5)
    assert together["temperature"] == pytest.approx(alone["temperature"], rel=1e-6)


def test_the_study_is_told_from_its_curve(tmp_path: Path) -> None:
    assert show.kept(study.NAME, Gallery(tmp_path)) is None
    frame = learner.train([HEALTHY, CHAIN], seeds=1, updates=2, looks=1)
    frame.loc[frame["arm"] == "chain", "q_mean"] = -1e9
    (row,) = study.kept(_written(frame, tmp_path / "some.csv"), 1, 2).query("arm == 'chain'").index
    assert study.kept(_written(frame.assign(form="other"), tmp_path / "some.csv"), 1, 2).empty and row >= 0
    assert study.kept(tmp_path / "some.csv", 2, 2).empty and study.kept(tmp_path / "none.csv", 1, 2).empty
    frame.loc[frame["arm"] == "exact", "q_mean"] = known_q(HEALTHY, arms.KNOWN_TEMPERATURE)
    (tmp_path / "studies" / study.NAME).mkdir(parents=True)
    frame.to_csv(tmp_path / "studies" / study.NAME / "curve.csv", index=False)
    shown = show.kept(study.NAME, Gallery(tmp_path))
    assert shown is not None and (shown.present, shown.study.id) == (2, "laboratory")
    assert "1 of 1 seeds a runaway" in shown.sentences[0]
    made = {path.name for path in (tmp_path / "studies" / study.NAME).iterdir()}
    assert {"arms.csv", "curve.csv", "temperature.svg", "ends.svg"} <= made
    table = study.summary(frame).set_index("arm")
    assert table["runaway"].to_dict() == {"exact": 0, "chain": 1} and table.loc["exact", "q_off"] == pytest.approx(0.0)


def _written(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, index=False)
    return path
