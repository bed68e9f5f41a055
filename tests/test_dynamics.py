"""The Gaussian ensemble: what it learns of a known system, sampling, loss, bounds and elites by hand."""

import math

import pytest
import torch
from ensembles import (
    EARLY,
    F64,
    FTFL,
    LAYOUT,
    MBPO,
    MIXED,
    SMALL,
    close,
    make,
    make_streams,
    normal,
    runs_of,
    system,
    uniform,
    weights,
)
from torch import Tensor
from torch.nn.functional import softplus

from mbpo import targets
from mbpo.buffer import gather_rows
from mbpo.config import Target
from mbpo.dynamics import GaussianEnsemble, nll, update
from mbpo.fitting import fit, holdout_mse
from mbpo.nn import gradients
from mbpo.targets import TargetMap


@torch.no_grad()
def set_outputs(ensemble: GaussianEnsemble, mean: Tensor, raw_logvar: Tensor) -> None:
    """Members that say ``mean (E, D)`` and, before the bounds, ``raw_logvar (E, D)`` whatever they are asked."""
    ensemble.net.weights[-1].zero_()
    ensemble.net.biases[-1].copy_(torch.cat([mean, raw_logvar], -1)[None, :, None])


# What is learned


def test_mean_and_variance_of_a_linear_gaussian_system_are_recovered() -> None:
    """In raw units, for raw and normalized targets.

    Margins: the mean to a quarter of the noise (root mean square), the std to 6 % on average and 12 % (root mean
    square) by rows. Over three seeds the worst were 0.14, 4 % and 7 %.
    """
    arms = (MBPO, FTFL, Target(normalize="reward"), Target(normalize="both", predict="fitted"))
    constants = {
        "ensemble_size": 3,
        "num_elites": 2,
        "hidden_dims": (32, 32),
        "weight_decay": (0.0,) * 3,
        "learning_rate": 3e-3,
        "updates": 700,
    }
    ensemble, streams = make(constants, arms)
    rows = torch.cat([system(8_000, seed=10 * r)[0] for r in range(len(arms))])
    fit(ensemble, rows, streams)
    packed, mean, std = system(2_000, seed=1_000)
    with torch.no_grad():
        predicted, logvar = ensemble(LAYOUT.inputs(packed).expand(len(arms), -1, -1))
    obs = LAYOUT.obs(packed).expand(len(arms), 3, -1, -1)
    raw_mean = ensemble.map.decode(obs, predicted)
    raw_std = (0.5 * logvar).exp() * ensemble.map.scale[:, None, None]
    off = ((raw_mean - mean) / std).square().mean((1, 2)).sqrt()
    ratio = (raw_std / std).log()
    assert float(off.max()) < 0.25, off
    assert float(ratio.mean((1, 2)).abs().max()) < 0.06, ratio.mean((1, 2))
    assert float(ratio.square().mean((1, 2)).sqrt().max()) < 0.12, ratio.square().mean((1, 2)).sqrt()
    assert float(std.log().std(dim=(0, 1)).max()) > 0.25  # a constant would miss the last margin


def test_the_sampled_transitions_have_the_true_spread() -> None:
    """`sample` after a fit, at one state: mean and std of 20,000 draws against the system's own."""
    ensemble, streams = make({**SMALL, "hidden_dims": (32,), "updates": 1200, "batch_size": 128}, (FTFL,))
    fit(ensemble, system(4_000)[0], streams)
    packed, mean, std = system(4, seed=500)
    for i in range(4):
        one = packed[:, i : i + 1].expand(-1, 20_000, -1)
        member, noise = uniform(1, 20_000, seed=i), normal(1, 20_000, 3, seed=i)
        samples = ensemble.sample(LAYOUT.obs(one), LAYOUT.action(one), member, noise).detach()
        assert float(((samples.mean(1) - mean[:, i]) / std[:, i]).abs().max()) < 0.5
        assert float((samples.std(1) / std[:, i]).log().abs().max()) < 0.15


# Sampling from members that label themselves


def labelled(runs: int = 1) -> GaussianEnsemble:
    """Seven members, of which member i predicts i for every dimension, almost without noise, on direct targets."""
    ensemble, _ = make({**SMALL, "ensemble_size": 7, "num_elites": 5}, [Target(predict="next_obs")] * runs)
    label = torch.arange(7.0, dtype=F64)[:, None].expand(-1, 3)
    set_outputs(ensemble, label, torch.full_like(label, -50.0))
    return ensemble


