"""The ledger: what it refuses, which runs it asks for, and the verdicts it gives on records whose answer is known."""

import json

import pandas as pd
import pytest
from synthetic import PROVENANCE, edited_ledger, fill, needed, write_fit, write_train

from benchmark.judging import engines, scores
from benchmark.judging import verdicts as claims
from benchmark.judging.scores import score
from benchmark.judging.verdicts import judge_all, judge_claim
from benchmark.records.store import Store
from benchmark.suite import needs
from benchmark.suite.criterion import Estimand
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite
from benchmark.suite.needs import runs
from mbpo.config import InputError

QUICK = load_suite().protocol("quick")
SIGNATURE = ("reward-too-low", "reward-bunched", "reward-flat")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filled")
    store = Store(folder / "results", folder / "cache")
    fill(store)
    return store


@pytest.fixture(scope="module")
def judged(filled):
    return judge_all(filled, QUICK)


def verdict_of(store, claim, task, protocol="quick"):
    judged = judge_claim(load_ledger().claim(claim), store, load_suite().protocol(protocol))
    return next(row for row in judged if row.task == task).outcome


# What a page may not say


def edited(tmp_path, edit):
    """The ledger after `edit` of the claim reward-collapse, the groups and the whole page."""
    return edited_ledger(tmp_path, lambda data: edit(data["claims"]["reward-collapse"], data))


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda c, d: c.update(arms="mbpo"), r"reward-collapse.arms: unknown field; did you mean 'arm'\?"),
        (lambda c, d: c.update(arm="mpbo"), r"reward-collapse: unknown method 'mpbo'; did you mean 'mbpo'\?"),
        (lambda c, d: c.update(against="sac"), "reward-collapse: method 'sac' has no model to fit"),
        (
            lambda c, d: c.update(tasks=["dmc:humanoid-rum"]),
            r"tasks = 'dmc:humanoid-rum'.*did you mean 'dmc:humanoid-run'\?",
        ),
        (
            lambda c, d: c.update(tasks="paper-sevn"),
            r"tasks = 'paper-sevn': not a choice; did you mean 'paper-seven'\?",
        ),
        (lambda c, d: c.update(tasks=["dmc:hopper-hop"] * 2), "'dmc:hopper-hop' stands twice"),
        (lambda c, d: c.update(tasks=[]), "reward-collapse.tasks"),
        (lambda c, d: c.update(protocols=["qick"]), r"protocols = 'qick': not a choice; did you mean 'quick'\?"),
        (lambda c, d: c.update(expected="confirmed"), "reward-collapse.expected = 'confirmed': not a choice"),
        (lambda c, d: c.update(chapter="rewards"), r"chapter = 'rewards': not a choice; did you mean 'reward'\?"),
        (
            lambda c, d: c.update(estimand={"measure": "reward_r3"}),
            r"measure = 'reward_r3': did you mean 'reward_r2'\?",
        ),
        (
            lambda c, d: c.update(estimand={"measure": "reward_r2", "window": [0, 1]}),
            "is read at its end; give one such as",
        ),
        (lambda c, d: c.update(kind="train", estimand={"measure": "episode_return"}), "a train run needs one"),
        (lambda c, d: c.update(kind="train", estimand={"window": [0.9, 0.1]}), "two shares of training in order"),
        (lambda c, d: c.update(against="mbpo"), "'mbpo' is compared with itself"),
        (lambda c, d: c["criterion"].update(at_least=8), "at_least = 8: the claim has 7 tasks"),
        (lambda c, d: c["criterion"].update(dirction="lower"), r"unknown field; did you mean 'direction'\?"),
        (lambda c, d: c.pop("statement"), "reward-collapse.statement: this field is required"),
        (
            lambda c, d: d["groups"].update(hopper=["dmc:hoper-hop"]),
            r"groups.hopper = 'dmc:hoper-hop'.*'dmc:hopper-hop'",
        ),
        (lambda c, d: d["chapters"]["reward"].update(figures=["reward-by-bim"]), r"did you mean 'reward-by-bin'\?"),
        (lambda c, d: d.update(claim=1), r"claims.yaml: unknown key 'claim'; did you mean 'claims'\?"),
        (lambda c, d: d["claims"].update({"a-claim": 3}), "claims.yaml: a-claim: a mapping of fields is needed"),
    ],
)
def test_a_faulty_page_is_refused_by_name(tmp_path, edit, sentence):
    with pytest.raises(InputError, match=sentence):
        edited(tmp_path, edit)


