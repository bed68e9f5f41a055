"""The affine map: identity of encode and decode on all arms, and its three vectors against numpy."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from mbpo import moments, targets
from mbpo.config import Target
from mbpo.targets import TargetMap

F64 = torch.float64
ARMS = [
    Target(normalize=n, predict=p)
    for n, p in itertools.product(("none", "reward", "obs", "both"), ("delta", "next_obs", "fitted"))
]
MBPO, FTFL = Target(), Target(normalize="both", predict="next_obs")
OBS, N = 3, 400


def data(runs: int, n: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Raw obs (R, n, O) and targets (R, n, O + 1) with scales from 1e-3 to 1e3, other rows for each run."""
    g = torch.Generator().manual_seed(seed)
    spread = torch.tensor([1e-3, 1.0, 1e3], dtype=F64)
    obs = spread * (torch.randn(runs, n, OBS, generator=g, dtype=F64) + 2.0)
    next_obs = 0.7 * obs + spread * (0.1 * torch.randn(runs, n, OBS, generator=g, dtype=F64) + 0.3)
    reward = 0.01 * torch.randn(runs, n, 1, generator=g, dtype=F64) + 5.0
    return obs, torch.cat([next_obs, reward], -1)


def close(ours: Tensor, theirs: Tensor, rtol: float = 1e-10) -> None:
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol)


# Encode and decode


def test_decode_inverts_encode_on_every_arm() -> None:
    obs, target = data(len(ARMS))
    fitted = targets.fit(ARMS, obs, target)
    y = fitted.encode(obs, target)
    close(fitted.decode(obs, y), target)
    noise = torch.randn(y.shape, dtype=F64, generator=torch.Generator().manual_seed(1))
    close(fitted.encode(obs, fitted.decode(obs, noise)), noise)


@pytest.mark.parametrize("inner", [(), (5,), (4, 5), (2, 4, 5)])
def test_any_axes_may_stand_between_runs_and_columns(inner: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(2)
    carry, shift, scale = (
        torch.randn(2, OBS + 1, generator=g),
        torch.randn(2, OBS + 1, generator=g),
        torch.rand(2, OBS + 1, generator=g) + 0.5,
    )
    carry[:, -1] = 0.0
    affine = TargetMap(carry, shift, scale)
    obs, target = torch.randn(2, *inner, OBS, generator=g), torch.randn(2, *inner, OBS + 1, generator=g)
    y, back = affine.encode(obs, target), affine.decode(obs, target)
    for r in range(2):
        padded = torch.cat([obs[r], torch.zeros(*inner, 1)], -1)
        torch.testing.assert_close(y[r], (target[r] - carry[r] * padded - shift[r]) / scale[r])
        torch.testing.assert_close(back[r], carry[r] * padded + shift[r] + scale[r] * target[r])


def test_decoded_noise_has_the_std_of_the_noise_times_the_scale() -> None:
    obs, target = data(2)
    fitted = targets.fit([FTFL, MBPO], obs, target)
    y = torch.randn(2, 200_000, OBS + 1, dtype=F64, generator=torch.Generator().manual_seed(3)) * 0.5
    same = obs[:, :1].expand(-1, y.shape[1], -1)
    spread = fitted.decode(same, y).std(1)
    torch.testing.assert_close(0.5 * fitted.scale, spread, rtol=0.01, atol=0)


# Arms


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_mbpo_is_the_raw_difference_to_the_bit(dtype: torch.dtype) -> None:
    obs, target = (x.to(dtype) for x in data(1))
    y = targets.fit([MBPO], obs, target).encode(obs, target)
    assert torch.equal(y[..., :-1], target[..., :-1] - obs)
    assert torch.equal(y[..., -1], target[..., -1])


def test_ftfl_columns_have_mean_zero_and_std_one() -> None:
    obs, target = data(1)
    fitted = targets.fit([FTFL], obs, target)
    y = fitted.encode(obs, target)[0].numpy()
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-10)
    np.testing.assert_allclose(y.std(0), 1, atol=1e-10)
    np.testing.assert_allclose(fitted.shift[0], target[0].numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(fitted.scale[0], target[0].numpy().std(0), rtol=1e-12)
    assert fitted.carry.tolist() == [[0.0] * (OBS + 1)]


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: f"{arm.normalize}-{arm.predict}")
def test_every_arm_touches_its_own_columns_alone(arm: Target) -> None:
    obs, target = data(1)
    fitted = targets.fit([arm], obs, target)
    y = fitted.encode(obs, target)
    columns = torch.tensor([arm.normalize in ("obs", "both")] * OBS + [arm.normalize in ("reward", "both")])
    assert torch.equal(fitted.scale[0] != 1, columns)
    assert torch.equal(fitted.shift[0] != 0, columns)
    close(y.mean(1)[0, columns], torch.zeros(int(columns.sum()), dtype=F64))
    close(y.std(1, unbiased=False)[0, columns], torch.ones(int(columns.sum()), dtype=F64))
    assert float(fitted.carry[0, -1]) == 0.0
    expected = {"delta": [1.0] * OBS, "next_obs": [0.0] * OBS}.get(arm.predict)
    if expected is not None:
        assert fitted.carry[0, :-1].tolist() == expected


