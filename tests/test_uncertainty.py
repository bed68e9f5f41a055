"""Uncertainty of synthetic rows: three measures against torch's distributions, and what becomes of uncertain rows."""

from __future__ import annotations

import pytest
import torch
from helpers import assert_same_run, drive, parameters, ready, small
from torch.distributions import Independent, Normal, kl_divergence

from mbpo import Budget, InputError, ModelConfig, RolloutConfig, Run, Target
from mbpo.buffer import Layout
from mbpo.config import Method, build
from mbpo.rollouts import BranchNoise, Screen, branch
from mbpo.uncertainty import jensen_shannon, largest_std, one_vs_rest

RUNS, MEMBERS, ROWS, WIDTH = 2, 4, 5, 3
TOY = "gym:benchmark.toys:LQR-v0"
LAYOUT = Layout(obs_dim=1, action_dim=1)


@pytest.fixture(scope="module")
def predicted() -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    mean = torch.randn(RUNS, MEMBERS, ROWS, WIDTH, generator=g, dtype=torch.float64)
    var = torch.rand(RUNS, MEMBERS, ROWS, WIDTH, generator=g, dtype=torch.float64) + 0.1
    member = torch.randint(MEMBERS, (RUNS, ROWS), generator=g)
    return mean, var, member, torch.rand(RUNS, WIDTH, generator=g, dtype=torch.float64) + 0.5


def gaussian(mean: torch.Tensor, var: torch.Tensor) -> Independent:
    return Independent(Normal(mean, var.sqrt()), 1)


def test_one_vs_rest_is_the_divergence_from_the_moments_of_the_others(predicted):
    mean, var, member, scale = predicted
    actual = one_vs_rest(mean, var, member, scale)
    for r in range(RUNS):
        for n in range(ROWS):
            own = int(member[r, n])
            rest = [e for e in range(MEMBERS) if e != own]
            centre = mean[r, rest, n].mean(0)
            second = (var[r, rest, n] + mean[r, rest, n].square()).mean(0)
            other = gaussian(centre, second - centre.square())
            assert actual[r, n] == pytest.approx(
                float(kl_divergence(gaussian(mean[r, own, n], var[r, own, n]), other)), rel=1e-9
            )


def test_jensen_shannon_is_the_mean_over_pairs_of_both_divergences_from_their_geometric_mean(predicted):
    mean, var, member, scale = predicted
    total = torch.zeros(RUNS, ROWS, dtype=torch.float64)
    pairs = [(i, j) for i in range(MEMBERS) for j in range(i)]
    for i, j in pairs:
        precision = 0.5 / var[:, i] + 0.5 / var[:, j]
        centre = (0.5 * mean[:, i] / var[:, i] + 0.5 * mean[:, j] / var[:, j]) / precision
        between = gaussian(centre, 1.0 / precision)
        total += sum(0.5 * kl_divergence(gaussian(mean[:, k], var[:, k]), between) for k in (i, j))
    torch.testing.assert_close(jensen_shannon(mean, var, member, scale), total / len(pairs))


def test_the_largest_std_is_in_raw_units(predicted):
    mean, var, member, scale = predicted
    expected = torch.stack([(var[:, e].sqrt() * scale[:, None]).norm(dim=-1) for e in range(MEMBERS)]).amax(0)
    torch.testing.assert_close(largest_std(mean, var, member, scale), expected)


@pytest.mark.parametrize("measure", [one_vs_rest, jensen_shannon])
def test_members_that_agree_are_certain_and_units_of_the_targets_do_not_matter(measure, predicted):
    mean, var, member, scale = predicted
    same = measure(mean[:, :1].expand_as(mean), var[:, :1].expand_as(var), member, scale)
    torch.testing.assert_close(same, torch.zeros_like(same))
    units = torch.tensor([1e-3, 1.0, 1e3], dtype=torch.float64)
    moved = measure(mean * units + 7.0, var * units.square(), member, scale)
    torch.testing.assert_close(moved, measure(mean, var, member, scale))


def test_small_variances_far_from_zero_do_not_drown_in_float32():
    mean = torch.full((1, 3, 1, 1), 1_000.0)
    var = torch.full((1, 3, 1, 1), 1e-6)
    assert one_vs_rest(mean, var, torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1)) == pytest.approx(0.0, abs=1e-6)


# What becomes of uncertain rows: obs counts 1, 2, 3, ... and the uncertainty of a row is its obs


