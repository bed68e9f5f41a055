"""Equal curves are equal, however they were logged; what cannot be compared is named."""

from dataclasses import replace

import numpy as np
import pytest

from benchmark.judging.comparable import fault
from benchmark.judging.criteria import judge
from benchmark.judging.evidence import Evidence, Score, spans
from benchmark.judging.pooled import together
from benchmark.judging.scale import payable
from benchmark.judging.scores import curve_score
from benchmark.suite.criterion import ALL, Criterion, Estimand

TASK, END = "gym:InvertedPendulum-v5", 3_000
WHOLE, LAST = Estimand(window=(0.0, 1.0)), Estimand(window=(0.8, 1.0))
HIGHER = Criterion(direction="higher")
GRID = range(0, END + 1, 250)
SEEDS = range(6)


def arm(grid, window=WHOLE, seeds=SEEDS, scale=1.0, rise=2.0, start=0):
    """Seeds of one and the same learning curve, logged at the steps of `grid`; no two alike."""
    tops = 900 + 7 * np.arange(len(list(seeds))) + start
    curves = [scale * (5 + (top - 5) * (np.array(grid) / END) ** rise) for top in tops]
    return tuple(curve_score(s, grid, c, window, END) for s, c in zip(seeds, curves, strict=True))


def verdict(x, y, criterion=HIGHER, task=TASK, **more):
    return judge(criterion, {task: Evidence("mbpo", "sac", x, y)}, **more)[task]


# Grids


@pytest.mark.parametrize("rise", [0.5, 2.0, 6.0])
@pytest.mark.parametrize("window", [WHOLE, LAST, Estimand(window=(0.5, 1.0)), Estimand(window=(0.3, 0.7))], ids=str)
@pytest.mark.parametrize("other", [range(250, END + 1, 250), range(0, END + 1, 500), range(0, END + 1, 750), [END]])
def test_one_curve_logged_in_two_ways_is_never_two(other, window, rise):
    for one, two in ((other, GRID), (GRID, other)):
        out = verdict(arm(one, window, rise=rise), arm(two, window, rise=rise))
        assert out.verdict in ("inconclusive", "invalid"), out.reason
        assert out.effect in (None, 0.0)
        told = ("no evaluation at step", "has no finite score", "do not reach", "alone has an evaluation")
        assert any(words in out.reason for words in told)


def test_what_is_logged_at_the_end_alone_has_no_window():
    out = verdict(arm([END]), arm(GRID))
    assert (out.verdict, "mbpo seed 0 has no evaluation at steps 0, 250, 500, 750 and 8 more" in out.reason) == (
        "invalid",
        True,
    ), out.reason


def test_a_first_evaluation_that_one_arm_lacks_is_named_and_one_that_both_lack_is_no_matter():
    late = range(250, END + 1, 250)
    out = verdict(arm(late, start=40), arm(GRID))
    assert out.verdict == "invalid"
    assert out.reason.startswith("mbpo seed 0 has no evaluation at step 0, where sac seed 0 has one: ")
    assert verdict(arm(late), arm(late)).verdict == "inconclusive"
    assert verdict(arm(late, LAST), arm(GRID, LAST)).verdict == "inconclusive"  # a window that does not need it


def test_one_step_missing_in_one_run_is_left_out_of_all_and_told():
    x = arm(GRID)
    gap = [step for step in GRID if step != 1_250]
    x = (*x[:3], arm(gap)[3], *x[4:])
    out = verdict(x, arm(GRID))
    assert (out.verdict, out.effect) == ("inconclusive", 0.0)
    assert "read at the 12 steps that all runs share (mbpo seed 3 has no evaluation at step 1,250, where" in out.reason


def test_a_window_is_an_integral_over_steps():
    uneven = [0, 100, 200, 300, 3_000]  # dense where the curve is low
    line = curve_score(0, uneven, uneven, WHOLE, END)
    assert line.value == pytest.approx(1_500)
    assert curve_score(0, uneven, uneven, LAST, END).value == pytest.approx(2_700)
    assert curve_score(0, uneven, uneven, Estimand(window=(0.0, 0.0)), END).value == 0.0
    assert np.isnan(curve_score(0, uneven[:4], uneven[:4], LAST, END).value)


def test_unequal_ends_are_named():
    short = arm(range(0, 2_001, 250))
    assert "mbpo seed 0 ends at 2,000 env steps, sac seed 0 at 3,000" in verdict(short, arm(GRID)).reason
    assert verdict(short, short).reason == "mbpo seed 0 ends at 2,000 of 3,000 env steps"
    lost = tuple(replace(s, diverged=True) for s in arm(GRID))
    assert verdict(lost, arm(GRID)).verdict == "inconclusive"


# Scales


def test_returns_that_no_episode_can_pay_are_invalid():
    assert payable("dmc:humanoid-run") == (0.0, 1000.0)
    assert payable("gym:HalfCheetah-v5") is None
    out = verdict(arm(GRID, scale=1.2), arm(GRID))
    assert out.verdict == "invalid"
    assert "mbpo seed 0 has a return of 1080" in out.reason and "pays 0 to 1000" in out.reason
    assert verdict(arm(GRID, scale=-0.1), arm(GRID)).verdict == "invalid"
    assert verdict(arm(GRID, scale=1.2), arm(GRID), task="gym:HalfCheetah-v5").verdict != "invalid"