def draw_labels(ensemble: GaussianEnsemble, member: Tensor) -> Tensor:
    """Which member each row came from: (R, B)."""
    runs, n = member.shape
    zeros = torch.zeros(runs, n, 3, dtype=F64)
    raw = ensemble.sample(zeros[..., :2], zeros[..., :1], member, zeros)
    assert torch.equal(raw, raw[..., :1].expand_as(raw))  # one row comes from one member
    return raw[..., 0].round().long()


def test_only_elites_are_drawn_each_run_from_its_own() -> None:
    ensemble = labelled(runs=2)
    ensemble.elites = torch.tensor([[6, 1, 3, 0, 2], [4, 5, 0, 1, 6]])
    labels = draw_labels(ensemble, make_streams(["a", "b"]).uniform("member", 1_000))
    assert sorted(set(labels[0].tolist())) == [0, 1, 2, 3, 6]
    assert sorted(set(labels[1].tolist())) == [0, 1, 4, 5, 6]


def test_the_unit_interval_is_cut_into_equal_parts() -> None:
    ensemble = labelled()
    ensemble.elites = torch.tensor([[6, 1, 3, 0, 2]])
    member = torch.tensor([[0.0, 0.19999, 0.20001, 0.5, 0.61, 0.79, 0.81, 1 - 2**-24, 1 - 2**-53]], dtype=F64)
    assert draw_labels(ensemble, member).tolist() == [[6, 6, 1, 3, 0, 0, 2, 2, 2]]


def test_elites_are_uniform_and_independent_from_row_to_row() -> None:
    """Five elites over 50,000 rows, singly and in neighbouring pairs; bounds of six standard errors."""
    n = 50_000
    labels = draw_labels(labelled(), make_streams(["a"]).uniform("member", n))[0]
    singles = torch.bincount(labels, minlength=7)
    assert singles[5:].tolist() == [0, 0]
    assert singles[:5].tolist() == pytest.approx([n / 5] * 5, abs=6 * math.sqrt(n * 4 / 25))
    pairs = torch.bincount(5 * labels[:-1] + labels[1:], minlength=25)
    assert pairs.tolist() == pytest.approx([n / 25] * 25, abs=6 * math.sqrt(n * 24 / 625))


def test_shares_of_elites_vary_as_independent_draws_do() -> None:
    """A permutation would give every elite exactly B p rows of a batch; independent draws have variance B p (1 - p)."""
    labels = draw_labels(labelled(runs=400), make_streams([str(r) for r in range(400)]).uniform("member", 100))
    counts = torch.stack([torch.bincount(row, minlength=5) for row in labels]).double()
    assert float(counts.var(0).mean()) == pytest.approx(100 * 0.2 * 0.8, rel=0.25)


def test_sample_decodes_mean_and_noise() -> None:
    ensemble, _ = make({**SMALL, "num_elites": 1}, (FTFL, MBPO))
    mean = normal(3, 3, seed=1)
    set_outputs(ensemble, mean, torch.full((3, 3), -1.0, dtype=F64))
    ensemble.elites = torch.tensor([[1], [2]])
    carry = torch.tensor([[0.5, 1.0, 0.0], [1.0, 0.0, 0.0]], dtype=F64)
    ensemble.map = TargetMap(carry, normal(2, 3, seed=2), normal(2, 3, seed=3).abs())
    obs, action, noise = normal(2, 4, 2, seed=4), normal(2, 4, 1, seed=5), normal(2, 4, 3, seed=6)
    raw = ensemble.sample(obs, action, uniform(2, 4), noise)
    std = (0.5 * soft(torch.tensor(-1.0, dtype=F64), -10.0, 0.5)).exp()
    for r, elite in enumerate((1, 2)):
        y = mean[elite] + std * noise[r]
        base = carry[r] * torch.cat([obs[r], torch.zeros(4, 1, dtype=F64)], -1) + ensemble.map.shift[r]
        close(raw[r], base + ensemble.map.scale[r] * y)


# Loss and bounds


def soft(raw: Tensor, low: float, high: float) -> Tensor:
    logvar = high - softplus(high - raw)
    return low + softplus(logvar - low)


def test_loss_is_the_likelihood_of_torch_normal() -> None:
    """Up to the factor 2 and the constant log 2 pi: mean over rows and dimensions, sum over runs and members."""
    ensemble, _ = make(SMALL, (MBPO, FTFL))
    inputs, y = normal(2, 9, 3), normal(2, 9, 3, seed=1)
    mean, logvar = ensemble(inputs)
    density = torch.distributions.Normal(mean, (0.5 * logvar).exp()).log_prob(y[:, None])
    expected = (-2 * density - math.log(2 * math.pi)).mean((-2, -1)).sum()
    close(nll(ensemble, inputs, y), expected)


