"""Work on a lent machine: what is taken along, a rehearsal on a CPU, and how its records are taken in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from test_store import curve, diagnostics, spec

from benchmark import cli
from benchmark.kit import bundle, session
from benchmark.kit.session import Check, checks, difference
from benchmark.kit.taking_in import take_in
from benchmark.records.pack import pack
from benchmark.records.store import Store
from mbpo.config import InputError

JOBS = "smoke gym:InvertedPendulum-v5 sac\n"


# On the machine


def test_training_is_right_on_a_cpu_and_a_wrong_one_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [check.right for check in checks("cpu")] == [True, True]
    honest = session.trained

    def planted(runs: Any, on: Any, steps: int = 22) -> Any:
        return [p + 1e-3 * (len(runs) == 1) for p in honest(runs, on, steps)]

    monkeypatch.setattr(session, "trained", planted)
    assert [check.right for check in checks("cpu")] == [True, False]


def test_a_difference_is_relative_and_what_is_no_number_is_wrong() -> None:
    a, b = torch.tensor([1.0, 200.0]), torch.tensor([1.0, 100.0])
    assert difference([a, a], [a, b]) == 1.0
    assert not Check("x", float("nan"), 1e-6).right


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.txt"
    path.write_text(JOBS)
    return path


def test_a_rehearsal_leaves_records_that_can_be_taken_in(
    tmp_path: Path, jobs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "checks", lambda device: [Check("captured is eager", 0.0, 1e-6)])
    monkeypatch.setattr(session, "measure_speed", lambda out, *rest: ["tf32, 6 runs"])
    out = tmp_path / "out"
    found = session.session(10, out, jobs, "cpu", lambda line: None)
    assert found["nothing_left"] and found["speed_left_out"] == ["tf32, 6 runs"]
    assert json.loads((out / "session.json").read_text()) == found
    assert "train sac on gym:InvertedPendulum-v5: 2 runs" in (out / "session.log").read_text()
    arguments = ["import", str(out), "--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == found["records"] == 2
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.startswith("0 records and 0 speed files taken, 2 known")


def test_a_device_that_computes_wrongly_trains_nothing(
    tmp_path: Path, jobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "checks", lambda device: [Check("captured is eager", 0.1, 1e-6)])
    monkeypatch.setattr(session, "_run", lambda *arguments: pytest.fail("nothing may run"))
    with pytest.raises(InputError, match="not true on cpu: captured is eager; nothing is measured or trained"):
        session.session(1, tmp_path / "out", jobs, "cpu", lambda line: None)
    assert not json.loads((tmp_path / "out" / "session.json").read_text())["checks"][0]["right"]
    with pytest.raises(InputError, match="no such file"):
        session.session(1, tmp_path / "out", tmp_path / "none.txt", "cpu", lambda line: None)


def test_what_takes_too_long_is_told_to_stop_and_then_killed(tmp_path: Path) -> None:
    log, start = tmp_path / "log", time.monotonic()
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    )
    command = [session.sys.executable, "-c", stubborn]
    assert not session._run(command, log, 1.0, grace=0.5)
    assert time.monotonic() - start < 30
    assert session._run([session.sys.executable, "-c", "print('well')"], log, 30.0) and "well" in log.read_text()
    assert not session._run(command, log, 0.0), "no time, nothing begins"


def test_speed_is_asked_for_every_precision_and_number_of_runs_while_there_is_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def run(arguments: list[str], log: Path, seconds: float) -> bool:
        asked.append(" ".join(arguments[3:]))
        return "48" not in arguments

    monkeypatch.setattr(session, "_run", run)
    left = session.measure_speed(tmp_path, "cuda", time.monotonic() + 60, tmp_path / "log", (12, 48))
    assert left == ["tf32, 48 runs", "bf16, 48 runs", "fp32, 48 runs"] and len(asked) == 6
    assert asked[0].startswith("speed --precision tf32 --runs 12 --device cuda --rounds 2 --save --results")
    assert session.measure_speed(tmp_path, "cuda", time.monotonic() - 1, tmp_path / "log", (12,)) == [
        "tf32, 12 runs", "bf16, 12 runs", "fp32, 12 runs",
    ]  # fmt: skip


# What comes back


def filled(folder: Path, shift: float = 0.0) -> Store:
    store = Store(folder / "results", folder / "cache")
    for seed in range(2):
        frame = curve()
        frame["episode_return"] += shift
        store.write(spec(seed=seed), frame, diagnostics(), {"commit": "abc"})
    return store


def test_new_records_are_copied_and_nothing_is_overwritten(tmp_path: Path) -> None:
    other = filled(tmp_path / "other")
    (other.results / "speed" / "card").mkdir(parents=True)
    (other.results / "speed" / "card" / "a.json").write_text("{}")
    here = Store(tmp_path / "results", tmp_path / "cache")
    assert take_in(tmp_path / "other", here) == (2, 0, 0, 1, (), ())
    assert {s.key for s in here.specs()} == {s.key for s in other.specs()}
    (here.results / "speed" / "card" / "a.json").write_text("ours")
    pack(here)
    assert take_in(tmp_path / "other", here) == (0, 2, 0, 0, (), ()), "packed ones are known too"
    assert (here.results / "speed" / "card" / "a.json").read_text() == "ours"


def test_packed_records_are_taken_and_a_torn_one_here_makes_room(tmp_path: Path) -> None:
    other = filled(tmp_path / "other")
    pack(other)
    here = filled(tmp_path)
    torn = next(here.runs.rglob("curve.csv"))
    torn.write_text("half")
    here = Store(here.results, here.cache)
    assert take_in(tmp_path / "other", here)[:3] == (1, 1, 0)
    assert torn.read_bytes() != b"half" and Store(here.results, here.cache).torn() == []
    assert all(here.files(s) == other.files(s) for s in other.specs())


def test_records_of_another_engine_are_left_unless_they_are_asked_for(tmp_path: Path) -> None:
    """Only where they could be pooled: a plan that has no runs here takes any engine."""

    def store(name: str, engine: str, *seeds: int) -> Store:
        made = Store(tmp_path / name / "results", tmp_path / name / "cache")
        for seed in seeds:
            told = {"engine": engine, "means": "kernels", "device": "cpu", "versions": {"torch": "2.13.0+cpu"}}
            made.write(spec(seed=seed), curve(), diagnostics(), told)
        return made

    here, same, others = store("here", "e0", 0), store("same", "e0", 1), store("others", "e1", 2)
    assert take_in(same.results, here)[0] == 1
    taken = take_in(others.results, here)
    assert taken.records == 0 and len(taken.other_engine) == 1 and "seed 2" in taken.other_engine[0]
    assert take_in(others.results, here, mix_engines=True)[0] == 1
    assert take_in(others.results, Store(tmp_path / "new", tmp_path / "c"))[0] == 1
    assert cli.main(["merge", str(same.results), "--results", str(here.results), "--cache", str(here.cache)]) == 0


def test_torn_and_differing_records_stay_where_they_are(tmp_path: Path) -> None:
    filled(tmp_path / "other", shift=1.0)
    here = filled(tmp_path)
    before = {path: path.read_bytes() for path in here.runs.rglob("*.*")}
    taken = take_in(tmp_path / "other", here)
    assert taken[:4] == (0, 2, 0, 0) and len(taken.differing) == 2 and "seed 0" in taken.differing[0]
    next((tmp_path / "other").rglob("curve.csv")).write_text("no longer whole\n")
    assert take_in(tmp_path / "other", Store(tmp_path / "new", tmp_path / "cache"))[:3] == (1, 0, 1)
    assert before == {path: path.read_bytes() for path in here.runs.rglob("*.*")}
    with pytest.raises(InputError, match="neither records nor speed files"):
        take_in(tmp_path / "cache", here)


# What is taken along


def test_the_lock_names_what_is_taken_along(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("# pins\nnumpy==2.4.6\ntorch==2.13.0\nfarama_notifications==0.0.6 # as pip compares\nruff==1\n")
    assert bundle.pins(lock) == ["numpy==2.4.6", "farama_notifications==0.0.6"]


def wheel(folder: Path, name: str, files: dict[str, str]) -> Path:
    """A wheel as pip takes it, of version 1."""
    info = f"{name}-1.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    path = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, text)
    return path


@pytest.fixture
def small_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle for this Python of two packages and a project that has nothing but a version."""

    def fetch(requirements: Any, to: Path, python: str) -> None:
        wheel(to, "some_arrays", {"some_arrays/__init__.py": "x = 1\n", "some_arrays/tests/test_x.py": "1 / 0\n"})
        wheel(to, "dm_control", {"dm_control/suite/hopper.py": "x = 2\n", "dm_control/locomotion/a.py": "x" * 9999})

    def own(root: Path, to: Path) -> None:
        wheel(to, "project", {"benchmark/__main__.py": "import torch, some_arrays; print('project', torch.x)\n"})

    monkeypatch.setattr(bundle, "fetch", fetch)
    monkeypatch.setattr(bundle, "own_wheel", own)
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return bundle.build(Path(__file__).parents[1], tmp_path / "dist", [JOBS.strip()], python)


