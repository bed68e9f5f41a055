"""The command line: exit codes, one line per error, JSON alone on standard output."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_trainer import Fake

from benchmark import cli
from benchmark.records.store import Store
from benchmark.report.status import wanted
from benchmark.running import ensure, provenance, work
from benchmark.running.leases import Leases
from benchmark.running.progress import Progress
from benchmark.suite.load import load_suite, specs
from mbpo.config import InputError

ROOT = Path(__file__).parents[1]
PENDULUM = "gym:InvertedPendulum-v5"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No simulator, no torch, and the logging of the session as it was."""
    monkeypatch.setattr(work, "device_name", lambda device: "cpu")
    monkeypatch.setattr(provenance, "engine", lambda task, drop: "e0")
    monkeypatch.setattr(ensure, "_check", lambda specs, device: None)
    root, ours = logging.getLogger(), logging.getLogger("benchmark")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level = before[0], before[1]
    ours.setLevel(before[2])


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(ensure, "TRAINERS", {"train": fake, "fit": fake})
    return fake


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    return ["--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]


def store_of(places: list[str]) -> Store:
    return Store(places[1], places[3])


RUN = ["run", "--task", PENDULUM, "--method", "sac", "--method", "mbpo", "--seeds", "2", "--protocol", "smoke"]


def test_run_trains_once_and_says_so(trainer: Fake, places: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*RUN, *places]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"4 records in {places[1]}, 4 of them new"
    assert "4 of 4 runs to train, estimated" in err and f"training train sac on {PENDULUM} (2 runs)" in err
    assert cli.main([*RUN, *places, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["trained"], found["present"], err) == (0, 4, "")
    asked = specs("train", [PENDULUM], ["sac", "mbpo"], "smoke", 2)
    assert [run["key"] for run in found["runs"]] == [spec.key for spec in asked] == trainer.trained


def test_with_json_everything_else_goes_to_standard_error(
    trainer: Fake, places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*RUN, *places, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["trained"] == 4 and "finished" in err


def test_run_takes_kind_drop_steps_and_protocol(trainer: Fake, places: list[str]) -> None:
    hopper = ["run", "--task", "dmc:hopper-hop", "--method", "ftfl", "--seeds", "1", *places]
    assert cli.main([*hopper, "--protocol", "smoke", "--drop", "touch", "--steps", "44"]) == 0
    assert cli.main([*hopper, "--protocol", "quick", "--kind", "fit"]) == 0
    online, fit = (job[0] for job in trainer.jobs)
    assert (online.drop, online.budget and online.budget.env_steps) == (("touch",), 44)
    assert (fit.kind, fit.fit, fit.drop) == ("fit", load_suite().protocol("quick").fit.budget(), ())
    assert fit.constants.model is not None and fit.constants.model.ensemble_size == 3


def test_the_number_of_seeds_is_the_protocols_unless_given(trainer: Fake, places: list[str]) -> None:
    assert cli.main(["run", "--task", PENDULUM, "--method", "mbpo", "--protocol", "smoke", *places]) == 0
    assert [spec.seed for spec in trainer.jobs[0]] == list(range(load_suite().protocol("smoke").seeds))


def test_seeds_may_be_named_and_jobs_kept_small(trainer: Fake, places: list[str]) -> None:
    base = ["run", "--task", PENDULUM, "--method", "mbpo", "--protocol", "smoke", *places]
    named = [word for seed in (7, 3, 7, 2**31 - 1, 0) for word in ("--seed", str(seed))]
    assert cli.main([*base, *named, "--max-lockstep", "3"]) == 0
    assert [[spec.seed for spec in job] for job in trainer.jobs] == [[7, 3, 2**31 - 1], [0]]


def test_episodes_are_cut_by_the_option_as_by_the_id(trainer: Fake, places: list[str]) -> None:
    run = ["run", "--method", "sac", "--seeds", "1", "--protocol", "smoke", *places]
    assert cli.main([*run, "--task", PENDULUM, "--max-episode-steps", "7"]) == 0
    assert cli.main([*run, "--task", f"{PENDULUM}?max_episode_steps=7"]) == 0  # there already
    (spec,) = specs("train", [f"{PENDULUM}?max_episode_steps=7"], ["sac"], "smoke", 1)
    assert trainer.trained == [spec.key]


GOOD = ["run", "--task", "dmc:hopper-hop", "--method", "mbpo"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--task", "dmc:hopper-hob", "--method", "mbpo"], "'dmc:hopper-hob'; did you mean 'dmc:hopper-hop'?"),
        (["run", "--task", "hopper", "--method", "mbpo"], "unknown task 'hopper'"),
        (["run", "--task", "dmc:hopper-hop", "--method", "mpbo"], "unknown method 'mpbo'; did you mean 'mbpo'?"),
        (["run", "--task", "dmc:hopper-hop", "--method", "mbpo-janner"], "has no constants for 'dmc:hopper-hop'"),
        ([*GOOD, "--protocol", "quik"], "unknown protocol 'quik'; did you mean 'quick'?"),
        (["status", "--protocol", "quik"], "unknown protocol 'quik'; did you mean 'quick'?"),
        (["report", "--protocol", "quik"], "unknown protocol 'quik'; did you mean 'quick'?"),
        ([*GOOD, "--kind", "trane"], "unknown kind 'trane'; did you mean 'train'?"),
        ([*GOOD, "--seeds", "-3"], "'--seeds': '-3' is not a whole number of at least 1"),
        ([*GOOD, "--seed", "-1"], "'--seed': '-1' is not a whole number from 0 to 2147483647"),
        ([*GOOD, "--seed", str(2**31)], "'2147483648' is not a whole number from 0 to 2147483647"),
        ([*GOOD, "--seed", "0.5"], "'0.5' is not a whole number from 0"),
        ([*GOOD, "--seed", "3", "--seeds", "2"], "--seed names the seeds and --seeds counts them: give one"),
        ([*GOOD, "--max-lockstep", "0"], "'--max-lockstep': '0' is not a whole number of at least 1"),
        ([*GOOD, "--seeds", "nan"], "'nan' is not a whole number of at least 1"),
        ([*GOOD, "--seeds", "0"], "'0' is not a whole number of at least 1"),
        ([*GOOD, "--steps", "1e5"], "'--steps': '1e5' is not a whole number of at least 1"),
        ([*GOOD, "--steps", "9999999999"], "train.env_steps = 9999999999"),
        ([*GOOD, "--steps", "9", "--kind", "fit"], "--steps is for online training"),
        ([*GOOD, "--max-episode-steps", "9"], "is for gym: tasks; those of dm_control"),
        ([*GOOD[:2], f"{PENDULUM}?max_episode_steps=5", *GOOD[3:], "--max-episode-steps", "9"], "give one of the two"),
        (["diagnose", "dmc:hopper-hop", "--max-episode-steps", "9"], "is for gym: tasks"),
        (["speed", "--task", "dmc:hopper-hop", "--max-episode-steps", "9"], "is for gym: tasks"),
        ([*GOOD, "--precision", "fp31"], "unknown precision 'fp31'; did you mean 'fp32'?"),
        (["work", "--protocol", "quik"], "unknown protocol 'quik'; did you mean 'quick'?"),
        (["precision", "--kind", "trian"], "unknown kind 'trian'; did you mean 'train'?"),
        ([*GOOD, "--sead", "9"], "No such option: --sead"),
        (["run", "--method", "mbpo"], "--task"),
        (["stats"], "No such command 'stats'. Did you mean 'status'?"),
        ([], "Missing command"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    trainer: Fake, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and words in err
    assert trainer.jobs == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [RUN, ["status"], ["report"]])
def test_a_store_of_a_newer_version_is_left_alone(
    trainer: Fake, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store.json").write_text('{"store_version": 7}')
    assert cli.main([*command, "--results", str(tmp_path), "--cache", str(tmp_path / "c")]) == 2
    assert "newer version (store_version 7" in capsys.readouterr().err and trainer.jobs == []
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


def test_a_results_folder_that_cannot_be_written(
    trainer: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main([*RUN, "--results", str(tmp_path / "file" / "x"), "--cache", str(tmp_path / "c")]) == 2
    assert "cannot be written" in capsys.readouterr().err and trainer.jobs == []


@pytest.mark.parametrize(("error", "code"), [(RuntimeError("out of luck"), 1), (InputError("reward is nan at 3"), 2)])
def test_a_job_that_fails_is_named(
    monkeypatch: pytest.MonkeyPatch, places: list[str], capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    def broken(specs: Any, place: Any) -> None:
        raise error

    monkeypatch.setattr(ensure, "TRAINERS", {"train": Fake(broken)})
    assert cli.main([*RUN, *places]) == code
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    jobs = 4 if code == 1 else 2  # what is not the input's fault is looked for in each run alone
    assert out == "" and last.startswith(f"error: {jobs} jobs failed: train sac on") and str(error) in last


def test_status_counts_records_hours_and_running_jobs(
    trainer: Fake, places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    quick = load_suite().protocol("quick")
    every = wanted(quick)
    online = [spec for spec in every if spec.kind == "train" and spec.method == "mbpo" and spec.task == PENDULUM]
    assert len(online) == quick.seeds
    assert {spec.task for spec in every if spec.kind == "train"} == set(quick.train.tasks or ())
    store = store_of(places)
    assert cli.main(["status", *places, "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert (before["wanted"], before["present"], before["missing"]) == (len(every), 0, len(every))
    assert before["hours"] > 0 and before["running"] == [] and not store.results.exists()
    ensure.ensure(online[:3], store)
    with Leases(store.cache).take([online[3].key]), Progress(store.cache, "j", online[3:], of=3000):
        assert cli.main(["status", *places, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert cli.main(["status", *places]) == 0
        text = capsys.readouterr().out
    (line,) = [run for run in found["runs"] if (run["kind"], run["task"], run["method"]) == ("train", PENDULUM, "mbpo")]
    assert (line["wanted"], line["present"], line["missing"]) == (5, 3, 2) and 0 < line["hours"] < before["hours"]
    assert sum(run["wanted"] for run in found["runs"]) == len(every) and found["present"] == 3
    assert found["running"][0]["of"] == 3000 and found["running"][0]["runs"] == 2
    assert f"3 of {len(every)} runs have a record." in text and f"running: train mbpo on {PENDULUM} (2 runs)" in text


def test_status_reports_torn_records(trainer: Fake, places: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*RUN, *places]) == 0
    folder = next(store_of(places).runs.glob("*/mbpo/*"))
    (folder / "curve.csv").unlink()
    capsys.readouterr()
    assert cli.main(["status", *places, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["torn"] == [str(folder)]
    assert cli.main(["status", *places]) == 0
    assert f"torn, ignored: {folder}" in capsys.readouterr().out


def test_report_is_built_from_the_folders_given(
    monkeypatch: pytest.MonkeyPatch, places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[Any, ...]] = []

    def build(*arguments: Any) -> Path:
        calls.append(arguments)
        return Path("there/report.html")

    monkeypatch.setitem(sys.modules, "benchmark.report.page", SimpleNamespace(build=build))
    assert cli.main(["report", "--protocol", "paper", *places]) == 0
    assert calls == [(Path(places[1]), Path(places[3]), "paper")] and capsys.readouterr().out == "there/report.html\n"
    assert cli.main(["report", "--json", *places]) == 0
    assert json.loads(capsys.readouterr().out) == {"protocol": "quick", "report": "there/report.html"}


def test_the_module_itself_exits_with_2_and_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, runpy; sys.argv = ['benchmark', 'status', '--protocol', 'quik']\n"
        "try: runpy.run_module('benchmark', run_name='__main__')\n"
        "except SystemExit as end: sys.exit(9 if 'torch' in sys.modules else end.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and "unknown protocol 'quik'" in done.stderr


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_option_is_told_in_a_sentence(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert ("--protocol" in text) == ("smoke, quick, reduced, replay, onset, mature, paper." in text)
    for option in ("--task ", "--device ", "--results ", "--json "):
        told = text.partition(option)[2].partition(" --")[0]
        assert not told or "." in told, option


def test_a_missing_package_is_a_sentence(tmp_path: Path) -> None:
    code = (
        "import sys, runpy; sys.modules['pandas'] = None; sys.argv = ['benchmark', 'status']\n"
        "runpy.run_module('benchmark', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