def test_rows_may_be_shared_or_each_members_own() -> None:
    ensemble, _ = make(SMALL, (MBPO, FTFL))
    inputs, y = normal(2, 9, 3), normal(2, 9, 3, seed=1)
    own_inputs, own_y = inputs[:, None].repeat(1, 3, 1, 1), y[:, None].repeat(1, 3, 1, 1)
    close(nll(ensemble, inputs, y), nll(ensemble, own_inputs, own_y))
    own_inputs[1, 2] += 1.0
    mean, _ = ensemble(own_inputs)
    changed = (mean - ensemble(inputs)[0]).abs().amax((-2, -1)) > 0
    assert changed.tolist() == [[False] * 3, [False, False, True]]
    other_y = normal(2, 3, 9, 3, seed=2)
    mean, logvar = ensemble(own_inputs)
    density = torch.distributions.Normal(mean, (0.5 * logvar).exp()).log_prob(other_y)
    close(nll(ensemble, own_inputs, other_y), (-2 * density - math.log(2 * math.pi)).mean((-2, -1)).sum())


def test_outputs_are_encoded_targets_of_packed_rows() -> None:
    ensemble, _ = make(SMALL, MIXED)
    rows = runs_of(50, 3)
    ensemble.map = targets.fit(MIXED, LAYOUT.obs(rows), LAYOUT.targets(rows))
    y = ensemble.encode(rows)
    close(ensemble.map.decode(LAYOUT.obs(rows), y), LAYOUT.targets(rows))
    close(y[0], torch.cat([rows[0, :, 3:5] - rows[0, :, :2], rows[0, :, 5:6]], -1))


def test_inputs_are_z_scored() -> None:
    ensemble, _ = make(SMALL, (MBPO, FTFL))
    inputs = normal(2, 9, 3)
    ensemble.input_mean, ensemble.input_std = normal(2, 1, 3, seed=1), normal(2, 1, 3, seed=2).abs()
    z = (inputs - ensemble.input_mean) / ensemble.input_std
    close(ensemble(inputs)[0], ensemble.net(z[:, None])[..., :3])


def test_log_variance_never_leaves_its_bounds() -> None:
    """The lower bound is strict; the upper gives way by log(1 + e^-(max - min)), here 0.3, as in jannerm."""
    low, high = -0.8, 0.2
    ensemble, _ = make({**SMALL, "min_logvar": low, "max_logvar": high})
    raw = torch.tensor([[-1e4, -40.0, -1.0], [-0.8, -0.3, 0.2], [1.0, 40.0, 1e4]], dtype=F64)
    set_outputs(ensemble, torch.zeros(3, 3, dtype=F64), raw)
    logvar = ensemble(normal(1, 4, 3))[1].detach()
    close(logvar, soft(raw, low, high)[None, :, None].expand(1, 3, 4, 3))
    top = high + math.log1p(math.exp(low - high))
    assert float(logvar.min()) == low and float(logvar.max()) == pytest.approx(top, abs=1e-12)
    assert (logvar[0, :, 0].flatten().diff() >= 0).all()


def test_default_bounds_are_those_of_the_constants() -> None:
    """Between -10 and 0.5 the upper bound gives way by 3e-5, and the middle is left alone."""
    ensemble, _ = make(SMALL)
    raw = torch.tensor([[-1e4, 1e4, -5.0]], dtype=F64).expand(3, -1)
    set_outputs(ensemble, torch.zeros(3, 3, dtype=F64), raw)
    assert ensemble(normal(1, 1, 3))[1][0, 0, 0].tolist() == pytest.approx([-10.0, 0.5, -5.0], abs=0.01)
    assert float(ensemble(normal(1, 1, 3))[1].detach().max()) <= 0.5 + 3e-5


def test_gradient_of_learned_bounds_is_that_of_the_written_loss() -> None:
    constants = {**SMALL, "logvar_bounds": "learned", "min_logvar": -2.0, "max_logvar": 0.3, "bound_weight": 0.01}
    ensemble, _ = make(constants, (MBPO, FTFL))
    inputs, y = normal(2, 9, 3), normal(2, 9, 3, seed=1)
    ours = gradients(nll(ensemble, inputs, y), ensemble.bounds)
    low, high = (torch.full((2, 1, 1, 3), x, dtype=F64, requires_grad=True) for x in (-2.0, 0.3))
    out = ensemble.net(inputs[:, None]).detach()
    logvar = high - softplus(high - out[..., 3:])
    logvar = low + softplus(logvar - low)
    likelihood = ((out[..., :3] - y[:, None]).square() * (-logvar).exp() + logvar).mean((-2, -1)).sum()
    for gradient, bound, sign in zip(ours, (low, high), (-1.0, 1.0), strict=True):
        close(gradient, torch.autograd.grad(likelihood, bound, retain_graph=True)[0] + sign * 0.01)


