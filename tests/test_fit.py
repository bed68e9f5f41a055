"""Fitting the ensemble: what it trains on, when it stops, and that a run does not depend on its companions."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from ensembles import (
    EARLY,
    FTFL,
    LAYOUT,
    MBPO,
    MIXED,
    SMALL,
    close,
    equal,
    make,
    make_streams,
    normal,
    runs_of,
    system,
    uniform,
    weights,
)
from torch import Tensor

from mbpo import dynamics, targets
from mbpo.checkpoint import copy_into
from mbpo.config import ModelConfig
from mbpo.dynamics import GaussianEnsemble
from mbpo.fitting import Split, bootstrap, fit, holdout_mse, make_split, scored_rows

# Splits and statistics


def test_a_split_is_disjoint_and_whole_and_each_runs_own() -> None:
    split = make_split(ModelConfig(holdout_ratio=0.2), 53, make_streams(["a", "b"]))
    assert split.train.shape == (2, 43) and split.holdout.shape == (2, 10)
    for r in range(2):
        assert sorted(split.train[r].tolist() + split.holdout[r].tolist()) == list(range(53))
    assert set(split.holdout[0].tolist()) != set(split.holdout[1].tolist())


@pytest.mark.parametrize(
    ("n", "ratio", "cap", "held"),
    [(100, 0.2, 7, 7), (100, 0.2, None, 20), (3, 0.2, 50, 1), (2, 0.2, 50, 1), (10, 0.99, 50, 9)],
)
def test_size_of_the_holdout(n: int, ratio: float, cap: int | None, held: int) -> None:
    config = ModelConfig(holdout_ratio=ratio, max_holdout=3, holdout_cap=cap)  # few are scored, as many are held out
    split = make_split(config, n, make_streams(["a"]))
    assert (split.holdout.shape[1], split.train.shape[1]) == (held, n - held)


@pytest.mark.parametrize("cap", [None, 50])
def test_a_row_keeps_its_side_and_counts_are_those_of_one_split(cap: int | None) -> None:
    config, names = ModelConfig(holdout_ratio=0.2, holdout_cap=cap), ["a", "b"]
    previous: Split | None = None
    for fit_, n in enumerate((2, 3, 104, 105, 333, 333)):
        split = make_split(config, n, make_streams([f"{name}/{fit_}" for name in names]), previous)
        held = max(1, int(0.2 * n)) if cap is None else min(max(1, int(0.2 * n)), cap)
        assert (split.holdout.shape[1], split.train.shape[1]) == (held, n - held)
        for r in range(2):
            assert sorted(split.train[r].tolist() + split.holdout[r].tolist()) == list(range(n))
            if previous is not None:
                assert set(previous.train[r].tolist()) <= set(split.train[r].tolist())
                assert set(previous.holdout[r].tolist()) <= set(split.holdout[r].tolist())
        previous = split
    assert set(split.holdout[0].tolist()) != set(split.holdout[1].tolist())
    with pytest.raises(ValueError, match="of 333 rows cannot go on to 332"):
        make_split(config, 332, make_streams(names), previous)


def test_the_first_split_is_the_permutation_of_all_rows() -> None:
    """Models that are fitted once keep the numbers of their stored records."""
    split, order = make_split(ModelConfig(), 50, make_streams(["a"])), make_streams(["a"]).permutation("split", 50)
    assert torch.equal(split.holdout, order[:, :10]) and torch.equal(split.train, order[:, 10:])


def test_elites_are_scored_on_some_of_a_large_holdout() -> None:
    holdout = torch.stack([torch.arange(100, 400), torch.arange(500, 800)])
    scored = scored_rows(ModelConfig(max_holdout=200), holdout, make_streams(["a", "b"]))
    for r in range(2):
        assert len(set(scored[r].tolist())) == 200 and set(scored[r].tolist()) < set(holdout[r].tolist())
        assert abs(float(scored[r].double().mean()) - float(holdout[r].double().mean())) < 20  # not one end of them
    assert scored_rows(ModelConfig(max_holdout=300), holdout, make_streams(["a", "b"])) is holdout
    ensemble, streams = make({**SMALL, "max_holdout": 5, "holdout_ratio": 0.5})
    rows = system(100)[0]
    split = fit(ensemble, rows, streams)
    assert split.holdout.shape[1] == 50
    assert not torch.equal(ensemble.holdout_mse, holdout_mse(ensemble, rows, split.holdout))


def test_one_row_cannot_be_split() -> None:
    ensemble, streams = make(SMALL)
    with pytest.raises(ValueError, match="1 rows cannot be split"):
        fit(ensemble, system(1)[0], streams)


def test_statistics_are_those_of_the_training_rows() -> None:
    ensemble, streams = make(SMALL, MIXED)
    rows = runs_of(100, 3)
    split = fit(ensemble, rows, streams)
    for r in range(3):
        train = rows[r : r + 1, split.train[r]]
        close(ensemble.input_mean[r], LAYOUT.inputs(train).mean(1))
        close(ensemble.input_std[r], LAYOUT.inputs(train).std(1, unbiased=False))
        alone = targets.fit([MIXED[r]], LAYOUT.obs(train), LAYOUT.targets(train))
        for name in ("carry", "shift", "scale"):
            close(getattr(ensemble.map, name)[r], getattr(alone, name)[0])


def test_every_fit_fits_statistics_afresh_and_remembers_the_scale_before() -> None:
    ensemble, streams = make(SMALL, (FTFL, MBPO))
    rows = runs_of(200, 2)
    split, mean = fit(ensemble, rows[:, :100], streams), ensemble.input_mean.clone()
    first = ensemble.map.scale.clone()
    assert torch.equal(ensemble.scale_before, first)  # nothing has moved yet
    rows[:, 100:] *= 3.0
    fit(ensemble, rows, streams, previous=split)
    assert not torch.equal(mean, ensemble.input_mean)
    assert torch.equal(ensemble.scale_before, first)
    assert bool((ensemble.map.scale[0] > 1.2 * first[0]).all()) and torch.equal(ensemble.map.scale[1], first[1])


def test_the_reported_error_is_that_of_rows_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three fits on growing data by a model that memorizes noise: a row that had been trained on would look easy."""
    batches = recorded(monkeypatch)
    wide = {"hidden_dims": (128, 128), "weight_decay": (0.0, 0.0, 0.0), "holdout_ratio": 0.3}
    ensemble, streams = make({**SMALL, **wide, "updates": 800, "learning_rate": 6e-3})
    rows, fresh = named(300, 1), named(2000, 1)
    for i, data in enumerate((rows, fresh)):
        LAYOUT.targets(data).copy_(normal(1, data.shape[1], 3, seed=50 + i))
    split: Split | None = None
    for n in (60, 180, 300):
        split = fit(ensemble, rows[:, :n], streams, previous=split)
    assert split is not None
    trained = {int(i) for batch in batches for i in LAYOUT.mask(batch).flatten().tolist()}
    never = sorted(set(range(300)) - trained)
    assert never == sorted(split.holdout[0].tolist())
    close(ensemble.holdout_mse, holdout_mse(ensemble, rows, torch.tensor([never])), atol=1e-9)
    honest = float(holdout_mse(ensemble, fresh, torch.arange(2000)[None]).mean())
    memorized = float(holdout_mse(ensemble, rows, split.train).mean())
    assert memorized < 0.7 * honest
    assert float(ensemble.holdout_mse.mean()) == pytest.approx(honest, rel=0.2)


