"""Every measure on predictions made up so that the answer is known by hand, or against numpy."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mbpo import diagnostics
from mbpo.buffer import Layout
from mbpo.config import ModelConfig, Target
from mbpo.diagnostics import CriticBias, Prediction, critic_bias, soft_returns, target_geometry
from mbpo.dynamics import GaussianEnsemble
from mbpo.episodes import Trace
from mbpo.streams import Streams
from mbpo.targets import TargetMap

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def prediction(
    truth: Tensor,
    mean: Tensor | None = None,
    logvar: Tensor | float = -2.0,
    scale: Tensor | None = None,
    obs: Tensor | None = None,
) -> Prediction:
    """Truth (R, B, D); mean (R, n, B, D), by default the truth itself from two elites."""
    runs, rows, dims = truth.shape
    mean = truth[:, None].expand(-1, 2, -1, -1) if mean is None else mean
    scale = torch.ones(runs, dims, dtype=F64) if scale is None else scale
    return Prediction(
        mean=mean,
        logvar=torch.as_tensor(logvar, dtype=F64).expand(mean.shape),
        log_scale=scale.log()[:, None, None],
        lower=torch.full((runs, 1, 1, dims), -10.0, dtype=F64),
        upper=torch.full((runs, 1, 1, dims), 0.5, dtype=F64),
        obs=torch.zeros(runs, 1, rows, dims - 1, dtype=F64) if obs is None else obs[:, None],
        truth=truth[:, None],
    )


# Reward collapse


def test_a_perfect_predictor_has_r2_and_slope_one() -> None:
    truth = normal(2, 50, 3) * torch.tensor([0.05, 30.0], dtype=F64)[:, None, None] + 4.0
    found = diagnostics.reward_collapse(prediction(truth, logvar=-200.0))
    for name in ("reward_r2", "reward_slope", "reward_std_ratio"):
        assert found[name].tolist() == pytest.approx([1.0, 1.0], abs=1e-9), name
    reward = truth[..., -1].numpy()
    for kind in ("pred", "true"):
        assert found[f"reward_{kind}_mean"].tolist() == pytest.approx(reward.mean(1), rel=1e-12)
        assert found[f"reward_{kind}_std"].tolist() == pytest.approx(reward.std(1), rel=1e-12)


def test_a_constant_predictor_has_r2_zero() -> None:
    truth = normal(1, 50, 3)
    mean = truth[:, None].expand(-1, 2, -1, -1).clone()
    mean[..., -1] = truth[..., -1].mean()
    found = diagnostics.reward_collapse(prediction(truth, mean, logvar=-200.0))
    for name in ("reward_r2", "reward_slope", "reward_pred_std", "reward_std_ratio"):
        assert float(found[name]) == pytest.approx(0.0, abs=1e-9), name


def test_reward_measures_by_hand() -> None:
    """True 0 2 4; one elite says 1 1 1, the other 0 4 8: R2 = 1 - (5 + 1 + 9 + 0 + 4 + 16)/6 / (8/3), and so on."""
    truth = torch.tensor([[[9.0, 0.0], [9.0, 2.0], [9.0, 4.0]]], dtype=F64)
    rewards = torch.tensor([[[1.0, 1.0, 1.0], [0.0, 4.0, 8.0]]], dtype=F64)
    mean = torch.stack([torch.full_like(rewards, 9.0), rewards], -1)
    found = diagnostics.reward_collapse(prediction(truth, mean, math.log(0.25), torch.tensor([[1.0, 6.0]], dtype=F64)))
    guess, true = rewards.numpy()[0], np.array([0.0, 2.0, 4.0])
    assert float(found["reward_r2"]) == pytest.approx(1 - ((1 + 1 + 9 + 0 + 4 + 16) / 6) / (8 / 3))
    assert float(found["reward_slope"]) == pytest.approx((0 + 2) / 2)  # the mean of the elites' own slopes
    assert float(found["reward_pred_mean"]) == pytest.approx(guess.mean())
    assert float(found["reward_pred_std"]) == pytest.approx(guess.std())
    assert float(found["reward_true_mean"]) == 2.0
    assert float(found["reward_true_std"]) == pytest.approx(true.std())
    assert float(found["reward_noise_std"]) == pytest.approx(3.0)  # 0.5 in target space, scale 6
    assert float(found["reward_std_ratio"]) == pytest.approx(math.sqrt((guess.var() + 9.0) / true.var()))


def test_collapse_shows_in_r2_and_not_in_the_mean() -> None:
    """The right mean and a spread twenty times too large: R2 about 1 - 19^2."""
    truth = normal(1, 4000, 2)
    truth[..., -1] -= truth[..., -1].mean()
    mean = (truth * 20.0)[:, None]
    found = diagnostics.reward_collapse(prediction(truth, mean, logvar=-200.0))
    assert float(found["reward_pred_mean"]) == pytest.approx(float(found["reward_true_mean"]), abs=1e-12)
    assert float(found["reward_r2"]) == pytest.approx(1 - 19**2)
    assert float(found["reward_std_ratio"]) == pytest.approx(20.0)


def test_noise_std_is_the_root_of_the_mean_variance() -> None:
    truth = normal(1, 2, 2)
    logvar = torch.tensor([1.0, 9.0], dtype=F64).log()[None, None, :, None]
    found = diagnostics.reward_collapse(prediction(truth, truth[:, None], logvar))
    assert float(found["reward_noise_std"]) == pytest.approx(math.sqrt(5.0))


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_reward_that_does_not_vary_has_no_r2(value: float) -> None:
    truth = normal(2, 64, 3)
    truth[1, :, -1] = value
    mean = truth[:, None] + 0.1 * normal(2, 2, 64, 3, seed=1)
    found = diagnostics.reward_collapse(prediction(truth, mean))
    for name in ("reward_r2", "reward_slope", "reward_std_ratio"):
        assert found[name].isnan().tolist() == [False, True], name
    assert float(found["reward_true_std"][1]) == 0.0
    assert float(found["reward_pred_std"][1]) == pytest.approx(0.1, rel=0.2)


def test_reward_bins_are_equal_counts_of_the_true_reward() -> None:
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    truth = torch.zeros(1, 20, 2, dtype=F64)
    truth[0, :, -1] = order.double()
    mean = torch.stack([3.0 * truth, 5.0 * truth], 1)
    found = diagnostics.reward_bins(prediction(truth, mean))
    assert found["reward_true_bin"].tolist() == [[2 * b + 0.5 for b in range(10)]]
    assert found["reward_pred_bin"].tolist() == [[4 * (2 * b + 0.5) for b in range(10)]]


def test_bins_of_ties_and_of_few_rows() -> None:
    tied = diagnostics.reward_bins(prediction(torch.zeros(1, 30, 2, dtype=F64)))
    assert tied["reward_true_bin"].tolist() == [[0.0] * 10]
    few = diagnostics.reward_bins(prediction(torch.arange(8.0, dtype=F64).view(1, 4, 2)))
    assert few["reward_true_bin"].tolist() == [[1.0, 3.0, 5.0, 7.0]]


# Variance


def test_raw_log_variance_adds_twice_the_log_of_the_scale() -> None:
    scale = torch.tensor([[1.0, 10.0, 0.1], [1.0, 1.0, 1.0]], dtype=F64)
    found = prediction(normal(2, 5, 3), logvar=-3.0, scale=scale)
    measured = diagnostics.variance(found)
    dims = diagnostics.dimensions(found)
    by_hand = [[-3.0, -3.0 + 2 * math.log(10), -3.0 - 2 * math.log(10)], [-3.0] * 3]
    assert dims["dim_logvar_raw"].tolist() == [pytest.approx(row) for row in by_hand]
    assert dims["dim_logvar_target"].tolist() == [[-3.0] * 3] * 2
    assert measured["logvar_target"].tolist() == [-3.0, -3.0]
    assert measured["logvar_raw"].tolist() == pytest.approx([np.mean(row) for row in by_hand])
    unequal = diagnostics.variance(
        prediction(normal(1, 5, 3), logvar=-3.0, scale=torch.tensor([[1.0, 10.0, 100.0]], dtype=F64))
    )
    assert float(unequal["logvar_raw"]) == pytest.approx(-3.0 + 2 * math.log(10))


def test_the_same_raw_gaussian_reads_alike_under_two_maps() -> None:
    truth, mean, scale = normal(1, 40, 3), normal(1, 2, 40, 3, seed=1), torch.tensor([[0.2, 7.0, 30.0]], dtype=F64)
    raw = -1.0 + 0.3 * normal(1, 2, 40, 3, seed=2)
    one = prediction(truth, mean, raw)
    other = prediction(truth, mean, raw - 2 * scale.log()[:, None, None], scale)
    for name in ("logvar_raw", "calibration_obs", "calibration_reward"):
        assert float(diagnostics.variance(one)[name]) == pytest.approx(
            float(diagnostics.variance(other)[name]), rel=1e-12
        )
    assert float(diagnostics.variance(one)["logvar_target"]) != pytest.approx(
        float(diagnostics.variance(other)["logvar_target"]), rel=0.1
    )


def test_shares_at_the_bounds_by_hand() -> None:
    """Bounds -10 and 0.5; a raw output at a bound comes out log 2 inside it."""
    inside = math.log(2.0)
    logvar = torch.tensor(
        [
            -10.0,
            -10.0 + inside - 1e-6,
            -10.0 + inside + 1e-6,
            -5.0,
            0.5 - inside - 1e-6,
            0.5 - inside + 1e-6,
            0.5,
            -9.0,
        ],
        dtype=F64,
    )
    measured = diagnostics.variance(prediction(normal(1, 8, 1), logvar=logvar[:, None]))
    assert float(measured["at_floor"]) == 2 / 8
    assert float(measured["at_ceiling"]) == 2 / 8


def test_bounds_are_those_of_each_dimension() -> None:
    found = prediction(normal(1, 4, 2), logvar=-6.0)
    found.lower[..., 1] = -6.5
    assert float(diagnostics.variance(found)["at_floor"]) == 0.5


def test_at_a_bound_is_where_the_raw_output_lies_beyond_it() -> None:
    """Through a real ensemble: outputs far beyond a bound count, outputs half way between do not."""
    ensemble, rows = small_ensemble(), normal(1, 6, 7)
    with torch.no_grad():
        ensemble.net.weights[-1].zero_()
        ensemble.net.biases[-1][..., 3:] = torch.tensor([-10.5, -9.5, 1.0], dtype=F64)
    measured = diagnostics.variance(diagnostics.predict(ensemble, rows))
    assert float(measured["at_floor"]) == pytest.approx(1 / 3)
    assert float(measured["at_ceiling"]) == pytest.approx(1 / 3)


def test_the_right_variance_is_calibrated() -> None:
    """Errors of the std that is predicted, heteroscedastic over rows: the std of the ratio is about 1/sqrt(40,000)."""
    truth = torch.zeros(1, 20_000, 3, dtype=F64)
    logvar = 0.5 * normal(1, 1, 20_000, 3, seed=3) - 1.0
    scale = torch.tensor([[0.01, 1.0, 50.0]], dtype=F64)
    mean = (0.5 * logvar).exp() * scale * normal(1, 2, 20_000, 3, seed=4)
    found = prediction(truth, mean, logvar.expand(-1, 2, -1, -1), scale)
    measured = diagnostics.variance(found)
    assert float(measured["calibration_obs"]) == pytest.approx(1.0, abs=0.03)
    assert float(measured["calibration_reward"]) == pytest.approx(1.0, abs=0.03)
    inflated = prediction(
        truth, mean, logvar + torch.tensor([2 * math.log(4.0), 0.0, 2 * math.log(3.0)], dtype=F64), scale
    )
    measured = diagnostics.variance(inflated)
    assert float(measured["calibration_obs"]) == pytest.approx(2.0, abs=0.06)  # the geometric mean of 4 and 1
    assert float(measured["calibration_reward"]) == pytest.approx(3.0, abs=0.09)


def test_a_dimension_without_error_is_left_out_of_calibration() -> None:
    truth = normal(1, 10, 4)
    mean = truth[:, None].expand(-1, 2, -1, -1).clone()
    mean[..., 1] += 0.5
    mean[..., 3] -= 2.0
    found = prediction(truth, mean, logvar=0.0)
    dims = diagnostics.dimensions(found)
    assert dims["dim_error_std"][0].tolist() == pytest.approx([0.0, 0.5, 0.0, 2.0])
    assert dims["dim_calibration"][0].tolist() == pytest.approx([math.nan, 2.0, math.nan, 0.5], nan_ok=True)
    assert float(diagnostics.variance(found)["calibration_obs"]) == pytest.approx(2.0)
    assert float(diagnostics.variance(found)["calibration_reward"]) == pytest.approx(0.5)


# Model error


def test_percent_errors_by_hand() -> None:
    """Errors of norm 5 and 0, increments of norm 13 and 0, next_obs of norm 10 and 2; the reward takes no part."""
    truth = torch.tensor([[[6.0, 8.0, 100.0], [0.0, 2.0, -100.0]]], dtype=F64)
    obs = torch.tensor([[[1.0, -4.0], [0.0, 2.0]]], dtype=F64)
    mean = truth[:, None] + torch.tensor([[3.0, 4.0, 50.0], [0.0, 0.0, 50.0]], dtype=F64)
    found = diagnostics.model_error(prediction(truth, mean, obs=obs))
    assert float(found["error_over_delta"]) == pytest.approx(100 * 5 / 13)
    assert float(found["error_over_next_obs"]) == pytest.approx(100 * 5 / 12)


def test_an_elite_counts_as_often_as_another() -> None:
    truth = torch.tensor([[[3.0, 4.0, 0.0]]], dtype=F64)
    mean = truth[:, None] + torch.tensor([[[[1.0, 0.0, 0.0]], [[-1.0, 0.0, 0.0]]]], dtype=F64)
    assert float(diagnostics.model_error(prediction(truth, mean))["error_over_next_obs"]) == pytest.approx(20.0)


# From an ensemble


def small_ensemble(runs: int = 1, elites: int = 2) -> GaussianEnsemble:
    """Obs 2, action 1, three members, random weights."""
    config = ModelConfig(ensemble_size=3, num_elites=elites, hidden_dims=(4,), weight_decay=(0.0, 0.0))
    streams = Streams([str(r) for r in range(runs)], torch.device("cpu"), F64)
    return GaussianEnsemble(config, [Target()] * runs, Layout(2, 1), streams)


def test_predict_takes_the_elites_and_decodes_them() -> None:
    ensemble = small_ensemble(runs=2)
    ensemble.map = TargetMap(*(normal(2, 3, seed=s).abs() for s in (1, 2, 3)))
    ensemble.map.carry[:, -1] = 0.0
    ensemble.elites = torch.tensor([[2, 0], [1, 2]])
    rows = normal(2, 5, 7, seed=4)
    found = diagnostics.predict(ensemble, rows)
    mean, logvar = ensemble(rows[..., :3])
    obs, carry, shift, scale = rows[..., :2], ensemble.map.carry, ensemble.map.shift, ensemble.map.scale
    for r, elites in enumerate([[2, 0], [1, 2]]):
        for place, member in enumerate(elites):
            padded = torch.cat([obs[r], torch.zeros(5, 1, dtype=F64)], -1)
            raw = carry[r] * padded + shift[r] + scale[r] * mean[r, member]
            torch.testing.assert_close(found.mean[r, place], raw.detach())
            assert torch.equal(found.logvar[r, place], logvar[r, member].detach())
        torch.testing.assert_close(found.logvar_raw[r], found.logvar[r] + 2 * scale[r].log())
    assert torch.equal(found.truth[:, 0], rows[..., 3:6])
    torch.testing.assert_close(found.error, found.mean - rows[:, None, :, 3:6])
    assert not found.mean.requires_grad


def test_a_report_is_one_number_a_run_of_every_measure() -> None:
    report = diagnostics.model_report(small_ensemble(runs=2), normal(2, 30, 7))
    named = ["r2", "slope", "pred_mean", "true_mean", "pred_std", "true_std", "noise_std", "std_ratio"]
    bounds = ["logvar_target", "logvar_raw", "at_floor", "at_ceiling", "calibration_obs", "calibration_reward"]
    assert list(report) == [f"reward_{n}" for n in named] + bounds + ["error_over_delta", "error_over_next_obs"]
    for name, value in report.items():
        assert value.shape == (2,) and value.isfinite().all(), name


def test_a_report_of_a_run_does_not_depend_on_its_companions() -> None:
    together = diagnostics.model_report(small_ensemble(runs=2), normal(2, 30, 7))
    alone = diagnostics.model_report(small_ensemble(runs=1), normal(2, 30, 7)[:1])
    for name in together:
        assert float(together[name][0]) == pytest.approx(float(alone[name][0]), rel=1e-9)


# Target geometry


def packed(obs: Tensor, next_obs: Tensor, reward: Tensor) -> Tensor:
    return Layout(obs.shape[-1], 1).pack(
        obs, torch.zeros(*obs.shape[:-1], 1, dtype=obs.dtype), next_obs, reward, torch.ones_like(reward)
    )


def test_geometry_against_numpy() -> None:
    obs, reward = normal(2, 300, 2) * 3.0, 0.1 * normal(2, 300, seed=1)
    next_obs = 0.6 * obs + normal(2, 300, 2, seed=2)
    found = target_geometry(packed(obs, next_obs, reward), Layout(2, 1))
    for r in range(2):
        s, n, w = obs[r].numpy(), next_obs[r].numpy(), reward[r].numpy()
        np.testing.assert_allclose(found["increment_ratio"][r], (n - s).var(0) / n.var(0), rtol=1e-9)
        np.testing.assert_allclose(
            found["fitted_carry"][r], [np.polyfit(s[:, d], n[:, d], 1)[0] for d in range(2)], rtol=1e-9
        )
        centered = (n - s) - (n - s).mean(0)
        np.testing.assert_allclose(
            found["increment_kurtosis"][r], (centered**4).mean(0) / (n - s).var(0) ** 2 - 3, rtol=1e-9
        )
        assert float(found["reward_share_delta"][r]) == pytest.approx(w.var() / ((n - s).var(0).sum() + w.var()))
        assert float(found["reward_share_next_obs"][r]) == pytest.approx(w.var() / (n.var(0).sum() + w.var()))


def test_kurtosis_of_known_increments() -> None:
    """Gaussian 0, two values -2, Laplace 3; the standard error of a Gaussian's is sqrt(24 / n) = 0.011."""
    n = 200_000
    uniform = torch.rand(1, n, dtype=F64, generator=torch.Generator().manual_seed(5)) - 0.5
    laplace = -uniform.sign() * torch.log1p(-2 * uniform.abs())
    delta = torch.stack([normal(1, n, seed=6), uniform.sign(), laplace], -1)
    obs = torch.zeros_like(delta)
    kurtosis = target_geometry(packed(obs, delta, uniform), Layout(3, 1))["increment_kurtosis"][0].tolist()
    assert kurtosis[0] == pytest.approx(0.0, abs=0.06)
    assert kurtosis[1] == pytest.approx(-2.0, abs=1e-3)
    assert kurtosis[2] == pytest.approx(3.0, abs=0.4)


