"""Curves written in common columns, and someone else's judged: every fault told with its place."""

import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
from synthetic import fill

from benchmark import cli
from benchmark.judging import exchange
from benchmark.records.store import Store
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite
from mbpo.config import InputError

QUICK = load_suite().protocol("quick")
STEPS = range(0, 500_001, 50_000)


def table(tasks, finals, seeds=6):
    """Curves that rise to a final return per method, a little apart per seed."""
    rows = [
        ("dmc", task, method, seed, step, final * step / 500_000 + 0.1 * seed)
        for task in tasks
        for method, final in finals.items()
        for seed in range(seeds)
        for step in STEPS
    ]
    return pd.DataFrame(rows, columns=list(exchange.COLUMNS))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.csv"


def judged(frame, path, *chosen):
    frame.to_csv(path, index=False)
    return {row["task"]: row for row in exchange.judge(exchange.read_runs(path), chosen)}


FIVE = ["humanoid-stand", "humanoid-walk", "humanoid-run", "quadruped-walk", "quadruped-run"]


def test_someone_elses_runs_are_judged_as_ours_would_be(path):
    frame = table(FIVE, {"ftfl": 600.0, "mbpo": 20.0})
    frame.loc[(frame["task"] == "quadruped-run") & (frame["method"] == "ftfl"), "return"] *= 0.01
    found = judged(frame, path, "ftfl-beats-mbpo")
    assert {task: row["verdict"] for task, row in found.items()} == {
        f"dmc:{task}": "contradicted" if task == "quadruped-run" else "reproduced" for task in FIVE
    }
    row = found["dmc:humanoid-run"]
    assert (row["n"], row["form"]) == (6, load_ledger().claim("ftfl-beats-mbpo").form)
    assert row["effect"] == pytest.approx(580 * 0.9)  # mean over the last fifth, of a straight line


def test_claims_are_chosen_by_what_the_file_holds(path):
    frame = table(FIVE, {"ftfl": 600.0, "mbpo": 20.0})
    frame.to_csv(path, index=False)
    found = exchange.judge(exchange.read_runs(path))
    assert {row["claim"] for row in found} == {"mbpo-fails", "ftfl-beats-mbpo", "ftfl-above-random"}
    assert {row["verdict"] for row in found if row["task"] == "dmc:hopper-hop"} == {"incomplete"}


def test_order_of_rows_is_irrelevant(path):
    frame = table(FIVE[:1], {"ftfl": 600.0, "mbpo": 20.0})
    whole = judged(frame, path, "ftfl-beats-mbpo")
    assert judged(frame.sample(frac=1, random_state=0), path, "ftfl-beats-mbpo") == whole


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda f: f.rename(columns={"return": "retrun"}), "unknown column 'retrun'; did you mean 'return'?"),
        (lambda f: f.drop(columns="seed"), "the column 'seed' is missing"),
        (
            lambda f: f.assign(task="humanoid-rum"),
            "line 2: unknown task 'dmc:humanoid-rum'; did you mean 'humanoid-run'?",
        ),
        (lambda f: f.assign(suite="dcm"), "line 2: unknown task 'dcm:humanoid-stand'"),
        (lambda f: f.assign(method="mpbo"), "line 2: unknown method 'mpbo'; did you mean 'mbpo'?"),
        (lambda f: f.assign(seed="a"), "line 2: seed = 'a' is not a whole number"),
        (lambda f: f.assign(env_steps=-5), "line 2: env_steps = '-5' is not a whole number"),
        (lambda f: f.assign(**{"return": "high"}), "line 2: return = 'high' is not a number"),
        (lambda f: pd.concat([f, f.iloc[[3]]]), "on line 5 already; every seed counts once"),
        (lambda f: f.iloc[:0], "has no row below its header"),
    ],
)
def test_a_faulty_file_is_told_with_its_line(path, edit, sentence):
    with pytest.raises(InputError) as error:
        judged(edit(table(FIVE[:1], {"ftfl": 600.0, "mbpo": 20.0})), path, "ftfl-beats-mbpo")
    assert sentence in str(error.value)


def cut(frame, **where):
    keep = np.ones(len(frame), dtype=bool)
    for column, value in where.items():
        keep &= (frame[column] == value).to_numpy()
    return frame[~keep]


def spoilt(frame):
    frame = frame.copy()
    frame.loc[(frame["method"] == "ftfl") & (frame["seed"] == 3) & (frame["env_steps"] == 500_000), "return"] = np.nan
    return frame


