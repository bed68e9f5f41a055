"""GPU and threads per process, and the pytest session that claims run in."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark import conftest
from benchmark.running import workers
from benchmark.running.workers import cpu_count, visible_gpus, worker_device
from benchmark.suite.ledger import load_ledger

ROOT = Path(__file__).parents[1]


def xdist(worker: int, of: int, **more: str) -> dict[str, str]:
    return {"PYTEST_XDIST_WORKER": f"gw{worker}", "PYTEST_XDIST_WORKER_COUNT": str(of), **more}


def test_workers_take_gpus_in_turn_out_of_those_the_caller_has() -> None:
    given = {"CUDA_VISIBLE_DEVICES": "3,5"}
    chosen = [worker_device(xdist(w, 4, **given), cpus=8)["CUDA_VISIBLE_DEVICES"] for w in range(4)]
    assert chosen == ["3", "5", "3", "5"]
    named = xdist(1, 2, CUDA_VISIBLE_DEVICES="GPU-aa, MIG-bb")
    assert worker_device(named, cpus=8)["CUDA_VISIBLE_DEVICES"] == "MIG-bb"
    assert worker_device(xdist(2, 3), gpus=["0", "1"], cpus=8)["CUDA_VISIBLE_DEVICES"] == "0"


@pytest.mark.parametrize("environ", [{"CUDA_VISIBLE_DEVICES": "3,5"}, xdist(0, 2, CUDA_VISIBLE_DEVICES="")])
def test_without_workers_or_gpus_the_choice_is_left_alone(environ: Mapping[str, str]) -> None:
    assert "CUDA_VISIBLE_DEVICES" not in worker_device(environ, cpus=8)


@pytest.mark.parametrize(
    ("environ", "cpus", "threads"),
    [
        ({}, 8, 8),
        (xdist(0, 4), 8, 2),
        (xdist(0, 3), 8, 2),
        (xdist(0, 16), 8, 1),
        (xdist(0, 2, OMP_NUM_THREADS="1"), 8, 1),
        (xdist(0, 4, OMP_NUM_THREADS="8"), 8, 2),
    ],
)
def test_workers_share_the_cpus(environ: Mapping[str, str], cpus: int, threads: int) -> None:
    assert worker_device(environ, gpus=[], cpus=cpus)["OMP_NUM_THREADS"] == str(threads)


@pytest.mark.parametrize(
    ("given", "threads"), [({}, "2"), ({"OMP_NUM_THREADS": "1"}, "1"), ({"MKL_NUM_THREADS": "1"}, "1")]
)
def test_both_thread_pools_get_one_number(given: dict[str, str], threads: str) -> None:
    settings = worker_device(xdist(0, 4, **given), gpus=[], cpus=8)
    assert {settings[name] for name in workers.THREAD_VARIABLES} == {threads}


@pytest.mark.parametrize(
    ("environ", "load", "policy"),
    [
        (xdist(0, 2), 0.0, "PASSIVE"),
        ({}, 1.7, "PASSIVE"),
        ({}, 0.1, None),
        (xdist(0, 1), 0.1, None),
        (xdist(0, 2, OMP_WAIT_POLICY="ACTIVE"), 5.0, None),
    ],
)
def test_threads_do_not_spin_while_others_need_the_cores(
    environ: Mapping[str, str], load: float, policy: str | None
) -> None:
    assert worker_device(environ, gpus=[], cpus=8, load=load).get("OMP_WAIT_POLICY") == policy


def test_the_load_is_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for load, policy in ((3.0, "PASSIVE"), (0.0, None)):
        monkeypatch.setattr(workers.os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert worker_device({}, gpus=[], cpus=8).get("OMP_WAIT_POLICY") == policy


@pytest.mark.parametrize(
    ("value", "gpus"), [("", []), ("-1", []), ("0", ["0"]), ("2, 0", ["2", "0"]), ("1,-1,2", ["1"])]
)
def test_visible_gpus_read_the_variable_as_cuda_does(value: str, gpus: list[str]) -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": value}) == gpus


def test_visible_gpus_else_ask_the_driver(tmp_path: Path) -> None:
    assert visible_gpus({"PATH": str(tmp_path)}) == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: H100 (UUID: GPU-a)'\necho '  MIG 1g'\necho 'GPU 1: H100 (UUID: GPU-b)'\n")
    tool.chmod(0o755)
    assert visible_gpus({"PATH": str(tmp_path)}) == ["0", "1"]
    tool.write_text("#!/bin/sh\necho 'GPU 0: gone'\nexit 9\n")
    assert visible_gpus({"PATH": str(tmp_path)}) == []


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000"}, 1),
        ({"cpu.max": "300000 100000"}, 3),
        ({"cpu.max": "max 100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({}, 4),
    ],
)
def test_cpus_are_the_least_of_affinity_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cpus: int
) -> None:
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert cpu_count(tmp_path) == cpus


# The pytest session


def session(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "OMP_", "MKL_"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    env = {**kept, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", **environ}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the real root conftest, whose tests write down what they see."""
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_see.py").write_text(
        "import json, os, pathlib, sys, time\nimport pytest\n"
        "@pytest.mark.parametrize('i', range(4))\n"
        "def test_see(i):\n"
        "    time.sleep(0.2)\n"
        "    names = 'CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS', 'PYTEST_XDIST_WORKER'\n"
        "    seen = {name: os.environ.get(name) for name in names}\n"
        "    seen['torch'] = 'torch' in sys.modules\n"
        "    pathlib.Path(f'seen-{i}.json').write_text(json.dumps(seen))\n"
    )
    return tmp_path


