"""Published scores, and the gate that a baseline has to pass before anything is judged against it."""

import math

import numpy as np
import pytest
from synthetic import write_train

from benchmark.judging import gate, placing
from benchmark.judging.evidence import Score
from benchmark.judging.verdicts import judge_claim
from benchmark.records.store import Store
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite
from benchmark.suite.needs import runs

D = (-9, 9, -6, 6, 1, -1)
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
    ("task", "steps", "values", "field", "clause"),
    [
        (
            "dmc:quadruped-walk",
            500_000,
            [300.0, 310.0, 290.0, 305.0, 295.0, 300.0],
            "mark",
            "random actions alone: 3 of 3",
        ),
        (
            "dmc:quadruped-run",
            500_000,
            [667.4 + d for d in (-90, 90, -60, 60, 10, -10)],
            "mark",
            "3 of 4 sources never",
        ),
        ("dmc:quadruped-run", 500_000, [350.0 + d for d in D], "refused", "erl_lib at least 549"),
        ("dmc:humanoid-run", 500_000, [500.0 + d for d in D], "mark", "better than all published"),
        (
            "dmc:hopper-stand",
            500_000,
            [70.0 + d for d in D],
            "mark",
            "1 of 4 sources never learned",
        ),
        ("dmc:hopper-stand", 500_000, [50.0 + d for d in D], "refused", "each of the 3 published"),
        ("gym:Hopper-v5", 300_000, [1_500.0 + d for d in D], "", ""),  # between the two sources
        ("dmc:quadruped-walk", 500_000, [150.0] * 6, "refused", "has not learned"),
        ("dmc:quadruped-walk", 500_000, [300.0], "refused", "one seed has no spread"),
        ("gym:HalfCheetah-v5", 300_000, [-300.0] * 6, "refused", "has not learned"),
        ("gym:HalfCheetah-v5", 300_000, [300.0] * 6, "refused", "below what each of the 2"),
        ("dmc:quadruped-walk", 20_000, [150.0] * 6, "unplaced", "not yet measurable"),
        ("gym:InvertedPendulum-v5", 300_000, [990.0] * 6, "unplaced", "no published sac"),
        ("dmc:quadruped-walk", 500_000, [math.nan] * 6, "refused", "no finite score at seed 0"),
        ("dmc:quadruped-walk", 500_000, [], "unplaced", "no run of sac"),
    ],
)
def test_a_baseline_passes_is_marked_refused_or_cannot_be_placed(task, steps, values, field, clause):
    placed = gate.place("sac", task, steps, scores(values))
    for name in ("unplaced", "refused", "mark"):
        assert (clause in getattr(placed, name)) if name == field else getattr(placed, name) == ""


def test_a_source_at_action_repeat_2_speaks_of_as_many_agent_steps_to_as_many_frames():
    counts = {steps: len(placing.sources("sac", "dmc:humanoid-run", steps)) for steps in (249_999, 250_000, 400_000)}
    assert counts == {249_999: 0, 250_000: 2, 400_000: 2}
    assert [len(placing.sources("sac", "gym:Hopper-v5", steps)) for steps in (299_999, 300_000, 300_001)] == [0, 2, 0]


def test_the_baseline_of_a_gate_has_runs_that_can_be_compared_with_each_other():
    own = [Score(seed, 300.0 + seed, 1, engine=f"e{seed % 2}") for seed in range(6)]
    assert "2 engines are mixed" in gate.place("sac", "dmc:quadruped-walk", 500_000, own).refused


def test_baselines_drawn_from_a_source_that_learned_pass_and_half_of_a_narrow_one_does_not():
    rng = np.random.default_rng(0)

    def refused(task, mean, sd):
        drawn = [scores(np.clip(rng.normal(mean, sd, 6), 0, 1000)) for _ in range(40)]
        return sum(bool(gate.place("sac", task, 500_000, own).refused) for own in drawn) / 40

    for task in ("dmc:hopper-stand", "dmc:humanoid-run", "dmc:quadruped-run"):
        entry = load_suite().task(task)
        for source in placing.sources("sac", task, 500_000):
            if gate._learned(source, entry):
                assert refused(task, source.mean, source.sd) <= 0.075, (task, source.name)
    assert refused("dmc:quadruped-run", 0.6 * 667, 90) == 1.0


def test_a_uniformly_random_policy_passes_the_gate_on_no_task_of_the_seven():
    seven = {task: entry for task, entry in load_suite().tasks.items() if entry.paper_seven}
    assert len(seven) == 7
    for task, entry in seven.items():
        for factor in (0.98, 1.0, 1.02):
            values = [factor * entry.random_score * (1 + 0.01 * seed) for seed in range(-3, 3)]
            assert "has not learned" in gate.place("sac", task, 500_000, scores(values)).refused, task


def test_a_healthy_baseline_as_a_learned_source_has_it_passes_on_every_task_of_the_seven():
    healthy = {"hopper-stand": 846, "hopper-hop": 159, "humanoid-stand": 201, "humanoid-walk": 185}
    healthy |= {"humanoid-run": 79, "quadruped-walk": 300, "quadruped-run": 667}
    for task, mean in healthy.items():
        values = [mean * (1 + 0.1 * step) for step in (-2, -1, 0, 0, 1, 2)]
        assert gate.place("sac", f"dmc:{task}", 500_000, scores(values))[:2] == ("", ""), task


def test_runs_that_two_repositories_publish_are_one_source():
    table = placing.published()
    rows = table[(table["method"] == "sac") & (table["task"] == "dmc:humanoid-run") & (table["frames"] == 500_000)]
    assert len(rows) == 3 and [s.name for s in placing.sources("sac", "dmc:humanoid-run", 500_000)] == [
        "DAVIAN-Robotics/SimbaV2 and SonyResearch/simba",
        "nicklashansen/tdmpc2",
    ]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", tmp_path / "cache")


@pytest.mark.parametrize(("base", "verdict"), [(300.0, "contradicted"), (150.0, "invalid")])
def test_no_verdict_against_a_baseline_that_is_not_where_others_found_it(store, base, verdict):
    claim = load_ledger().claim("hopper-unsolved").model_copy(update={"tasks": ("dmc:quadruped-walk",)})
    for spec in runs(claim, PAPER):
        write_train(store, spec, [(base if spec.method == "sac" else 999.0) + 0.1 * spec.seed] * 11)
    out = judge_claim(claim, store, PAPER)[0].outcome
    assert out.verdict == verdict
    assert ("has not learned" in out.reason) == (verdict == "invalid")
    assert ("held against random actions alone" in out.reason) == (verdict != "invalid")


def test_a_gate_is_run_even_where_it_is_not_compared():
    claim = load_ledger().claim("ftfl-beats-sac-utd20")
    assert {spec.method for spec in runs(claim, PAPER)} == {"ftfl", "sac-utd20", "sac"}