@pytest.mark.parametrize(
    ("edit", "verdict", "sentence"),
    [
        (spoilt, "invalid", "ftfl has no finite score at seed 3"),
        (lambda f: cut(f, method="ftfl", seed=2), "incomplete", "ftfl has no seed 2, which mbpo has"),
        (lambda f: cut(f, method="mbpo"), "incomplete", "no run of mbpo on dmc:humanoid-stand"),
        (lambda f: f[f["seed"] < 4], "incomplete", "4 seeds per arm: 5 are the least"),
        (lambda f: f[f["seed"] < 5], "incomplete", "5 of 6 planned seeds per arm"),
        (lambda f: f[f["seed"] < 1], "incomplete", "1 seed per arm"),
        (
            lambda f: f[(f["method"] != "ftfl") | (f["seed"] != 1) | (f["env_steps"] < 400_000)],
            "invalid",
            "runs of unequal length: ftfl seed 1 ends at 350,000 env steps, ftfl seed 0 at 500,000",
        ),
        (
            lambda f: cut(f, method="ftfl", seed=1, env_steps=450_000),
            "reproduced",  # read on the steps that all runs have
            "p = ",
        ),
    ],
)
def test_runs_that_cannot_be_compared_are_told_and_never_dropped(path, edit, verdict, sentence):
    row = judged(edit(table(FIVE[:1], {"ftfl": 600.0, "mbpo": 20.0})), path, "ftfl-beats-mbpo")["dmc:humanoid-stand"]
    assert row["verdict"] == verdict
    assert sentence in row["reason"]


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ("ftfl-beats-mpbo", "did you mean 'ftfl-beats-mbpo'"),
        ("reward-collapse", "is about reward_r2, which curves do not hold"),
        ("critic-cure", "is about critic_bias, which curves do not hold"),
    ],
)
def test_claims_that_cannot_be_judged_are_told(path, chosen, sentence):
    with pytest.raises(InputError, match=sentence):
        judged(table(FIVE[:1], {"ftfl": 600.0, "mbpo": 20.0}), path, chosen)


def test_the_gate_holds_for_others_too(path):
    seven = [*FIVE, "hopper-stand", "hopper-hop"]
    row = judged(table(seven, {"ftfl": 999.0, "sac": 995.0}), path, "ftfl-beats-sac")["all"]
    assert row["verdict"] == "reproduced" and "better than all published sources predict" in row["reason"]
    assert "sac on dmc:quadruped-walk is held against random actions alone" in row["reason"]
    row = judged(table(seven, {"ftfl": 999.0, "sac": 30.0}), path, "ftfl-beats-sac")["all"]
    assert row["verdict"] == "invalid" and "published sources that learned predicts of 6 seeds" in row["reason"]
    row = judged(table(["quadruped-walk"], {"ftfl": 40.0, "sac": 20.0}), path, "ftfl-beats-sac")["all"]
    assert row["verdict"] == "invalid" and "sac has not learned on dmc:quadruped-walk" in row["reason"]
    learned = {"hopper-hop": 160.0, "quadruped-walk": 300.0, "quadruped-run": 700.0}
    rows = pd.concat([table([name], {"ftfl": 950.0, "sac": learned.get(name, 100.0)}) for name in seven])
    row = judged(rows, path, "ftfl-beats-sac")["all"]
    assert (row["verdict"], row["effect"]) == ("reproduced", 7.0)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read: no such file"):
        exchange.read_runs(tmp_path / "none.csv")


# Out


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    store = Store(folder / "results", folder / "cache")
    fill(store, claims=["pendulum-mbpo-beats-sac", "reward-collapse-control"])
    return store


def test_what_is_exported_is_judged_to_the_same_verdict(store, path):
    assert exchange.export(store, QUICK, path) == 10
    frame = pd.read_csv(path)
    assert list(frame.columns) == list(exchange.COLUMNS)
    assert set(frame["suite"]) == {"gym"} and set(frame["task"]) == {"InvertedPendulum-v5"}
    (row,) = exchange.judge(exchange.read_runs(path), ["pendulum-mbpo-beats-sac"])
    assert row["verdict"] == "reproduced"
    record = next(r for r in store.records() if r.spec.method == "sac" and r.spec.seed == 2)
    mine = frame[(frame["method"] == "sac") & (frame["seed"] == 2)]
    assert mine["return"].tolist() == pytest.approx(record.curve["episode_return"].tolist())
    first = path.read_bytes()
    exchange.export(store, QUICK, path)
    assert path.read_bytes() == first


def test_runs_of_another_protocol_do_not_mix(store, path):
    with pytest.raises(InputError, match="no online run of the paper protocol has a record"):
        exchange.export(store, load_suite().protocol("paper"), path)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("runs.txt", r"ends in .csv or .parquet"), ("none/runs.csv", "does not exist; make it")],
)
def test_a_place_that_cannot_be_written_is_told(store, tmp_path, name, sentence):
    with pytest.raises(InputError, match=sentence):
        exchange.export(store, QUICK, tmp_path / name)


def test_parquet_without_pyarrow_is_told(store, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs pyarrow \(pip install pyarrow\)"):
        exchange.export(store, QUICK, tmp_path / "runs.parquet")


def test_the_command_line_exports_and_judges(store, path, capsys):
    folders = ["--results", str(store.results), "--cache", str(store.cache)]
    assert cli.main(["export", str(path), *folders, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": 10, "path": str(path)}
    assert cli.main(["judge", str(path), "--claims", "pendulum-mbpo-beats-sac", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["verdict"] == "reproduced"
    assert cli.main(["judge", str(path), "--claims", "pendulum-mbpo-beats-sax"]) == 2
    assert "did you mean 'pendulum-mbpo-beats-sac'" in capsys.readouterr().err