# What is trained on


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The batches that `fit` trains on, as they come."""
    batches: list[Tensor] = []
    original = dynamics.update

    def spy(ensemble: GaussianEnsemble, rows: Tensor, active: Sequence[int] | None = None) -> None:
        batches.append(rows.clone())
        original(ensemble, rows, active)

    monkeypatch.setattr(dynamics, "update", spy)
    return batches


def named(rows: int, runs: int) -> Tensor:
    """Rows that carry their number, plus 10,000 a run, where the model does not look: in the mask."""
    ensemble_runs = runs_of(rows, runs)
    ensemble_runs[..., -1] = 10_000 * torch.arange(runs)[:, None] + torch.arange(rows)
    return ensemble_runs


@pytest.mark.parametrize(
    "constants", [{**SMALL, "updates": 200}, {**EARLY, "max_epochs": 8, "patience": 50}], ids=["fixed", "early"]
)
@pytest.mark.parametrize("sampling", ["shared", "per-member"])
def test_each_member_trains_on_its_own_bootstrap_and_never_on_the_holdout(
    monkeypatch: pytest.MonkeyPatch, constants: dict[str, Any], sampling: str
) -> None:
    batches = recorded(monkeypatch)
    ensemble, streams = make({**constants, "bootstrap": sampling}, (MBPO, FTFL))
    split = fit(ensemble, named(200, 2), streams)
    for r in range(2):
        train = {10_000 * r + i for i in split.train[r].tolist()}
        per_member = sampling == "per-member"
        names = torch.stack([LAYOUT.mask(b)[r] for b in batches], dim=-2)  # (E, K, B) or (K, B)
        rows_seen = [set(member.flatten().long().tolist()) for member in (names if per_member else names[None])]
        assert set.union(*rows_seen) <= train
        if not per_member:
            assert rows_seen == [train]
            continue
        assert len(rows_seen) == 3
        # A bootstrap sample of n rows holds 1 - 1/e = 63 % of them, give or take 2.5 % at n = 160.
        assert [len(s) / 160 for s in rows_seen] == pytest.approx([0.632] * 3, abs=0.1)
        for a, b in itertools.combinations(rows_seen, 2):
            assert len(a & b) / 160 == pytest.approx(0.632**2, abs=0.12)


def test_an_epoch_takes_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = recorded(monkeypatch)
    ensemble, streams = make({**EARLY, "max_epochs": 3, "patience": 50})
    split = fit(ensemble, named(205, 1), streams)  # 164 training rows: 8 batches of 20 and one of 4
    assert [b.shape[1] for b in batches] == [*[20] * 8, 4] * 3
    names = [torch.cat([LAYOUT.mask(b)[0] for b in batches[9 * e : 9 * e + 9]]).long().tolist() for e in range(3)]
    for epoch in names:
        assert sorted(epoch) == sorted(split.train[0].tolist())
    assert names[0] != names[1]


def test_an_epoch_rounds_up_for_members_with_data_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in jannerm: 400 training rows in batches of 256 are two updates."""
    batches = recorded(monkeypatch)
    ensemble, streams = make({**EARLY, "max_epochs": 1, "batch_size": 256, "bootstrap": "per-member"})
    fit(ensemble, named(500, 1), streams)
    assert [b.shape[:3] for b in batches] == [(1, 3, 256), (1, 3, 144)]


