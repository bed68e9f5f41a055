"""What befell users' environments, through the command line as they would call it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import gymnasium

from benchmark import cli
from benchmark.records.store import Store
from benchmark.running import provenance

TESTS = Path(__file__).parent


def run(place: Path, *asked: str) -> int:
    folders = ["--results", str(place / "results"), "--cache", str(place / "cache")]
    return cli.main(["run", "--seeds", "1", "--protocol", "smoke", "--device", "cpu", *folders, *asked])


def test_an_environment_that_was_edited_is_not_answered_from_the_old_record(tmp_path, monkeypatch, capsys):
    asked = ("--task", "gym:broken_envs:Edited-v0", "--method", "mbpo", "--kind", "fit")
    provenance.engine.cache_clear()
    monkeypatch.setenv("EDITED_SCALE", "1")
    assert run(tmp_path, *asked) == 0
    assert "1 record" in capsys.readouterr().out
    assert run(tmp_path, *asked) == 0 and "0 of them new" in capsys.readouterr().out
    monkeypatch.setenv("EDITED_SCALE", "100")
    provenance.engine.cache_clear()
    assert run(tmp_path, *asked) == 2
    told = capsys.readouterr()
    assert "is not the environment that its record" in told.err and "it moves otherwise" in told.err
    assert told.err.count("\n") == 1 and not told.out
    provenance.engine.cache_clear()


def test_two_modules_that_register_one_id_have_records_of_their_own(tmp_path, monkeypatch, capsys):
    source = """
        import gymnasium, broken_envs
        class Plant(broken_envs.Walk):
            def step(self, action):
                obs, _, _, truncated, info = super().step(action)
                return obs, {}, False, truncated, info
        gymnasium.register("Plant-v7", Plant, max_episode_steps=20)
    """
    for number in (1, 2):
        (tmp_path / f"factory_{number}.py").write_text(textwrap.dedent(source).replace("{}", f"{number}.0"))
    monkeypatch.syspath_prepend(tmp_path)
    tasks = [f"gym:factory_{number}:Plant-v7" for number in (1, 2)]
    assert run(tmp_path, "--task", tasks[0], "--task", tasks[1], "--method", "sac", "--steps", "40") == 0
    records = Store(tmp_path / "results", tmp_path / "cache").records()
    assert {r.spec.task: set(r.curve["episode_return"]) for r in records} == {tasks[0]: {20.0}, tasks[1]: {40.0}}
    del gymnasium.registry["Plant-v7"]


def test_json_stands_alone_on_standard_output(tmp_path):
    asked = ["--task", "gym:chatty_env:Chatty-v0", "--method", "sac", "--seeds", "1", "--protocol", "smoke"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", "run", *asked, "--steps", "40", "--device", "cpu", "--json"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trained"] == 1
    assert all(line in done.stderr for line in ("hello from the simulator", "build time: today", "episode starts"))
