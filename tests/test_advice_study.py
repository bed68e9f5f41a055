"""The study on the advice: environments that are what they say, a rule by hand, and pages from what is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.diagnosis.trial import WITH, WITHOUT
from benchmark.drawing.gallery import Gallery
from benchmark.studies import show
from benchmark.studies.advice import study
from benchmark.studies.advice.environments import CASES, Case
from mbpo.envs import promises, task_info

BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_loads_and_keeps_its_promises(case: Case) -> None:
    info = task_info(case.task)
    assert info.time_limit == case.steps and promises.check(case.task) == ()


@pytest.mark.parametrize("name", ["Pendulum", "Point", "Tanks", "Rotor", "RotorLate"])
def test_the_controller_by_hand_is_far_better_than_random_or_no_actions(name: str, monkeypatch) -> None:
    monkeypatch.setattr(study, "EPISODES", 6)
    low, high = study.levels(BY_NAME[name])
    assert low < 5 * high < 0


def played(case: Case, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    env = case.make()
    seen, paid = [env.reset(seed=1)[0]], []
    for action in actions:
        obs, reward, *_ = env.step(action)
        seen.append(obs)
        paid.append(reward)
    return np.stack(seen), np.array(paid)


ONE, TWO = np.random.default_rng(0).uniform(-1, 1, (2, 8, 2))


def test_faults_are_what_they_say() -> None:
    healthy, paid = played(BY_NAME["Pendulum"], ONE[:, :1])
    assert np.allclose(played(BY_NAME["PendulumTinyReward"], ONE[:, :1])[1], 1e-4 * paid)
    assert np.allclose(played(BY_NAME["PendulumBlind"], ONE[:, :1])[0], healthy[:, :2])
    assert np.allclose(
        played(BY_NAME["PendulumWide"], 60 * np.sign(ONE[:, :1]))[0],
        played(BY_NAME["Pendulum"], np.sign(ONE[:, :1]))[0],
    )
    delayed, _ = played(BY_NAME["PendulumLate"], ONE[:, :1])
    assert np.allclose(delayed, played(BY_NAME["Pendulum"], np.concatenate([np.zeros((2, 1)), ONE[:-2, :1]]))[0])
    place, _ = played(BY_NAME["Point"], ONE)
    assert np.allclose(played(BY_NAME["PointMillimetres"], ONE)[0], 1e3 * place)
    assert set(played(BY_NAME["PointSparse"], ONE)[1]) <= {0.0, 1.0}
    assert played(BY_NAME["RotorNoise"], ONE[:, :1])[0].shape == (9, 8)
    coarse, fine = played(BY_NAME["Tanks"], ONE[:1]), played(BY_NAME["TanksFine"], np.repeat(ONE[:1], 10, 0))
    assert np.allclose(coarse[0][-1], fine[0][-1], atol=0.1) and coarse[1][0] == pytest.approx(fine[1].sum(), rel=0.3)


@pytest.mark.parametrize(
    ("without", "advised", "judged"),
    [
        ([0.6, 0.5], [], "rightly nothing"),
        ([0.4, 0.5], [], "missed"),
        ([0.1, 0.1], [0.3, 0.4], "helps"),
        ([0.6, 0.6], [0.55, 0.66], "no harm"),
        ([0.1, 0.1], [0.1, 0.15], "no use"),
        ([0.9, 0.9], [0.7, 0.8], "harms"),
    ],
)
def test_the_rule_by_hand(without: list[float], advised: list[float], judged: str) -> None:
    assert study.judgement(np.array(without), np.array(advised)) == judged


def kept(folder: Path) -> None:
    """Two cases: one that needs nothing, one that the advice helps."""
    rows = []
    for name, side, score in (("Pendulum", WITHOUT, 0.9), ("PointBlind", WITHOUT, 0.1), ("PointBlind", WITH, 0.8)):
        rows += [(name, side, seed, step, -100 + 100 * score * (step > 0)) for seed in range(4) for step in (0, 1_500)]
    folder.mkdir(parents=True)
    columns = ["case", "side", "seed", "env_steps", "return"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "curve.csv", index=False)
    cases = [
        (name, study.form(BY_NAME[name]), BY_NAME[name].fault or "none", advice, -100.0, 0.0)
        for name, advice in (("Pendulum", "nothing"), ("PointBlind", "observe past 1"))
    ]
    columns = ["case", "form", "fault", "advice", "zero", "by_hand"]
    pd.DataFrame(cases, columns=columns).to_csv(folder / "cases.csv", index=False)


def test_the_table_and_the_share_follow_from_what_is_kept(tmp_path: Path) -> None:
    assert show.kept("advice", Gallery(tmp_path)) is None
    kept(tmp_path / "studies" / "advice")
    shown = show.kept("advice", Gallery(tmp_path))
    assert shown is not None and shown.present == 12 and list(shown.figures) == ["scores"]
    table = pd.read_csv(tmp_path / "studies" / "advice" / "advice.csv")
    assert table["judged"].tolist() == ["rightly nothing", "helps"] and table["right"].all()
    assert table["without"].tolist() == pytest.approx([0.9, 0.1]) and table["with"][1] == pytest.approx(0.8)
    assert table["p"][1] == pytest.approx(2 / 70), "four against four, all apart"
    assert "right in 2 of 2 environments (100%, 95 % interval 16% to 100%)" in shown.sentences[0]


def test_rows_of_another_form_are_not_taken(tmp_path: Path) -> None:
    folder = tmp_path / "advice"
    kept(folder)
    text = (folder / "cases.csv").read_text()
    (folder / "cases.csv").write_text(text.replace(study.form(BY_NAME["Pendulum"]), "0"))
    curve, cases = study.kept(folder)
    assert cases["case"].tolist() == ["PointBlind"] and set(curve["case"]) == {"PointBlind"}