def test_every_worker_has_its_gpu_and_threads_before_torch_is_imported(project: Path) -> None:
    done = session(project, "-n", "2", CUDA_VISIBLE_DEVICES="3,5")
    assert done.returncode == 0, done.stdout
    seen = [json.loads(path.read_text()) for path in project.glob("seen-*.json")]
    assert {(s["PYTEST_XDIST_WORKER"], s["CUDA_VISIBLE_DEVICES"]) for s in seen} == {("gw0", "3"), ("gw1", "5")}
    assert {s["OMP_NUM_THREADS"] for s in seen} == {str(max(cpu_count() // 2, 1))}
    assert not any(s["torch"] for s in seen)


def test_a_plugin_that_imports_torch_first_is_told_off(project: Path) -> None:
    (project / "torch.py").write_text("")
    (project / "hasty.py").write_text("import torch\n")
    done = session(project, "-p", "hasty")
    assert done.returncode == 4 and "torch was imported before conftest.py" in done.stderr
    assert not list(project.glob("seen-*.json"))


VERDICTS = """
import pytest
from benchmark.suite.ledger import load_ledger
ROWS = [(claim.id, task) for claim in load_ledger().claims for task in claim.rows][:6]
@pytest.mark.parametrize("i", [5, 1, 3, 0, 2, 4])
def test_claim(i, record_property):
    verdict = ["contradicted", "inconclusive", "incomplete", "reproduced"][min(i, 3)]
    row = {"verdict": verdict, "effect": 1.5, "interval": [0.25, None], "n": 5, "reason": "why"}
    record_property("verdict", {"claim": ROWS[i][0], "task": ROWS[i][1], **row})
    if i == 1: pytest.xfail("inconclusive")
    if i == 2: pytest.skip("incomplete")
    assert i
"""


def test_the_table_of_verdicts_is_whole_and_in_the_order_of_the_ledger(project: Path) -> None:
    (project / "test_see.py").write_text(VERDICTS)
    done = session(project, "-p", "benchmark.conftest", "--results", "r", "--cache", "c", "-n", "2")
    assert done.returncode == 1
    table = done.stdout.split("verdicts, quick protocol")[1].splitlines()[1:]
    firsts = [i for i, line in enumerate(table[:-1]) if line and not line.startswith(" ")][:6]
    rows = [(claim.id, task) for claim in load_ledger().claims for task in claim.rows][:6]
    assert [tuple(table[i].replace(",", "").split()[1:3]) for i in firsts] == rows
    verdicts = ["contradicted", "inconclusive", "incomplete", *["reproduced"] * 3]
    assert [table[i].split()[0] for i in firsts] == verdicts
    # A narrow terminal has the numbers, and what they are held against, on lines of their own.
    texts = [" ".join(table[i + 1 : end]) for i, end in zip(firsts, [*firsts[1:], len(table)], strict=True)]
    assert all("1.5 [0.25, ]; claimed < -0.05" in text for text in texts)
    # An incomplete verdict says why: what is missing, and the hours.
    assert ["why" in text for text in texts] == [False, False, True, False, False, False]
    assert "3 reproduced, 1 contradicted, 1 inconclusive, 1 incomplete" in table
    assert not (project / "r").exists(), "only claims create folders"


def test_a_bad_option_is_one_sentence_before_anything_runs(project: Path) -> None:
    done = session(project, "-p", "benchmark.conftest", "--protocol", "quik")
    assert done.returncode == 4 and done.stderr == "ERROR: unknown protocol 'quik'; did you mean 'quick'?\n\n"
    assert not list(project.glob("seen-*.json"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"results": "file"}, "file' is a file; give a folder"),
        ({"cache": "file/c"}, "cannot be written"),
        ({"results": "newer"}, "newer version"),
        ({}, ""),
        ({"results": "file/r", "no-train": True}, ""),
    ],
)
def test_folders_are_checked_from_the_place_that_pytest_was_called_in(
    tmp_path: Path, options: dict[str, object], words: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "store.json").write_text('{"store_version": 99}')
    given = {"--protocol": "quick", **{f"--{name}": value for name, value in options.items()}}
    config: Any = SimpleNamespace(
        getoption=given.get,
        option=SimpleNamespace(collectonly=False),
        invocation_params=SimpleNamespace(dir=tmp_path),
        rootpath=tmp_path / "root",
        stash=pytest.Stash(),
    )
    if words:
        with pytest.raises(pytest.UsageError, match=words):
            conftest.pytest_configure(config)
        return
    conftest.pytest_configure(config)
    results = tmp_path / str(options["results"]) if options else tmp_path / "root" / "results"
    assert config.stash[conftest.STORE].results == results
    assert not (tmp_path / "root").exists()


def test_claims_and_smoke_runs_are_collected_only_where_they_are_named(project: Path) -> None:
    (project / "benchmark").mkdir()
    (project / "benchmark" / "test_hours.py").write_text("def test_hours(): pass\n")
    done = session(project, "--collect-only", "-q", "--import-mode=importlib")
    assert "4 tests" in done.stdout, done.stdout
    done = session(project, "--collect-only", "-q", "--import-mode=importlib", "benchmark/test_hours.py::test_hours")
    assert "1 test" in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("arguments", "ignored"),
    [([], True), (["."], True), (["tests"], True), (["benchmark/"], None), (["benchmark/a.py::test_a"], None)],
)
def test_the_folder_of_claims_is_ignored_unless_the_command_line_names_it(
    pytestconfig: pytest.Config, arguments: list[str], ignored: bool | None
) -> None:
    root = next(p for p in pytestconfig.pluginmanager.get_plugins() if hasattr(p, "TORCH_CAME_FIRST"))
    config: Any = SimpleNamespace(invocation_params=SimpleNamespace(dir=ROOT), args=arguments)
    assert root.pytest_ignore_collect(ROOT / "benchmark", config) is ignored
    assert root.pytest_ignore_collect(ROOT / "tests", config) is None
