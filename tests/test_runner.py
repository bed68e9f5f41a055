"""`ensure`: everything once, whoever trains it, and whatever breaks on the way."""

import importlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_trainer import Fake, result

from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from benchmark.running import cost, progress, provenance, work
from benchmark.running import ensure as runner
from benchmark.running import train as running_train
from benchmark.running.ensure import JobsFailed, ensure
from benchmark.running.job import Place
from benchmark.running.leases import Leases
from benchmark.suite.load import specs
from benchmark.words import duration
from mbpo import checkpoint
from mbpo.config import InputError, Method, ModelConfig, SacConfig

PENDULUM, HOPPER = "gym:InvertedPendulum-v5", "gym:Hopper-v5"
TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def _no_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Provenance without building environments or importing torch; its own test asks for the real one."""
    monkeypatch.setattr(work, "device_name", lambda device: "cpu")
    monkeypatch.setattr(provenance, "engine", lambda task, drop: "e0")


def wanted(methods: Sequence[str] = ("sac", "mbpo", "ftfl"), tasks: Sequence[str] = (PENDULUM,), seeds: int = 2) -> Any:
    return specs("train", tasks, methods, "smoke", seeds)


def go(store: Store, runs: Sequence[RunSpec], fake: Fake, **options: Any) -> list[RunSpec]:
    return ensure(runs, store, trainers={"train": fake, "fit": fake}, poll_seconds=0.05, **options)


def test_arms_and_seeds_of_a_task_are_one_job_and_every_run_gets_its_own_record(store: Store) -> None:
    fake, runs = Fake(), wanted()
    assert go(store, runs, fake) == []
    assert [[(s.method, s.seed) for s in job] for job in fake.jobs] == [
        [("sac", 0), ("sac", 1)],
        [("mbpo", 0), ("mbpo", 1), ("ftfl", 0), ("ftfl", 1)],
    ]
    for spec in runs:
        record = store.read(spec)
        assert record.last("q_mean") == int(spec.key, 16) / 3
        mates = {s.key for s in runs if s.job == spec.job and s is not spec}
        assert set(record.provenance["companions"]) == mates


def test_what_has_a_record_is_not_trained_again(store: Store) -> None:
    go(store, wanted(seeds=1), Fake())
    fake = Fake()
    go(store, wanted(seeds=3), fake)
    assert [s.seed for job in fake.jobs for s in job] == [1, 2, 1, 2, 1, 2]
    again = Fake()
    assert go(store, wanted(seeds=3), again) == [] and again.jobs == []


def test_equal_runs_under_two_names_are_trained_once(store: Store) -> None:
    fake = Fake()
    twins = [spec.model_copy(update={"method": "twin"}) for spec in wanted(["mbpo"], seeds=1)]
    assert go(store, [*wanted(["mbpo"], seeds=1), *twins], fake) == [] and len(fake.trained) == 1
    assert store.read(twins[0]).spec.method == "twin"


def test_looking_only_trains_and_writes_nothing(store: Store) -> None:
    fake = Fake()
    assert go(store, wanted(), fake, train=False) == wanted()
    assert fake.jobs == [] and not store.results.exists() and not store.cache.exists()


def test_no_job_is_larger_than_allowed(store: Store) -> None:
    fake = Fake()
    go(store, wanted(["mbpo", "ftfl"], seeds=5), fake, max_lockstep=4)
    assert [len(job) for job in fake.jobs] == [4, 4, 2] and len(set(fake.trained)) == 10


def test_a_place_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fake = Fake()
    with pytest.raises(InputError, match="cannot be written"):
        go(Store(tmp_path / "file" / "r", tmp_path / "cache"), wanted(), fake)
    assert fake.jobs == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "gym:CartPole-v1"}, "Discrete"),
        ({"drop": ("qqpos",)}, "did you mean 'qpos'?"),
        ({}, "device = 'cdua'"),
    ],
)
def test_what_the_first_step_would_refuse_is_refused_before_training(
    store: Store, change: dict[str, Any], words: str
) -> None:
    bad = [spec.model_copy(update=change) for spec in wanted(["mbpo"])]
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        ensure(bad, store, device="auto" if change else "cdua")
    assert not (store.cache / "progress").exists() and not store.runs.exists()


# Errors and interrupts


def test_one_failing_job_is_named_and_does_not_stop_the_others(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    def broken(job: Sequence[RunSpec], place: Place) -> None:
        if job[0].method == "sac":
            raise ZeroDivisionError("the third law")

    fake = Fake(broken)
    with pytest.raises(JobsFailed) as error, caplog.at_level(logging.ERROR):
        go(store, wanted(tasks=[PENDULUM, HOPPER]), fake)
    told = [label for label, _ in error.value.failures]
    assert told == [f"train sac on {task} (1 run)" for task in (PENDULUM, PENDULUM, HOPPER, HOPPER)]
    assert "4 jobs failed" in str(error.value) and "ZeroDivisionError: the third law" in str(error.value)
    assert isinstance(error.value.__cause__, ZeroDivisionError) and not error.value.bad_input
    assert "Traceback" in caplog.text
    assert [len(job) for job in fake.jobs] == [2, 1, 1, 4, 2, 1, 1, 4], "a run that failed alone is not tried again"
    assert {record.spec.method for record in store.records()} == {"mbpo", "ftfl"}
    assert not any(Leases(store.cache).held(spec.key) for spec in wanted())
    second = Fake()
    go(store, wanted(tasks=[PENDULUM, HOPPER]), second)
    assert {job[0].method for job in second.jobs} == {"sac"} and len(second.trained) == 4


def test_bad_input_that_shows_only_in_training_is_told_as_such(store: Store) -> None:
    def nan(job: Sequence[RunSpec], place: Place) -> None:
        raise InputError("observation 3 is nan at step 7")

    with pytest.raises(JobsFailed, match=r"1 job failed: train mbpo .*: observation 3 is nan") as error:
        go(store, wanted(["mbpo"]), Fake(nan))
    assert error.value.bad_input


def test_an_interrupt_stops_everything_and_leaves_no_claim_behind(store: Store) -> None:
    def interrupt(job: Sequence[RunSpec], place: Place) -> None:
        raise KeyboardInterrupt

    fake = Fake(interrupt)
    with pytest.raises(KeyboardInterrupt):
        go(store, wanted(), fake)
    assert len(fake.jobs) == 1 and progress.running(store.cache) == []
    assert list((store.cache / "progress").iterdir()) == []
    assert go(store, wanted(), Fake()) == []


def test_a_job_that_was_begun_resumes_in_its_own_company(store: Store) -> None:
    seen: list[tuple[Path, list[str]]] = []

    def interrupt(job: Sequence[RunSpec], place: Place) -> None:
        (place.checkpoints[1] / "step-1").mkdir()
        raise KeyboardInterrupt

    def look(job: Sequence[RunSpec], place: Place) -> None:
        seen.append((place.checkpoints[1], sorted(path.name for path in place.checkpoints[1].iterdir())))

    begun = Fake(interrupt)
    with pytest.raises(KeyboardInterrupt):
        go(store, wanted(["mbpo", "ftfl"]), begun)
    resumed = Fake(look)
    go(store, wanted(["norm-only", "mbpo", "ftfl"], seeds=3), resumed)
    assert resumed.jobs[0] == begun.jobs[0], "the checkpoint fits only the runs that it was made with"
    ours = ["run.json", "stretches.json"]
    assert seen[0][1] == [ours[0], "step-1", ours[1]] and seen[1][1] == ours
    assert len(set(resumed.trained)) == 9 and list((store.cache / "snapshots").iterdir()) == []
    assert store.read(begun.jobs[0][0]).provenance["resumed"] is True
    assert store.read(resumed.jobs[1][0]).provenance["resumed"] is False


# What every process that worked on a run leaves on record


def snapshot(place: Place, step: int, seconds: float) -> None:
    """A complete snapshot of every run that was made `seconds` after the present stretch began."""
    for run in place.checkpoints:
        folder = checkpoint.save(run, step, {"step": step})
        began = json.loads((run / "stretches.json").read_text())["rows"][-1]["began"]
        os.utime(folder, (began + seconds, began + seconds))


def test_every_stretch_of_a_run_is_on_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, asked = [1], wanted(["sac"])
    monkeypatch.setattr(work, "conditions", lambda spec, device: {"threads": threads[0], "device": device})

    def leave(step: int | None, seconds: float = 0.0) -> None:
        def stop(job: Sequence[RunSpec], place: Place) -> None:
            if step is not None:
                snapshot(place, step, seconds)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            go(store, asked, Fake(stop))
        threads[0] += 1

    leave(None)
    leave(20, 7.5)
    leave(40, 2.25)
    leave(None)
    assert go(store, asked, Fake()) == []
    for spec in asked:
        told = store.read(spec).provenance
        assert [row["threads"] for row in told["stretches"]] == [1, 2, 3, 4, 5]
        assert [row["steps"] for row in told["stretches"]] == [[0, 0], [0, 20], [20, 40], [40, 40], [40, 60]]
        *stopped, last = [row["wall_seconds"] for row in told["stretches"]]
        assert stopped == [None, pytest.approx(7.5, abs=2e-3), pytest.approx(2.25, abs=2e-3), None]
        assert last == told["wall_seconds"]
        assert {tuple(row) for row in told["stretches"]} == {("threads", "device", "steps", "wall_seconds")}
        assert "provenance" in told["sha256"]


def test_a_stretch_tells_what_may_move_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    (spec,) = wanted(["mbpo"], seeds=1)
    torch, kernels = sys.modules["torch"], importlib.import_module("mbpo.fast.kernels")
    monkeypatch.setattr(kernels, "library", lambda: SimpleNamespace(vector_width=lambda: 8))
    found = provenance.conditions(spec, "cpu")
    assert (found["means"], found["vector_width"], found["threads"]) == ("kernels", 8, torch.get_num_threads())
    assert (found["engine"], found["device"], found["mujoco"]) == ("e0", "cpu", found["versions"]["mujoco"])
    assert found["torch_capability"] == torch.backends.cpu.get_cpu_capability() and {"commit", "dirty"} <= set(found)
    assert provenance.conditions(spec.model_copy(update={"precision": "fp64"}), "cpu")["vector_width"] is None
    assert provenance.conditions(spec, "NVIDIA")["means"] == "graphs"
    monkeypatch.setattr(kernels, "library", lambda: None)
    found = provenance.conditions(spec, "cpu")
    assert (found["means"], found["vector_width"]) == ("torch", None)


def test_stretches_that_cannot_be_read_are_refused(store: Store) -> None:
    def damage(job: Sequence[RunSpec], place: Place) -> None:
        (place.checkpoints[0] / "stretches.json").write_text('[{"steps": [0]}]')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(store, wanted(["sac"]), Fake(damage))
    fake = Fake()
    with pytest.raises(
        JobsFailed, match=r"stretches\.json' does not hold a run's stretches; delete its folder"
    ) as error:
        go(store, wanted(["sac"]), fake)
    assert error.value.bad_input
    assert [[spec.seed for spec in job] for job in fake.jobs] == [[1]], "the other run of the job is not stopped by it"


# Runs of another version


@pytest.mark.parametrize("version", [1, 3])
def test_a_run_of_another_version_is_read_but_not_trained(store: Store, version: int) -> None:
    (new,) = wanted(["sac"], seeds=1)
    old, fake = new.model_copy(update={"numerics_version": version}), Fake()
    said = rf"is a 'train' run of numerics version {version} and this code makes version 2: .* only {{}} can train it"
    with pytest.raises(InputError, match=said.format("the commit in the provenance of that version's records")):
        go(store, [new, old], fake)
    assert fake.jobs == [] and not store.results.exists()
    assert go(store, [old], fake, train=False) == [old]
    store.write(old, *result(old), {"commit": "abc"})
    assert go(store, [old], fake) == [] and store.missing([new]) == [new] and fake.jobs == []
    with pytest.raises(InputError, match=said.format("commit abc")):
        runner.keep_replays([old], store, device="cpu")
    assert go(store, [new], fake) == [] and fake.trained == [new.key]


def test_a_job_of_no_runs_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="max_lockstep = 0: a job holds at least 1 run"):
        go(store, wanted(["sac"]), Fake(), max_lockstep=0)


# Several processes

CHILD = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
from fake_trainer import Fake, slow_and_logged
from benchmark.running import provenance, work
from benchmark.running import ensure as runner
from benchmark.suite.load import specs
from benchmark.records.store import Store
work.device_name = lambda device: "cpu"
provenance.engine = lambda task, drop: "e0"
here = Path({here!r})
runs = specs("train", ["gym:InvertedPendulum-v5", "gym:Hopper-v5"], {methods!r}, "smoke", 3)
fake = Fake(slow_and_logged(here / "trained.log", {seconds}))
store = Store(here / "results", here / "cache")
left = runner.ensure(runs, store, trainers={{"train": fake}}, poll_seconds=0.05, max_lockstep=4)
assert left == [] and store.missing(runs) == []
print(len(fake.trained))
"""


