"""The truth table: synthetic scores -> expected verdict, for every criterion."""

import math
from dataclasses import replace

import pytest

from benchmark.judging.criteria import judge
from benchmark.judging.evidence import Evidence, Score
from benchmark.suite.criterion import ALL, Criterion, Look
from mbpo.config import InputError, build

LOW, HIGH = (0.1, 0.2, 0.3, 0.4, 0.5), (1.1, 1.2, 1.3, 1.4, 1.5)
MIXED = (0.0, 0.25, 0.35, 0.45, 1.5)
LOWER = Criterion(kind="difference", direction="lower")
HIGHER = Criterion(kind="difference", direction="higher")


def scores(values, **fields):
    return tuple(Score(seed=seed, value=value, points=1, **fields) for seed, value in enumerate(values))


def evidence(x, y, **fields):
    return Evidence("raw", "normalized", scores(x), scores(y), **fields)


def one(criterion, x, y, **fields):
    return judge(criterion, {"task": evidence(x, y, **fields)})["task"]


@pytest.mark.parametrize(
    ("criterion", "x", "y", "verdict"),
    [
        (LOWER, LOW, HIGH, "reproduced"),
        (LOWER, HIGH, LOW, "contradicted"),
        (LOWER, MIXED, LOW, "inconclusive"),
        (LOWER, LOW, LOW, "inconclusive"),  # ties everywhere: no evidence either way
        (LOWER, (0.3,) * 5, (0.3,) * 5, "inconclusive"),
        (HIGHER, HIGH, LOW, "reproduced"),
        (HIGHER, LOW, HIGH, "contradicted"),
        (Criterion(direction="lower", margin=0.5), LOW, HIGH, "reproduced"),
        (Criterion(direction="lower", margin=5), LOW, HIGH, "contradicted"),  # lower, but not by so much
        (Criterion(direction="lower", margin=1.0), LOW, HIGH, "inconclusive"),
        (Criterion(kind="non-inferiority", margin=0.5), LOW, LOW, "reproduced"),
        (Criterion(kind="non-inferiority", margin=0.5), HIGH, LOW, "reproduced"),
        (Criterion(kind="non-inferiority", margin=0.5), LOW, HIGH, "contradicted"),
        (Criterion(kind="non-inferiority", margin=0.2), MIXED, LOW, "inconclusive"),
        (Criterion(kind="non-inferiority", margin=0.5, direction="lower"), HIGH, LOW, "contradicted"),
        (Criterion(kind="non-inferiority", margin=0.5, direction="lower"), LOW, HIGH, "reproduced"),
        (Criterion(kind="equivalence", margin=0.5), LOW, LOW, "reproduced"),
        (Criterion(kind="equivalence", margin=0.5), LOW, HIGH, "contradicted"),
        (Criterion(kind="equivalence", margin=0.5), HIGH, LOW, "contradicted"),
        (Criterion(kind="equivalence", margin=0.2), MIXED, LOW, "inconclusive"),
        (LOWER, LOW[:4], HIGH[:4], "incomplete"),
        (LOWER, LOW[:1], HIGH[:1], "incomplete"),
        (LOWER, (), (), "incomplete"),
        (LOWER, (*LOW[:4], math.nan), HIGH, "invalid"),
        (LOWER, LOW, (*HIGH[:4], math.inf), "invalid"),
    ],
)
def test_truth_table(criterion, x, y, verdict):
    assert one(criterion, x, y).verdict == verdict


def test_relative_margin_is_a_share_of_the_reference():
    preserved = Criterion(kind="non-inferiority", margin=0.2, relative=True)
    reference = (900.0, 950.0, 1000.0, 1050.0, 1100.0)
    slightly, much = [0.95 * v for v in reference], [0.5 * v for v in reference]
    assert one(preserved, slightly, reference).verdict == "reproduced"
    assert one(preserved, much, reference).verdict == "contradicted"
    assert (
        one(preserved, [-v for v in slightly], [-v for v in reference]).verdict == "reproduced"
    )  # a negative score is no licence
    assert one(preserved, [-1.5 * v for v in reference], [-v for v in reference]).verdict == "contradicted"


