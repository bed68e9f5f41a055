"""Published scores, and the gate that a baseline has to pass before anything is judged against it."""

import math

import pytest
from synthetic import write_train

from benchmark.judging import placing
from benchmark.judging.evidence import Score
from benchmark.judging.verdicts import judge_claim
from benchmark.records.store import Store
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite
from benchmark.suite.needs import runs

PAPER = load_suite().protocol("paper")


def scores(values):
    return [Score(seed, value, 1) for seed, value in enumerate(values)]


def test_published_scores_keep_their_source_licence_and_both_counts_of_steps():
    table = placing.published()
    assert list(table.columns) == placing.COLUMNS
    assert set(table["licence"]) == {"MIT", "Apache-2.0"}
    assert (table["source"] != "").all()
    known = table.dropna(subset=["frames"])
    assert (known["frames"] == known["agent_steps"] * known["action_repeat"]).all()
    assert set(table["task"]) - {""} <= set(load_suite().tasks)
    assert {task for task, entry in load_suite().tasks.items() if entry.paper_seven} <= set(table["task"])


def test_prediction_interval_against_a_hand_computed_one():
    found = placing.prediction_interval(10.0, 2.0, 5, 3)
    assert found.high - 10 == pytest.approx(2.776445 * 2 * math.sqrt(1 / 5 + 1 / 3), rel=1e-6)
    assert found.low == pytest.approx(20 - found.high)
    assert placing.prediction_interval(10.0, 0.0, 1, 3)[1:] == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("method", "task", "steps", "values", "field", "told"),
    [
        ("sac", "dmc:quadruped-walk", 500_000, [150.0] * 6, "", ""),
        ("sac", "dmc:quadruped-walk", 500_000, [990.0] * 6, "outside", "above what"),
        ("sac", "gym:HalfCheetah-v5", 300_000, [-300.0] * 6, "outside", "below what"),
        ("sac", "dmc:quadruped-walk", 20_000, [150.0] * 6, "unplaced", "not yet measurable"),
        ("sac", "gym:InvertedPendulum-v5", 300_000, [990.0] * 6, "unplaced", "no published sac"),
        ("sac", "dmc:quadruped-walk", 500_000, [math.nan] * 6, "", ""),
    ],
)
def test_a_baseline_lies_inside_outside_or_nowhere(method, task, steps, values, field, told):
    found = placing.place(method, task, steps, scores(values))
    for name in ("unplaced", "outside"):
        assert (told in getattr(found, name)) if name == field else getattr(found, name) == ""


def test_sources_that_do_not_say_what_they_count_are_no_gate():
    table = placing.published()
    unknown = table[(table["method"] == "sac") & table["frames"].isna() & (table["task"] == "dmc:quadruped-run")]
    assert unknown["mean"].max() > 600  # the one that would widen the gate to this
    assert placing.hull("sac", "dmc:quadruped-run", 500_000, 6)[0].high < 600


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", tmp_path / "cache")


@pytest.mark.parametrize(("base", "verdict"), [(150.0, "contradicted"), (995.0, "invalid")])
def test_no_verdict_against_a_baseline_that_is_not_where_others_found_it(store, base, verdict):
    claim = load_ledger().claim("hopper-unsolved").model_copy(update={"tasks": ("dmc:quadruped-walk",)})
    for spec in runs(claim, PAPER):
        write_train(store, spec, [(base if spec.method == "sac" else 999.0) + 0.1 * spec.seed] * 11)
    out = judge_claim(claim, store, PAPER)[0].outcome
    assert out.verdict == verdict
    assert ("published sources predict" in out.reason) == (verdict == "invalid")


def test_a_gate_is_run_even_where_it_is_not_compared():
    claim = load_ledger().claim("ftfl-beats-sac-utd20")
    assert {spec.method for spec in runs(claim, PAPER)} == {"ftfl", "sac-utd20", "sac"}