def test_an_archive_holds_what_training_reads_and_no_more(small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [p.name for p in small_bundle.parent.iterdir()] == ["kit.tar.xz"], "no draft is left"
    with tarfile.open(small_bundle) as archive:
        names = {name.removeprefix("kit/") for name in archive.getnames()}
        assert archive.extractfile("kit/jobs.txt").read().decode() == JOBS  # type: ignore[union-attr]
        archive.extractall(small_bundle.parent, filter="data")
    wheels = ("dm_control", "project", "some_arrays")
    kept = {"install.sh", "run.sh", "jobs.txt", "wheels", *(f"wheels/{name}-1-py3-none-any.whl" for name in wheels)}
    assert names == {"kit", *kept}
    with zipfile.ZipFile(small_bundle.parent / "kit" / "wheels" / "dm_control-1-py3-none-any.whl") as packed:
        assert packed.testzip() is None
        files = sorted(packed.namelist())
        record = packed.read("dm_control-1.dist-info/RECORD").decode().splitlines()
    assert "dm_control/suite/hopper.py" in files and not any("locomotion" in name for name in files)
    assert sorted(line.split(",")[0] for line in record) == files
    monkeypatch.setattr(bundle, "MOST_MB", 0.001)
    with pytest.raises(InputError, match="may be taken along"):
        bundle.build(Path(__file__).parents[1], small_bundle.parent, [], "3.12")


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("numpy/core.py", True),
        ("numpy/tests/test_core.py", False),
        ("numpy/core/include/a.h", False),
        ("mujoco/_render_filament.so", False),
        ("scipy/io/a.py", False),
        ("scipy/optimize/io.py", True),
        ("glfw-2.data/purelib/glfw.py", True),
        ("glfw-2.data/data/share/a", False),
    ],
)
def test_what_is_left_out_of_a_wheel(name: str, needed: bool) -> None:
    assert bundle.is_needed(name) == needed


