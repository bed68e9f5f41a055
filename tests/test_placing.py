"""Published scores, and the gate that a baseline has to pass before anything is judged against it."""

import math

import pytest
from synthetic import write_train

from benchmark.judging import gate, placing
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
        ("sac", "dmc:quadruped-walk", 500_000, [300.0, 310.0, 290.0, 305.0, 295.0, 300.0], "", ""),
        ("sac", "dmc:quadruped-run", 500_000, [667.4 + d for d in (-90, 90, -60, 60, 10, -10)], "", ""),
        ("sac", "dmc:quadruped-walk", 500_000, [150.0] * 6, "outside", "has not learned"),
        ("sac", "dmc:quadruped-walk", 500_000, [300.0], "outside", "one seed has no spread"),
        ("sac", "dmc:quadruped-walk", 500_000, [990.0] * 6, "outside", "above what"),
        ("sac", "gym:HalfCheetah-v5", 300_000, [-300.0] * 6, "outside", "has not learned"),
        ("sac", "gym:HalfCheetah-v5", 300_000, [300.0] * 6, "outside", "below what"),
        ("sac", "dmc:quadruped-walk", 20_000, [150.0] * 6, "unplaced", "not yet measurable"),
        ("sac", "gym:InvertedPendulum-v5", 300_000, [990.0] * 6, "unplaced", "no published sac"),
        ("sac", "dmc:quadruped-walk", 500_000, [math.nan] * 6, "", ""),
    ],
)
def test_a_baseline_lies_inside_outside_or_nowhere(method, task, steps, values, field, told):
    found = gate.place(method, task, steps, scores(values))
    for name in ("unplaced", "outside"):
        assert (told in getattr(found, name)) if name == field else getattr(found, name) == ""


def test_a_uniformly_random_policy_passes_the_gate_on_no_task_of_the_seven():
    seven = {task: entry for task, entry in load_suite().tasks.items() if entry.paper_seven}
    assert len(seven) == 7
    for task, entry in seven.items():
        for factor in (0.98, 1.0, 1.02):
            values = [factor * entry.random_score * (1 + 0.01 * seed) for seed in range(-3, 3)]
            assert "has not learned" in gate.place("sac", task, 500_000, scores(values)).outside, task


def test_a_healthy_baseline_as_a_learned_source_has_it_passes_on_every_task_of_the_seven():
    healthy = {"hopper-stand": 846, "hopper-hop": 159, "humanoid-stand": 201, "humanoid-walk": 185}
    healthy |= {"humanoid-run": 79, "quadruped-walk": 300, "quadruped-run": 667}
    for task, mean in healthy.items():
        values = [mean * (1 + 0.1 * step) for step in (-2, -1, 0, 0, 1, 2)]
        assert gate.place("sac", f"dmc:{task}", 500_000, scores(values)) == ("", ""), task


def test_runs_that_two_repositories_publish_are_one_source():
    table = placing.published()
    rows = table[(table["method"] == "sac") & (table["task"] == "dmc:humanoid-run") & (table["frames"] == 500_000)]
    assert len(rows) == 3 and placing.hull("sac", "dmc:humanoid-run", 500_000, 6)[1] == 2


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", tmp_path / "cache")


@pytest.mark.parametrize(("base", "verdict"), [(300.0, "contradicted"), (150.0, "invalid"), (995.0, "invalid")])
def test_no_verdict_against_a_baseline_that_is_not_where_others_found_it(store, base, verdict):
    claim = load_ledger().claim("hopper-unsolved").model_copy(update={"tasks": ("dmc:quadruped-walk",)})
    for spec in runs(claim, PAPER):
        write_train(store, spec, [(base if spec.method == "sac" else 999.0) + 0.1 * spec.seed] * 11)
    out = judge_claim(claim, store, PAPER)[0].outcome
    assert out.verdict == verdict
    assert any(told in out.reason for told in ("published sources predict", "has not learned")) == (
        verdict == "invalid"
    )


def test_a_gate_is_run_even_where_it_is_not_compared():
    claim = load_ledger().claim("ftfl-beats-sac-utd20")
    assert {spec.method for spec in runs(claim, PAPER)} == {"ftfl", "sac-utd20", "sac"}
