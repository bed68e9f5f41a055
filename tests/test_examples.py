"""The examples run as written, and say what their first lines promise."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mbpo.envs import promises

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from examples import ask_the_model, compare_targets, thermostat, train_and_use  # noqa: E402


def test_the_thermostat_keeps_every_promise_and_its_rule_is_that_of_its_steps() -> None:
    assert promises.check("gym:examples.thermostat:Thermostat-v0") == ()
    env = thermostat.Thermostat()
    env.reset(seed=0)
    for room in (5.0, 9.9, 10.5, 30.0):
        env.state[:] = room
        obs, _, terminated, *_ = env.step([0.0])
        assert bool(env.termination(torch.as_tensor(obs))) == terminated


def test_a_policy_is_trained_kept_and_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_and_use.main(tmp_path)
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[:3]] == ["0", "100", "200"]
    heats = [float(line.split()[0]) for line in out[3:]]
    assert len(heats) == 3 and all(0.0 <= heat <= 3.0 for heat in heats)
    rows = list(csv.DictReader((tmp_path / "thermostat.csv").open()))
    assert {row["env_steps"] for row in rows} == {"0", "100", "200"}
    assert (tmp_path / "thermostat.safetensors").stat().st_size < 12_000


def test_raw_targets_lose_the_tiny_reward_and_ftfl_finds_it() -> None:
    scores = compare_targets.main()
    assert scores["mbpo"] < 0.5 < scores["ftfl"]


def test_the_model_predicts_the_toy() -> None:
    assert ask_the_model.main() < 0.15


def test_the_notebook_runs_from_top_to_bottom_and_is_kept_without_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code cells run in order in one namespace, as a kernel runs them; no package of Jupyter is needed."""
    notebook = json.loads((ROOT / "examples" / "train_look_export.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    monkeypatch.setenv("MPLBACKEND", "agg")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in code:
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    returns = names["returns"]
    assert isinstance(returns, np.ndarray) and returns.shape == (3, 2) and np.isfinite(returns).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["examples", "thermostat.pt2", "thermostat.safetensors"]