def test_arms_in_one_call_equal_solo_calls() -> None:
    obs, target = data(len(ARMS))
    keep = torch.rand(len(ARMS), N, generator=torch.Generator().manual_seed(4)) < 0.8
    together = targets.fit(ARMS, obs, target, keep)
    for r, arm in enumerate(ARMS):
        alone = targets.fit([arm], obs[r : r + 1], target[r : r + 1], keep[r : r + 1])
        for name in ("carry", "shift", "scale"):
            close(getattr(together, name)[r], getattr(alone, name)[0], rtol=1e-13)


def test_identity_is_the_map_without_a_fit() -> None:
    start = targets.identity([Target(predict=p) for p in ("delta", "next_obs", "fitted")], 2, torch.device("cpu"), F64)
    assert start.carry.tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 0]]
    assert start.shift.abs().max() == 0 and start.scale.tolist() == [[1, 1, 1]] * 3


# The fitted carry


def test_fitted_carry_is_the_slope_of_polyfit() -> None:
    obs, target = data(2)
    carry = targets.fit([Target(predict="fitted")] * 2, obs, target).carry
    for r, d in itertools.product(range(2), range(OBS)):
        slope = np.polyfit(obs[r, :, d].numpy(), target[r, :, d].numpy(), 1)[0]
        assert float(carry[r, d]) == pytest.approx(slope, rel=1e-9)


@pytest.mark.parametrize("a", [-0.5, 0.0, 0.3, 1.0])
def test_fitted_carry_finds_the_true_slope(a: float) -> None:
    """next_obs = a obs + 3 + noise: the standard error of the slope is 0.1 / sqrt(10,000)."""
    g = torch.Generator().manual_seed(5)
    obs = torch.randn(1, 10_000, 1, dtype=F64, generator=g) + 10.0
    next_obs = a * obs + 3.0 + 0.1 * torch.randn(1, 10_000, 1, dtype=F64, generator=g)
    target = torch.cat([next_obs, obs], -1)  # a reward that follows obs must not be carried
    fitted = targets.fit([Target(predict="fitted", normalize="obs")], obs, target)
    assert float(fitted.carry[0, 0]) == pytest.approx(a, abs=0.005)
    assert float(fitted.carry[0, 1]) == 0.0
    assert float(fitted.shift[0, 0]) == pytest.approx(3.0, abs=0.05)
    assert float(fitted.scale[0, 0]) == pytest.approx(0.1, rel=0.05)


