"""Made-up result files with right answers that are known, through the command line as anyone would call it."""

import gzip
import json
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest

from benchmark import cli
from benchmark.judging import columns, curves, exchange, lines

COLUMNS = list(exchange.COLUMNS)
SEVEN = {"hopper-stand": 2.6, "hopper-hop": 0.21, "humanoid-stand": 4.3, "humanoid-walk": 0.95, "humanoid-run": 0.74}
SEVEN |= {"quadruped-walk": 162.0, "quadruped-run": 164.0}  # returns of a uniformly random policy
CLAIM = "pendulum-mbpo-beats-sac"


def every(steps, first=0):
    return range(first, 3001, steps)


def pendulum(grids, seeds=range(6)):
    """The curve 900 (t / 3000)^2 for both arms; `grids` says when each is logged."""
    rng = np.random.default_rng(0)
    rows = []
    for method, grid in grids.items():
        for seed in seeds:
            top = rng.normal(900, 30)
            rows += [("gym", "InvertedPendulum-v5", method, seed, t, top * (t / 3000) ** 2) for t in grid]
    return pd.DataFrame(rows, columns=COLUMNS)


def unlearned():
    """SAC at the level of a random policy, FTFL a hair above."""
    rng = np.random.default_rng(0)
    rows = [
        ("dmc", task, method, seed, t, max(0, level + up * (3 + 0.2 * level) + rng.normal(0, 0.02 * level)))
        for task, level in SEVEN.items()
        for up, method in enumerate(("sac", "ftfl"))
        for seed in range(6)
        for t in range(0, 500_001, 50_000)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def judged(frame, tmp_path, capsys, *options):
    path = tmp_path / "runs.csv"
    frame.to_csv(path, index=False)
    assert cli.main(["judge", str(path), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


BOTH = {"mbpo": every(250), "sac": every(250)}


@pytest.mark.parametrize(
    ("frame", "claim", "wrong"),
    [
        pytest.param(pendulum(BOTH), CLAIM, {"reproduced", "contradicted", "invalid"}, id="same"),
        pytest.param(pendulum(BOTH | {"mbpo": every(250, 250)}), CLAIM, {"reproduced"}, id="nostep0"),
        pytest.param(pendulum(BOTH | {"mbpo": every(1000)}), CLAIM, {"reproduced"}, id="cadence"),
        pytest.param(pendulum(BOTH | {"mbpo": [3000]}), CLAIM, {"reproduced"}, id="final"),
        pytest.param(
            pendulum({"sac": [*range(0, 1501, 100), 3000], "mbpo": [0, *every(100, 1500)]}),
            CLAIM,
            {"reproduced", "contradicted"},
            id="uneven",
        ),
        pytest.param(unlearned(), "ftfl-beats-sac", {"reproduced"}, id="unlearned"),
        pytest.param(pendulum(BOTH, [0, 1, 2, 3, 123_456, 2**31 - 1]), CLAIM, {"incomplete"}, id="big-seed"),
        pytest.param(pendulum(BOTH, [0, 1, 2, 3, 42, 1337]), CLAIM, {"incomplete"}, id="odd-seeds"),
        pytest.param(pendulum(BOTH, [1, 5, 7, 8, 9, 2**40]), CLAIM, {"incomplete"}, id="larger-seed"),
    ],
)
def test_no_file_gives_a_verdict_that_its_curves_do_not_bear(frame, claim, wrong, tmp_path, capsys):
    for row in judged(frame, tmp_path, capsys, "--claims", claim):
        assert row["verdict"] not in wrong, row["reason"]


# Other people's layouts


def test_names_of_columns_methods_and_tasks_are_mapped(tmp_path, capsys):
    frame = pendulum(BOTH).rename(columns={"return": "score", "env_steps": "timesteps"})
    frame = frame.replace({"mbpo": "MyMBPO", "InvertedPendulum-v5": "InvertedPendulum-v4"}).drop(columns="suite")
    options = ["--columns", "return=score,env_steps=timesteps", "--method", "mbpo=MyMBPO"]
    options += ["--task", "InvertedPendulum-v4=gym:InvertedPendulum-v5"]
    (row,) = judged(frame, tmp_path, capsys, *options, "--claims", CLAIM)
    (plain,) = judged(pendulum(BOTH), tmp_path, capsys, "--claims", CLAIM)
    assert row == plain


@pytest.mark.parametrize("name", ["humanoid_walk", "humanoid-walk", "dmc:humanoid-walk", "Humanoid-Walk"])
def test_a_task_goes_by_its_spellings(name):
    assert columns.task_alias(name) == "dmc:humanoid-walk"


@pytest.mark.parametrize(("separator", "ending"), [(";", ".csv"), ("\t", ".tsv"), (",", ".csv.gz"), ("\t", ".txt.gz")])
def test_separators_packing_and_folders(separator, ending, tmp_path):
    frame = pendulum(BOTH)
    for method, rows in frame.groupby("method"):
        data = rows.to_csv(index=False, sep=separator).encode()
        (tmp_path / f"{method}{ending}").write_bytes(gzip.compress(data) if ending.endswith(".gz") else data)
    runs = curves.read_runs(tmp_path)
    assert len(runs) == 12
    whole = tmp_path / "whole.csv"
    frame.to_csv(whole, index=False)
    again = curves.read_runs(whole)
    assert all(runs[key].equals(again[key]) for key in again)


def test_a_file_per_task_with_step_reward_seed(tmp_path):
    folder = tmp_path / "ftfl"
    folder.mkdir()
    (folder / "humanoid-walk.csv").write_text("step,reward,seed\n0,1.0,1\n100000,2.5,1\n")
    assert list(curves.read_runs(folder)) == [("dmc:humanoid-walk", "ftfl", 1)]
    (run,) = curves.read_runs(folder, columns.names(methods=["sac"])).values()
    assert run["return"].tolist() == [1.0, 2.5]


def test_a_tidy_file_of_metrics(tmp_path):
    path = tmp_path / "all.csv"
    rows = ["sac,humanoid-run,3,avg_return,1000,5.5", "sac,humanoid-run,3,avg_length,1000,1000"]
    path.write_text("\n".join(["exp_name,env_name,seed,metric,env_step,value", *rows]) + "\n")
    ((key, run),) = curves.read_runs(path).items()
    assert key == ("dmc:humanoid-run", "sac", 3) and run.values.tolist() == [[1000, 5.5]]


def test_a_column_per_run_as_trackers_export_them(tmp_path):
    path = tmp_path / "wandb.csv"
    one, two = "ftfl-humanoid-walk-s3 - eval/return", "mbpo_humanoid_walk_seed12 - eval/return"
    head = ["Step", *(f"{name}{end}" for name in (one, two) for end in ("", "__MIN", "__MAX"))]
    path.write_text("\n".join([",".join(head), "0,1,0,2,,,", "500,7,6,8,9,9,9"]) + "\n")
    runs = curves.read_runs(path)
    assert set(runs) == {("dmc:humanoid-walk", "ftfl", 3), ("dmc:humanoid-walk", "mbpo", 12)}
    assert runs["dmc:humanoid-walk", "ftfl", 3]["return"].tolist() == [1.0, 7.0]
    assert runs["dmc:humanoid-walk", "mbpo", 12]["env_steps"].tolist() == [500]


def test_episodes_are_averaged_on_the_stated_grid(tmp_path):
    path = tmp_path / "sac.csv"
    rows = [(0, 1.0), (700, 2.0), (1000, 4.0), (1001, 5.0), (1999, 7.0)]
    path.write_text("task,seed,step,reward\n" + "".join(f"humanoid-run,0,{s},{r}\n" for s, r in rows))
    (run,) = curves.read_runs(path, every=1000).values()
    assert run.values.tolist() == [[0, 1.0], [1000, 3.0], [2000, 6.0]]
    with pytest.raises(curves.InputError, match="no row between 0 and 500 env steps"):
        curves.read_runs(path, every=500)


@pytest.mark.parametrize("last", [2_970, 2_999])
def test_a_last_evaluation_just_before_the_end_counts_as_the_end(last, tmp_path, capsys):
    frame = pendulum(BOTH)
    frame.loc[(frame["method"] == "mbpo") & (frame["env_steps"] == 3000), "env_steps"] = last
    (row,) = judged(frame, tmp_path, capsys, "--claims", CLAIM, "--tolerance", "0.01")
    assert "unequal length" not in row["reason"]
    (row,) = judged(frame, tmp_path, capsys, "--claims", CLAIM, "--tolerance", "0")
    assert row["verdict"] == "invalid"


def test_looks_are_told_and_planned_seeds_kept(tmp_path, capsys):
    (row,) = judged(pendulum(BOTH), tmp_path, capsys, "--claims", CLAIM)
    assert (row["n"], row["planned_seeds"]) == (5, 5)
    assert (
        row["looked"]
        == "look 1 of 1, 5 seeds planned for the first, of the quick protocol; 1 more per arm not counted in it"
    )
    (row,) = judged(pendulum(BOTH), tmp_path, capsys, "--claims", CLAIM, "--planned-seeds", "6")
    assert row["n"] == 6
    (row,) = judged(pendulum(BOTH), tmp_path, capsys, "--claims", CLAIM, "--planned-seeds", "8")
    assert row["verdict"] == "incomplete" and "6 of 8 planned seeds" in row["reason"]


# Corrupt inputs: one sentence each

HEAD = ",".join(COLUMNS)
GOOD = "gym,InvertedPendulum-v5,sac,0,250,10.0"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "cannot be read: No columns"),
        (HEAD.encode(), "has no row below its header"),
        (b"\x00\x01\x02", "is not text"),
        (b"\xff\xfe\xff", "is not text"),
        (b"\x1f\x8b\x08broken", "cannot be read"),
        (f"{HEAD}\n{GOOD}\ngym,InvertedPendulum-v5,sac".encode(), "runs.csv line 3: 3 fields, and the header has 6"),
        (f"{HEAD}\n{GOOD},9\n".encode(), "runs.csv line 2: 7 fields"),
        (f"{HEAD}\n{GOOD}\n\n{GOOD}\n".encode(), "runs.csv line 3: 1 fields"),
        (f"{HEAD}\n{GOOD}\n{GOOD}\n".encode(), "seed 0 has env_steps 250 on line 2 already"),
        (f"{HEAD}\n{GOOD.replace('10.0', '1e')}".encode(), "line 2: return = '1e' is not a number"),
        (f"{HEAD}\n{GOOD.replace(',0,', ',-1,')}".encode(), "line 2: seed = '-1' is not a whole number"),
        (f"{HEAD}\n{GOOD.replace(',0,', ',1.5,')}".encode(), "line 2: seed = '1.5' is not a whole number"),
        (f"{HEAD}\n{GOOD.replace(',0,', ',,')}".encode(), "line 2: seed = '' is not a whole number"),
        (f"{HEAD}\n{GOOD.replace('250', '1' + '0' * 30)}".encode(), "is too large"),
        (f"{HEAD}\n{GOOD.replace('250', 'nan')}".encode(), "line 2: env_steps = 'nan' is not a whole number"),
        (f"{HEAD}\n{GOOD.replace('v5', 'v4')}".encode(), "another version than ours, gym:InvertedPendulum-v5"),
        (f"{HEAD}\n{GOOD.replace('sac', 'td3')}".encode(), "line 2: unknown method 'td3'; known:"),
        (f"{HEAD}\n{GOOD.replace('gym,', 'dmc,')}".encode(), "suite 'dmc' does not have 'gym:InvertedPendulum-v5'"),
        (f"{HEAD.replace('env_steps', 'timesteps')}\n{GOOD}".encode(), "did you mean 'env_steps'?"),
        (f"{HEAD.replace('return', 'score')}\n{GOOD}".encode(), "did you mean 'return'?"),
        (f"{HEAD.replace('method', 'agent')},x\n{GOOD},1".encode(), "give --method NAME"),
    ],
)  # fmt: skip
def test_a_corrupt_file_is_refused_in_one_sentence(data, sentence, tmp_path, capsys):
    path = tmp_path / "runs.csv"
    path.write_bytes(data)
    assert cli.main(["judge", str(path)]) == 2
    told = capsys.readouterr().err
    assert sentence in told and told.count("\n") == 1 and "Traceback" not in told


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--columns", "step"], "give OURS=THEIRS"),
        (["--columns", "step=timesteps"], "there is no column 'step'; did you mean 'env_steps'?"),
        (["--columns", "return=nothing"], "there is no such column"),
        (["--method", "MyMBPO=mpbo"], "'mpbo' is not one of ours; did you mean 'mbpo'?"),
        (["--tolerance", "0.5"], "give a share of training"),
        (["--every", "0"], "is not a whole number of at least 1"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, sentence, tmp_path, capsys):
    path = tmp_path / "runs.csv"
    pendulum(BOTH).to_csv(path, index=False)
    assert cli.main(["judge", str(path), *options]) == 2
    assert sentence in capsys.readouterr().err


# What the terminal says


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_says_what_a_row_was_held_against_within_its_width(width):
    row = {"claim": "reward-collapse", "task": "dmc:humanoid-stand", "verdict": "inconclusive", "effect": 0.997}
    row |= {"interval": [0.756, 12.2], "n": 5, "p": 0.12, "level": 0.05, "reason": "the data allow both"}
    shown = [line for line, _ in lines.table([row], width)]
    assert max(map(len, shown)) <= width
    text = " ".join(" ".join(shown).split())
    assert "0.997 [0.756, 12.2]" in text and "claimed < -0.05" in text and "adjusted p 0.12, level 0.05" in text


def test_json_stands_alone_whatever_a_simulator_prints(tmp_path):
    code = """
        import os, subprocess, sys
        from benchmark.options import json_alone, print_json
        with json_alone():
            print("hello from the simulator")
            os.write(1, b"build time: today\\n")
            subprocess.run([sys.executable, "-c", "print('a worker')"])
            print_json({"a": 1})
        print("after")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["{", '"a":', "1", "}", "after"]
    assert all(line in done.stderr for line in ("hello from the simulator", "build time: today", "a worker"))
