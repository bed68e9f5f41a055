"""Tests of location: against scipy, against each other, and against their promises where spreads differ."""

import numpy as np
import pytest
from scipy import stats as sps

from benchmark.judging import location, planning, stats
from benchmark.judging.criteria import judge
from benchmark.judging.evidence import Evidence, Score
from benchmark.suite.criterion import Criterion


def judged(criterion, x, y, **more):
    x, y = (tuple(Score(seed, float(v), 1) for seed, v in enumerate(values)) for values in (x, y))
    return judge(criterion, {"t": Evidence("a", "b", x, y)}, **more)["t"]


def test_five_equal_spreads_apart_keep_the_resolution_of_ranks():
    x = np.array([6.0, 6.4, 7.1, 7.5, 8.0])
    assert location.typical_test(x + 20, x) == pytest.approx(1 / 252)
    assert 7 * location.typical_test(x + 20, x) < 0.05
    assert location.typical_test(x + 20, x, "less") == 1.0


@pytest.mark.parametrize("ratio", [10, 30])
def test_one_wide_arm_does_not_pass_for_a_shift(ratio):
    rng = np.random.default_rng(0)
    x, y = ratio * rng.normal(size=(20_000, 7, 5)), rng.normal(size=(20_000, 7, 5))
    ranks = stats.untied_cdf(5, 5)[(x[..., :, None] < y[..., None, :]).sum((-1, -2))]
    old, new = ((7 * p.min(axis=1) <= 0.05).mean() for p in (ranks, location.typical_p(x, y)))
    assert old > 0.11  # what exact ranks alone would do to a family of seven
    assert new <= 0.075
    many = rng.normal(size=(4_000, 50))
    assert (location.typical_p(x[:4_000, 0], many) <= 0.05).mean() <= 0.065
    assert (stats.untied_cdf(5, 50)[(x[:4_000, 0, :, None] < many[:, None]).sum((-1, -2))] <= 0.05).mean() > 0.12


def test_the_share_of_won_pairs_is_tested_as_scipy_does():
    rng = np.random.default_rng(9)
    for n, m in ((5, 5), (6, 11), (12, 4)):
        x, y = rng.normal(size=n).round(1), 3 * rng.normal(size=m).round(1)
        won, lost = location._wins(x, y)
        theirs = sps.brunnermunzel(x, y, alternative="greater").pvalue
        assert float(location._share_p(won / m, lost / n)) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(
    ("n", "tasks", "ratio", "mirrored"), [(5, 7, 10, True), (20, 7, 0.1, True), (20, 2, 10, False)]
)
def test_lopsided_arms_do_not_pass_for_a_shift_at_few_seeds_nor_at_many(n, tasks, ratio, mirrored):
    rng = np.random.default_rng(10)
    x, y = (rng.exponential(size=(4_000, n)) * (-1 if mirrored else 1) for _ in range(2))
    quantiles = np.log(2_000 / np.arange(0.5, 2_000)) * (-1 if mirrored else 1)
    x = ratio * x - np.median(ratio * quantiles[:, None] - quantiles)  # now P(x above y) = 1/2
    ranks = stats.untied_cdf(n, n)[np.ceil(n * n - location._wins(x, y)[0].sum(-1)).astype(int)]
    tamed = np.maximum(ranks, location._tail(*location._welch([location._drawn_in(x, y)], lost=2)))
    old, new = (1 - (1 - (p <= 0.05 / tasks).mean()) ** tasks for p in (tamed, location.typical_p(x, y)))
    assert new <= 0.08 < old  # 0.067 of many more draws


def test_no_seed_of_an_arm_that_fails_by_halves_may_show_it_and_that_is_bounded():
    rng = np.random.default_rng(11)
    x = np.where(rng.random((20_000, 5)) < 0.5, 900.0, 0.0) + rng.normal(size=(20_000, 5))
    y = 450 + rng.normal(size=(20_000, 5))
    assert (location.typical_p(x, y) <= 0.05 / 7).mean() == pytest.approx(location.blind_spot(5, 5), abs=0.004)
    assert location.blind_spot(5, 50, tasks=7) == pytest.approx(0.199, abs=1e-3)
    assert location.blind_spot(7, 7, tasks=7) < 0.054