def test_numbers_of_a_verdict():
    out = one(LOWER, LOW, HIGH)
    assert (out.effect, out.n, out.level) == (-1.0, 5, 0.05)
    assert out.interval == pytest.approx((-1.2, -0.8), abs=0.002)
    assert out.p == pytest.approx(1 / 252)
    assert (out.mean, out.iqm) == (pytest.approx(-1), pytest.approx(-1))
    assert out.reason.startswith("a typical seed of raw is lower than one of normalized: p = 0.004; ")


def test_a_contradiction_gives_the_p_of_the_opposite():
    out = one(LOWER, HIGH, LOW)
    assert out.p == pytest.approx(1 / 252)
    assert out.reason.startswith(
        "the opposite holds: a typical seed of raw is higher than one of normalized, p = 0.004"
    )


def test_leaving_equivalence_pays_for_its_two_sides():
    x, y = (0.5, 0.6, 0.65, 0.75, 0.8), (0.0, 0.1, 0.2, 0.3, 0.7)  # one-sided exact p = 0.0278
    assert one(HIGHER, x, y).verdict == "reproduced"
    assert one(Criterion(kind="equivalence", margin=1e-9), x, y).verdict == "inconclusive"


def test_holm_spans_the_family_and_counts_absent_tasks():
    weak = evidence((0.0, 0.1, 0.2, 0.3, 0.7), (0.5, 0.6, 0.65, 0.75, 0.8))  # one-sided exact p = 0.0278
    absent = evidence((), (), lacking="missing raw seeds 0-4")
    assert judge(LOWER, {"a": weak})["a"].verdict == "reproduced"
    alone = judge(LOWER, {"a": weak})["a"].p
    for other in (absent, evidence(LOW, LOW)):
        family = judge(LOWER, {"a": weak, "b": other})
        assert family["a"].p == pytest.approx(2 * alone)
        assert family["a"].verdict == "inconclusive"
    strong = judge(LOWER, {task: evidence(LOW, HIGH) for task in "abcdefg"})
    assert [out.verdict for out in strong.values()] == ["reproduced"] * 7
    assert strong["a"].p == pytest.approx(7 / 252)


def test_incomplete_lists_what_is_missing_and_its_cost():
    out = one(LOWER, LOW, HIGH[:3], lacking="missing normalized seeds 3-4", hours=0.25)
    assert out.verdict == "incomplete"
    assert out.reason == "missing normalized seeds 3-4; about 0.25 h on two cores"
    assert (out.effect, out.interval, out.p, out.n) == (None, None, None, 3)


def test_invalid_says_why_and_outranks_incomplete():
    twice = replace(evidence(LOW, HIGH), x=(*scores(LOW), Score(2, 0.3, 1)), lacking="missing x")
    engines = replace(evidence(LOW, HIGH), y=scores(HIGH, engine="b"))
    uneven = replace(evidence(LOW, HIGH), y=(*scores(HIGH[:4]), Score(4, 1.5, 7)))
    cases = {
        "raw has seed 2 more than once": twice,
        "2 engines are mixed": engines,
        "unequal length: 1 and 7 values": uneven,
    }
    for sentence, given in cases.items():
        out = judge(LOWER, {"task": given})["task"]
        assert out.verdict == "invalid"
        assert sentence in out.reason


def test_a_score_that_does_not_exist_is_incomplete_not_invalid():
    x = tuple(replace(s, value=math.nan, undefined="no reward") if s.seed in (1, 3) else s for s in scores(LOW))
    out = judge(LOWER, {"task": replace(evidence(LOW, HIGH), x=x)})["task"]
    assert (out.verdict, out.reason) == ("incomplete", "the score does not exist at seeds 1, 3: no reward")


def test_a_diverged_run_counts_and_is_told():
    broken = replace(evidence(LOW, HIGH), x=tuple(replace(s, diverged=s.seed == 3) for s in scores(LOW)))
    out = judge(LOWER, {"task": broken})["task"]
    assert out.verdict == "reproduced"
    assert out.reason.endswith("diverged and counted as it stood: raw seed 3")


def test_seed_order_is_irrelevant():
    shuffled = replace(evidence(MIXED, LOW), x=scores(MIXED)[::-1])
    assert judge(LOWER, {"t": shuffled}) == judge(LOWER, {"t": evidence(MIXED, LOW)})