def test_a_batch_larger_than_the_training_rows_takes_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = recorded(monkeypatch)
    ensemble, streams = make({**EARLY, "max_epochs": 2, "patience": 50, "batch_size": 256})
    split = fit(ensemble, named(50, 1), streams)
    assert [sorted(LAYOUT.mask(b)[0].tolist()) for b in batches] == [sorted(split.train[0].tolist())] * 2


def test_bootstrap_draws_with_replacement_for_each_member_and_run() -> None:
    train = torch.stack([torch.arange(100, 400), torch.arange(500, 800)])
    config = ModelConfig(bootstrap="per-member")
    sample = bootstrap(train, config, make_streams(["a", "b"]))
    assert sample is not None and sample.shape == (2, 7, 300)
    for r, m in itertools.product(range(2), range(7)):
        assert int(sample[r, m].min()) >= int(train[r].min()) and int(sample[r, m].max()) <= int(train[r].max())
        assert len(sample[r, m].unique()) / 300 == pytest.approx(0.632, abs=0.1)
    flat = [tuple(row) for row in (sample - train[:, :1, None]).flatten(0, 1).tolist()]
    assert len(set(flat)) == 14
    assert bootstrap(train, ModelConfig(bootstrap="shared"), make_streams(["a", "b"])) is None


@pytest.mark.parametrize(("sampling", "alike"), [("shared", True), ("per-member", False)])
@pytest.mark.parametrize("constants", [SMALL, {**EARLY, "max_epochs": 3}], ids=["fixed", "early"])
def test_members_of_one_start_part_only_by_their_data(constants: dict[str, Any], sampling: str, alike: bool) -> None:
    ensemble, streams = make({**constants, "bootstrap": sampling})
    with torch.no_grad():
        for p in ensemble.net.parameters:
            p.copy_(p[:, :1].clone().expand_as(p))
    fit(ensemble, system(100)[0], streams)
    for a, b in itertools.combinations(range(3), 2):
        assert all(torch.allclose(p[:, a], p[:, b], rtol=0, atol=1e-12) for p in ensemble.net.parameters) == alike


