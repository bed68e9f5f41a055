"""Fits on fixed data: equal rows for all arms of a seed, records of known form, and answers that were planted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import FITTED, FTFL, MBPO, small, small_janner
from pandas.testing import assert_frame_equal
from toy_envs import DRIFT, PLANTED

from benchmark.records.spec import FitBudget, RunSpec
from benchmark.running import fit as forensics
from benchmark.running import provenance
from benchmark.running.fit import fit_job, random_transitions
from benchmark.running.job import Result
from mbpo.buffer import Layout
from mbpo.config import Method, Target
from mbpo.diagnostics import REWARD_BINS

SCALARS = {
    *("reward_r2", "reward_slope", "reward_pred_mean", "reward_true_mean", "reward_pred_std", "reward_true_std"),
    *("reward_noise_std", "reward_std_ratio", "logvar_target", "logvar_raw", "at_floor", "at_ceiling"),
    *("calibration_obs", "calibration_reward", "error_over_delta", "error_over_next_obs"),
}
PER_TARGET = {
    *("dim_logvar_target", "dim_logvar_raw", "dim_calibration", "dim_error_std", "dim_carry", "dim_scale"),
    *("dim_at_floor", "dim_at_ceiling"),
}
PER_BIN = {"reward_true_bin", "reward_pred_bin"}
GEOMETRY = {"increment_ratio", "fitted_carry", "increment_kurtosis", "zero_increments"}
GEOMETRY_SCALARS = {"reward_share_delta", "reward_share_next_obs"}


def fit_spec(constants: Method, seed: int, task: str = PLANTED, n: int = 400, **changes: Any) -> RunSpec:
    name = f"{constants.target.normalize}-{constants.target.predict.replace('_', '-')}"
    budget = FitBudget(transitions=n, heldout=n // 2)
    return RunSpec(
        **{"kind": "fit", "task": task, "method": name, "seed": seed, "constants": constants, "fit": budget, **changes}
    )


def arm(target: Target, updates: int = 60, **model: Any) -> Method:
    return small(target, model={"updates": updates, **model})


def scalars(result: Result, step: int | None = None) -> pd.Series:
    """Scalar measures by name, of the last update by default."""
    table = result.diagnostics[result.diagnostics["dim"] == -1]
    return table[table["step"] == (table["step"].max() if step is None else step)].set_index("measure")["value"]


# The data


def handed_over(
    monkeypatch: pytest.MonkeyPatch, specs: Sequence[RunSpec], **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """The training rows ``(R, N, W)`` and held-out rows ``(R, M, W)`` that `fit_job` works with."""
    fit, measure = forensics.fitting.fit, forensics._final
    seen: list[torch.Tensor] = []

    def spy(ensemble: Any, rows: torch.Tensor, *rest: Any, **named: Any) -> Any:
        seen.append(rows.clone())
        return fit(ensemble, rows, *rest, **named)

    def final(ensemble: Any, held: torch.Tensor, train: torch.Tensor) -> Any:
        seen.append(held.clone())
        assert torch.equal(train, seen[0])
        return measure(ensemble, held, train)

    monkeypatch.setattr(forensics.fitting, "fit", spy)
    monkeypatch.setattr(forensics, "_final", final)
    fit_job(specs, device="cpu", **options)
    monkeypatch.undo()
    return seen[0], seen[1]


def test_all_arms_of_a_seed_see_the_same_rows_and_another_seed_others(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [fit_spec(arm(target, 2), seed) for target, seed in ((MBPO, 0), (FTFL, 0), (FITTED, 1), (MBPO, 1))]
    train, held = handed_over(monkeypatch, specs)
    assert train.shape == (4, 400, 12) and held.shape == (4, 200, 12)
    for rows in (train, held):
        assert torch.equal(rows[0], rows[1]) and torch.equal(rows[2], rows[3])
        assert not (rows[0][:, None] == rows[2][None]).all(-1).any(), "two seeds share a transition"


def test_training_and_heldout_rows_share_no_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes last 50 steps: each set is a whole number of episodes, and no state of one is in the other."""
    train, held = handed_over(monkeypatch, [fit_spec(arm(MBPO, 2), 0)])
    layout = Layout(4, 2)
    for rows in (train[0], held[0]):
        continued = (layout.obs(rows)[1:] == layout.next_obs(rows)[:-1]).all(-1)
        assert torch.equal(continued, torch.arange(1, len(rows)) % 50 != 0)
        assert (layout.mask(rows) == 1).all()
        torch.testing.assert_close(layout.reward(rows), 0.02 * layout.action(rows)[:, 0])
    mine, other = layout.obs(train[0]), layout.obs(held[0])
    assert not (mine[:, None] == other[None]).all(-1).any()
    assert torch.cat([mine, other]).unique(dim=0).shape[0] == 600


