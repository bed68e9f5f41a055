"""Statistics against scipy, hand-counted values and their own promises under the null."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as sps

from benchmark.judging import stats


def enumerate_p(x, y):
    """P(U >= u) over every split of the pooled scores, counted by hand."""
    pooled = np.concatenate([x, y])

    def u(a, b):
        gap = np.subtract.outer(a, b)
        return (gap > 0).sum() + 0.5 * (gap == 0).sum()

    splits = list(itertools.combinations(range(len(pooled)), len(x)))
    at_least = sum(u(pooled[list(s)], np.delete(pooled, s)) >= u(x, y) for s in splits)
    return at_least / len(splits)


def test_separated_samples_have_the_smallest_p_there_is():
    test = stats.mann_whitney([6, 7, 8, 9, 10], [1, 2, 3, 4, 5])
    assert test == (25.0, 1 / 252, "exact")
    assert stats.mann_whitney([6, 7, 8, 9, 10], [1, 2, 3, 4, 5], "less").p == 1.0
    assert stats.mann_whitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], "less").p == 1 / 252


@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_mann_whitney_agrees_with_scipy_without_ties(alternative):
    rng = np.random.default_rng(0)
    for n, m in [(3, 4), (5, 5), (6, 9), (12, 10)]:
        x, y = rng.normal(size=n), rng.normal(0.5, size=m)
        expected = sps.mannwhitneyu(x, y, alternative=alternative, method="exact")
        ours = stats.mann_whitney(x, y, alternative)
        assert ours.p == pytest.approx(expected.pvalue, rel=1e-12)
        assert ours.u == expected.statistic


def test_mann_whitney_counts_ties_exactly():
    rng = np.random.default_rng(1)
    for _ in range(20):
        x, y = rng.integers(0, 4, 4).astype(float), rng.integers(0, 4, 5).astype(float)
        assert stats.mann_whitney(x, y).p == pytest.approx(enumerate_p(x, y), rel=1e-12)


def test_all_scores_equal_is_no_evidence():
    assert stats.mann_whitney([1] * 5, [1] * 5).p == 1.0
    assert stats.mann_whitney([1] * 40, [1] * 40).p == 1.0


def test_large_samples_say_that_they_are_approximate():
    x, y = np.arange(40) + 0.5, np.arange(40) - 3.0
    ours = stats.mann_whitney(x, y)
    assert ours.method.startswith("normal approximation")
    assert ours.p == sps.mannwhitneyu(x, y, alternative="greater", method="asymptotic").pvalue


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf], [[1.0]]])
def test_unusable_samples_are_refused(bad):
    with pytest.raises(ValueError, match="sample"):
        stats.mann_whitney(bad, [1.0, 2.0])


def test_holm_by_hand():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert stats.holm([]).size == 0


def closed_by_bonferroni(p):
    """Holm's from its definition: a hypothesis counts with the worst Bonferroni test of a set that holds it."""
    sets = [s for k in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), k)]
    return [max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(len(p))]


def test_holm_is_the_closed_test_of_bonferroni_family_by_family():
    families = np.random.default_rng(3).random((4, 7, 6)).round(1) / 5  # with ties
    for family, adjusted in zip(families.reshape(-1, 6), stats.holm(families).reshape(-1, 6), strict=True):
        assert adjusted == pytest.approx(closed_by_bonferroni(family))


def test_shift_interval_by_hand():
    # 9 differences of 3 x 3: only U = 0 (p = 1/20) is rejected at 5 %, so both bounds are the extreme differences.
    interval = stats.shift_interval([10, 12, 17], [1, 2, 4], 0.90)
    assert interval == (10.0, 6.0, 16.0)
    assert stats.shift_interval([1.0], [0.0]) == (1.0, -math.inf, math.inf)


def test_shift_interval_inverts_the_test():
    rng = np.random.default_rng(2)
    x, y = rng.normal(1, 1, 6), rng.normal(0, 1, 5)
    _, low, high = stats.shift_interval(x, y, 0.90)
    assert stats.shift_test(x, y, low - 1e-9).p <= 0.05 < stats.shift_test(x, y, low + 1e-9).p
    assert stats.shift_test(x, y, high + 1e-9, "less").p <= 0.05 < stats.shift_test(x, y, high - 1e-9, "less").p


def test_shift_interval_covers():
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(1_000):
        _, low, high = stats.shift_interval(rng.standard_t(2, 5) + 3, rng.standard_t(2, 5), 0.90)
        inside += low <= 3 <= high
    assert inside / 1_000 >= 0.88  # nominal at least 0.9047, three standard errors


def test_margins_shift_the_right_way():
    x, y = np.array([9.0, 9.1, 9.2, 9.3, 9.4]), np.array([10.0, 10.1, 10.2, 10.3, 10.4])
    assert stats.shift_test(x, y, -2.0).p == 1 / 252  # not worse by as much as 2
    assert stats.shift_test(x, y, -0.5).p == 1.0  # but worse by more than a half
    assert stats.shift_test(x, y, 0.0, "less").p == 1 / 252


@pytest.mark.parametrize("draw", ["normal", "bimodal", "heavy", "ties"])
def test_null_is_rejected_no_more_often_than_the_level(draw):
    rng = np.random.default_rng(4)
    sample = {
        "normal": lambda: rng.normal(size=5),
        "bimodal": lambda: rng.choice([0.0, 100.0], 5) + rng.normal(size=5),
        "heavy": lambda: rng.standard_cauchy(5),
        "ties": lambda: rng.integers(0, 3, 5).astype(float),
    }[draw]
    rejections = sum(stats.mann_whitney(sample(), sample()).p <= 0.05 for _ in range(2_000))
    assert rejections / 2_000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2_000)


def test_rliable_is_repeatable_and_leaves_the_global_generator_alone():
    rng = np.random.default_rng(7)
    scores = {"mbpo": rng.random((5, 7)), "ftfl": rng.random((5, 7)) + 0.5}
    np.random.seed(123)
    before = np.random.get_state()
    first = stats.interval_estimates(scores, repetitions=50)
    after = np.random.get_state()
    assert before[0] == after[0] and before[2:] == after[2:] and (before[1] == after[1]).all()
    np.random.random(3)  # another place in the global stream
    assert stats.interval_estimates(scores, repetitions=50) == first
    assert stats.interval_estimates(scores, repetitions=50, seed=1) != first
    assert first["ftfl"]["mean"].estimate == pytest.approx(scores["ftfl"].mean())
    assert first["mbpo"]["iqm"].estimate == pytest.approx(sps.trim_mean(scores["mbpo"], 0.25, axis=None))
    assert first["mbpo"]["iqm"].high < first["ftfl"]["iqm"].low


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (3, 1), (5, 3), (4, 4), (7, 5)])
def test_the_mean_of_the_middle_half_is_scipys_to_the_bit(shape: tuple[int, int]) -> None:
    for scores in (np.random.default_rng(0).normal(size=shape), np.zeros(shape)):
        assert stats.iqm(scores) == sps.trim_mean(scores, 0.25, axis=None)