def test_an_unedited_copy_is_accepted(tmp_path):
    assert edited(tmp_path, lambda c, d: None).claims == load_ledger().claims


def test_an_unknown_claim_names_the_nearest():
    with pytest.raises(InputError, match=r"unknown claim 'reward-colapse'; did you mean 'reward-collapse'\?"):
        load_ledger().claim("reward-colapse")


def test_the_page_covers_what_the_paper_says():
    ledger = load_ledger()
    seven = {name for name, task in load_suite().tasks.items() if task.paper_seven}
    assert set(ledger.claim("reward-collapse").tasks) == seven
    assert set(ledger.claim("ftfl-beats-sac").tasks) == seven
    assert ledger.claim("ftfl-beats-sac").criterion.at_least == 5
    assert all(claim.expected == "reproduced" for claim in ledger.claims)
    assert len({claim.title for claim in ledger.claims}) == len(ledger.claims)


# Which runs


def test_a_claim_asks_for_its_two_arms_on_every_seed():
    wanted = runs(load_ledger().claim("reward-collapse"), QUICK, ["dmc:humanoid-run"])
    assert [(s.kind, s.method, s.seed) for s in wanted] == [
        ("fit", m, i) for m in ("mbpo", "norm-only") for i in range(QUICK.seeds)
    ]


def test_a_protocol_that_cannot_judge_a_claim_runs_nothing_for_it():
    assert runs(load_ledger().claim("ftfl-beats-sac"), QUICK) == []
    assert runs(load_ledger().claim("mbpo-fails"), load_suite().protocol("paper")) != []
    reduced = {spec.task for spec in runs(load_ledger().claim("ftfl-beats-mbpo"), load_suite().protocol("reduced"))}
    assert reduced == {
        task
        for task in load_ledger().claim("ftfl-beats-mbpo").tasks
        if load_suite().protocol("reduced").carries("train", task)
    }


def test_claims_that_share_a_job_are_asked_for_together():
    ledger = load_ledger()
    claim, other = ledger.claim("reward-collapse"), ledger.claim("variance-inflation")
    together = needs.family(claim, [claim, other, ledger.claim("pendulum-mbpo-beats-sac")], QUICK)
    assert {spec.method for spec in together} == {"mbpo", "norm-only", "ftfl"}
    assert {spec.kind for spec in together} == {"fit"}
    assert together[: len(runs(claim, QUICK))] == runs(claim, QUICK)
    assert len({spec.key for spec in together}) == len(together)


# Scores


def test_a_fit_score_is_the_last_measurement(store):
    spec = needed(QUICK)[0]
    write_fit(store, spec, {"reward_r2": 0.5, "reward_std_ratio": 0.25, "reward_true_std": 1.0})
    record = store.read(spec)
    assert score(record, Estimand(measure="reward_r2")).value == 0.5
    assert score(record, Estimand(measure="reward_std_ratio", transform="abs-log")).value == pytest.approx(1.386294)
    assert score(record, Estimand(measure="reward_r2")).points == 1


def test_a_train_score_is_the_mean_over_its_window_never_the_best(store):
    spec = next(spec for spec in needed(QUICK) if spec.kind == "train")
    write_train(store, spec, [10.0, 20.0, 30.0, 1000.0, 50.0, 60.0])
    record = store.read(spec)
    values = {w: score(record, Estimand(window=w)) for w in [(0.0, 1.0), (0.0, 0.0), (0.8, 1.0), (0.5, 1.0)]}
    # Trapezoids by hand: ends count half, and the line through 30 and 1000 is at 515 halfway.
    whole, late = (5 + 20 + 30 + 1000 + 50 + 30) / 5, (0.5 * (515 + 1000) + 1000 + 50 + 55 * 2) / 5
    assert [s.value for s in values.values()] == pytest.approx([whole, 10.0, 55.0, late])
    assert [s.points for s in values.values()] == [6, 1, 2, 3]