def test_zero_increments_and_dimensions_that_stand_still() -> None:
    obs = normal(1, 40, 3).float()
    obs[..., 2] = 0.1
    next_obs = obs.clone()
    next_obs[0, :10, 0] += 1.0
    next_obs[..., 1] += torch.linspace(0.5, 1.0, 40)
    found = target_geometry(packed(obs, next_obs, normal(1, 40).float()), Layout(3, 1))
    assert found["zero_increments"][0].tolist() == [0.75, 0.0, 1.0]
    assert found["increment_ratio"][0].isnan().tolist() == [False, False, True]
    assert found["increment_kurtosis"][0].isnan().tolist() == [False, False, True]
    assert found["fitted_carry"][0].isnan().tolist() == [False, False, True]


def test_reward_summary_against_numpy() -> None:
    reward = 1e4 + 1e-3 * normal(2, 500)
    mean, std = diagnostics.reward_summary(reward)
    np.testing.assert_allclose(mean, reward.numpy().mean(1), rtol=1e-12)
    np.testing.assert_allclose(std, reward.numpy().std(1), rtol=1e-6)
    assert diagnostics.reward_summary(torch.full((1, 9), 2.0))[1].tolist() == [0.0]


# Critic bias


def test_soft_returns_of_three_steps_by_hand() -> None:
    """Discount 0.5, alpha 2; the entropy of the step's own action is not in its value."""
    plain, entropy = soft_returns([1.0, 10.0, 100.0], [-1.0, -3.0, -7.0], discount=0.5, alpha=2.0)
    assert plain == [1 + 0.5 * 10 + 0.25 * 100, 10 + 0.5 * 100, 100]
    assert entropy == [0.5 * 2 * 3 + 0.25 * 2 * 7, 0.5 * 2 * 7, 0]
    assert soft_returns([], [], 0.9, 1.0) == ([], [])


