"""Aggregates of unequal numbers of seeds: rliable's where they are equal, and no seed left out where they are not."""

import numpy as np
import pandas as pd
import pytest
from rliable import metrics

from benchmark.judging import aggregates, ragged, stats
from benchmark.suite.load import load_suite


@pytest.mark.parametrize("shape", [(5, 7), (6, 4), (10, 3)])
def test_equal_numbers_give_rliables_estimates(shape):
    x, y = np.random.default_rng(0).random((2, *shape)) * 1.4
    for name in stats.AGGREGATES:
        assert ragged.aggregate(list(x.T), name) == pytest.approx(getattr(metrics, f"aggregate_{name}")(x)), name
    chance = ragged.improvement(list(x.T), list(y.T), 200)
    assert chance.estimate == pytest.approx(metrics.probability_of_improvement(x, y))
    taus = np.linspace(0, 1.4, 5)
    share, low, high = ragged.profile(list(x.T), taus, 200)
    theirs = stats.performance_profiles({"x": x}, taus, repetitions=50)["x"][0]
    assert share == pytest.approx(theirs)
    assert (low <= share).all() and (share <= high).all()


def test_intervals_are_those_of_the_stratified_bootstrap():
    x = np.random.default_rng(1).normal(size=(6, 5))
    mine = ragged.interval_estimates({"x": list(x.T)}, ["iqm", "mean"], 4_000)["x"]
    theirs = stats.interval_estimates({"x": x}, aggregates=["iqm", "mean"], repetitions=4_000)["x"]
    for name in mine:
        assert mine[name] == pytest.approx(theirs[name], abs=0.06)


def test_every_seed_counts_and_every_task_weighs_the_same():
    one, two = np.zeros(5), np.ones(10)
    assert ragged.aggregate([one, two], "mean") == pytest.approx(0.5)
    assert ragged.aggregate([one, two], "iqm") == pytest.approx(0.5)
    assert ragged.aggregate([one, np.array([*np.ones(9), 11.0])], "mean") == pytest.approx(1.0)  # the tenth seed counts


def test_five_seeds_of_one_task_drop_none_of_another():
    rows = [
        (task, method, seed, step, value + seed)
        for method, value in (("sac", 100.0), ("mbpo", 300.0))
        for task, seeds in (("dmc:humanoid-run", range(5)), ("dmc:humanoid-walk", range(100, 110)))
        for seed in seeds
        for step in (0, 90, 100)
    ]
    curves = pd.DataFrame(rows, columns=["task", "method", "seed", "env_steps", "episode_return"])
    found = aggregates.matrices(curves, load_suite())["dmc"]
    assert [len(task) for task in found["mbpo"]] == [5, 10]
    tables = aggregates.frames({"dmc": found})
    assert set(tables["aggregates"]["seeds"]) == {5}
    assert tables["improvement"].iloc[0]["probability"] == 1.0
