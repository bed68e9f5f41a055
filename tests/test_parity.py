"""Parity with the predecessor's code: the rows, how two programs are compared, and the shortest rows live."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark import cli
from benchmark.studies.parity import compare, study
from benchmark.suite.load import load_suite
from mbpo.buffer import Layout
from mbpo.config import Target
from mbpo.dynamics import GaussianEnsemble
from mbpo.streams import Streams

REACH = 4.302652729911275 * math.sqrt(4 / 3)
"""Half the 95 % prediction interval of three values whose standard deviation is 1: Student's t with 2 degrees."""


# The rows


def test_rows_are_what_dm_control_gives_when_stepped_directly() -> None:
    suite = pytest.importorskip("dm_control.suite")
    env = suite.load("quadruped", "walk", {"random": 0})
    spec, rng, layout = env.action_spec(), np.random.default_rng(0), study.task_layout()
    rows, n = study.random_rows(), 1_003  # into the second episode

    def flat(step):
        return np.concatenate([np.ravel(part) for part in step.observation.values()]).astype(np.float32)

    assert rows.shape == (10_000, layout.width) and rows.dtype == np.float32 and (layout.mask(rows) == 1).all()
    obs = flat(env.reset())
    for row in rows[:n]:
        action = rng.uniform(-1.0, 1.0, spec.shape)
        step = env.step(action * (spec.maximum - spec.minimum) / 2 + (spec.maximum + spec.minimum) / 2)
        expected = [obs, action.astype(np.float32), flat(step), np.float32([step.reward, 1.0])]
        np.testing.assert_array_equal(row, np.concatenate(expected))
        obs = flat(env.reset() if step.last() else step)


def test_rows_are_ten_episodes_of_1000_and_the_same_each_time() -> None:
    rows, layout = study.random_rows(), study.task_layout()
    joined = (layout.next_obs(rows)[:-1] == layout.obs(rows)[1:]).all(1)
    assert (np.flatnonzero(~joined) + 1).tolist() == [1_000 * k for k in range(1, 10)]
    np.testing.assert_array_equal(study.random_rows.__wrapped__(1_100), rows[:1_100])


# How two programs are compared


@pytest.mark.parametrize(
    ("ours", "log", "rounding", "margin", "expected"),
    [
        ([1.0, 2.0, 3.0], False, 0.0, 0.0, (2.0, 2 - REACH, 2 + REACH)),
        ([-1.0, -2.0, -3.0], False, 0.5, 0.1, (-2.0, -2 - REACH - 0.7, -2 + REACH + 0.7)),
        ([math.e, math.e**2, math.e**3], True, 0.0, 0.0, (math.e**2, math.exp(2 - REACH), math.exp(2 + REACH))),
        ([4.0, 4.0], True, 0.5, 0.25, (4.0, 3.2 - 0.5, 5.0 + 0.5)),
    ],
)
def test_tolerated_against_known_answers(ours, log, rounding, margin, expected) -> None:
    assert tuple(compare.tolerated(ours, log, rounding, margin)) == pytest.approx(expected)


def test_one_more_seed_lies_inside_as_often_as_stated() -> None:
    draws = np.random.default_rng(0).normal(5.0, 2.0, (2_000, 4))
    inside = [r.low <= x[3] <= r.high for x in draws for r in [compare.tolerated(x[:3], False, margin=0.0)]]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)  # three standard errors