def test_soft_returns_solve_the_bellman_equation() -> None:
    """Q(s_t) = r_t + discount (Q(s_t+1) - alpha log pi(a_t+1)), the last Q being its reward."""
    reward, log_prob = normal(20).tolist(), normal(20, seed=1).tolist()
    plain, entropy = soft_returns(reward, log_prob, 0.9, 0.3)
    q = [p + e for p, e in zip(plain, entropy, strict=True)]
    for t in range(19):
        assert q[t] == pytest.approx(reward[t] + 0.9 * (q[t + 1] - 0.3 * log_prob[t + 1]))
    assert q[19] == reward[19]


def trace(length: int, terminated: bool, reward: float = 1.0) -> Trace:
    return Trace(reward=[reward] * length, log_prob=[-1.0] * length, terminated=terminated)


def test_bias_of_a_terminated_episode_counts_every_step() -> None:
    """Discount 0.5, two steps: plain 1.5, 1; entropy 0.5, 0."""
    found = critic_bias([trace(2, True)], [[4.0, 2.0]], discount=0.5, alpha=1.0)
    assert found == CriticBias(q=3.0, reward_part=1.25, entropy_part=0.25, over=1.5, under=0.0)
    assert found.bias == 1.5


def test_errors_of_both_signs_show_where_the_bias_is_none() -> None:
    """Values 1, discount 0: errors 3, -2, 0, -1 of four states."""
    found = critic_bias([trace(4, True)], [[4.0, -1.0, 1.0, 0.0]], discount=0.0, alpha=1.0)
    assert (found.bias, found.over, found.under) == (0.0, 0.75, -0.75)
    lost = critic_bias([trace(2, True)], [[math.nan, 1.0]], discount=0.0, alpha=1.0)
    assert math.isnan(lost.over) and math.isnan(lost.under)