def rolled(config: RolloutConfig, start: list[float], steps: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows ``(H, N, W)`` and which are stored, where obs grows by 1 a step and nothing terminates."""
    shape = (1, steps, len(start))
    noise = BranchNoise(torch.zeros(*shape, 1), torch.zeros(shape), torch.zeros(*shape, 2))
    rows, valid = branch(
        lambda obs, action, member, z: torch.cat([obs + 1.0, torch.full_like(obs, 10.0)], dim=-1),
        lambda obs, z: z,
        lambda obs: torch.zeros(obs.shape[:-1], dtype=torch.bool),
        torch.tensor(start)[None, :, None],
        noise,
        LAYOUT,
        Screen(config, lambda obs, action, member: obs[..., 0]),
    )
    return rows[0].view(steps, len(start), -1), valid[0].view(steps, len(start))


def test_masking_keeps_exactly_the_least_uncertain_rows_and_goes_on_after_the_others():
    config = RolloutConfig(uncertainty="one-vs-rest", keep=0.5)
    rows, valid = rolled(config, [3.0, 1.0, 5.0, 2.0, 4.0], steps=2)
    assert valid.tolist() == [[True, True, False, True, False]] * 2  # three of five: a half, rounded up
    assert LAYOUT.obs(rows)[1, :, 0].tolist() == [4.0, 2.0, 6.0, 3.0, 5.0]


def test_equal_uncertainties_do_not_keep_more_rows_than_the_share():
    _, valid = rolled(RolloutConfig(uncertainty="one-vs-rest", keep=0.25), [1.0] * 8)
    assert int(valid.sum()) == 2


def test_a_penalty_is_the_stated_one():
    rows, valid = rolled(RolloutConfig(uncertainty="largest-std", penalty=0.5), [2.0, 6.0])
    assert LAYOUT.reward(rows)[0].tolist() == [9.0, 7.0] and valid.all()


def test_rollouts_end_before_the_first_row_beyond_the_limit_of_the_first_rows():
    config = RolloutConfig(uncertainty="jensen-shannon", cut=1.0, cut_quantile=0.75)
    _, valid = rolled(config, [1.0, 2.0, 3.0, 4.0, 5.0], steps=4)  # the limit is 4
    assert valid.tolist() == [
        [True, True, True, True, False],
        [True, True, True, False, False],
        [True, True, False, False, False],
        [True, False, False, False, False],
    ]


def test_a_limit_below_all_rows_still_stores_the_most_certain():
    _, valid = rolled(RolloutConfig(uncertainty="jensen-shannon", cut=1e-6), [3.0, 2.0, 4.0])
    assert valid.tolist() == [[False, True, False]]


def test_uncertainties_that_are_not_numbers_end_nothing():
    _, valid = rolled(RolloutConfig(uncertainty="jensen-shannon", cut=1.0), [1.0, float("nan")])
    assert valid.all()


# In training

SCREENS = {
    "masked": {"uncertainty": "one-vs-rest", "keep": 0.5, "penalty": 1e-3},
    "penalized": {"uncertainty": "largest-std", "penalty": 1.0},
    "adaptive": {"uncertainty": "jensen-shannon", "cut": 1.0, "schedule": (0, 1, 3, 3)},
}


@pytest.mark.parametrize("screen", SCREENS)
def test_screened_runs_in_lockstep_are_those_alone(screen):
    arms = [
        small(target, rollout=SCREENS[screen]) for target in (Target(), Target(normalize="both", predict="next_obs"))
    ]
    runs = [Run(arm, seed) for seed, arm in enumerate(arms)]
    _, together = drive(TOY, runs, Budget(env_steps=50, eval_every=50, eval_episodes=1))
    _, alone = drive(TOY, runs[1:], Budget(env_steps=50, eval_every=50, eval_episodes=1))
    assert together.synthetic is not None
    assert_same_run(parameters(alone, 0), parameters(together, 1), rtol=1e-9, atol=1e-11)


def test_all_members_in_one_pass_are_each_member_alone():
    """By the kernels of the machine, if it has some: `sample` of one elite is one of them, to the bit."""
    runs = [Run(small(rollout=SCREENS["masked"]), seed) for seed in range(2)]
    with ready(TOY, runs, Budget(env_steps=60, eval_episodes=1)) as state:
        ensemble = state.dynamics
        assert ensemble is not None
        row = state.layout.obs(state.real.filled()), state.layout.action(state.real.filled())
        mean, _ = ensemble.all_members(*row)
        member = torch.rand(row[0].shape[:2])
        drawn = ensemble.sample(*row, member, torch.zeros(*row[0].shape[:2], mean.shape[-1]))
        index = ensemble.elite(member)[:, None, :, None].expand(-1, 1, -1, mean.shape[-1])
        chosen = ensemble.map.decode(row[0], mean.gather(1, index)[:, 0])
        torch.testing.assert_close(chosen, drawn, rtol=0, atol=0)


def test_training_stores_the_share_of_rows_that_is_kept():
    with ready(TOY, [Run(small(rollout=SCREENS["masked"]), 0)], Budget(env_steps=60, eval_episodes=1)) as state:
        assert state.synthetic is not None
        assert int(state.synthetic.added) == 4 * 11  # half of the eight rows of each env step that learned, 40 to 50


@pytest.mark.parametrize(
    ("constants", "words"),
    [
        ({"keep": 0.5}, "need an uncertainty"),
        ({"uncertainty": "one-vs-rest"}, "changes nothing by itself"),
        ({"uncertainty": "largest-std", "penalty": 1.0, "dynamics": "simulator"}, "are not"),
        ({"uncertainty": "variance", "penalty": 1.0}, "largest-std"),
    ],
)
def test_constants_that_cannot_go_together_are_refused(constants, words):
    with pytest.raises(InputError, match=words):
        build(RolloutConfig, constants)


def test_a_comparison_of_members_needs_two():
    with pytest.raises(ValueError, match="ensemble_size 2"):
        Method(
            model=ModelConfig(ensemble_size=1, num_elites=1),
            rollout=RolloutConfig(uncertainty="one-vs-rest", keep=0.5),
        )