def test_a_wild_success_hides_no_shift():
    y = [0.20, 0.30, 0.16, 0.19, 0.30]
    x = [0.71, 0.68, 0.70, 0.74, 30.0]
    assert sps.ttest_ind(x, y, equal_var=False, alternative="greater").pvalue > 0.1
    assert location.typical_test(x, y) == pytest.approx(1 / 252)
    assert location.typical_test(np.negative(y), np.negative(x)) == pytest.approx(1 / 252)


def test_one_and_many_at_once_agree():
    rng = np.random.default_rng(1)
    x, y = 5 * rng.normal(size=(40, 6)), rng.normal(size=(40, 5)) - 2
    assert location.typical_p(x, y) == pytest.approx([location.typical_test(*pair) for pair in zip(x, y, strict=True)])
    assert location.mean_p([(x, y)]) == pytest.approx(
        sps.ttest_ind(x, y, axis=1, equal_var=False, alternative="greater").pvalue
    )


def test_the_interval_inverts_the_test():
    rng = np.random.default_rng(2)
    for _ in range(50):
        x, y = rng.choice([1.0, 10.0]) * rng.normal(size=6), rng.normal(size=7)
        _, low, high = location.typical_interval(x, y, 0.9)
        assert (
            location.typical_test(x - low + 1e-6, y) <= 0.05 + 1e-9 <= location.typical_test(x - low - 1e-6, y) + 1e-6
        )
        assert location.typical_test(x - high - 1e-6, y, "less") <= 0.05 + 1e-9
        _, low, high = location.mean_interval([(x, y)], 0.9)
        assert location.mean_test([(x - low, y)]) == pytest.approx(0.05)
        assert location.mean_test([(x - high, y)], "less") == pytest.approx(0.05)


def test_strata_are_averaged_and_may_be_unequal():
    rng = np.random.default_rng(3)
    strata = [(rng.normal(size=n) + 1, rng.normal(size=m)) for n, m in ((5, 5), (10, 7), (6, 6))]
    gap, low, high = location.mean_interval(strata)
    assert gap == pytest.approx(np.mean([x.mean() - y.mean() for x, y in strata]))
    error = np.sqrt(sum(v.var(ddof=1) / len(v) for pair in strata for v in pair)) / 3
    assert (high - low) / 2 == pytest.approx(error * 1.68, rel=0.05)  # some forty degrees of freedom


def test_arms_without_spread():
    assert location.typical_test([1.0] * 5, [0.0] * 5) == pytest.approx(1 / 252)
    assert location.typical_test([1.0] * 5, [1.0] * 5) == 1.0
    assert location.mean_test([(np.ones(5), np.zeros(5))]) == 0.0
    assert location.mean_test([(np.ones(5), np.ones(5))]) == 1.0
    assert location.typical_interval([1.0] * 5, [0.0] * 5) == (1.0, 1.0, 1.0)


def test_shares_are_compared_by_fisher():
    x, y = [1, 1, 1, 1, 1, 0], [0, 0, 0, 1, 0, 0]
    table = [[5, 1], [1, 5]]
    assert location.share_test(x, y) == pytest.approx(sps.fisher_exact(table, alternative="greater").pvalue)
    gap, low, high = location.share_interval(x, y)
    assert gap == pytest.approx(4 / 6) and -1 <= low < gap < high <= 1


# Estimands


def test_a_fifth_of_failing_seeds_and_equal_means_are_not_called_a_higher_mean():
    rng = np.random.default_rng(4)
    y = rng.normal(500, 10, 20)
    x = np.where(np.arange(20) < 3, 0.0, 588) + rng.normal(0, 10, 20)  # 15 % fail, the means are equal
    out = judged(Criterion(), x, y)
    assert out.verdict == "reproduced"
    assert out.reason.startswith("a typical seed of a is higher than one of b: p = ")
    assert "but the means differ by" in out.reason and "the mean lies on the other side, not clearly" in out.reason
    assert abs(out.mean) < 20 < out.effect
    assert judged(Criterion(of="mean"), x, y).verdict == "inconclusive"
    share = judged(Criterion(of="share", reach=100.0, direction="lower"), x, y)
    assert share.verdict == "inconclusive" and share.effect == pytest.approx(-0.15)