def test_an_open_verdict_tells_what_is_excluded_and_promises_nothing():
    out = one(HIGHER, (0.0, 0.35, 0.45, 0.55, 0.65), LOW)
    assert (out.verdict, out.power, out.needed) == ("inconclusive", None, None)
    low, high = out.interval
    assert f"excluded at 90%: shifts below \N{MINUS SIGN}{-low:.3g} and above {high:.3g}" in out.reason
    assert out.reason.endswith("no size of effect is registered, so no number of seeds is promised")


def test_seeds_are_counted_for_the_registered_effect_alone():
    alike = Criterion(kind="non-inferiority", margin=0.2)
    out, other = (one(alike, [v + shift for v in MIXED], LOW) for shift in (0.0, -0.3))
    assert out.verdict == other.verdict == "inconclusive"
    assert (out.power, out.needed) == (other.power, other.needed)  # what was seen moves, what is promised does not
    assert 0 < out.power < 0.8 and out.needed > 5
    assert f"about {out.needed} per arm with 0.8" in out.reason
    looked_for = one(Criterion(detect=0.5), (0.0, 0.35, 0.45, 0.55, 0.65), LOW)
    assert looked_for.needed > 5 and "0.5 beyond the bound" in looked_for.reason


def counted(won, lost, open_=0, absent=0, at_least=5):
    family = {f"w{i}": evidence(HIGH, LOW) for i in range(won)}
    family |= {f"l{i}": evidence(LOW, HIGH) for i in range(lost)}
    family |= {f"o{i}": evidence(MIXED, LOW) for i in range(open_)}
    family |= {f"a{i}": evidence((), (), lacking="missing raw") for i in range(absent)}
    return judge(Criterion(direction="higher", at_least=at_least), family)


@pytest.mark.parametrize(
    ("won", "lost", "open_", "absent", "verdict"),
    [
        (5, 2, 0, 0, "reproduced"),
        (7, 0, 0, 0, "reproduced"),
        (5, 0, 0, 2, "reproduced"),
        (4, 3, 0, 0, "contradicted"),
        (0, 3, 0, 4, "contradicted"),
        (4, 2, 1, 0, "inconclusive"),
        (4, 1, 1, 1, "incomplete"),
        (0, 0, 0, 7, "incomplete"),
    ],
)
def test_counting_counts_confirmed_tasks_only(won, lost, open_, absent, verdict):
    outcomes = counted(won, lost, open_, absent)
    assert list(outcomes) == [ALL]
    assert outcomes[ALL].verdict == verdict


def test_counting_effect_is_the_confirmed_number_between_bounds():
    out = counted(4, 2, 1)[ALL]
    assert (out.effect, out.interval) == (4.0, (4.0, 5.0))
    assert out.reason.startswith(
        "4 of 7 confirmed, 5 claimed: reproduced on w0, w1, w2, w3; contradicted on l0, l1; inconclusive on o0"
    )


def test_an_incomplete_count_adds_up_its_hours():
    absent = evidence((), (), lacking="missing raw seeds 0-4", hours=10.0)
    out = judge(Criterion(at_least=2), {"a": evidence(HIGH, LOW), "b": absent, "c": absent})[ALL]
    assert out.verdict == "incomplete"
    assert out.reason == (
        "reproduced on a; incomplete on b, c (missing raw seeds 0-4, and so on); about 20 h on two cores"
    )