def child(here: Path, methods: Sequence[str], seconds: float) -> subprocess.Popen[str]:
    code = CHILD.format(
        tests=str(TESTS), root=str(TESTS.parent), here=str(here), methods=list(methods), seconds=seconds
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(condition: Any, seconds: float = 600.0) -> None:  # long: a busy machine is no fault
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def test_processes_share_the_work_and_train_nothing_twice(tmp_path: Path) -> None:
    # Different wishes that overlap in part: jobs of the two are not the same sets of runs.
    workers = [child(tmp_path, methods, 0.3) for methods in (["sac", "mbpo", "ftfl"], ["ftfl", "norm-only", "sac"])]
    told = [worker.communicate(timeout=600) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], told
    trained = (tmp_path / "trained.log").read_text().split()
    assert len(trained) == len(set(trained)) == 2 * 4 * 3
    assert all(int(out) > 0 for out, _ in told), "both had a share"
    assert len(list(Store(tmp_path / "results", tmp_path / "cache").records())) == 24


def test_the_work_of_a_killed_process_falls_to_another(tmp_path: Path) -> None:
    store, log = Store(tmp_path / "results", tmp_path / "cache"), tmp_path / "trained.log"
    first = child(tmp_path, ["mbpo"], 600)  # it is killed long before
    until(lambda: log.exists() and len(log.read_text().split()) == 3)
    until(lambda: len(progress.running(store.cache)) == 1)
    (job,) = progress.running(store.cache)
    assert (job["pid"], job["task"], job["methods"], job["step"]) == (first.pid, PENDULUM, ["mbpo"], 0)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert progress.running(store.cache) == [] and len(list((store.cache / "progress").iterdir())) == 1
    fake = Fake()
    assert go(store, wanted(["mbpo"], [PENDULUM, HOPPER], seeds=3), fake) == []
    assert len(fake.trained) == 6 and list((store.cache / "progress").iterdir()) == []


def test_what_another_process_finishes_meanwhile_is_not_trained(store: Store) -> None:
    def finish_mbpo(job: Sequence[RunSpec], place: Place) -> None:
        if job[0].method == "sac":
            for spec in wanted(["mbpo"]):
                store.write(spec, *result(spec), {})

    fake = Fake(finish_mbpo)
    assert go(store, wanted(), fake) == []
    assert [[spec.method for spec in job] for job in fake.jobs] == [["sac", "sac"], ["ftfl", "ftfl"]]


def test_a_process_waits_only_when_others_hold_all_that_is_left(store: Store) -> None:
    others = ExitStack()
    others.enter_context(Leases(store.cache).take([spec.key for spec in wanted(["sac"])]))
    fake = Fake(lambda job, place: others.close())  # the first job to train frees the one that was held
    assert go(store, wanted(), fake) == []
    assert [job[0].method for job in fake.jobs] == ["mbpo", "sac"]


def test_waiting_sleeps_between_looks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    others, naps = ExitStack(), []
    others.enter_context(Leases(store.cache).take([spec.key for spec in wanted()]))

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            others.close()

    monkeypatch.setattr(
        work, "time", SimpleNamespace(sleep=nap, monotonic=time.monotonic)
    )  # other threads sleep as well
    assert go(store, wanted(), Fake()) == [] and naps == [0.05] * 3


def test_leases_are_exclusive_partial_and_end_with_their_holder(tmp_path: Path) -> None:
    mine, theirs = Leases(tmp_path), Leases(tmp_path)
    with mine.take(["a", "b"]) as held:
        assert held == ["a", "b"] and theirs.held("a")
        with theirs.take(["c", "b", "d"]) as others:
            assert others == ["c", "d"]
        assert not mine.held("c")
    with theirs.take(["b"]) as held:
        assert held == ["b"]
    assert not mine.held("never")


# What a job hands over


def test_rows_of_training_become_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[dict[str, Any]] = []

    def train(task: str, runs: Sequence[Any], budget: Any, **options: Any) -> Any:
        calls.append({"task": task, "runs": runs, "budget": budget, **options})
        options["progress"](7)
        for step in (0, 5):
            returns = np.array([[step + 0.1, step + 0.2], [-step - 0.1, 1 / 3]])
            yield SimpleNamespace(
                **{"env_steps": step, "updates": 2 * step, "returns": returns, "lengths": np.array([[3, 4], [5, 6]])},
                diagnostics={"q_mean": np.array([1.0, 2.0]) + step},
                failures={},
            )

    loop = SimpleNamespace(train=train, Run=lambda method, seed: (method, seed))
    monkeypatch.setitem(sys.modules, "mbpo.loop", loop)
    runs = [spec.model_copy(update={"drop": ("x",), "precision": "fp64"}) for spec in wanted(["mbpo"])]
    steps: list[tuple[int, int]] = []
    place = Place(tmp_path, [tmp_path / "checkpoint"], lambda step, of: steps.append((step, of)), "cpu", 12.0)
    first, second = running_train.train_job(runs, place)
    assert first.curve.to_dict("list") == {
        "env_steps": [0, 0, 5, 5],
        "episode": [0, 1, 0, 1],
        "episode_return": [0.1, 0.2, 5.1, 5.2],
        "length": [3, 4, 3, 4],
    }
    assert second.curve["episode_return"].tolist() == [-0.1, 1 / 3, -5.1, 1 / 3]
    assert second.curve["length"].tolist() == [5, 6, 5, 6]
    assert second.diagnostics.to_dict("split")["data"] == [
        [0, "updates", -1, 0.0],
        [0, "q_mean", -1, 2.0],
        [5, "updates", -1, 10.0],
        [5, "q_mean", -1, 7.0],
    ]
    (call,) = calls
    assert call["runs"] == [(spec.constants, spec.seed) for spec in runs] and call["budget"] == runs[0].budget
    assert (call["drop"], call["precision"], call["device"], call["checkpoint_seconds"]) == (
        ("x",),
        "fp64",
        "cpu",
        12.0,
    )
    assert call["checkpoint"] == [tmp_path / "checkpoint"] and steps == [(7, 60)]


def test_provenance_says_where_numbers_came_from_and_names_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    one, other = wanted(["mbpo"])
    found = provenance.provenance(one, [one, other], "cpu", 12.34567, resumed=False)
    assert found["companions"] == [other.key] and found["wall_seconds"] == 12.346 and found["device"] == "cpu"
    assert found["versions"]["mujoco"] == "3.17.0" and set(found["versions"]) == {"python", *provenance.PACKAGES}
    assert (found["commit"] is None) == (found["dirty"] is None)
    text = json.dumps(found)
    assert str(Path.home()) not in text and str(TESTS.parent) not in text and socket.gethostname() not in text


def test_the_engine_is_the_simulator_not_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    names = [provenance.engine.__wrapped__(task, ()) for task in (PENDULUM, PENDULUM, HOPPER)]
    assert names[0] == names[1] != names[2]
    envs = sys.modules["mbpo.envs.promises"]
    real = envs.make_env

    def heavier(task: str, drop: Sequence[str]) -> Any:
        env = real(task, drop)
        env.unwrapped.model.body_mass *= 1.01
        return env

    monkeypatch.setattr(envs, "make_env", heavier)
    assert provenance.engine.__wrapped__(PENDULUM, ()) != names[0]


# Progress


def test_progress_tells_recent_speed_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0], time=lambda: 1e9))
    (spec,) = wanted(["mbpo"], seeds=1)
    with Leases(tmp_path).take([spec.key]), progress.Progress(tmp_path, "job", [spec], of=1000) as told:
        (job,) = progress.running(tmp_path)
        assert (job["step"], job["of"], job["steps_per_s"], job["eta_s"]) == (0, 1000, None, None)
        told(100)  # a resume does not count from nothing
        for step in range(110, 200, 10):
            clock[0] += 1
            told(step)
        (job,) = progress.running(tmp_path)
        assert (job["step"], job["steps_per_s"], job["eta_s"]) == (190, 10.0, 81.0)
        assert job["pid"] == os.getpid() and job["updated"] == 1e9 and "keys" not in job
        assert progress.sentence(job) == f"train mbpo on {PENDULUM} (1 run): step 190 of 1000, 10 steps/s, 81 s left"
        for step in range(191, 291):  # ten times slower: the minute behind us forgets the fast start
            clock[0] += 1
            told(step)
        assert progress.running(tmp_path)[0]["steps_per_s"] == pytest.approx(1.0)
        clock[0] += 0.5
        told(900)
        assert progress.running(tmp_path)[0]["step"] == 290, "written at most once a second"
    assert progress.running(tmp_path) == [] and list((tmp_path / "progress").iterdir()) == []