def test_the_bundle_installs_without_an_index(small_bundle: Path, tmp_path: Path) -> None:
    with tarfile.open(small_bundle) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "torch.py").write_text("x = 7\n")
    offline = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHONPATH"))}
    offline |= {"PIP_NO_INDEX": "1", "PYTHON": sys.executable, "TORCH": str(tmp_path / "elsewhere")}
    script = tmp_path / "kit" / "install.sh"
    script.write_text(script.read_text().replace(" --version\n", "\n"))  # the small project has no options
    done = subprocess.run([str(script), str(tmp_path / "env")], env=offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "project 7"
    script.write_text(script.read_text().replace('= "3.', '= "2.'))
    done = subprocess.run([str(script), str(tmp_path / "other")], env=offline, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and not (tmp_path / "other").exists()


def test_pip_without_a_wheel_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = type("Done", (), {"returncode": 1, "stderr": "noise\nERROR: no matching distribution\n"})
    monkeypatch.setattr(bundle.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(InputError, match=r"no matching distribution") as error:
        bundle.fetch(["numpy==0"], tmp_path, "3.12")
    assert "\n" not in str(error.value)


IMPORTED = """
import importlib.metadata as metadata, json, sys
import gymnasium
from dm_control import suite
import benchmark.cli
from benchmark.kit import session
from benchmark.report import worker
from benchmark.speed import measure
from scipy.optimize import nnls

suite.load("quadruped", "walk"), gymnasium.make("Hopper-v5")
files = [module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
tops = {name.split(".")[0] for name in sys.modules}
owners = {owner for name, owners in metadata.packages_distributions().items() if name in tops for owner in owners}
print(json.dumps([files, sorted(owners)]))
"""


def test_nothing_that_is_left_out_is_imported() -> None:
    """Pandas takes pyarrow where it is installed; torch comes with packages of its own."""
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)
    files, owners = json.loads(done.stdout.splitlines()[-1])
    site = Path(pytest.__file__).parents[1]
    inside = [Path(file).relative_to(site) for file in files if Path(file).is_relative_to(site)]
    patterns = [pattern for pattern in bundle.NOT_NEEDED if not pattern.startswith("**")]
    gone = [str(path) for path in inside for p in patterns if any(up.match(p) for up in (path, *path.parents))]
    assert inside and gone == []
    with_torch = {"torch", "sympy", "networkx", "jinja2", "markupsafe", "fsspec", "mpmath", "setuptools"}
    not_taken = {bundle._plain(name) for name in owners} - {bundle._plain(name) for name in bundle.PACKAGES}
    assert not_taken - with_torch - {"pyarrow", "free-lunch-forensics"} == set()
