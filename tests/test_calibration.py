"""The simulation: its vectorized rules are those of the verdicts, and its checks can fail."""

import numpy as np
import pytest

from benchmark.judging import stats
from benchmark.judging.criteria import judge
from benchmark.judging.evidence import Evidence, Score
from benchmark.studies.calibration import study
from benchmark.suite.criterion import ALL, Criterion, Look


def scored(values):
    return tuple(Score(seed, float(value), 1) for seed, value in enumerate(values))


def verdicts(family, x, y, planned):
    """What `criteria.judge` says of one repetition (tasks, seeds)."""
    rule = family.criterion
    if rule.aggregate:
        x, y = x.mean(axis=0, keepdims=True), y.mean(axis=0, keepdims=True)
    tasks = {str(i): Evidence("a", "b", scored(x[i]), scored(y[i])) for i in range(len(x))}
    plain = rule.model_copy(update={"at_least": None})
    return [judge(plain, tasks, planned)[task].verdict == "reproduced" for task in tasks], judge(rule, tasks, planned)


@pytest.mark.parametrize("family", study.families(), ids=lambda family: family.words)
def test_the_simulated_rule_is_the_rule_of_the_verdicts(family, monkeypatch):
    monkeypatch.setattr(stats, "seeds_needed", lambda *_, **__: None)  # only told, and slow
    monkeypatch.setattr(stats, "power", lambda *_, **__: 0.0)
    rng = np.random.default_rng(0)
    x, y = study.edge(family, study.normal, rng, 12, 5)
    up = 1.0 if family.criterion.direction == "higher" else -1.0
    x[::2] += up * rng.choice([0.0, 1.5, 3.0], size=(*x[::2].shape[:2], 1)) * (family.criterion.kind != "equivalence")
    mine = study.reproduced(family, x, y)
    for one in range(len(x)):
        theirs, whole = verdicts(family, x[one], y[one], 5)
        assert mine[one].tolist() == theirs
        if family.criterion.at_least:
            assert (whole[ALL].verdict == "reproduced") == study.errors(family, mine)[one]


def test_every_way_of_judging_in_the_ledger_is_simulated():
    words = [family.words for family in study.families()]
    assert len(set(words)) == len(words)
    for part in (
        "equivalence",
        "at least 5 of 7",
        "the mean of 6 tasks",
        "2 looks",
        "of a share",
        "non-inferiority, 2",
    ):
        assert any(part in told for told in words), part


@pytest.mark.parametrize("scores", study.SCORES)
def test_false_confirmations_stay_at_the_level(scores):
    rng = np.random.default_rng(1)
    for family in study.families():
        x, y = study.edge(family, study.SCORES[scores], rng, 2_000, 5)
        share = study.errors(family, study.reproduced(family, x, y)).mean()
        assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2_000), family.words


def test_looking_twice_at_the_whole_level_would_be_caught():
    twice = Criterion(looks=(Look(seeds=1, share=0.5), Look(seeds=2, share=0.5)), level=0.1)  # 0.05 at either look
    x, y = study.edge(study.Family(twice, 1), study.normal, np.random.default_rng(0), 20_000, 10)
    share = study.reproduced(study.Family(twice, 1), x, y).mean()
    assert share > 0.055


def test_the_bootstrap_is_caught():
    rng = np.random.default_rng(0)
    x, y = (study._resampled(rng.normal(size=(500, 5)), rng, 400) for _ in range(2))
    assert (np.quantile(x - y, 0.05, axis=1) > 0).mean() > 0.06


def test_batched_p_is_that_of_stats():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(4, 7, 6)), rng.normal(size=(4, 7, 6))
    p = study.upper_p(x, y)
    assert p[2, 3] == pytest.approx(stats.mann_whitney(x[2, 3], y[2, 3]).p, rel=1e-12)


def test_an_interval_that_never_holds_the_truth_is_told():
    row = study._at_least("coverage", "f", "normal", 5, 0.9, np.zeros(100, dtype=bool))
    assert dict(zip(study.COLUMNS, row, strict=True))["holds"] == "no"
    row = study._at_most("level", "f", "normal", 5, 0.05, np.ones(100, dtype=bool))
    assert dict(zip(study.COLUMNS, row, strict=True))["holds"] == "no"
