"""Registration: what moves a claim's form, and which runs vouch for it."""

import json
import shutil
import subprocess

import pytest
from synthetic import PROVENANCE, edited_ledger, fill, needed, write_fit

from benchmark.judging import blame, registry, verdicts
from benchmark.records.store import Store
from benchmark.running import provenance
from benchmark.suite import needs
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite
from mbpo.config import InputError

QUICK = load_suite().protocol("quick")
NAME = "reward-collapse-control"


def page(tmp_path, edit=lambda claim, data: None):
    return edited_ledger(tmp_path, lambda data: edit(data["claims"][NAME], data))


@pytest.mark.parametrize(
    ("field", "value", "moves"),
    [
        ("title", "Another title", False),
        ("meaning", "Told otherwise", False),
        ("source", {"section": "9", "sure": "I"}, False),
        ("chapter", "variance", False),
        ("protocols", ["quick"], False),
        ("statement", "Another statement", True),
        ("tasks", ["gym:Hopper-v5"], True),
        ("arm", "direct-only", True),
        ("criterion", {"kind": "non-inferiority", "direction": "higher", "margin": 0.3}, True),
        ("estimand", {"measure": "reward_slope"}, True),
        ("expected", "contradicted", True),
        ("drop", ["touch"], True),
    ],
)
def test_a_form_is_moved_by_what_decides_and_by_nothing_else(tmp_path, field, value, moves):
    edited = page(tmp_path, lambda claim, _: claim.update({field: value})).claim(NAME)
    assert (edited.form != load_ledger().claim(NAME).form) is moves


def test_spelling_out_a_default_moves_no_form(tmp_path):
    edited = page(tmp_path, lambda claim, _: (claim["criterion"].update(level=0.05), claim.update(drop=[])))
    assert edited.claim(NAME).form == load_ledger().claim(NAME).form


def test_a_run_carries_the_forms_of_the_claims_it_serves():
    spec = next(s for s in needed(QUICK, [NAME]) if s.method == "mbpo" and s.task == "gym:Hopper-v5")
    served = needs.served(spec)
    assert served[NAME] == load_ledger().claim(NAME).form
    assert all(spec.task in load_ledger().claim(name).tasks for name in served)
    assert all(load_ledger().claim(name).kind == "fit" for name in served)
    assert provenance.provenance(spec, [], "cpu", 1.0, resumed=False)["claims"] == served


def marks(store):
    judged = verdicts.judge_claim(load_ledger().claim(NAME), store, QUICK)
    return {row.registration.mark for row in judged}


def runs(store, **changed):
    for spec in needed(QUICK, [NAME]):
        write_fit(store, spec, {"reward_r2": 0.5, "reward_true_std": 1.0}, **changed)


def test_runs_that_carry_the_present_form_vouch_for_it(store):
    runs(store, claims={NAME: load_ledger().claim(NAME).form})
    assert marks(store) == {""}


@pytest.mark.parametrize(
    ("carried", "told"),
    [({NAME: "0123456789abcdef"}, "trained under 0123456789abcdef"), ({}, "post hoc, written after the runs")],
)
def test_runs_of_another_form_mark_the_claim(store, carried, told):
    runs(store, claims=carried)
    (mark,) = marks(store)
    assert load_ledger().claim(NAME).form in mark and told in mark
    row = verdicts.judge_claim(load_ledger().claim(NAME), store, QUICK)[0].to_json()
    assert row["edited"] == mark and mark in row["reason"]


def test_one_run_of_another_form_is_enough(store):
    for index, spec in enumerate(needed(QUICK, [NAME])):
        form = "0123456789abcdef" if index == 7 else load_ledger().claim(NAME).form
        write_fit(store, spec, {"reward_r2": 0.5, "reward_true_std": 1.0}, claims={NAME: form})
    (mark,) = marks(store)
    assert "0123456789abcdef" in mark


def unstamped(store):
    runs(store, claims=None, terms={})


def test_runs_without_forms_vouch_for_no_claim_that_was_never_judged_before(store):
    unstamped(store)
    (mark,) = marks(store)
    assert mark.startswith("post hoc, written after the runs")