def test_counting_is_invalid_with_any_invalid_task():
    family = {"a": evidence(HIGH, LOW), "b": evidence((*LOW[:4], math.nan), LOW)}
    out = judge(Criterion(at_least=1), family)[ALL]
    assert (out.verdict, out.reason) == ("invalid", "b: raw has no finite score at seed 4")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"kind": "non-inferiority"}, "needs a margin above 0"),
        ({"kind": "diffrence"}, "did you mean 'difference'"),
        ({"kind": "difference", "marign": 1}, "did you mean 'margin'"),
        ({"kind": "difference", "level": 0.7}, "level = 0.7"),
        ({"kind": "difference", "margin": -1}, "margin = -1"),
    ],
)
def test_an_impossible_criterion_is_refused(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        build(Criterion, fields)


# Looks


LOOKS = Criterion(direction="higher", looks=(Look(seeds=1, share=0.6), Look(seeds=2, share=0.4)))
UNDECIDED = (0.0, 0.25, 0.35, 0.45, 0.52)
TIED = (0.3,) * 5


@pytest.mark.parametrize(
    ("x", "y", "verdict", "told"),
    [
        (HIGH, LOW, "reproduced", "look 1 of 2, at level 0.03"),
        (LOW, HIGH, "contradicted", "look 1 of 2"),
        (UNDECIDED, LOW, "inconclusive", "look 1 of 2"),
        (UNDECIDED + UNDECIDED, LOW + LOW, "inconclusive", "look 2 of 2, at level 0.02"),
        (UNDECIDED + tuple(v + 1 for v in HIGH), LOW + (0.0,) * 5, "reproduced", "look 2 of 2"),
        (HIGH + tuple(-v for v in HIGH), LOW + HIGH, "reproduced", "look 1 of 2"),  # decided stays decided
        (UNDECIDED + HIGH[:3], LOW + LOW[:3], "inconclusive", "look 1 of 2"),  # the second waits for all its seeds
        (TIED + TIED, TIED + TIED, "inconclusive", "look 2 of 2"),
        (HIGH[:4], LOW[:4], "incomplete", "4 seeds per arm"),
        (HIGH[:1], LOW[:1], "incomplete", "1 seed per arm"),
        ((*HIGH[:4], math.nan), LOW, "invalid", "seed 4"),
    ],
)
def test_looks_are_taken_in_order_at_their_share_of_the_level(x, y, verdict, told):
    out = judge(LOOKS, {"task": evidence(x, y)}, planned=5)["task"]
    assert (out.verdict, told in out.reason) == (verdict, True), out.reason


def test_a_first_look_spends_only_its_share():
    x, y = (0.6, 0.7, 0.8, 0.9, 0.35), LOW
    assert judge(HIGHER, {"task": evidence(x, y)})["task"].p == pytest.approx(4 / 252)  # 0.0159, of a level of 0.05
    strict = Criterion(direction="higher", looks=(Look(seeds=1, share=0.3), Look(seeds=2, share=0.7)))
    assert judge(HIGHER, {"task": evidence(x, y)})["task"].verdict == "reproduced"
    assert judge(strict, {"task": evidence(x, y)}, planned=5)["task"].verdict == "inconclusive"


def test_a_fault_from_outside_is_invalid_and_outranks_all():
    found = judge(LOWER, {"t": replace(evidence(LOW, HIGH), fault="the baseline is not theirs", lacking="missing x")})
    assert (found["t"].verdict, found["t"].reason) == ("invalid", "the baseline is not theirs")
    counting = judge(Criterion(at_least=1), {"a": evidence(HIGH, LOW), "b": replace(evidence(HIGH, LOW), fault="x")})
    assert counting[ALL].verdict == "invalid"


@pytest.mark.parametrize(
    ("x", "y"), [(TIED, TIED), ((math.nan,) * 5, LOW), (HIGH[:1], LOW[:1]), ((), LOW), (LOW, ())], ids=str
)
@pytest.mark.parametrize(
    "criterion",
    [
        LOWER,
        LOOKS,
        Criterion(margin=0.5),
        Criterion(kind="non-inferiority", margin=0.5),
        Criterion(kind="non-inferiority", margin=0.2, relative=True),
        Criterion(kind="equivalence", margin=1e-9),
        Criterion(at_least=1),
    ],
    ids=lambda c: f"{c.kind} {c.margin:g} {c.at_least} {len(c.looks)}",
)
def test_no_criterion_confirms_or_denies_on_nothing(criterion, x, y):
    (out,) = judge(criterion, {"task": evidence(x, y)}, planned=5).values()
    expected = {"inconclusive"} if x == TIED else {"invalid"} if x and math.isnan(x[0]) else {"incomplete"}
    if x == TIED and criterion.margin:
        expected = {"reproduced", "contradicted", "inconclusive"}  # ties, but a margin away from its bound
    assert out.verdict in expected


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"looks": [{"seeds": 1, "share": 0.6}]}, "add up to 0.6"),
        ({"looks": [{"seeds": 2, "share": 1.0}]}, "the first at 1 times"),
        ({"looks": [{"seeds": 1, "share": 0.5}, {"seeds": 1, "share": 0.5}]}, "in order"),
        ({"aggregate": True, "at_least": 2}, "give aggregate or at_least"),
    ],
)
def test_an_impossible_plan_is_refused(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        build(Criterion, fields)
