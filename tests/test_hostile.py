"""What somebody would try who wants a false verdict: each attempt is refused, marked, or of no use."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from synthetic import needed, write_fit

from benchmark.judging import exchange, verdicts
from benchmark.records.store import Store
from benchmark.suite import needs
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite

CLAIM, TASK = "pendulum-mbpo-beats-sac", "InvertedPendulum-v5"


def curves(method, tops, seeds=None, start=6.0, end=3_000):
    rng = np.random.default_rng(len(method))
    rows = [
        ("gym", TASK, method, seed, step, start + (top - start) * (step / end) ** 2 + 0.01 * start * rng.normal())
        for seed, top in zip(seeds or range(len(tops)), tops, strict=True)
        for step in range(0, end + 1, end // 12)
    ]
    return pd.DataFrame(rows, columns=list(exchange.COLUMNS))


def judged(tmp_path, *frames, **options):
    path = tmp_path / "runs.csv"
    pd.concat(frames).to_csv(path, index=False)
    return exchange.judge(exchange.read_runs(path), [CLAIM], **options)[0]


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    return np.sort(rng.normal(500, 80, 20))[::-1], rng.normal(500, 80, 20)


def test_the_best_seeds_put_first_decide_nothing(tmp_path, drawn):
    best_first, other = drawn
    first = judged(tmp_path, curves("mbpo", best_first[:5]), curves("sac", np.sort(other)[:5]))
    assert first["verdict"] == "reproduced"
    row = judged(tmp_path, curves("mbpo", best_first), curves("sac", np.sort(other)))
    assert row["verdict"] == "inconclusive"
    assert row["reason"].startswith("reproduced on the first 5 seeds by number, inconclusive on all 20")


def test_gaps_among_the_seeds_are_told(tmp_path, drawn):
    names = [3, 7, 11, 15, 19]
    row = judged(tmp_path, curves("mbpo", drawn[0][:5], names), curves("sac", drawn[1][:5] - 300, names))
    assert row["verdict"] == "reproduced"
    assert "seeds 3, 7, 11, 15, 19 are in the file; whether others were run and left out" in row["reason"]


@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-3])
def test_a_run_copied_under_a_new_seed_is_found_through_a_little_noise(tmp_path, drawn, noise):
    one = curves("mbpo", drawn[0][:5])
    copy = one.assign(seed=one["seed"] + 5, **{"return": one["return"] + noise * np.sin(one["env_steps"])})
    row = judged(tmp_path, one, copy, curves("sac", drawn[1][:10]), planned=10)
    assert row["verdict"] == "invalid" and "a copy is not a seed" in row["reason"]


def test_one_arm_in_other_units_is_told_by_what_it_earns_untrained(tmp_path, drawn):
    row = judged(tmp_path, curves("mbpo", drawn[0][:5]), curves("sac", drawn[1][:5] / 10, start=0.6))
    assert "the arms already differ before training (5.99 of mbpo and 0.604 of sac)" in row["reason"]
    row = judged(tmp_path, curves("mbpo", drawn[0][:5]), curves("sac", drawn[1][:5]))
    assert "before training" not in row["reason"]


def test_another_length_of_training_is_told(tmp_path, drawn):
    row = judged(tmp_path, curves("mbpo", drawn[0][:5], end=30_000), curves("sac", drawn[1][:5] / 2, end=30_000))
    assert row["verdict"] == "reproduced"
    assert "runs of 30,000 env steps on gym:InvertedPendulum-v5 are as long as no protocol" in row["reason"]


# Stored runs

NAME, QUICK = "reward-collapse-control", load_suite().protocol("quick")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", tmp_path / "cache")


def filled(store, **provenance):
    for spec in needed(QUICK, [NAME]):
        write_fit(store, spec, {"reward_r2": 0.5 + 0.01 * spec.seed, "reward_true_std": 1.0}, **provenance)


def row_of(store):
    return verdicts.judge_claim(load_ledger().claim(NAME), store, QUICK)[0]


def test_runs_of_code_that_no_commit_holds_are_told(store):
    filled(store, dirty=True)
    row = row_of(store)
    assert "20 of 20 runs were made by code with uncommitted changes" in row.outcome.reason
    assert row.registration.mark == ""


def test_an_edited_record_is_no_record_and_a_deleted_seed_is_missing(store):
    filled(store)
    spec = needed(QUICK, [NAME])[0]
    folder = store.runs / spec.slug / spec.method / spec.key
    page = folder / "diagnostics.csv"
    page.write_text(page.read_text().replace("0.5", "0.9"))
    out = row_of(Store(store.results, store.cache)).outcome
    assert (out.verdict, out.reason.startswith("missing ")) == ("incomplete", True)
    shutil.rmtree(folder)
    assert row_of(Store(store.results, store.cache)).outcome.verdict == "incomplete"


def test_scores_that_scale_a_task_or_place_a_baseline_are_terms_of_the_claims_that_use_them():
    gated = needs.terms(load_ledger().claim("ftfl-beats-sac"))
    assert gated["scale.dmc:humanoid-run"] == [0.7365, 0.5532, 1000.0] and len(gated["published"]) == 16
    assert not {"published", "scale.gym:Hopper-v5"} & set(needs.terms(load_ledger().claim(NAME)))
    assert json.loads(json.dumps(gated)) == gated