# The training split


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: f"{arm.normalize}-{arm.predict}")
def test_rows_that_are_held_out_do_not_move_the_map(arm: Target) -> None:
    obs, target = data(2)
    keep = torch.rand(2, N, generator=torch.Generator().manual_seed(6)) < 0.8
    clean = targets.fit([arm] * 2, obs, target, keep)
    obs[~keep], target[~keep] = 1e30, -1e30
    poisoned = targets.fit([arm] * 2, obs, target, keep)
    for r in range(2):
        alone = targets.fit([arm], obs[r : r + 1, keep[r]], target[r : r + 1, keep[r]])
        for name in ("carry", "shift", "scale"):
            assert torch.equal(getattr(clean, name)[r], getattr(poisoned, name)[r])
            close(getattr(clean, name)[r], getattr(alone, name)[0], rtol=1e-12)


def test_a_table_longer_than_one_piece_is_summed_whole() -> None:
    n = 2 * moments._CHUNK + 7
    obs, target = data(1, n)
    fitted = targets.fit([Target(normalize="both", predict="fitted")], obs, target)
    y = (target[0] - torch.nn.functional.pad(fitted.carry[0, :-1] * obs[0], (0, 1))).numpy()
    np.testing.assert_allclose(fitted.shift[0], y.mean(0), rtol=1e-10)
    np.testing.assert_allclose(fitted.scale[0], y.std(0), rtol=1e-10)
    assert float(fitted.carry[0, 1]) == pytest.approx(
        np.polyfit(obs[0, :, 1].numpy(), target[0, :, 1].numpy(), 1)[0], rel=1e-9
    )


# Columns that do not vary, or hardly


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567, 1e8 / 3])
def test_a_column_that_does_not_vary_has_scale_one(dtype: torch.dtype, value: float) -> None:
    obs, target = (x.to(dtype) for x in data(len(ARMS)))
    obs[..., 1] = target[..., 1] = target[..., -1] = value
    fitted = targets.fit(ARMS, obs, target)
    y = fitted.encode(obs, target)
    assert y.isfinite().all()
    still = fitted.scale[:, [1, 3]]
    assert torch.equal(still, torch.ones_like(still))
    reward = torch.tensor([arm.normalize in ("reward", "both") for arm in ARMS])
    centered = y[..., -1].abs().amax(1)
    assert float(centered[reward].max()) <= 1e-6 * abs(value)
    assert torch.equal(y[~reward, :, -1], target[~reward, :, -1])


def test_obs_that_stand_still_have_a_fitted_carry_of_zero() -> None:
    obs, target = data(1)
    obs[..., 1] = 0.1
    fitted = targets.fit([Target(predict="fitted", normalize="both")], obs, target)
    assert float(fitted.carry[0, 1]) == 0.0
    assert float(fitted.scale[0, 1]) == pytest.approx(target[0, :, 1].numpy().std(), rel=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1.0, 100.0, 1e4, -1e4])
def test_a_small_spread_beside_a_large_mean_is_kept(offset: float) -> None:
    """A variance as a difference of squares, or a coarse test for 'does not vary', would lose it."""
    obs, target = data(1)
    spread = 1e-3 * torch.randn(N, dtype=F64, generator=torch.Generator().manual_seed(7))
    target[0, :, -1] = offset + spread
    fitted = targets.fit([FTFL], obs, target)
    assert float(fitted.scale[0, -1]) == pytest.approx(spread.numpy().std(), rel=1e-6)
    assert float(fitted.shift[0, -1]) == pytest.approx(offset + float(spread.mean()), rel=1e-12)
    y = fitted.encode(obs, target)[0, :, -1]
    assert (float(y.mean()), float(y.std(unbiased=False))) == pytest.approx((0.0, 1.0), abs=1e-6)


def test_a_small_spread_in_float32_is_kept_as_far_as_float32_resolves_it() -> None:
    obs, target = (x.float() for x in data(1))
    target[0, :, -1] = 10.0 + 1e-3 * torch.randn(N, generator=torch.Generator().manual_seed(8))
    fitted = targets.fit([FTFL], obs, target)
    assert float(fitted.scale[0, -1]) == pytest.approx(target[0, :, -1].double().numpy().std(), rel=1e-6)