@pytest.mark.parametrize("sampling", ["shared", "per-member"])
def test_poisoned_holdout_rows_change_no_weight(sampling: str) -> None:
    def fitted(rows: Tensor) -> tuple[GaussianEnsemble, Split]:
        ensemble, streams = make({**SMALL, "bootstrap": sampling}, MIXED)
        return ensemble, fit(ensemble, rows, streams)

    rows = runs_of(120, 3)
    clean, split = fitted(rows)
    poison = rows.clone()
    for r in range(3):
        poison[r, split.holdout[r]] = -1e9
    dirty, again = fitted(poison)
    assert torch.equal(split.holdout, again.holdout)
    assert equal(weights(clean), weights(dirty))
    assert torch.equal(clean.input_std, dirty.input_std) and torch.equal(clean.map.scale, dirty.map.scale)
    assert float(dirty.holdout_mse.min()) > 1e6 * float(clean.holdout_mse.max())


# Early stopping


def history(constants: dict[str, Any], rows: Tensor) -> tuple[GaussianEnsemble, Split, list[list[Tensor]]]:
    """An early-stopped fit of one run and its weights at the end of every epoch."""
    ensemble, streams = make(constants)
    per_epoch = (rows.shape[1] - int(rows.shape[1] * ensemble.config.holdout_ratio)) // ensemble.config.batch_size
    epochs: list[list[Tensor]] = []
    split = fit(
        ensemble,
        rows,
        streams,
        lambda _: epochs.append([p.detach().clone() for p in ensemble.net.parameters]),
        per_epoch,
    )
    return ensemble, split, epochs


def replay(ensemble: GaussianEnsemble, split: Split, rows: Tensor, epochs: list[list[Tensor]]) -> list[list[float]]:
    """Holdout error of every member at the end of every epoch; leaves the ensemble as it found it."""
    final = [p.detach().clone() for p in ensemble.net.parameters]
    errors = []
    with torch.no_grad():
        for state in [*epochs, final]:
            for p, value in zip(ensemble.net.parameters, state, strict=True):
                p.copy_(value)
            errors.append(holdout_mse(ensemble, rows, split.holdout)[0].tolist())
    return errors[:-1]


@pytest.mark.parametrize("sampling", ["shared", "per-member"])
@pytest.mark.parametrize(("patience", "improvement"), [(0, 0.01), (2, 0.01), (5, 0.01), (2, 0.1), (5, 0.3)])
def test_early_stopping_stops_where_the_rule_says_and_restores_the_best(
    sampling: str, patience: int, improvement: float
) -> None:
    rows = system(150)[0]
    ensemble, split, epochs = history(
        {**EARLY, "bootstrap": sampling, "patience": patience, "improvement": improvement}, rows
    )
    errors = replay(ensemble, split, rows, epochs)
    best, best_epoch, stale, ended = [math.inf] * 3, [0] * 3, 0, None
    for e, row in enumerate(errors):
        better = [m for m in range(3) if row[m] < (1 - improvement) * best[m]]
        for m in better:
            best[m], best_epoch[m] = row[m], e
        stale = 0 if better else stale + 1
        if stale > patience:
            ended = e
            break
    assert ended == len(epochs) - 1 < 59  # it stopped there, and before the cap
    for m in range(3):
        for p, then in zip(ensemble.net.parameters, zip(*epochs, strict=True), strict=True):
            assert torch.equal(p[:, m].detach(), then[best_epoch[m]][:, m])
    assert ensemble.holdout_mse[0].tolist() == pytest.approx(best, rel=1e-12)
    assert any(b < len(epochs) - 1 for b in best_epoch)
    for b, column in zip(best, zip(*errors, strict=True), strict=True):
        assert (1 - improvement) * b <= min(column) <= b


def test_the_cap_on_epochs_holds() -> None:
    _, _, epochs = history({**EARLY, "max_epochs": 2, "patience": 50}, system(150)[0])
    assert len(epochs) == 2


def test_what_was_best_in_an_earlier_fit_does_not_count() -> None:
    """The second data set is far from the first: every error on it is above the best of the first fit."""
    ensemble, streams = make(EARLY)
    rows = system(150)[0]
    fit(ensemble, rows, streams)
    best, before = ensemble.holdout_mse, weights(ensemble)
    LAYOUT.reward(rows).add_(5.0 + 3.0 * normal(1, 150, seed=9))
    fit(ensemble, rows, streams)
    assert bool((ensemble.holdout_mse > best).all())
    assert not any(torch.equal(old, new) for old, new in zip(before, ensemble.parameters, strict=True))


# Lockstep