def test_learned_bounds_move_and_constant_ones_do_not() -> None:
    rows = system(400)[0]
    learned, streams = make({**SMALL, "logvar_bounds": "learned", "updates": 60})
    fit(learned, rows, streams)
    assert float((learned.max_logvar.detach() - 0.5).abs().min()) > 1e-3
    assert float((learned.min_logvar.detach() + 10.0).abs().min()) > 1e-3
    fixed, streams = make({**SMALL, "updates": 60})
    fit(fixed, rows, streams)
    assert fixed.max_logvar.unique().tolist() == [0.5] and fixed.min_logvar.unique().tolist() == [-10.0]
    assert len(learned.parameters) == len(fixed.parameters) + 2


@pytest.mark.parametrize("bounds", ["constant", "learned"])
def test_decay_acts_as_half_c_times_the_squared_weights_per_layer(bounds: str) -> None:
    """Adam's first moment after one update is a tenth of the gradient of the loss with its decay written out."""
    ensemble, _ = make({**SMALL, "weight_decay": (0.3, 0.7), "logvar_bounds": bounds}, (MBPO, FTFL))
    rows = runs_of(32, 2)
    loss = nll(ensemble, LAYOUT.inputs(rows), ensemble.encode(rows))
    loss = loss + sum(0.5 * c * w.square().sum() for c, w in zip((0.3, 0.7), ensemble.net.weights, strict=True))
    expected = gradients(loss, ensemble.parameters)
    before = weights(ensemble)
    update(ensemble, rows)
    for first, grad, old, new in zip(ensemble.adam.first, expected, before, ensemble.parameters, strict=True):
        close(first, 0.1 * grad)
        close(new, old - ensemble.config.learning_rate * grad / (grad.abs() + 1e-8))


def test_an_update_leaves_runs_that_are_not_active() -> None:
    ensemble, _ = make(EARLY, MIXED)
    before = weights(ensemble)
    update(ensemble, runs_of(20, 3), [1])
    for old, new in zip(before, ensemble.parameters, strict=True):
        assert torch.equal(old[[0, 2]], new.detach()[[0, 2]])
        assert not torch.equal(old[1], new.detach()[1])


# Holdout error and elites


def test_holdout_error_by_hand_over_more_than_one_piece() -> None:
    ensemble, _ = make(SMALL, (MBPO, FTFL))
    rows, index = runs_of(5_000, 2), torch.stack([torch.arange(4_500), torch.arange(500, 5_000)])
    error = holdout_mse(ensemble, rows, index)
    held = gather_rows(rows, index)
    mean, _ = ensemble(LAYOUT.inputs(held))
    expected = (mean - ensemble.map.encode(LAYOUT.obs(held), LAYOUT.targets(held))[:, None]).square().mean((-2, -1))
    close(error, expected)


def test_elites_have_the_lowest_holdout_error_and_are_never_lost_members() -> None:
    """Members whose mean is off by known amounts, in another order in each run, and one of which is NaN."""
    constants = {**SMALL, "ensemble_size": 5, "num_elites": 3, "learning_rate": 1e-12, "updates": 1}
    ensemble, streams = make(constants, [Target(predict="next_obs")] * 2)
    off = torch.tensor([[30.0, 10.0, 50.0, 20.0, 40.0], [10.0, 50.0, math.nan, 40.0, 30.0]], dtype=F64)
    with torch.no_grad():
        ensemble.net.weights[-1].zero_()
        ensemble.net.biases[-1][..., :3] = off[:, :, None, None]
    fit(ensemble, runs_of(100, 2), streams)
    assert ensemble.elites.tolist() == [[1, 3, 0], [0, 4, 3]]
    assert ensemble.holdout_mse.isnan().tolist() == [[False] * 5, [False, False, True, False, False]]
    # The targets have mean squares of about one beside offsets of 10 to 50.
    assert ensemble.holdout_mse[0].sqrt().tolist() == pytest.approx(off[0].tolist(), rel=0.1)
