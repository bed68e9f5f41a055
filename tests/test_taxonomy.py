"""The taxonomy: rules find what was planted, find nothing in noise, and never see a domain that scores them."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from scipy import stats as sps

from benchmark.judging import stats
from benchmark.records.store import Record
from benchmark.studies.taxonomy import atlas, domains, foresight, rules, study
from benchmark.studies.taxonomy.atlas import ARMS, CHOICES, OUTCOMES, PREDICTORS
from benchmark.suite.load import load_suite, specs

BODIES = [atlas.domain(task) for task, entry in load_suite().tasks.items() if entry.suite in ("dmc", "gym")]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domains, "REPETITIONS", 40)


# Domains


def test_every_humanoid_is_one_domain_and_the_pendulums_are_two() -> None:
    names = ("dmc:humanoid-run", "gym:Humanoid-v5", "gym:HumanoidTruncatedObs-v5")
    assert {atlas.domain(name) for name in names} == {"humanoid"}
    assert atlas.domain("dmc:cheetah-run") == atlas.domain("gym:HalfCheetah-v5") == "cheetah"
    assert atlas.domain("dmc:pendulum-swingup") != atlas.domain("gym:InvertedPendulum-v5")


def test_halves_keep_domains_whole_and_are_about_equal() -> None:
    rng = np.random.default_rng(3)
    halves = [domains.declared_half(BODIES), *(domains.random_half(BODIES, rng) for _ in range(50))]
    for half in halves:
        split = {body: {bool(part) for name, part in zip(BODIES, half, strict=True) if name == body} for body in BODIES}
        assert all(len(sides) == 1 for sides in split.values())
        assert abs(int(half.sum()) - int((~half).sum())) <= 5  # the largest domain
    assert len({half.tobytes() for half in halves}) > 30


def test_the_declared_half_does_not_depend_on_the_order_of_tasks() -> None:
    order = np.random.default_rng(0).permutation(len(BODIES))
    there = domains.declared_half([BODIES[i] for i in order])
    np.testing.assert_array_equal(domains.declared_half(BODIES)[order], there)


def test_resamples_are_of_whole_domains() -> None:
    bodies, value = ["a", "a", "b"], np.array([0.0, 0.0, 1.0])

    def mean(rows: np.ndarray) -> float:
        assert (rows == 0).sum() == (rows == 1).sum()
        return float(value[rows].mean())

    interval = domains.over_domains(mean, bodies)
    assert list(interval) == pytest.approx([1 / 3, 0.0, 1.0])


def test_a_statistic_that_mostly_does_not_exist_has_no_bounds() -> None:
    low_high = domains.over_domains(lambda rows: math.nan if 0 in rows else 1.0, ["a", "b"])[1:]
    assert all(math.isnan(bound) for bound in low_high)


# Scores against second implementations


def test_rank_correlation_is_scipys() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = rng.integers(0, 5, 12).astype(float), rng.normal(size=12)
        a[0] = b[1] = math.nan
        assert stats.spearman(a, b) == pytest.approx(sps.spearmanr(a[2:], b[2:]).statistic)
    assert math.isnan(stats.spearman(np.ones(5), np.arange(5.0)))


def test_auc_is_mann_whitney_and_wilson_its_formula() -> None:
    score, label = np.array([1.0, 2.0, 2.0, 5.0, math.nan]), np.array([False, True, False, True, True])
    u = sps.mannwhitneyu([2.0, 5.0], [1.0, 2.0]).statistic
    assert rules.auc(score, label) == pytest.approx(u / 4)
    z, n, p = sps.norm.ppf(0.975), 12, 9 / 12
    middle, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = (p, (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n))
    assert rules.wilson(9, 12) == pytest.approx(expected)


def test_cuts_are_those_of_an_exhaustive_search() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        x, labels = rng.integers(0, 6, (11, 3)).astype(float), rng.choice(["a", "b", "c"], 11)
        x[rng.random(x.shape) < 0.1] = math.nan
        threshold, below, above = rules._cuts(x, labels, "a")
        for j in range(3):
            known = ~np.isnan(x[:, j])
            value, classes = x[known, j], labels[known]
            right = [
                sum(max((side == name).sum() for name in "abc") for side in (classes[value <= t], classes[value > t]))
                for t in np.unique(value)[:-1]
            ]
            predicted = np.where(value > threshold[j], above[j], below[j])
            assert (predicted == classes).sum() == max(right)


# Rules


def test_a_planted_order_is_found_in_tasks_never_seen() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(len(BODIES), 6))
    y = -np.exp(2 * x[:, 2])
    half = domains.declared_half(BODIES)
    rule = rules.fit_monotone(x[half], y[half], [b for b, fit in zip(BODIES, half, strict=True) if fit])
    assert (rule.columns, rule.signs) == ((2,), (-1.0,))
    assert stats.spearman(rule.predict(x[~half]), y[~half]) == pytest.approx(1.0)
    assert rule.text(["a", "b", "c", "d", "e", "f"]) == "- c"


def test_all_draws_at_once_are_those_one_by_one() -> None:
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(2, len(BODIES))).round(1)  # with ties
    for lacking in ((), (0, 3, 9), tuple(range(3, len(BODIES)))):
        x[list(lacking)] = math.nan
        slow = domains.over_domains(lambda rows: stats.spearman(x[rows], y[rows]), BODIES, 60)
        np.testing.assert_allclose(domains.spearman_over_domains(x, y, BODIES, 60), slow, rtol=1e-12)


def test_two_predictors_are_taken_only_where_the_second_pays() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(len(BODIES), 5))
    assert rules.fit_monotone(x, x[:, 1] - x[:, 3], BODIES).columns == (1, 3)
    assert rules.fit_monotone(x, x[:, 1] - 0.05 * x[:, 3], BODIES).columns == (1,)


def test_a_planted_threshold_is_found_and_what_is_missing_gets_the_majority() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(len(BODIES), 4))
    labels = np.where(x[:, 3] > 0.4, "high", "low").tolist()
    rule = rules.fit_stump(x, labels, BODIES)
    assert rule.column == 3
    assert rule.predict(x).tolist() == labels
    assert rule.predict(np.full((1, 4), math.nan)).tolist() == [rules.majority(labels)]


def test_labels_without_a_pattern_get_the_majority() -> None:
    x = np.zeros((len(BODIES), 3))
    rule = rules.fit_stump(x, (["a", "b", "b"] * len(BODIES))[: len(BODIES)], BODIES)
    assert rule.column is None
    assert rule.text(["x", "y", "z"]) == "always b"


# The whole of it, on tasks whose outcome is known


def frame(seed: int) -> pd.DataFrame:
    """23 tasks in which nothing has to do with anything."""
    rng = np.random.default_rng(seed)
    n = len(BODIES)
    numbers = {name: rng.normal(size=n) for name in [*PREDICTORS, *OUTCOMES]} | {"obs_dim": rng.integers(3, 80, n)}
    choices = {name: rng.choice(["yes", "no"], n, p=[0.7, 0.3]) for name in CHOICES}
    about = {"task": [f"t{i}" for i in range(n)], "domain": BODIES, "seeds": 3, "paper_seven": rng.random(n) < 0.3}
    return pd.DataFrame(about | numbers | choices)


def test_noise_is_not_foreseen() -> None:
    scores = foresight.scores(frame(0), splits=6)
    halves = scores[(scores["design"] == "random halves") & (scores["contender"] == "fitted")]
    orders, choices = (halves[halves["measure"] == m] for m in ("spearman", "accuracy"))
    assert len(orders) == len(OUTCOMES)
    assert len(choices) == len(CHOICES)
    assert ((orders["low"] < 0.2) & (orders["high"] > -0.2)).all()
    assert ((choices["low"] <= choices["majority"]) & (choices["gain_low"] <= 0)).all()


def test_what_was_planted_is_foreseen_by_either_contender_on_the_tasks_that_have_it() -> None:
    tasks = frame(1)
    tasks["reward_gain"] = -(tasks["reward_std"] ** 3)
    tasks.loc[[0, 9], "reward_gain"] = math.nan
    tasks["direct_norm"] = np.where(tasks["increment_overall"] < 0, "norm-only", "ftfl")
    scores = foresight.scores(tasks, splits=2).set_index(["outcome", "contender", "design"])
    for contender in ("fitted", "physics"):
        row = scores.loc[("reward_gain", contender, "declared half")]
        assert row["estimate"] == pytest.approx(1.0)
        assert row["n_fit"] + row["n_scored"] == len(tasks) - 2
    assert scores.loc[("direct_norm", "physics", "domains left out"), "estimate"] == 1.0
    assert scores.loc[("reward_gain", "fitted", "declared half"), "rule"] == "- log10 reward std"


def test_too_few_tasks_are_not_scored() -> None:
    assert foresight.scores(frame(2).iloc[:6], splits=2).empty


# From records


def record(task: str, method: str, seed: int, measures: Mapping[str, float | list[float]]) -> Record:
    rows = []
    for name, value in measures.items():
        columns = enumerate(value) if isinstance(value, list) else [(-1, value)]
        rows += [(300, name, dim, number) for dim, number in columns] + [(0, name, -1, 99.0)]
    diagnostics = pd.DataFrame(rows, columns=["step", "measure", "dim", "value"])
    spec = specs("fit", [task], [method], "quick", [seed])[0]
    return Record(spec, pd.DataFrame(), diagnostics, {})


def fit(arm: str, error: float, r2: float, ratio: float = 0.25) -> dict[str, float | list[float]]:
    """Two observations of std 2, the first of which moves `ratio` of that variance; the second never moves."""
    scale = {"ftfl": 2.0, "norm-only": 2.0 * math.sqrt(ratio)}.get(arm, 1.0)
    shrink = 2 * math.log(scale)
    return {
        "increment_ratio": [ratio, math.nan], "fitted_carry": [0.875, math.nan], "increment_kurtosis": [0.0, math.nan],
        "zero_increments": [0.0, 1.0], "reward_share_delta": 1e-4, "reward_share_next_obs": 1e-5,
        "dim_scale": [scale, 1.0, 0.01], "dim_error_std": [error, 0.0, 0.1], "reward_true_mean": 0.1,
        "reward_true_std": 0.01, "reward_r2": r2, "error_over_delta": 100 * error, "calibration_obs": 1.0,
        "logvar_raw": -3.0, "logvar_target": -3.0 - shrink,
    }  # fmt: skip


def fits(task: str, seed: int, errors: tuple[float, float], r2: float = 0.5, ratio: float = 0.25) -> list[Record]:
    error = dict.fromkeys(ARMS, 0.5) | {"norm-only": errors[0], "ftfl": errors[1]}
    gained = dict.fromkeys(ARMS, 0.1) | {"norm-only": r2}
    return [record(task, arm, seed, fit(arm, error[arm], gained[arm], ratio)) for arm in ARMS]


def test_a_task_is_the_median_of_paired_differences() -> None:
    records = [r for seed, e in enumerate((0.2, 0.3, 0.9)) for r in fits("dmc:cheetah-run", seed, (e, 2 * e))]
    (row,) = atlas.tasks([*records, *fits("dmc:cheetah-run", 7, (1.0, 1.0))[:3]]).to_dict("records")
    assert row["seeds"] == 3  # the fourth lacks an arm
    assert row["direct_error_norm"] == pytest.approx(math.log(2))
    assert row["reward_gain"] == pytest.approx(0.4)
    assert (row["reward_share_delta"], row["increment_median"]) == (pytest.approx(-4), 0.25)
    assert row["increment_overall"] == row["increment_mean_log"] == pytest.approx(math.log(0.25))
    assert row["target_drop"] == pytest.approx(math.log(4))
    assert (row["collapses"], row["direct_norm"], row["best_reward"]) == ("collapses", "norm-only", "norm-only")


def test_a_reward_that_varies_in_fewer_than_half_of_the_seeds_has_no_outcome() -> None:
    gained = (math.nan, 0.5, math.nan)
    records = [r for seed, r2 in enumerate(gained) for r in fits("dmc:hopper-hop", seed, (0.2, 0.4), r2=r2)]
    (row,) = atlas.tasks(records).to_dict("records")
    assert math.isnan(row["reward_gain"])
    assert row["collapses"] is None
    assert row["best_reward"] is None


def test_two_records_of_one_run_are_refused() -> None:
    records = fits("dmc:hopper-hop", 0, (0.2, 0.4))
    with pytest.raises(ValueError, match="two records of fit mbpo on dmc:hopper-hop seed 0"):
        atlas.tasks([*records, records[0]])


@pytest.mark.parametrize(
    ("errors", "better"),
    [
        ([(0.2, 0.4), (0.3, 0.4)], "delta"),
        ([(0.4, 0.2), (0.4, 0.3)], "next_obs"),
        ([(0.4, 0.2), (0.3, 0.4)], "either"),  # the seeds disagree
        ([(0.02, 0.04), (0.02, 0.04)], "either"),  # both far below what there is to predict
    ],
)
def test_a_target_is_better_where_every_seed_says_so(errors: list[tuple[float, float]], better: str) -> None:
    records = [r for seed, pair in enumerate(errors) for r in fits("dmc:cheetah-run", seed, pair)]
    each = atlas.dimensions(records)
    assert each[["dim", "increment_ratio", "better"]].to_numpy().tolist() == [[0, 0.25, better]]


def test_tables_figures_and_sentences_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresight, "SPLITS", 3)
    names = ["dmc:cheetah-run", "dmc:walker-run", "dmc:hopper-hop", "dmc:hopper-stand", "dmc:fish-swim",
             "dmc:quadruped-run", "dmc:quadruped-walk", "dmc:reacher-hard", "gym:Ant-v5"]  # fmt: skip
    records = [
        one
        for i, name in enumerate(names)
        for one in fits(name, 0, (0.3, 0.3 / (0.2 + 0.2 * i)), r2=0.1 * i if i else math.nan, ratio=0.2 + 0.2 * i)
    ]
    tables = study.tables(records)
    assert len(tables["tasks"]) == 9
    assert len(tables["predictors"]) == len(PREDICTORS) * len(OUTCOMES)
    assert tables["predictors"]["p_holm"].between(tables["predictors"]["p"], 1).all()
    assert tables["slopes"].set_index("outcome").loc["target_drop", "tasks"] == 9
    assert set(study.figures(tables)) == {"map", "increments", "foreseen", "predictors"}
    text = " ".join(study.sentences(tables))
    assert "9 tasks of 7 domains, 1 to 1 seeds each; the reward varies on 8 of them." in text
    assert "6 of 8 tasks lose more than 0.2 of reward R2" in text


def test_no_complete_task_gives_tables_without_rows_and_no_figures() -> None:
    tables = study.tables(fits("dmc:hopper-hop", 0, (0.2, 0.4))[:2])
    assert tables["tasks"].empty
    assert study.figures(tables) == {}
    assert study.sentences(tables)[0].startswith("0 tasks")