@pytest.mark.parametrize(
    "constants",
    [
        SMALL,
        {**SMALL, "bootstrap": "per-member", "logvar_bounds": "learned"},
        EARLY,
        {**EARLY, "bootstrap": "per-member", "logvar_bounds": "learned"},
    ],
    ids=["fixed", "fixed, own bootstrap", "early", "early, own bootstrap"],
)
def test_a_run_in_lockstep_equals_a_solo_run_in_two_fits(constants: dict[str, Any]) -> None:
    """Solo and lockstep differ in the order of sums alone: 1e-8 in float64 after hundreds of updates."""
    names = ["a", "b", "c"]
    together, streams = make(constants, MIXED, names)
    solos = [make(constants, [arm], [name]) for arm, name in zip(MIXED, names, strict=True)]
    split: Split | None = None
    owns: list[Split | None] = [None] * 3
    for n in (150, 190):
        rows = runs_of(n, 3)
        split = fit(together, rows, streams, previous=split)
        for r, (alone, own_streams) in enumerate(solos):
            own = owns[r] = fit(alone, rows[r : r + 1], own_streams, previous=owns[r])
            assert torch.equal(split.train[r], own.train[0])
            for p, q in zip(together.parameters, alone.parameters, strict=True):
                close(p[r], q[0], atol=1e-8)
            assert torch.equal(together.elites[r], alone.elites[0])
            close(together.holdout_mse[r], alone.holdout_mse[0], atol=1e-8)
        if constants.get("stopping") == "early":
            updates = [int(k) for k in together.adam.steps[:, 0]]
            assert len(set(updates)) > 1  # companions did stop elsewhere
            assert updates == [int(alone.adam.steps[0, 0]) for alone, _ in solos]


@pytest.mark.parametrize("constants", [SMALL, EARLY], ids=["fixed", "early"])
def test_what_one_run_is_fed_leaves_the_others_bit_identical(constants: dict[str, Any]) -> None:
    def fitted(scale: float) -> GaussianEnsemble:
        ensemble, streams = make(constants, MIXED)
        rows = runs_of(150, 3)
        rows[1] *= scale
        fit(ensemble, rows, streams)
        return ensemble

    plain, other = fitted(1.0), fitted(3.0)
    for p, q in zip(plain.parameters, other.parameters, strict=True):
        assert torch.equal(p[[0, 2]], q[[0, 2]])
        assert not torch.equal(p[1], q[1])


def test_a_fit_repeats_and_watching_it_changes_nothing() -> None:
    def fitted(watch: Callable[[int], None] | None, every: int) -> list[Tensor]:
        ensemble, streams = make({**SMALL, "updates": 130})
        fit(ensemble, system(100)[0], streams, watch, every)
        return weights(ensemble)

    watched: list[int] = []
    plain = fitted(None, 0)
    assert equal(plain, fitted(None, 0))
    assert equal(plain, fitted(watched.append, 50))
    assert watched == [50, 100]


def test_a_second_fit_goes_on_from_the_first() -> None:
    """Warm start: weights and optimizer are those of the first fit."""
    ensemble, streams = make({**SMALL, "updates": 300})
    rows = system(300)[0]
    fit(ensemble, rows, streams)
    first = float(ensemble.holdout_mse.mean())
    cold, other = make({**SMALL, "updates": 3})
    fit(cold, rows, other)
    ensemble.config = ModelConfig(**{**SMALL, "updates": 3})
    fit(ensemble, rows, streams)
    assert float(ensemble.holdout_mse.mean()) < 1.5 * first < 0.7 * float(cold.holdout_mse.mean())
    assert ensemble.adam.steps.unique().tolist() == [303.0]


def test_state_holds_all_that_a_fit_changes() -> None:
    """A new ensemble that takes the state over goes on exactly as the first does."""
    ensemble, streams = make({**EARLY, "logvar_bounds": "learned"}, MIXED)
    fit(ensemble, runs_of(150, 3), streams)
    other, fresh = make({**EARLY, "logvar_bounds": "learned"}, MIXED)
    copy_into(other.state(), ensemble.state())
    fresh.restore(streams.states())
    assert torch.equal(other.holdout_mse, ensemble.holdout_mse)
    probe = runs_of(20, 3)
    noise, member = normal(3, 20, 3), uniform(3, 20)
    for each in (ensemble, other):
        assert torch.equal(
            each.sample(LAYOUT.obs(probe), LAYOUT.action(probe), member, noise),
            ensemble.sample(LAYOUT.obs(probe), LAYOUT.action(probe), member, noise),
        )
    fit(ensemble, runs_of(180, 3), streams)
    fit(other, runs_of(180, 3), fresh)
    assert equal(weights(ensemble), weights(other))
    assert torch.equal(ensemble.elites, other.elites)