def test_a_claim_that_came_after_its_runs_remains_so_however_often_it_is_judged(store):
    unstamped(store)
    for _ in range(3):
        rows = verdicts.judge_claim(load_ledger().claim(NAME), store, QUICK)
        assert any(row.outcome.n for row in rows)
        assert all(row.registration.mark.startswith("post hoc, written after the runs") for row in rows)
        verdicts.write_verdicts(store, rows)


def test_runs_without_forms_are_vouched_for_by_the_first_form_judged(store):
    unstamped(store)
    registry.note(store.results, [load_ledger().claim(NAME)])
    assert marks(store) == {""}
    path = store.results / "registry.json"
    (entry,) = json.loads(path.read_text())
    assert (entry["claim"], entry["form"]) == (NAME, load_ledger().claim(NAME).form)
    path.write_text(json.dumps([{"claim": NAME, "form": "f" * 16}]))
    (mark,) = marks(store)
    assert "trained under ffffffffffffffff" in mark


@pytest.mark.parametrize(
    ("field", "before"), [("criterion.level", 0.1), ("seeds.quick", 9), ("needs", "a rig"), ("protocols", ["paper"])]
)
@pytest.mark.parametrize("by", ["the runs", "the registry"])
def test_terms_changed_after_the_runs_are_told_by_name(store, field, before, by):
    claim = load_ledger().claim(NAME)
    old = {**needs.terms(claim), field: before}
    runs(store, **({"terms": {NAME: old}} if by == "the runs" else {}))
    if by == "the registry":
        entry = {"claim": NAME, "form": claim.form, "terms": old}
        (store.results / "registry.json").write_text(json.dumps([entry]))
    row = verdicts.judge_claim(claim, store, QUICK)[0]
    assert f"{field} was {before!r} and is " in row.registration.mark
    assert row.registration.mark in row.outcome.reason


def test_a_revised_rule_of_judging_is_told_as_such_and_is_no_edit_of_the_claim(store):
    claim = load_ledger().claim(NAME)
    old = {**needs.terms(claim), "rules.statistics": 1, "rules.gate": 1}  # the claim has no gate
    runs(store, terms={NAME: old})
    row = verdicts.judge_claim(claim, store, QUICK)[0]
    clause = f"rules of judging revised since: statistics from 1 to {needs.RULES['statistics']}"
    assert (row.registration.mark, row.registration.revised, row.to_json()["revised"]) == ("", clause, clause)
    assert row.outcome.reason.endswith(clause)


def test_a_seed_that_is_deleted_and_run_again_is_told(store):
    runs(store)
    verdicts.write_verdicts(store, verdicts.judge_claim(load_ledger().claim(NAME), store, QUICK))
    first = (store.results / "records.json").read_text()
    shutil.rmtree(store.runs)
    again = Store(store.results, store.cache)
    for spec in needed(QUICK, [NAME]):
        value = 0.9 if spec.seed == 0 and spec.method == "mbpo" else 0.5
        write_fit(again, spec, {"reward_r2": value, "reward_true_std": 1.0})
    judged = verdicts.judge_claim(load_ledger().claim(NAME), again, QUICK)
    assert "were changed or run again since they were first judged" in judged[0].outcome.reason
    verdicts.write_verdicts(again, judged)
    assert (store.results / "records.json").read_text() == first


def test_equal_records_leave_no_mark_and_unsealed_ones_are_counted(store):
    runs(store)
    judged = verdicts.judge_claim(load_ledger().claim(NAME), store, QUICK)
    verdicts.write_verdicts(store, judged)
    assert marks(store) == {""}
    assert judged[0].to_json()["unsealed"] == 0
    spec = needed(QUICK, [NAME])[0]
    path = store.runs / spec.slug / spec.method / spec.key / "provenance.json"
    told = json.loads(path.read_text())
    del told["sha256"]["provenance"]
    path.write_text(json.dumps(told))
    fresh = Store(store.results, store.cache)
    (row, *_) = verdicts.judge_claim(load_ledger().claim(NAME), fresh, QUICK)
    assert row.registration.unsealed == 1
    assert "1 of" in row.registration.mark and "changed or run again" in row.registration.mark