def test_a_fit_is_read_at_its_end_or_over_a_registered_window(store):
    spec = needed(QUICK, ["reward-collapse-control"])[0]
    end = spec.length
    values = {0: 100.0, end // 2: 50.0, end - end // 10: 3.0, end: 1.0}
    curve = pd.DataFrame({"update": list(values), "holdout_mse": 1.0, "holdout_nll": 1.0})
    rows = [(step, "reward_r2", -1, value) for step, value in values.items()]
    store.write(spec, curve, pd.DataFrame(rows, columns=["step", "measure", "dim", "value"]), PROVENANCE)
    record = store.read(spec)
    found = {w: score(record, Estimand(measure="reward_r2", window=w)) for w in (None, (0.8, 1.0), (0.5, 1.0))}
    assert [(s.value, s.points) for s in found.values()] == [(1.0, 1), (2.0, 2), (18.0, 3)]


@pytest.mark.parametrize(
    ("kind", "window", "told"),
    [
        ("fit", (0.8, 1.0), ""),
        ("fit", None, ""),
        ("fit", (0.0, 0.0), "is read at its end"),
        ("fit", (0.5, 0.9), "is read at its end"),
        ("probe", (0.8, 1.0), "has one moment"),
        ("train", None, "needs one"),
    ],
)
def test_a_window_fits_the_kind_of_run(kind, window, told):
    estimand = Estimand(measure="reward_r2", window=window)
    if not told:
        estimand.check(kind, "x")
        return
    with pytest.raises(InputError, match=told):
        estimand.check(kind, "x")


def test_engines_differ_by_simulator_and_release_but_not_by_wheel(store):
    a, b, c, d = needed(QUICK)[:4]
    versions = {"python": "3.11.9", "torch": "2.13.0+cu130", "mujoco": "3.17.0"}
    write_fit(store, a, {"reward_r2": 0.5})
    write_fit(store, b, {"reward_r2": 0.5}, versions=versions)
    write_fit(store, c, {"reward_r2": 0.5}, versions=versions | {"mujoco": "3.18.0"})
    write_fit(store, d, {"reward_r2": 0.5}, engine="e1")
    first, same, release, simulator = (scores.engine(store.read(spec)) for spec in (a, b, c, d))
    assert first == same
    assert len({first, release, simulator}) == 3


def test_runs_of_two_means_are_never_pooled_and_the_sentence_names_them(store):
    claim = load_ledger().claim("reward-collapse-control")
    for spec in needed(QUICK, [claim.id]):
        write_fit(store, spec, {"reward_r2": 0.5, "reward_true_std": 1.0}, means="kernels" if spec.seed else "torch")
    for row in judge_claim(claim, store, QUICK):
        assert row.outcome.verdict == "invalid"
        assert "with kernels" in row.outcome.reason and "with torch" in row.outcome.reason


def test_a_family_that_is_judged_whole_has_one_engine_on_all_its_tasks(store):
    claim = (
        load_ledger()
        .claim("toy-smooth-online")
        .model_copy(update={"tasks": ("gym:benchmark.toys:SmoothLQR-v0", "gym:benchmark.toys:LQR-v0")})
    )
    claim = claim.model_copy(update={"criterion": claim.criterion.model_copy(update={"at_least": 1})})
    for spec in runs(claim, QUICK):
        means = "kernels" if "Smooth" in spec.task else "torch"
        write_train(store, spec, [1.0, 2.0 + 0.1 * spec.seed, 3.0 + 0.1 * spec.seed], means=means)
    (row,) = judge_claim(claim, store, QUICK)
    assert row.outcome.verdict == "invalid"
    assert "one family" in row.outcome.reason and "kernels" in row.outcome.reason and "torch" in row.outcome.reason


def test_means_that_no_record_states_follow_from_a_commit_before_kernels_or_stay_unstated():
    old = {"commit": engines.TORCH_ONLY[0], "dirty": False, "device": "cpu"}
    assert engines.means(old) == "torch"
    assert engines.name(old) == engines.name({**old, "means": "torch"})
    for changed in ({"dirty": True}, {"device": "NVIDIA H200"}, {"commit": "f" * 40}, {"commit": None}):
        assert engines.means({**old, **changed}) == engines.UNSTATED
    assert engines.means({**old, "means": "graphs"}) == "graphs"


def test_threads_of_a_cpu_are_part_of_the_engine_and_those_beside_a_gpu_are_not():
    def ran(device, means, *threads):
        rows = [{"threads": n, "steps": [10 * i, 10 * i + 10]} for i, n in enumerate(threads)]
        return engines.name({"device": device, "means": means, "stretches": [*rows, {"threads": 9, "steps": [5, 5]}]})

    assert ran("cpu", "kernels", 1).endswith(" with kernels on 1 thread")
    assert ran("cpu", "kernels", 1) == ran("cpu", "kernels", 1, 1) != ran("cpu", "kernels", 2)
    assert ran("cpu", "torch", 1, 2).endswith(" with torch on 1 and 2 threads")
    assert ran("NVIDIA H200", "graphs", 1) == ran("NVIDIA H200", "graphs", 8)


# Verdicts from records


def test_known_records_give_known_verdicts(judged):
    by = {}
    for row in judged:
        by.setdefault(row.claim.id, set()).add(row.outcome.verdict)
    on_random_data = ("reward-collapse", "reward-cure", "reward-overspread", "reward-collapse-control", *SIGNATURE)
    assert {claim: verdicts for claim, verdicts in by.items() if claim.startswith("reward")} == {
        **{key: {"reproduced"} for key in on_random_data},
        **{key: {"incomplete"} for key in ("reward-collapse-replay", "reward-cure-replay", "reward-error-online")},
    }
    assert by["variance-inflation"] == {"reproduced"}
    assert by["variance-inflation-raw"] <= {"contradicted", "inconclusive"}
    assert by["pendulum-mbpo-beats-sac"] == by["pendulum-ftfl-preserved"] == {"reproduced"}
    assert {by[claim.id] == {"incomplete"} for claim in load_ledger().claims if "quick" not in claim.protocols} == {
        True
    }
    assert [row.claim.id for row in judged] == [c.id for c in load_ledger().claims for _ in c.rows]


def test_an_empty_store_is_incomplete_with_its_price(store):
    judged = judge_all(store, QUICK)
    assert {row.outcome.verdict for row in judged} == {"incomplete"}
    assert all("on two cores" in row.outcome.reason for row in judged)
    assert verdict_of(store, "reward-collapse", "dmc:hopper-hop").reason.startswith(
        "missing mbpo seeds 0-4, norm-only seeds 0-4; about"
    )
    outside = verdict_of(store, "hopper-unsolved", "dmc:hopper-hop").reason
    assert outside.startswith("outside the quick protocol; needs 12 runs of the paper protocol; about")
    assert not (store.results).exists()


def test_missing_seeds_are_named_and_never_papered_over(store):
    gaps = {("dmc:hopper-hop", "mbpo", 3), ("dmc:hopper-hop", "mbpo", 1)}
    fill(store, skip=gaps, claims=["reward-collapse"])
    out = verdict_of(store, "reward-collapse", "dmc:hopper-hop")
    assert (out.verdict, out.n) == ("incomplete", 3)
    assert out.reason.startswith("missing mbpo seeds 1, 3; about")
    assert verdict_of(store, "reward-collapse", "dmc:humanoid-run").verdict == "reproduced"


def test_records_that_do_not_belong_together_are_invalid(store):
    task = "dmc:humanoid-run"
    claim = load_ledger().claim("reward-collapse")
    for spec in runs(claim, QUICK, [task]):
        changed = {"engine": "other"} if spec.seed == 2 else {}
        write_fit(store, spec, {"reward_r2": 0.1 * spec.seed, "reward_true_std": 1.0}, **changed)
    out = verdict_of(store, "reward-collapse", task)
    assert (out.verdict, "2 engines are mixed" in out.reason) == ("invalid", True)


@pytest.mark.parametrize(("spread", "verdict"), [(1.0, "invalid"), (0.0, "incomplete")])
def test_nan_is_invalid_unless_the_number_cannot_exist(store, spread, verdict):
    task = "dmc:humanoid-run"
    for spec in runs(load_ledger().claim("reward-collapse"), QUICK, [task]):
        value = float("nan") if spec.seed == 4 else 0.5
        write_fit(store, spec, {"reward_r2": value, "reward_true_std": spread})
    out = verdict_of(store, "reward-collapse", task)
    assert out.verdict == verdict
    assert "seed 4" in out.reason


@pytest.mark.parametrize(("gain", "verdict"), [(5.0, "reproduced"), (200.0, "contradicted")])
def test_a_claim_about_before_and_after_uses_both_windows(store, gain, verdict):
    task, paper = "dmc:hopper-hop", load_suite().protocol("paper")
    for spec in runs(load_ledger().claim("mbpo-fails"), paper, [task]):
        write_train(store, spec, [50.0 + spec.seed, 0.0, 0.0, *[50.0 + gain + spec.seed] * 2])
    out = verdict_of(store, "mbpo-fails", task, "paper")
    assert (out.verdict, out.effect) == (verdict, gain)
    assert "mbpo before training" in out.reason


def test_a_run_that_was_logged_less_often_is_read_where_all_were(store):
    for spec in runs(load_ledger().claim("pendulum-mbpo-beats-sac"), QUICK):
        write_train(store, spec, [1.0] * (5 if (spec.method, spec.seed) == ("sac", 0) else 13))
    out = verdict_of(store, "pendulum-mbpo-beats-sac", "gym:InvertedPendulum-v5")
    assert out.verdict == "inconclusive"
    assert "read at the 5 steps that all runs share (sac seed 0 has no evaluation at steps 250, 500" in out.reason


def test_verdicts_file_has_the_promised_fields_and_the_same_bytes_from_any_reader(filled, judged, tmp_path):
    path = claims.write_verdicts(filled, judged)
    first = path.read_bytes()
    rows = json.loads(first)
    promised = [
        "claim",
        "task",
        "protocol",
        "verdict",
        "effect",
        "interval",
        "level",
        "n",
        "statement",
        "source",
        "reason",
    ]
    assert all(list(row)[: len(promised)] == promised for row in rows)
    assert [(row["claim"], row["task"]) for row in rows] == [(c.id, t) for c in load_ledger().claims for t in c.rows]
    another = Store(filled.results, tmp_path / "other-cache")
    assert claims.write_verdicts(another, judge_all(another, QUICK)).read_bytes() == first


# Aggregates, dropped observations, later looks


def aggregate(store, factor, **changed):
    """The verdict on the aggregate claim where FTFL's returns are `factor` times MBPO's."""
    claim, paper = load_ledger().claim("gym-preserved-aggregate"), load_suite().protocol("paper")
    for spec in runs(claim, paper):
        if (spec.task, spec.method, spec.seed) == changed.get("skip"):
            continue
        best = load_suite().task(spec.task).reference_score * (factor if spec.method == "ftfl" else 1.0)
        write_train(store, spec, [best * (1 - 0.01 * spec.seed)] * 11, engine=f"engine of {spec.task}")
    (row,) = judge_claim(claim, store, paper)
    assert row.task == "all"
    return row.outcome


@pytest.mark.parametrize(("factor", "verdict"), [(0.95, "reproduced"), (0.6, "contradicted"), (0.905, "inconclusive")])
def test_an_aggregate_is_judged_on_normalized_means(store, factor, verdict):
    out = aggregate(store, factor)
    assert (out.verdict, out.n) == (verdict, 6)
    assert out.effect == pytest.approx(factor - 1, abs=0.03)


def test_an_aggregate_lacks_what_any_task_lacks(store):
    out = aggregate(store, 0.95, skip=("gym:Ant-v5", "mbpo", 4))
    assert (out.verdict, out.n) == ("incomplete", 5)
    assert out.reason.startswith("gym:Ant-v5: missing mbpo seed 4")


def test_engines_are_never_pooled_in_an_aggregate_either(store):
    claim, paper = load_ledger().claim("gym-preserved-aggregate"), load_suite().protocol("paper")
    for spec in runs(claim, paper):
        odd = (spec.task, spec.method, spec.seed) == ("gym:Ant-v5", "ftfl", 3)
        write_train(store, spec, [100.0] * 11, engine="another" if odd else "e0")
    (row,) = judge_claim(claim, store, paper)
    assert row.outcome.verdict == "invalid"
    assert row.outcome.reason.startswith("gym:Ant-v5: runs of 2 engines are mixed")


def test_only_returns_with_a_common_scale_can_be_aggregated(tmp_path):
    def edit(claim, data):
        data["claims"]["critic-cure"]["criterion"] = {"kind": "difference", "aggregate": True}

    with pytest.raises(InputError, match=r"critic-cure.criterion.aggregate: only episode_return has a scale"):
        edited(tmp_path, edit)


def test_dropped_observations_exist_and_are_other_runs(store):
    from mbpo.envs import task_info

    paper = load_suite().protocol("paper")
    for claim in load_ledger().claims:
        for _, drop in claim.arms:
            assert all(task_info(task, drop).drop == drop for task in claim.tasks if drop)
    touch = load_ledger().claim("hopper-hop-without-touch")
    assert {(spec.method, spec.drop) for spec in runs(touch, paper)} == {("ftfl", ("touch",)), ("sac", ("touch",))}
    control = load_ledger().claim("quadruped-force-control")
    assert {spec.drop for spec in runs(control, paper)} == {("force_torque", "imu"), ()}
    for spec in runs(control, paper):
        write_train(store, spec, [(900.0 if spec.drop else 500.0) + spec.seed] * 11)
    out = judge_claim(control, store, paper)[0].outcome
    assert (out.verdict, out.effect) == ("reproduced", 400.0)
    assert out.reason.startswith(
        "a typical seed of ftfl without force_torque, imu is not worse than one of ftfl by more than"
    )


def test_a_later_look_counts_seeds_beyond_the_protocol_and_only_with_a_plan(store):
    paper = load_suite().protocol("paper")
    claim = load_ledger().claim("ftfl-beats-mbpo")
    task = claim.tasks[0]
    twice = paper.model_copy(update={"seeds": 12})
    for spec in runs(claim, twice, [task]):
        lead = 50.0 if spec.seed >= 6 else 1.0 if spec.seed % 2 else -1.0
        write_train(store, spec, [100.0 + spec.seed + (lead if spec.method == "ftfl" else 0.0)] * 11)
    planned = next(row for row in judge_claim(claim, store, paper) if row.task == task).outcome
    assert planned.n == 12 and "look 2 of 2" in planned.reason
    unplanned = claim.model_copy(update={"criterion": claim.criterion.model_copy(update={"looks": ()})})
    assert next(row for row in judge_claim(unplanned, store, paper) if row.task == task).outcome.n == 6


def test_a_claim_without_its_machinery_is_listed_and_runs_nothing(store):
    assert not [claim.id for claim in load_ledger().claims if claim.needs]  # today all machinery exists
    paper = load_suite().protocol("paper")
    claim = load_ledger().claim("ftfl-beats-mbpo").model_copy(update={"needs": "a time machine"})
    assert runs(claim, paper) == []
    for row in judge_claim(claim, store, paper):
        assert row.outcome.verdict == "incomplete" and "needs a time machine" in row.outcome.reason


def test_critic_bias_is_asked_for_wherever_it_is_judged():
    for name in ("smoke", "quick", "reduced", "paper"):
        assert load_suite().protocol(name).train.bias_episodes > 0


def test_a_claim_on_replays_reads_their_fits_alone_and_keeps_to_its_protocol():
    ledger, replay = load_ledger(), load_suite().protocol("replay")
    on_random, on_replay = ledger.claim("reward-collapse"), ledger.claim("reward-collapse-replay")
    assert runs(on_replay, QUICK) == [] and runs(on_random, replay) == []
    wanted = runs(on_replay, replay)
    assert {spec.source_run.method for spec in wanted} == {"sac"}
    assert {spec.seed for spec in wanted} == {spec.source_run.seed for spec in wanted} == set(range(5))
    assert not {spec.key for spec in wanted} & {spec.key for spec in runs(on_random, QUICK)}
    assert needs.served(wanted[0], ledger).keys() == {
        *("reward-collapse-replay", "reward-cure-replay"),
    }
    assert "reward-collapse-replay" not in needs.served(runs(on_random, QUICK)[0], ledger)


def test_a_claim_of_another_protocol_is_judged_there_once_the_runs_of_a_task_are_whole(store):
    claim, replay = load_ledger().claim("reward-collapse-replay"), load_suite().protocol("replay")

    def write(spec):
        write_fit(store, spec, {"reward_r2": 0.01 * spec.seed + (0.8 if spec.method == "norm-only" else 0.0)})

    def judged():
        return {row.task: (row.protocol, row.outcome.verdict) for row in judge_claim(claim, store, QUICK)}

    first, *others = claim.tasks
    *most, last = runs(claim, replay, [first])
    for spec in most:
        write(spec)
    assert set(judged().values()) == {("quick", "incomplete")}
    write(last)  # the rest count as open in the family, and the verdict is made in spite of them
    assert judged() == {first: ("replay", "reproduced"), **dict.fromkeys(others, ("replay", "incomplete"))}
    for spec in runs(claim, replay, others):
        write(spec)
    rows = judge_claim(claim, store, QUICK)
    assert {(row.protocol, row.outcome.verdict) for row in rows} == {("replay", "reproduced")}
