"""The simulation: its vectorized rules are those of the verdicts, and its checks can fail."""

import numpy as np
import pandas as pd
import pytest

from benchmark.judging import chances, planning, simulated, stats, verdicts
from benchmark.judging.criteria import judge
from benchmark.judging.evidence import Evidence, Score
from benchmark.records.store import Store
from benchmark.studies.calibration import figures, study
from benchmark.suite.criterion import ALL, Criterion, Look
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite

REPETITIONS = 1_000


def scored(values, task=""):
    return tuple(Score(seed, float(value), 1, stratum=task) for seed, value in enumerate(values))


def judged(family, x, y, planned):
    """What `criteria.judge` says of one repetition (tasks, seeds)."""
    rule = family.criterion
    if rule.aggregate:
        pools = (tuple(s for i, row in enumerate(v) for s in scored(row, str(i))) for v in (x, y))
        tasks = {ALL: Evidence("a", "b", *pools)}
    else:
        tasks = {str(i): Evidence("a", "b", scored(x[i]), scored(y[i])) for i in range(len(x))}
    plain = rule.model_copy(update={"at_least": None})
    return [judge(plain, tasks, planned)[task].verdict == "reproduced" for task in tasks], judge(rule, tasks, planned)


@pytest.mark.parametrize("family", simulated.families(), ids=lambda family: family.words)
@pytest.mark.parametrize("ratio", [1, 10])
def test_the_simulated_rule_is_the_rule_of_the_verdicts(family, ratio, monkeypatch):
    monkeypatch.setattr(planning, "seeds_to_detect", lambda *_, **__: None)  # only told, and slow
    monkeypatch.setattr(planning, "power", lambda *_, **__: 0.0)
    rng = np.random.default_rng(0)
    x, y = simulated.truth(family, "normal", rng, 2, (5, 5), ratio)
    up = 1.0 if family.criterion.direction == "higher" else -1.0
    size = (*x[::2].shape[:2], 1)
    x[::2] += up * ratio * rng.choice([0.0, 1.5, 3.0], size=size) * (family.criterion.kind != "equivalence")
    mine = simulated.reproduced(family, x, y)
    for one in range(len(x)):
        theirs, whole = judged(family, x[one], y[one], 5)
        assert mine[one].tolist() == theirs
        if family.criterion.at_least:
            assert (whole[ALL].verdict == "reproduced") == simulated.errors(family, mine)[one]


def test_every_way_of_judging_in_the_ledger_is_simulated():
    words = [family.words for family in simulated.families()]
    assert len(set(words)) == len(words)
    parts = ("equivalence", "at least 5 of 7", "the mean of 6 tasks", "2 looks", "of a share", "non-inferiority, 2")
    for part in parts:
        assert any(part in told for told in words), part


@pytest.mark.parametrize("scores", simulated.SCORES)
def test_false_confirmations_stay_at_the_level_where_spreads_are_alike(scores):
    rng = np.random.default_rng(1)
    for family in simulated.families():
        x, y = simulated.truth(family, scores, rng, REPETITIONS, (5, 5))
        share = simulated.errors(family, simulated.reproduced(family, x, y)).mean()
        assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / REPETITIONS), family.words


def test_wide_arms_are_called_shifts_by_ranks_alone_and_not_by_the_rule():
    family = simulated.Family(Criterion(), 7)
    x, y = simulated.truth(family, "normal", np.random.default_rng(2), 4_000, (5, 5), ratio=30)
    assert (7 * study.ranks_p(x, y) <= 0.05).any(axis=1).mean() > 0.14
    assert simulated.errors(family, simulated.reproduced(family, x, y)).mean() < 0.08