def test_the_registry_is_only_added_to(store):
    store.results.mkdir()
    first = [{"claim": NAME, "form": "f" * 16}]
    (store.results / "registry.json").write_text(json.dumps(first))
    for _ in range(2):
        registry.note(store.results, [load_ledger().claim(NAME)])
    entries = json.loads((store.results / "registry.json").read_text())
    claim = load_ledger().claim(NAME)
    assert entries == [*first, {"claim": NAME, "form": claim.form, "terms": needs.terms(claim)}]


def test_a_claim_without_runs_is_not_noted(store):
    verdicts.write_verdicts(store, verdicts.judge_all(store, QUICK))
    assert json.loads((store.results / "registry.json").read_text()) == []


def test_a_spoilt_registry_is_told(store):
    store.results.mkdir()
    (store.results / "registry.json").write_text("{}x")
    with pytest.raises(InputError, match="is not a list of claims and forms; restore it"):
        verdicts.judge_all(store, QUICK)


def test_a_declared_edit_replaces_the_mark_for_that_form_alone(tmp_path, store):
    def declare(form):
        entry = {"claim": NAME, "form": form, "date": "2030-01-31", "reason": "the margin was a slip"}
        return page(tmp_path, lambda _, data: data.update(declared_edits=[entry]))

    runs(store, claims={})
    records = [store.read(spec) for spec in needed(QUICK, [NAME])]
    claim = load_ledger().claim(NAME)
    told = registry.mark(claim, records, {}, declare(claim.form))
    assert told == "edited after its runs, declared on 2030-01-31: the margin was a slip"
    load_ledger.cache_clear()
    assert "declared" not in registry.mark(claim, records, {}, declare("a" * 16))


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        ({"claim": "reward-colapse"}, "did you mean 'reward-collapse'"),
        ({"form": "xyz"}, "form"),
        ({"reason": ""}, "reason"),
        ({"why": "x"}, "why"),
    ],
)
def test_a_faulty_declaration_is_refused(tmp_path, edit, sentence):
    entry = {"claim": NAME, "form": "a" * 16, "date": "2030-01-31", "reason": "why"} | edit
    with pytest.raises(InputError, match=sentence):
        page(tmp_path, lambda _, data: data.update(declared_edits=[entry]))


# Commits


def git(folder, *arguments):
    me = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *me, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_the_last_touch_and_none_before_it_is_committed(tmp_path):
    text = "groups:\n  a: [x]\nclaims:\n\n  # about one\n  one:\n    title: 1\n  two:\n    title: 2\n"
    path = tmp_path / "claims.yaml"
    git(tmp_path, "init", "-q")
    heads = []
    for old, new in (("", ""), ("title: 2", "title: 3"), ("a: [x]", "a: [y]")):
        text = text.replace(old, new) if old else text
        path.write_text(text)
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-qm", "c", "--date=2030-01-01")
        heads.append(git(tmp_path, "rev-parse", "HEAD"))
    blame._blamed.cache_clear()
    found = blame._blamed(path)
    assert found["one"] == heads[0]
    assert found["two"] in heads[:2] and set(found) == {"one", "two"}
    path.write_text(text.replace("title: 1", "title: 9"))
    blame._blamed.cache_clear()
    assert set(blame._blamed(path)) == {"two"}


def test_a_commit_that_git_cannot_tell_is_kept_from_the_last_verdicts(store, monkeypatch):
    monkeypatch.setattr(blame, "_blamed", dict)
    fill(store, claims=[NAME])
    path = verdicts.write_verdicts(store, verdicts.judge_all(store, QUICK))
    rows = json.loads(path.read_text())
    assert {row["commit"] for row in rows} == {None}
    for row in rows:
        row["commit"] = "c" * 40 if row["claim"] == NAME else None
    path.write_text(json.dumps(rows))
    assert blame.commits(store.results)[NAME] == "c" * 40
    rows[0]["form"] = "another"
    assert blame.commits(store.results)["reward-cure"] is None


def test_synthetic_provenance_carries_no_forms():
    assert needs.CARRIED not in PROVENANCE