def test_a_mean_raised_by_a_fifth_of_the_seeds_is_told_beside_the_contradiction():
    rng = np.random.default_rng(5)
    y = rng.normal(100, 3, 20)
    x = rng.normal(90, 3, 20) + 430 * (np.arange(20) < 4)
    out = judged(Criterion(), x, y)
    assert out.verdict == "contradicted" and out.mean > 60 > 0 > out.effect
    assert "but the means differ by" in out.reason
    assert "the mean says the opposite" in out.reason or "the mean lies on the other side" in out.reason
    assert judged(Criterion(of="mean"), x, y).reason.count("typical seed") == 0


def test_a_share_of_seeds_can_be_claimed():
    x, y = [900.0] * 9 + [3.0], [900.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0, 950.0, 6.0, 7.0]
    out = judged(Criterion(of="share", reach=500.0), x, y)
    assert (out.verdict, out.effect) == ("reproduced", pytest.approx(0.7))
    assert out.reason.startswith("the share of a seeds that reach 500 is higher than that of b: p = 0.0027")
    with pytest.raises(ValueError, match="give of = share and reach together"):
        Criterion(of="share")
    with pytest.raises(ValueError, match="without a margin"):
        Criterion(of="share", reach=1.0, margin=0.1)


# Looks


def test_seeds_beyond_the_plan_change_no_verdict():
    rng = np.random.default_rng(6)
    for shift in np.linspace(0, 2, 20):
        x, y = rng.normal(size=(2, 15)) + np.array([[shift], [0]])
        plain = judged(Criterion(), x[:5], y[:5], planned=5)
        for n in (6, 15):
            more = judged(Criterion(), x[:n], y[:n], planned=5)
            assert (more.verdict, more.p, more.n) == (plain.verdict, plain.p, 5)
            assert "in the interval alone" in more.reason
            assert more.effect == pytest.approx(np.median(np.subtract.outer(x[:n], y[:n])))


def test_looking_after_every_seed_would_exceed_the_level_and_planned_looks_do_not():
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(2, 4_000, 15))
    p = {n: location.typical_p(x[:, :n], y[:, :n]) for n in range(5, 16)}
    assert (np.min(list(p.values()), axis=0) <= 0.05).mean() > 0.08
    assert ((p[5] <= 0.03) | (p[10] <= 0.02)).mean() <= 0.06


def test_fewer_than_planned_is_no_look():
    out = judged(Criterion(), np.arange(7) + 10.0, np.arange(7), planned=10)
    assert (out.verdict, out.n) == ("incomplete", 7)
    assert "7 seeds per arm of the 10 planned" in out.reason


def test_without_a_plan_looks_are_not_counted_twice():
    looks = Criterion.model_validate({"looks": [{"seeds": 1, "share": 0.6}, {"seeds": 2, "share": 0.4}]})
    out = judged(looks, np.arange(12) + 20.0, np.arange(12))
    assert (out.level, out.n) == (pytest.approx(0.03), 12)
    assert "look 1 of 2" in out.reason


# Planning


def test_power_is_that_of_the_registered_effect():
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=40), rng.normal(size=40)
    assert planning.power(location.typical_p, x + 99, y, 0.0, 8, level=0.05) <= 0.07  # however far apart they were seen
    chance = planning.power(location.typical_p, x, y, 2.0, 8, level=0.05)
    direct = np.mean(location.typical_p(rng.normal(size=(4_000, 8)) + 2, rng.normal(size=(4_000, 8))) <= 0.05)
    assert chance == pytest.approx(direct, abs=0.1)
    few, many = (planning.seeds_to_detect(location.typical_p, x, y, d, level=0.05) for d in (4.0, 1.0))
    assert few == 5 < many
    assert planning.seeds_to_detect(location.typical_p, x, y, 0.0, level=0.05) is None
