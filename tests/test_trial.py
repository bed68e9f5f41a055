"""`diagnose --check`: what is trained on each side, what the outcome says, and the command from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark import cli
from benchmark.adjusted import adjusted
from benchmark.diagnosis import diagnose as doctor
from benchmark.diagnosis import trial
from benchmark.diagnosis.trial import FREE, WITH, WITHOUT
from mbpo.config import InputError

LQR = "gym:benchmark.toys:TinyRewardLQR-v0"
SMALL: dict[str, Any] = {
    **{"utd": 1, "random_steps": 20, "rollout.per_step": 4, "sac.hidden_dims": [8, 8], "sac.batch_size": 8},
    **{"model.updates": 5, "model.hidden_dims": [8, 8], "model.weight_decay": [0, 0, 0], "model.batch_size": 8},
}
NOTHING: dict[str, Any] = {"arm": "mbpo", "settings": {}, "drop": [], "task": LQR}


def advised(**changes: Any) -> dict[str, Any]:
    return {**NOTHING, **changes}


def test_each_side_has_the_same_constants_but_for_what_is_advised() -> None:
    advice = advised(
        arm="norm-only", settings={"sac.init_temperature": 0.5}, drop=["1:2"], task=adjusted(LQR, reward=1e4)
    )
    runs = trial.plan(LQR, (), advice)
    without, side, free = (runs.arms[name][0] for name in (WITHOUT, WITH, FREE))
    assert (without.task, without.drop, without.method) == (LQR, (), "mbpo")
    assert (side.task, side.drop, side.method) == (adjusted(LQR, reward=1e4), ("1:2",), "norm-only")
    assert runs.factors == {WITHOUT: 1.0, WITH: 1e4, FREE: 1.0} and runs.changes
    assert side.constants.sac.init_temperature == 0.5 and without.constants.sac.init_temperature == 0.02
    assert side.constants.utd == without.constants.utd == 5 and free.constants.utd == 1
    assert len({len(group) for group in runs.arms.values()}) == 1 and len(runs.arms[WITH]) == trial.SEEDS


def test_advice_on_an_adjusted_task_divides_by_the_further_factor_alone() -> None:
    already = adjusted(LQR, reward=10.0)
    assert trial.plan(already, (), advised(task=adjusted(already, reward=5.0))).factors[WITH] == 5.0


def test_more_minutes_are_longer_runs_and_too_few_are_refused() -> None:
    steps = [trial.plan(LQR, (), NOTHING, minutes).steps for minutes in (2, 4, 30)]
    assert steps == sorted(steps) and steps[0] < steps[-1] == trial.LENGTHS[0]
    with pytest.raises(InputError, match=r"--check-minutes 0\.01: the shortest comparison takes about"):
        trial.plan(LQR, (), NOTHING, 0.01)


def test_to_change_nothing_changes_nothing() -> None:
    assert not trial.plan(LQR, (), NOTHING).changes


@pytest.mark.parametrize(
    ("without", "advised", "changes", "held", "words"),
    [
        ([1, 2, 3], [4, 5, 6], True, True, "The advice held: every seed with it ended above every seed without"),
        ([4, 5, 6], [1, 2, 3], True, False, "The advice did not hold"),
        ([1, 2, 5], [4, 5, 6], True, None, "Open: the seeds with and without the advice overlap"),
        ([4, 5, 6], [4, 5, 6], False, True, "to change nothing, and mbpo as it is learns"),
        ([0, 0, 1], [0, 0, 1], False, False, "learned nothing that shows"),
    ],
)
def test_verdicts_by_hand(without: Any, advised: Any, changes: bool, held: bool | None, words: str) -> None:
    said = trial.verdict(without, advised, [-1.0, 0.0, 1.0], changes)
    assert said["held"] is held and words in said["sentence"]


def test_bars_rise_with_the_curve() -> None:
    assert trial.bars([0.0, 0.5, 1.0], 0.0, 1.0) == "▁▅█" and trial.bars([3.0, 3.0], 3.0, 3.0) == "▁▁"


def test_returns_of_random_actions_are_the_environments_own() -> None:
    """An inverted pendulum pays 1 a step while it stands: about 5 steps of random actions."""
    assert 3 < np.mean(trial.random_returns("gym:InvertedPendulum-v5")) < 15


def test_the_command_trains_both_sides_keeps_the_records_and_shows_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, plan = doctor.diagnose, trial.plan
    tiny = {**doctor.MODEL, "updates": 20, "hidden_dims": (8, 8, 8, 8), "batch_size": 32}
    monkeypatch.setattr(doctor, "diagnose", lambda *a, **k: run(*a, **{**k, "model": tiny, "device": "cpu"}))
    monkeypatch.setattr(trial, "plan", lambda *a: plan(*a, constants=SMALL, steps=60))
    folders = ["--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
    asked = ["diagnose", LQR, "--check", "--check-seeds", "2", "--seeds", "1", "--steps", "900", "--device", "cpu"]
    assert cli.main([*asked, *folders]) == 0
    out, err = capsys.readouterr()
    assert "checking the advice: 6 runs of 60 env steps" in err
    assert f"  {WITHOUT:<15} " in out and f"  {WITH:<15} " in out and "Multiply the reward by" in out
    page = (tmp_path / "results" / "diagnosis" / "gym-benchmark.toys-TinyRewardLQR-v0.html").read_text()
    assert "The advice, tried" in page and "random actions" in page and "None" not in page and f"<code>{LQR}" in page
    assert cli.main([*asked, *folders, "--json"]) == 0
    again, err = capsys.readouterr()
    check = json.loads(again)["check"]
    assert "to train" not in err, "the records were kept"
    assert list(check["arms"]) == [WITHOUT, WITH, FREE] and len(check["arms"][WITH]["final"]) == 2
    assert np.allclose(check["arms"][WITH]["final"], -1e-4, atol=3e-3), "in the units of the task as it is"