@pytest.mark.parametrize(
    "task", [TASK, "dmc:humanoid-stand", "dmc:quadruped-run", "dmc:humanoid-run", "dmc:hopper-hop"]
)
def test_shares_are_not_returns(task):
    for x, y in ((arm(GRID, scale=1e-3), arm(GRID)), (arm(GRID), arm(GRID, scale=1e-3))):
        out = verdict(x, y, task=task)
        assert (out.verdict, "on another scale than" in out.reason) == ("invalid", True)
    assert verdict(arm(GRID, scale=1e-3), arm(GRID, scale=1e-3), task=task).verdict == "inconclusive"


def test_an_arm_that_fails_is_on_the_scale_of_one_that_learns():
    rng = np.random.default_rng(0)
    for task, level in (("dmc:hopper-hop", 0.2), ("dmc:humanoid-run", 0.7), ("dmc:hopper-stand", 3.0)):
        failed = [level * rng.lognormal(0, 0.3, len(GRID)) for _ in SEEDS]
        fails = tuple(curve_score(s, GRID, c, LAST, END) for s, c in enumerate(failed))
        learns = tuple(
            curve_score(s, GRID, c + np.linspace(0, 300, len(GRID)) + s, LAST, END) for s, c in enumerate(failed)
        )
        assert verdict(learns, fails, task=task).verdict == "reproduced"


# Seeds


def test_a_run_copied_under_another_seed_is_invalid():
    x = arm(GRID)
    copies = (*x[:5], replace(x[2], seed=77))
    out = verdict(copies, arm(GRID))
    assert (out.verdict, out.reason) == (
        "invalid",
        "mbpo has one and the same curve under seeds 2 and 77: a copy is not a seed",
    )
    still = tuple(curve_score(s, GRID, [1000.0] * len(GRID), LAST, END) for s in SEEDS)
    assert verdict(still, still).verdict == "inconclusive"  # a ceiling is no copy


def test_seeds_are_names():
    names = [0, 1, 7, 42, 123_456, 2**31 - 1, 2**63 - 1]
    x = arm(GRID, seeds=names)
    assert verdict(x, arm(GRID, seeds=names)).verdict == "inconclusive"
    low = arm(GRID, seeds=names, scale=0.5)
    out, plain = verdict(x, low), verdict(arm(GRID, seeds=range(7)), arm(GRID, seeds=range(7), scale=0.5))
    assert (out.verdict, out.p, out.effect) == ("reproduced", plain.p, plain.effect)
    apart = verdict(x, arm(GRID, seeds=range(7), scale=0.5))
    assert apart.verdict == "reproduced" and len(apart.reason) < 600
    assert "the arms have different seeds: mbpo has no seeds 2-6, which sac has" in apart.reason
    assert "sac has no seeds 7, 42, 123456, 2147483647" in apart.reason


def test_many_scattered_seeds_make_a_short_text():
    assert spans([3]) == "seed 3"
    assert spans(range(5)) == "seeds 0-4"
    told = spans(range(0, 2**31, 2**20))
    assert told.endswith("and 2,042 more") and len(told) < 100


def test_no_seed_is_left_out_where_one_task_has_fewer():
    def task(n, shift, seed):
        rng = np.random.default_rng(seed)
        x, y = (tuple(Score(s, v, 1) for s, v in enumerate(rng.normal(500, 20, n))) for _ in range(2))
        return Evidence("ftfl", "mbpo", tuple(replace(s, value=s.value + shift) for s in x), y)

    names = ["dmc:humanoid-run", "dmc:humanoid-walk", "dmc:humanoid-stand"]
    family = {name: task(n, 60, i) for i, (name, n) in enumerate(zip(names, (5, 10, 10), strict=True))}
    whole = together(family)
    assert (len(whole.x), len(whole.y), whole.n) == (25, 25, 5)
    rule = Criterion(direction="higher", aggregate=True)
    out = judge(rule, {ALL: whole})[ALL]
    assert out.verdict == "reproduced"
    assert "ftfl on dmc:humanoid-run has seeds 0-4, ftfl on dmc:humanoid-walk has seeds 0-9" in out.reason
    means = [np.mean([s.value for s in e.x]) - np.mean([s.value for s in e.y]) for e in family.values()]
    assert out.effect == pytest.approx(np.mean(means) / 1000, rel=0.01)
    alone = judge(HIGHER, family)
    assert [one.n for one in alone.values()] == [5, 10, 10]
    assert "5 seeds per arm here, up to 10 on other tasks" in alone[names[0]].reason


def test_a_fault_of_one_task_is_one_of_the_pool():
    one = Evidence("mbpo", "sac", arm(GRID), arm(GRID))
    assert fault(one, TASK) == ""
    bad = replace(one, x=arm([END]))
    assert together({TASK: one, "dmc:humanoid-run": bad}).fault.startswith("dmc:humanoid-run: mbpo seed 0 has no")