def test_actions_are_uniform_and_terminations_recorded() -> None:
    rows = torch.as_tensor(random_transitions(DRIFT, (), 0, 2_000, "train"))
    layout = Layout(2, 1)
    action = layout.action(rows)[:, 0]
    assert abs(float(action.mean())) < 0.05 and abs(float(action.std()) - 3**-0.5) < 0.02
    out = layout.next_obs(rows)[:, 0].abs() > 0.6
    assert torch.equal(layout.mask(rows), 1.0 - out.float()) and out.any()


def test_a_cached_data_set_is_the_same_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = random_transitions(PLANTED, (), 3, 120, "train")
    made = random_transitions(PLANTED, (), 3, 120, "train", tmp_path)
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    monkeypatch.setattr(forensics, "_collect", None)  # nothing is collected again
    again = random_transitions(PLANTED, (), 3, 120, "train", tmp_path)
    monkeypatch.undo()
    for rows in (made, again):
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, plain)
    others = [
        random_transitions(PLANTED, (), 4, 120, "train", tmp_path),
        random_transitions(PLANTED, (), 3, 120, "heldout", tmp_path),
    ]
    assert not any(np.array_equal(rows, plain) for rows in others)
    assert len(list(tmp_path.rglob("*.npz"))) == 3 == len([p for p in tmp_path.rglob("*") if p.is_file()])