def test_a_watch_repeats_what_runs(tmp_path: Path) -> None:
    (spec,) = wanted(["mbpo"], seeds=1)
    lines: list[str] = []
    job = progress.Progress(tmp_path, "job", [spec], of=9)
    with Leases(tmp_path).take([spec.key]), job, progress.Watch(tmp_path, lines.append, seconds=0.01):
        until(lambda: len(lines) > 1)
    count = len(lines)
    assert lines[0] == f"train mbpo on {PENDULUM} (1 run): step 0 of 9" and set(lines) == {lines[0]}
    time.sleep(0.03)
    assert len(lines) == count


@pytest.mark.parametrize(
    ("seconds", "words"), [(42, "42 s"), (119, "119 s"), (1800, "30 min"), (9e3, "2.5 h"), (1e6, "12 days")]
)
def test_durations_read_well(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# Cost


def test_arithmetic_is_counted_as_by_hand() -> None:
    method = Method(sac=SacConfig(hidden_dims=(5,), batch_size=10))
    actor, critic = 3 * 5 + 5 * 4, 5 * 5 + 5 * 1
    assert cost.sac_update_flops(method, obs=3, action=2) == 2 * 10 * (4 * actor + 12 * critic - (3 * 5 + 2 * 5 * 5))
    model = ModelConfig(ensemble_size=3, num_elites=1, hidden_dims=(6,), weight_decay=(0, 0), batch_size=4)
    assert cost.model_update_flops(model, obs=3, action=2) == 2 * 4 * 3 * (2 * 5 * 6 + 3 * 6 * 8)


def test_hours_grow_with_the_work_and_shrink_with_lockstep_and_speed() -> None:
    machine = cost.rates(gpus=0, cpus=2)
    assert machine.flops == 130e9 and cost.rates(gpus=1) == cost.GPU
    arms = [specs("train", [PENDULUM], [name], "paper") for name in ("mbpo", "ftfl", "sac")]
    mbpo, ftfl, sac = (cost.hours(arm, machine) for arm in arms)
    assert mbpo == ftfl > 10 * sac > 0 and cost.hours([], machine) == 0
    assert max(mbpo, ftfl) < cost.hours([*arms[0], *arms[1]], machine) < mbpo + ftfl
    assert cost.hours(arms[0], cost.rates(gpus=1)) < mbpo / 10
    early = cost.hours(specs("train", [PENDULUM], ["mbpo-janner"], "paper"), machine)
    assert 0 < early < 1e5


def test_hours_of_a_fit_are_its_arithmetic() -> None:
    (spec,) = specs("fit", ["dmc:humanoid-run"], ["mbpo"], "paper", 1)
    first, rest = 88 * 200, 3 * 200 * 200 + 200 * 136  # the first layer passes no gradient on
    seconds = 5000 * 2 * 256 * 7 * (2 * first + 3 * rest) / 40e9
    assert cost.hours([spec], cost.Rates(40e9, 0, 0, 0)) == pytest.approx(seconds / 3600)
    pair = [spec, *specs("fit", ["dmc:humanoid-run"], ["ftfl"], "paper", 1)]
    steps = 15_000  # of one simulator: the arms of a seed share their data
    assert cost.hours(pair, cost.Rates(40e9, 0, 0, 0.01)) == pytest.approx((2 * seconds + 0.01 * steps) / 3600)


def test_an_edited_environment_never_meets_an_old_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = wanted(["sac"], ["gym:toy_envs:ToyDrift-v0"])
    go(store, runs[:1], Fake())
    fake = Fake()
    assert go(store, runs[:1], fake) == [] and not fake.jobs
    monkeypatch.setattr(provenance, "engine", lambda task, drop: "edited")
    for asked in (runs[:1], runs):  # whether all have records or one has none
        with pytest.raises(InputError, match=f"its record {runs[0].key} was made with: it moves otherwise"):
            go(store, asked, fake)
    assert not fake.jobs
    assert go(store, wanted(["sac"]), fake) == []  # a named task is what its package says