def test_bias_of_a_truncated_episode_leaves_its_tail_out() -> None:
    """0.5^5 = 0.03 and 0.5^4 = 0.06: of seven steps those with five or more left count, the first three."""
    values = [10.0, 20.0, 30.0, 1e6, 1e6, 1e6, 1e6]
    found = critic_bias([trace(7, False)], [values], discount=0.5, alpha=0.0)
    assert found.q == 20.0
    assert found.reward_part == pytest.approx(np.mean([sum(0.5**k for k in range(n)) for n in (7, 6, 5)]))
    wider = critic_bias([trace(7, False)], [values], discount=0.5, alpha=0.0, tail=0.0625)
    assert wider.q == pytest.approx((60 + 1e6) / 4)


def test_bias_is_a_mean_over_states_and_not_over_episodes() -> None:
    found = critic_bias([trace(1, True), trace(3, True)], [[8.0], [0.0] * 3], discount=0.0, alpha=1.0)
    assert (found.q, found.reward_part, found.entropy_part) == (2.0, 1.0, 0.0)


def test_bias_of_episodes_that_are_all_tail_is_unknown() -> None:
    found = critic_bias([trace(3, False)], [[1.0] * 3], discount=0.99, alpha=1.0)
    assert all(math.isnan(x) for x in (found.q, found.bias, found.over, found.under))


def test_policy_summary_by_hand() -> None:
    mean = torch.tensor([[[0.0, -3.0], [1.0, 4.0]], [[0.5, 0.5], [0.5, -0.5]]])
    log_std = torch.tensor([[[0.0, 1.0], [2.0, -1.0]], [[-4.0, -4.0], [-4.0, -4.0]]])
    found = diagnostics.policy_summary(mean, log_std, torch.tensor([[1.0, 3.0], [-2.0, 0.0]]))
    assert {name: values.tolist() for name, values in found.items()} == {
        "pre_tanh_mean_abs": [2.0, 0.5],
        "pre_tanh_mean_max": [4.0, 0.5],
        "log_std_mean": [0.5, -4.0],
        "log_prob_mean": [2.0, -1.0],
        "saturated_share": [0.5, 0.0],  # tanh 3 = 0.995, tanh 1 = 0.76
    }