def theirs(*rows: tuple[str, int, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [("sac", *row, 0.0) for row in rows], columns=["learner", "measure", "updates", "value", "rounding"]
    )


def test_verdicts_and_scales() -> None:
    reference = theirs(
        ("q_mean", 300, -2.0), ("q_mean", 1_000, 16.0), ("q_mean", 2_000, 30.0), ("temperature", 100, 1.0)
    )
    ours = {
        ("q_mean", 300): [-2.1, -1.9, -2.0],
        ("q_mean", 1_000): [-16.0, 16.0, 16.0],  # no magnitude to compare on a log scale
        ("temperature", 100): [1.0, math.nan, 1.0],
    }
    table = compare.compare(reference, ours)
    assert table[["measure", "updates", "scale", "verdict"]].values.tolist() == [
        ["q_mean", 300, "plain", "agrees"],
        ["q_mean", 1_000, "log", "differs"],
        ["temperature", 100, "log", "differs"],
    ]
    close = {("q_mean", 2_000): [31.4, 31.4, 31.4]}
    assert compare.compare(reference, close)["verdict"].tolist() == ["agrees"]
    assert compare.compare(reference, {key: [31.6] * 3 for key in close})["verdict"].tolist() == ["differs"]


def test_the_predecessors_numbers_are_stored_with_their_source() -> None:
    table = compare.reference()
    assert table.groupby("measure").size().to_dict() == {"q_mean": 7, "temperature": 7, "state_mse": 4, "logvar": 4}
    assert set(table["source"]) == {"CLeARoboticsLab/STFL@244c775"} and set(table["measured_by"]) == {"us"}
    assert table["measure"].isin(list(compare.LOG_FROM)).all() and not table.isna().any(axis=None)


def test_judge_of_a_model_that_predicts_no_change() -> None:
    layout, config = Layout(3, 2), load_suite().method("mbpo", study.TASK).model
    streams = Streams(["a", "b"], torch.device("cpu"), torch.float32)
    ensemble = GaussianEnsemble(config, [Target()] * 2, layout, streams)
    for parameter in ensemble.net.parameters:
        parameter.data.zero_()
    rows = torch.randn(2, 50, layout.width, generator=torch.Generator().manual_seed(0))
    mse, logvar = study.judge(ensemble, rows)
    change = layout.next_obs(rows) - layout.obs(rows)
    assert mse == pytest.approx(change.square().mean((1, 2)).tolist())
    soft = [config.max_logvar - math.log1p(math.exp(config.max_logvar))]
    soft.append(config.min_logvar + math.log1p(math.exp(soft[0] - config.min_logvar)))
    assert logvar == pytest.approx([soft[1]] * 2, rel=1e-5)


# Live, on the shortest rows


def short(marks, **planted) -> pd.DataFrame:
    method = load_suite().method("sac", study.TASK)
    method = method.model_copy(update={"sac": method.sac.model_copy(update=planted)})
    return compare.compare(compare.reference(), study.learn_sac(range(3), marks, method))


def test_the_shortest_rows_agree() -> None:
    table = short([100, 300])
    assert len(table) == 4 and (table["verdict"] == "agrees").all(), table.to_string()


@pytest.mark.parametrize("planted", [{"discount": 0.5}, {"init_temperature": 1e-6}, {"tau": 0.05}], ids=str)
def test_a_wrong_constant_differs(planted) -> None:
    """A discount that is wrong, the entropy term missing, targets that follow too fast."""
    assert "differs" in set(short([100], **planted)["verdict"])


# The command


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, list[int]]]:
    """Learners that give what the predecessor's gave, but for the last temperature."""
    known = {(row.measure, row.updates): row.value for row in compare.reference().itertuples()}
    known["temperature", 2_000] = 1.0
    calls: list[tuple[str, int, list[int]]] = []

    def learner(name: str, *measures: str):
        def learn(seeds, marks, say):
            calls.append((name, len(seeds), list(marks)))
            return {(m, mark): [known[m, mark]] * len(seeds) for m in measures for mark in marks}

        return learn

    monkeypatch.setattr(study, "learn_sac", learner("sac", "q_mean", "temperature"))
    monkeypatch.setattr(study, "learn_model", learner("model", "state_mse", "logvar"))
    monkeypatch.setattr(compare, "_versions", lambda: "commit x")
    return calls


def test_the_command_writes_the_same_bytes_and_tells_the_table(
    learned: list[tuple[str, int, list[int]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["parity", "--results", str(tmp_path), "--seeds", "2"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    path = tmp_path / "parity" / "parity.csv"
    assert "21 of 22 rows agree, 2 seeds of ours" in out and "differs" in out
    before = path.read_bytes()
    assert cli.main([*command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert path.read_bytes() == before and len(rows) == 22
    assert [row["updates"] for row in rows if row["verdict"] == "differs"] == [2_000]
    assert before.decode().splitlines()[1].startswith("sac,q_mean,100,-12,-12,") and b",commit x\n" in before


def test_quick_stops_early_and_leaves_the_full_table_alone(
    learned: list[tuple[str, int, list[int]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["parity", "--quick", "--results", str(tmp_path)]) == 0
    assert learned == [("sac", 3, [100, 300, 1_000, 2_000]), ("model", 3, [300, 1_000])]
    assert [path.name for path in (tmp_path / "parity").iterdir()] == ["quick.csv"]


def test_one_seed_is_refused_before_anything_trains(
    learned: list[tuple[str, int, list[int]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["parity", "--seeds", "1"]) == 2
    assert "'1' is not a whole number of at least 2" in capsys.readouterr().err and learned == []


def test_a_folder_that_cannot_be_written_is_refused_before_anything_trains(learned, tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main(["parity", "--results", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err and learned == []