def test_the_middle_of_lopsided_arms_is_where_half_of_all_pairs_lie():
    rng = np.random.default_rng(3)
    x, y = simulated.truth(simulated.Family(Criterion(), 1), "lopsided", rng, 40_000, (1, 1), ratio=10)
    assert (x > y).mean() == pytest.approx(0.5, abs=0.01)
    x, y = simulated.truth(simulated.Family(Criterion(of="mean"), 1), "lopsided", rng, 40_000, (1, 1), ratio=10)
    assert x.mean() == pytest.approx(y.mean(), abs=0.2)


def test_looking_twice_at_the_whole_level_would_be_caught():
    twice = Criterion(looks=(Look(seeds=1, share=0.5), Look(seeds=2, share=0.5)), level=0.1)  # 0.05 at either look
    family = simulated.Family(twice, 1)
    x, y = simulated.truth(family, "normal", np.random.default_rng(0), 20_000, (5, 5))
    assert simulated.reproduced(family, x, y).mean() > 0.0525


def test_the_bootstrap_is_caught():
    rng = np.random.default_rng(0)
    x, y = (study._resampled(rng.normal(size=(500, 5)), rng, 400) for _ in range(2))
    assert (np.quantile(x - y, 0.05, axis=1) > 0).mean() > 0.06


def test_ranks_alone_are_those_of_stats():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(4, 7, 6)), rng.normal(size=(4, 7, 6))
    assert study.ranks_p(x, y)[2, 3] == pytest.approx(stats.mann_whitney(x[2, 3], y[2, 3]).p, rel=1e-12)


def test_an_interval_that_never_holds_the_truth_is_told():
    row = study._at_least("coverage", "f", "normal", (5, 5), 1, 0.9, np.zeros(100, dtype=bool))
    assert dict(zip(study.COLUMNS, row, strict=True))["holds"] == "no"
    row = study._at_most("level", "f", "normal", (5, 5), 1, 0.05, np.ones(100, dtype=bool))
    assert dict(zip(study.COLUMNS, row, strict=True))["holds"] == "no"


def test_a_claim_of_sameness_within_a_tenth_of_a_spread_cannot_be_settled():
    rule = Criterion(kind="equivalence", margin=25)
    rng = np.random.default_rng(4)
    family = simulated.Family(rule, 2)
    confirmed = chances._alike(family, rng, 6, np.array([10.0, 0.1])).mean(axis=0)
    assert confirmed[0] < 0.01 and confirmed[1] > 0.95


def test_the_table_is_told_and_drawn(monkeypatch):
    monkeypatch.setattr(study, "REPETITIONS", dict.fromkeys(study.REPETITIONS, 4))
    monkeypatch.setattr(study, "BOOTSTRAPS", (4, 4))
    few = simulated.families()[:2]
    monkeypatch.setattr(study, "families", lambda: few)
    monkeypatch.setattr(study, "_right", lambda rng: iter([]))
    table = study.simulate()
    claim = ("right", "some-claim (quick)", "normal", 5, 5, 1, chances.TRUE, 0.31, 0.01, 100, "no")
    table = pd.concat([table, pd.DataFrame([claim], columns=study.COLUMNS)], ignore_index=True)
    lines = study.sentences(table)
    assert lines[-2].endswith("some-claim (quick).") and lines[-1].endswith("none.")
    assert set(figures.draw(table)) == {"calibration-null", "calibration-power", "calibration-coverage"}


def test_a_claim_that_cannot_be_settled_as_planned_says_so_in_its_undecided_verdict(tmp_path):
    claim = load_ledger().claim("quadruped-force-control")
    chance = chances.chance(claim, 6)
    assert chance.right < 0.2 and chance.words.startswith("at 12 seeds per arm it is decided rightly in ")
    store = Store(tmp_path / "results", tmp_path / "cache")
    row = verdicts.judge_claim(claim, store, load_suite().protocol("quick"))[0]
    assert row.outcome.verdict == "incomplete" and row.outcome.reason.endswith(chance.words)
    assert row.to_json()["chance"] == pytest.approx(chance.right)
    sure = chances.chance(load_ledger().claim("reward-collapse"), 5)
    assert sure.right > 0.5 and sure.words == ""