@pytest.mark.parametrize("harm", ["a bit", "its end"])
def test_cached_rows_that_were_damaged_are_collected_again(
    harm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = random_transitions(PLANTED, (), 3, 120, "train", tmp_path)
    (path,) = tmp_path.rglob("*.npz")
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data if harm == "a bit" else data[: len(data) // 2])
    np.testing.assert_array_equal(random_transitions(PLANTED, (), 3, 120, "train", tmp_path), plain)
    assert "is damaged and is made again" in caplog.text
    caplog.clear()
    np.testing.assert_array_equal(random_transitions(PLANTED, (), 3, 120, "train", tmp_path), plain)
    assert not caplog.records


def test_an_edited_environment_never_meets_the_rows_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_transitions(PLANTED, (), 3, 120, "train", tmp_path)
    monkeypatch.setattr(provenance, "engine", lambda task, drop: "another")
    monkeypatch.setattr(forensics, "_collect", lambda *_: np.ones((1, 2), np.float32))
    assert random_transitions(PLANTED, (), 3, 120, "train", tmp_path).shape == (1, 2)


def test_a_cached_job_gives_the_same_records(tmp_path: Path) -> None:
    specs = [fit_spec(arm(MBPO, 20), 0), fit_spec(arm(FTFL, 20), 0)]
    plain, first, second = (fit_job(specs, device="cpu", cache=cache) for cache in (None, tmp_path, tmp_path))
    for a, b, c in zip(plain, first, second, strict=True):
        assert_frame_equal(a.diagnostics, b.diagnostics, check_exact=True)
        assert_frame_equal(a.diagnostics, c.diagnostics, check_exact=True)
        assert_frame_equal(a.curve, c.curve, check_exact=True)


# The records


def test_records_have_the_documented_form() -> None:
    specs = [fit_spec(arm(FTFL), 0), fit_spec(arm(MBPO), 0)]
    told: list[tuple[int, int]] = []
    for result in fit_job(specs, device="cpu", progress=lambda *at: told.append(at)):
        assert list(result.curve.columns) == ["update", "holdout_mse", "holdout_nll"]
        assert list(result.diagnostics.columns) == ["step", "measure", "dim", "value"]
        steps = list(range(6, 61, 6))
        assert result.curve["update"].tolist() == steps
        table = result.diagnostics
        assert not table.duplicated(["step", "measure", "dim"]).any()
        assert sorted(set(table["step"])) == steps
        for step in steps[:-1]:
            assert set(scalars(result, step).index) == SCALARS
        assert set(scalars(result).index) == SCALARS | GEOMETRY_SCALARS
        vectors = {m: sorted(t["dim"]) for m, t in table[table["dim"] >= 0].groupby("measure")}
        assert vectors.keys() == PER_TARGET | PER_BIN | GEOMETRY
        for names, length in ((PER_TARGET, 5), (PER_BIN, REWARD_BINS), (GEOMETRY, 4)):
            assert all(vectors[name] == list(range(length)) for name in names)
        assert set(table[table["dim"] >= 0]["step"]) == {60}
    assert told[-1] == (60, 60) and [done for done, _ in told] == sorted(done for done, _ in told)


def test_the_last_line_is_the_finished_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its curve and measures are those of the ensemble with elites chosen, on the held-out rows, by hand."""
    kept: list[Any] = []
    original = forensics.GaussianEnsemble

    def build(*args: Any) -> Any:
        kept.append(original(*args))
        return kept[-1]

    monkeypatch.setattr(forensics, "GaussianEnsemble", build)
    spec = fit_spec(arm(FTFL), 0, precision="fp64")
    (result,) = fit_job([spec], device="cpu")
    (ensemble,) = kept
    rows = torch.as_tensor(random_transitions(PLANTED, (), 0, 200, "heldout")).double()[None]
    with torch.no_grad():
        mean, logvar = (part[0, ensemble.elites[0]] for part in ensemble(rows[..., :6]))
    y = (rows[0, :, 6:-1] - ensemble.map.shift) / ensemble.map.scale
    error = (mean - y).square()
    nll = (error / logvar.exp() + logvar).mean()
    assert result.curve["holdout_mse"].iloc[-1] == pytest.approx(float(error.mean()), rel=1e-9)
    assert result.curve["holdout_nll"].iloc[-1] == pytest.approx(float(nll), rel=1e-9)
    predicted = mean[..., -1] * ensemble.map.scale[0, -1] + ensemble.map.shift[0, -1]
    truth = rows[0, :, -2]
    r2 = 1 - (predicted - truth).square().mean() / truth.var(correction=0)
    assert scalars(result)["reward_r2"] == pytest.approx(float(r2), rel=1e-6)
    carry = result.diagnostics.query("measure == 'dim_carry'")["value"].tolist()
    scale = result.diagnostics.query("measure == 'dim_scale'")["value"].tolist()
    assert carry == [0.0] * 5 and scale == pytest.approx(ensemble.map.scale[0].tolist())


@pytest.mark.parametrize("family", [small, small_janner], ids=["fixed", "early"])
def test_a_record_does_not_depend_on_its_companions(family: Any) -> None:
    """Alone or among three, to rounding in float64; early stopping ends each run at its own update."""
    model = {"updates": 60} if family is small else {}
    runs = [(MBPO, 0), (FTFL, 0), (FITTED, 1)]
    methods = [family(target) for target, _ in runs]
    constants = [m.model_copy(update={"model": m.model.model_copy(update=model)}) for m in methods if m.model]
    specs = [fit_spec(c, seed, precision="fp64") for c, (_, seed) in zip(constants, runs, strict=True)]
    together = fit_job(specs, device="cpu")
    for spec, among in zip(specs, together, strict=True):
        (alone,) = fit_job([spec], device="cpu")
        assert_frame_equal(among.curve, alone.curve, rtol=1e-9)
        assert_frame_equal(among.diagnostics, alone.diagnostics, rtol=1e-7, atol=1e-9)
    if family is small_janner:
        assert len({result.curve["update"].iloc[-1] for result in together}) > 1, "all stopped together"


# Planted answers


def test_a_tiny_reward_beside_large_observations_is_lost_raw_and_found_normalized() -> None:
    """The reward is 0.02 a, observations are of the order of 50: the first signature, planted.

    Normalizing the reward alone is enough to see it, if less well; normalizing the observations alone is not.
    """
    arms = {
        "raw": MBPO,
        "normalized": FTFL,
        "reward": Target(normalize="reward"),
        "obs": Target(normalize="obs"),
    }
    methods = {name: small(target, model={"updates": 600, "hidden_dims": (32, 32)}) for name, target in arms.items()}
    specs = [fit_spec(method, seed, n=2_000) for method in methods.values() for seed in (0, 1)]
    results = fit_job(specs, device="cpu")
    found = {name: [scalars(r) for r in results[2 * i : 2 * i + 2]] for i, name in enumerate(arms)}
    r2 = {name: [float(s["reward_r2"]) for s in both] for name, both in found.items()}
    assert min(r2["normalized"]) > 0.95, r2
    assert max(r2["raw"]) < min(r2["obs"]) and max(r2["obs"]) < 0.0 < min(r2["reward"]), r2
    for s in found["raw"]:
        assert s["reward_std_ratio"] > 2.0  # what enters the synthetic buffer is too wide ...
        assert abs(s["reward_pred_mean"] - s["reward_true_mean"]) < 5 * s["reward_pred_std"]  # ... around its mean
    for s in found["normalized"]:
        assert 0.8 < s["reward_std_ratio"] < 1.3
        assert s["reward_true_std"] == pytest.approx(0.02 / 3**0.5, rel=0.1)


def test_geometry_tells_what_was_planted() -> None:
    """The toy decays by 0.7 under noise of 30: carry 0.7, and the variance of increments follows."""
    spec = fit_spec(arm(FITTED, 2), 0, n=4_000)
    table = fit_job([spec], device="cpu")[0].diagnostics
    carry = table.query("measure == 'fitted_carry'")["value"].to_numpy()
    np.testing.assert_allclose(carry, 0.7, atol=0.05)
    fitted = table.query("measure == 'dim_carry'")["value"].to_numpy()
    np.testing.assert_allclose(fitted[:-1], carry, atol=0.03)
    assert fitted[-1] == 0.0
    # Var(s' - s) / Var(s') = 2 (1 - 0.7) in the stationary state.
    np.testing.assert_allclose(table.query("measure == 'increment_ratio'")["value"], 0.6, atol=0.06)
    np.testing.assert_allclose(table.query("measure == 'dim_scale'")["value"].iloc[:-1], 30.0, rtol=0.06)
    assert (table.query("measure == 'zero_increments'")["value"] == 0).all()
