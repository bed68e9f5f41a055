"""Snapshots, leases and signals of the benchmark: one run's trouble is its own, and nothing computed is lost."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_trainer import Fake, result
from helpers import FTFL, MBPO, small
from jinja2 import DictLoader
from toy_envs import DRIFT

from benchmark import cli
from benchmark.drawing import jinja
from benchmark.judging.scores import failure as told_failure
from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from benchmark.running import provenance, snapshots, work
from benchmark.running.clean import DRAFT_SECONDS, leftovers
from benchmark.running.ensure import JobsFailed, ensure
from benchmark.running.job import Place
from benchmark.running.leases import Leases
from benchmark.running.progress import Progress, running, sentence
from benchmark.running.stopping import Stopped, Stopping
from benchmark.running.stretches import mixed
from mbpo import Budget, checkpoint
from mbpo.config import InputError
from mbpo.envs.flat import FlatEnv

TESTS = Path(__file__).parent
BUDGET = Budget(env_steps=80, eval_every=40, eval_episodes=1)


@pytest.fixture(autouse=True)
def _no_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "device_name", lambda device: "cpu")
    monkeypatch.setattr(provenance, "engine", lambda task, drop: "e0")


def specs(seeds: int = 2, steps: int = 80, **changes: Any) -> list[RunSpec]:
    budget = BUDGET.model_copy(update={"env_steps": steps})
    arms = {"mbpo": MBPO, "ftfl": FTFL}
    return [
        RunSpec(kind="train", task=DRIFT, method=name, seed=seed, constants=small(arm, **changes), budget=budget)
        for name, arm in arms.items()
        for seed in range(seeds)
    ]


def go(store: Store, runs: Sequence[RunSpec], fake: Fake, **options: Any) -> list[RunSpec]:
    return ensure(runs, store, trainers={"train": fake}, poll_seconds=0.02, **options)


def leave(steps: dict[str, int]) -> Fake:
    """A trainer that leaves snapshots of runs, by key, and is then interrupted."""

    def before(job: Sequence[RunSpec], place: Place) -> None:
        for spec, folder in zip(job, place.checkpoints, strict=True):
            if spec.key in steps:
                checkpoint.save(folder, steps[spec.key], {"step": steps[spec.key]})
        raise KeyboardInterrupt

    return Fake(before)


# Companies


def test_runs_go_on_with_those_that_stand_at_the_same_step(store: Store) -> None:
    a, b, c, d = specs()
    with pytest.raises(KeyboardInterrupt):
        go(store, [a, b, c, d], leave({a.key: 20, b.key: 40, c.key: 20}))
    fake = Fake()
    assert go(store, [a, b, c, d], fake) == []
    assert [[spec.key for spec in job] for job in fake.jobs] == [[a.key, c.key], [b.key], [d.key]]
    lives = [[row["steps"] for row in store.read(spec).provenance["stretches"]] for spec in (a, b, d)]
    assert lives == [[[0, 20], [20, 80]], [[0, 40], [40, 80]], [[0, 0], [0, 80]]]
    assert list((store.cache / "snapshots").iterdir()) == []


def test_an_error_on_a_record_sends_the_other_runs_to_their_last_step(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of four records cannot be written at first: the other three go on from where the job ended."""
    runs, trained = specs(), []
    write = Store.write

    def fails_once(self: Store, spec: RunSpec, *tables: Any) -> Path:
        if len(trained) == 1:
            trained.append(spec.key)
            raise OSError("No space left on device")
        trained.append(spec.key)
        return write(self, spec, *tables)

    monkeypatch.setattr(Store, "write", fails_once)
    assert ensure(runs, store, device="cpu") == [] and trained == [spec.key for spec in (*runs[:2], *runs[1:])]
    for spec in runs[1:]:
        assert [row["steps"] for row in store.read(spec).provenance["stretches"]] == [[0, 80], [80, 80]]


def test_a_job_that_needs_too_much_memory_goes_on_in_halves(store: Store) -> None:
    def greedy(job: Sequence[RunSpec], place: Place) -> None:
        if len(job) > 1:
            raise MemoryError

    fake = Fake(greedy)
    assert go(store, specs(), fake) == []
    assert [len(job) for job in fake.jobs] == [4, 2, 1, 1, 2, 1, 1]


def test_what_breaks_a_whole_job_ends_with_the_run_that_it_comes_from(store: Store) -> None:
    runs = specs()

    def breaks(job: Sequence[RunSpec], place: Place) -> None:
        if runs[2] in job:
            raise RuntimeError("linalg.eigh did not converge")

    with pytest.raises(JobsFailed, match=r"1 job failed: train ftfl .*\(1 run\): RuntimeError: linalg"):
        go(store, runs, Fake(breaks))
    assert [store.has(spec) for spec in runs] == [True, True, False, True]


def test_a_longer_budget_goes_on_from_a_kept_state(store: Store, tmp_path: Path) -> None:
    short, long = specs(1, 40)[:1], specs(1, 80)[:1]
    ensure(short, store, device="cpu", keep_last=True)
    ensure(long, store, device="cpu")
    apart = Store(tmp_path / "apart", tmp_path / "apart-cache")
    ensure(long, apart, device="cpu")
    one, other = store.read(long[0]), apart.read(long[0])
    pd.testing.assert_frame_equal(one.curve, other.curve, check_exact=True)
    pd.testing.assert_frame_equal(one.diagnostics, other.diagnostics, check_exact=True)
    assert [row["steps"] for row in one.provenance["stretches"]] == [[40, 80]] and not other.provenance["resumed"]
    assert snapshots.steps(store.cache, short[0]) == [40] and snapshots.steps(store.cache, long[0]) == []


def test_run_goes_on_from_a_shorter_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(place: str, steps: int, *more: str) -> tuple[int, dict[str, Any]]:
        folders = ["--results", str(tmp_path / place), "--cache", str(tmp_path / f"{place}-cache")]
        asked = ["--task", DRIFT, "--method", "sac", "--seeds", "1", "--protocol", "smoke", "--steps", str(steps)]
        code = cli.main(["run", *asked, "--device", "cpu", "--json", *folders, *more])
        return code, json.loads(capsys.readouterr().out)

    assert run("grown", 60, "--keep-last")[0] == run("grown", 100)[0] == run("apart", 100)[0] == 0
    stores = [Store(tmp_path / place, tmp_path / f"{place}-cache") for place in ("grown", "apart")]
    short, grown, apart = [r for store in stores for r in sorted(store.records(), key=lambda r: r.spec.length)]
    assert (short.spec.length, grown.spec.key) == (60, apart.spec.key)
    pd.testing.assert_frame_equal(grown.curve, apart.curve, check_exact=True)
    pd.testing.assert_frame_equal(grown.diagnostics, apart.diagnostics, check_exact=True)
    assert [row["steps"] for row in grown.provenance["stretches"]] == [[60, 100]]


# Marks and refusals


def test_a_failed_run_has_a_record_with_its_mark_and_its_companions_theirs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = FlatEnv.step, []

    def fails(self: FlatEnv, action: Any) -> Any:
        if hit and self is hit[0]:
            calls.append(1)
            if len(calls) == 60:
                raise ArithmeticError("no root")
        return step(self, action)

    hit: list[Any] = []
    monkeypatch.setattr(FlatEnv, "step", fails)
    from mbpo import state

    build = state.TrainState.__init__

    def watched(self: Any, *args: Any, **options: Any) -> None:
        build(self, *args, **options)
        hit[:] = [self.envs._simulators.envs[1]]

    monkeypatch.setattr(state.TrainState, "__init__", watched)
    runs = specs()
    assert ensure(runs, store, device="cpu") == []
    marks = [store.read(spec).provenance.get("failure") for spec in runs]
    assert [mark is None for mark in marks] == [True, False, True, True]
    assert marks[1] == {
        **{"step": 59, "seed": 1, "arm": "mbpo", "cause": "ArithmeticError: no root"},
        **{"ended": True, "scored_at": 40},
    }
    record = store.read(runs[1])
    returns = record.curve.set_index("env_steps")["episode_return"]
    assert returns[80] == returns[40] and record.last("diverged") == 1
    assert told_failure(record) == "at step 59: ArithmeticError: no root"


def test_a_run_that_fails_before_any_score_has_no_record_and_is_named(store: Store) -> None:
    runs = specs(1)

    def fails(job: Sequence[RunSpec], place: Place) -> None:
        told = {"step": 7, "seed": 0, "arm": "ftfl", "cause": "reward is nan", "ended": True, "scored_at": None}
        place.failures[job[1].key] = told

    with pytest.raises(JobsFailed, match=r"1 job failed: .*ftfl.* seed 0: failed at env step 7: reward is nan"):
        go(store, runs, Fake(fails))
    assert [store.has(spec) for spec in runs] == [True, False]


def test_another_engine_is_refused_unless_asked_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = specs(1)
    with pytest.raises(KeyboardInterrupt):
        go(store, [a, b], leave({a.key: 20}))
    monkeypatch.setattr(provenance, "engine", lambda task, drop: "e1")
    with pytest.raises(JobsFailed, match=r"begun with another engine \(engine\): .*--mix-engines") as error:
        go(store, [a, b], Fake())
    assert error.value.bad_input and [store.has(spec) for spec in (a, b)] == [False, True]
    assert go(store, [a, b], Fake(), mix_engines=True) == []
    assert store.read(a).provenance["mixed"] == ["engine"] and "mixed" not in store.read(b).provenance


def test_what_counts_as_mixed() -> None:
    def row(steps: tuple[int, int], torch: str = "2.1+cpu", python: str = "3.11", **rest: str) -> dict[str, Any]:
        return {"steps": list(steps), "versions": {"torch": torch, "python": python}, **rest}

    assert mixed([row((0, 20)), row((20, 40), "2.1", "3.12")]) == []
    assert mixed([row((0, 20)), row((20, 40), "2.2", device="cpu")]) == ["device", "torch"]
    assert mixed([row((0, 0), "2.2"), row((0, 40))]) == [], "what came to nothing made no number"


@pytest.mark.parametrize("file", ["stretches.json", "step-000000000020/state.pt", "step-000000000020/COMPLETE"])
def test_a_damaged_file_stops_its_own_run_alone(store: Store, file: str) -> None:
    a, b = specs(1)
    with pytest.raises(KeyboardInterrupt):
        go(store, [a, b], leave({a.key: 20, b.key: 20}))
    hit = snapshots.folder(store.cache, a) / file
    hit.write_bytes(b"\xff\x00{" + hit.read_bytes()[3:])
    with pytest.raises(JobsFailed, match=r"1 job failed: .*delete .* to train from the start"):
        go(store, [a, b], Fake())
    assert [store.has(spec) for spec in (a, b)] == [False, True]


def test_a_job_without_a_step_for_long_is_said_to_hang(store: Store) -> None:
    with Progress(store.cache, "job", specs(1)[:1], 80) as told:
        job = json.loads(told.path.read_text())
    assert "hangs" not in sentence(job)
    job["updated"] -= 1_500
    assert sentence(job).endswith(f"step 0 of 80, no step for 25 min: process {os.getpid()} hangs, or is slow")


def test_damaged_progress_stops_nobody(store: Store) -> None:
    (run,) = specs(1)[:1]
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"keys": [1]}'), ("d", "\xff")):
        path = store.cache / "progress" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="latin-1")
    with Leases(store.cache).take([run.key]), Progress(store.cache, "job", [run], of=9):
        assert len(running(store.cache)) == 1
        assert [left.path.name for left in leftovers(store)] == ["a.json", "b.json", "c.json", "d.json"]


# Several machines


def test_two_machines_never_hold_one_lease(tmp_path: Path) -> None:
    """Their file locks do not meet: what is seen by both is the name of the holder and the age of its last beat."""
    one, other = Leases(tmp_path, "one", beat=0.02, expiry=0.5), Leases(tmp_path, "other", beat=0.02, expiry=0.5)
    with one.take(["a", "b"]) as held:
        assert held == ["a", "b"] and other.held("a") and not other.held("c")
        time.sleep(0.8)  # longer than a lease lasts without a beat
        with other.take(["a", "b", "c"]) as theirs:
            assert theirs == ["c"] and one.held("c")
    with other.take(["a"]) as theirs:
        assert theirs == ["a"]
    assert one.lost == other.lost == set()


def test_a_lease_whose_holder_is_gone_expires_and_a_late_holder_learns_of_it(tmp_path: Path) -> None:
    silent = Leases(tmp_path, "one", beat=60, expiry=0.2)
    other = Leases(tmp_path, "other", beat=60, expiry=0.2)
    with silent.take(["a"]) as held:
        assert held == ["a"]
        with other.take(["a"]) as theirs:
            assert theirs == []
        time.sleep(0.3)
        with other.take(["a"]) as theirs:
            assert theirs == ["a"]
            waking = Leases(tmp_path, "one", beat=0.01, expiry=0.2)
            waking._token = silent._token
            with waking._beating(["a"]):
                end = time.monotonic() + 60
                while not waking.lost and time.monotonic() < end:
                    time.sleep(0.01)
            assert waking.lost == {"a"}
        assert not (tmp_path / "leases" / "a.lease").exists()


def test_leases_hold_where_files_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*names: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    one, other = Leases(tmp_path, "one"), Leases(tmp_path, "other")
    with one.take(["a"]) as held, other.take(["a"]) as theirs:
        assert (held, theirs) == (["a"], [])
    with other.take(["a"]) as theirs:
        assert theirs == ["a"]


def test_a_killed_process_of_this_machine_frees_its_lease_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from benchmark.running.leases import Leases\n"
        f"with Leases(Path({str(tmp_path)!r})).take(['a']): print('held', flush=True); time.sleep(600)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=TESTS.parent)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    assert Leases(tmp_path).held("a")
    child.kill()
    child.wait()
    with Leases(tmp_path).take(["a"]) as held:
        assert held == ["a"]


def test_files_of_another_user_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied", "a.lock")

    monkeypatch.setattr("benchmark.running.leases.FileLock", denied)
    leases = Leases(tmp_path)
    with pytest.raises(InputError, match=r"'a\.lock' of another user, which cannot be written; give another --cache"):
        leases.take(["a"]).__enter__()
    assert not leases.held("a")


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_noted_during_training_and_ends_at_once_otherwise(number: signal.Signals) -> None:
    found = signal.signal(number, signal.default_int_handler)  # it may be ignored where tests run in the background
    before = signal.getsignal(number)
    with Stopping() as stopping:
        said = f"{number.name}: saved at env step 7; the same command goes on"
        with pytest.raises(Stopped, match=said) as stopped, stopping.deferring():
            signal.raise_signal(number)
            assert stopping.requested
            raise KeyboardInterrupt("saved at env step 7")
        assert stopped.value.code == 128 + number
        with pytest.raises(Stopped), stopping.deferring():
            signal.raise_signal(number)  # once more
    assert signal.getsignal(number) is before
    signal.signal(number, found)


def test_an_error_that_follows_a_signal_is_no_failure(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a signal interrupts the import of a compiled module, which raises an error of its own."""

    def interrupted(spec: RunSpec, device: str) -> dict[str, Any]:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except Stopped:
            raise ImportError("initialization failed") from None
        return {}

    run = specs(1)[:1]
    with pytest.raises(KeyboardInterrupt):
        go(store, run, leave({run[0].key: 20}))
    with monkeypatch.context() as patch, pytest.raises(Stopped, match="SIGTERM: stopped"):
        patch.setattr(work, "conditions", interrupted)
        go(store, run, Fake())
    assert go(store, run, Fake()) == []


def test_what_is_ignored_remains_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with Stopping():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_preempted_job_loses_no_step(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SIGTERM in the midst of training: a snapshot of that very step, and the same record in the end."""
    runs = specs(1)
    seen: list[int] = []
    from mbpo import loop

    advance = loop.advance

    def then_signal(state: Any, *check: Any) -> None:
        advance(state, *check)
        seen.append(state.env_steps)
        if state.env_steps == 57 and len(seen) == 57:
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(loop, "advance", then_signal)
        with pytest.raises(Stopped, match="SIGTERM: saved at env step 57"):
            ensure(runs, store, device="cpu")
        assert "SIGTERM: saving, then stopping" in caplog.text
        assert ensure(runs, store, device="cpu") == []
    assert seen == list(range(1, 81))
    apart = Store(tmp_path / "apart", tmp_path / "apart-cache")
    ensure(runs, apart, device="cpu")
    for spec in runs:
        pd.testing.assert_frame_equal(store.read(spec).curve, apart.read(spec).curve, check_exact=True)
        assert [row["steps"] for row in store.read(spec).provenance["stretches"]] == [[0, 57], [57, 80]]


def test_the_command_line_says_that_it_saved(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """With the exit code of the signal; the same command then goes on and finishes."""
    from mbpo import loop

    advance, told = loop.advance, []

    def then_signal(state: Any, *check: Any) -> None:
        advance(state, *check)
        if state.env_steps == 30 and not told:
            told.append(signal.raise_signal(signal.SIGTERM))

    places = ["--results", str(store.results), "--cache", str(store.cache)]
    asked = ["run", "--task", "gym:InvertedPendulum-v5", "--method", "sac", "--seeds", "1", "--protocol", "smoke"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "advance", then_signal)
        assert cli.main([*asked, *places]) == 128 + signal.SIGTERM
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "SIGTERM: saved at env step 30; the same command goes on from there"
    assert cli.main([*asked, *places]) == 0
    assert "resuming train sac" in capsys.readouterr().err


# What the dead leave behind


def test_leftovers_are_what_nobody_needs(store: Store) -> None:
    done, begun, empty, kept, held = specs(3)[:5]
    store.prepare()
    for spec in (done, kept):
        store.write(spec, *result(spec), {})
    for spec in (done, begun, empty, kept, held):
        folder = snapshots.begin(store.cache, spec, kept=spec is kept)
        if spec is not empty:
            checkpoint.save(folder, 20, {"step": 20})
    draft = store.runs / "t" / "m" / f"{begun.key}-abc.tmp"
    fresh = store.runs / "t" / "m" / f"{done.key}-abc.tmp"
    for path in (draft, fresh):
        path.mkdir(parents=True)
        (path / "spec.json").write_text("{}")
    old = time.time() - DRAFT_SECONDS - 10
    os.utime(draft, (old, old))
    (store.cache / "checkpoints" / "old").mkdir(parents=True)
    with Leases(store.cache, "elsewhere").take([held.key]):
        found = {left.path for left in leftovers(store)}
        known = {snapshots.folder(store.cache, spec) for spec in (done, empty)}
        assert found == {draft, store.cache / "checkpoints" / "old", *known}
    for left in leftovers(store):
        left.remove()
    assert leftovers(store) == [] and not draft.exists() and fresh.exists()
    assert snapshots.steps(store.cache, begun) == snapshots.steps(store.cache, kept) == [20]


def test_the_command_removes_leftovers_and_says_so(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = specs(1)[:1]
    store.prepare()
    store.write(run, *result(run), {})
    folder = snapshots.begin(store.cache, run)
    places = ["--results", str(store.results), "--cache", str(store.cache)]
    assert cli.main(["status", "--clean", *places]) == 0
    assert f"removed {folder}: snapshots of a run that has its record\n1 leftover, 0.0 MB\n" == capsys.readouterr().out
    assert not folder.exists()


def test_text_of_a_record_is_no_markup_on_any_page() -> None:
    environment = jinja.environment()
    text = "cause: <img src=x onerror=alert(1)> & a < 3, p<0.05 </td>"
    environment.loader = DictLoader({"a.md.j2": "{{ text }}", "a.html.j2": "{{ text }} {{ text | prose }}"})
    shown = environment.get_template("a.md.j2").render(text=text)
    assert shown == "cause: &lt;img src=x onerror=alert(1)> & a < 3, p<0.05 &lt;/td>"
    assert "<img" not in environment.get_template("a.html.j2").render(text=text)


def test_the_page_of_a_snapshot_names_its_run(store: Store) -> None:
    (run,) = specs(1)[:1]
    folder = snapshots.begin(store.cache, run)
    data = json.loads((folder / "run.json").read_text())
    assert data["spec"]["key"] == run.key and data["lineage"] == snapshots.lineage(specs(1, 160)[0])
    assert data["lineage"] != snapshots.lineage(specs(2)[1])
    assert np.all([not path.name.endswith(".tmp") for path in folder.iterdir()])


def test_a_run_that_has_its_record_leaves_nothing_behind(store: Store) -> None:
    """What a process leaves that is killed while it cleans up goes with the next command."""
    done, kept, held, other = specs()
    store.prepare()
    for spec in (done, kept, held, other):
        store.write(spec, *result(spec), {})
        checkpoint.save(snapshots.begin(store.cache, spec, kept=spec is kept), 80, {"step": 80})
    draft = store.runs / done.slug / done.method / f"{done.key}-abc.tmp"
    draft.mkdir()
    policy = store.cache / "policies" / done.key / ".best.safetensors.1.tmp"
    policy.parent.mkdir(parents=True)
    policy.write_text("half")
    with Progress(store.cache, "dead", [done], 80) as dead:
        text = dead.path.read_text()
    dead.path.write_text(text)
    half = dead.path.with_name(".dead.json.1.tmp")
    half.write_text("{")
    lease = store.cache / "leases" / f"{done.key}.lease"
    with Leases(store.cache).take([done.key]):
        left = lease.read_text()
    lease.write_text(left)
    with Leases(store.cache, "elsewhere").take([held.key]):
        assert go(store, [done, kept, held], Fake()) == []
    assert (
        not half.exists()
        and not draft.exists()
        and not policy.exists()
        and not dead.path.exists()
        and not lease.exists()
    )
    assert [snapshots.folder(store.cache, spec).exists() for spec in (done, kept, held, other)] == [
        False,
        True,
        True,
        True,
    ]
    assert go(store, [held], Fake(), train=False) == [] and snapshots.folder(store.cache, held).exists()


def test_a_job_that_is_refused_leaves_nothing_behind(store: Store) -> None:
    """But a run that has a snapshot keeps it, whatever is wrong now."""
    fresh, begun = specs(1)

    def refuse(job: Sequence[RunSpec], place: Place) -> None:
        raise InputError("its rule is wrong")

    checkpoint.save(snapshots.begin(store.cache, begun), 20, {"step": 20})
    with pytest.raises(JobsFailed):
        go(store, [fresh, begun], Fake(refuse))
    assert [path.name for path in (store.cache / "snapshots").iterdir()] == [begun.key]
    assert snapshots.steps(store.cache, begun) == [20]


def test_a_job_that_is_refused_as_it_begins_leaves_nothing_behind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> dict[str, Any]:
        raise InputError("it raises in its first step")

    monkeypatch.setattr(work, "conditions", refuse)
    with pytest.raises(JobsFailed, match="raises in its first step"):
        go(store, specs(1), Fake())
    assert list((store.cache / "snapshots").iterdir()) == []


def test_a_lease_from_the_future_is_held(tmp_path: Path) -> None:
    """Where the folder's clock was set back, a live holder's last beat lies ahead: it is not taken over."""
    with Leases(tmp_path, "one").take(["a"]) as mine:
        assert mine == ["a"]
        ahead = time.time() + 3600
        os.utime(tmp_path / "leases" / "a.lease", (ahead, ahead))
        with Leases(tmp_path, "two").take(["a"]) as other:
            assert other == []


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "file", ["snapshots/{}/run.json", "snapshots/{}/stretches.json", "leases/{}.lease", "progress/x.json"]
)
@pytest.mark.parametrize("text", [DEEP, "null", "[1]", None], ids=["deep", "null", "list", "folder"])
def test_a_bad_file_never_stops_an_unrelated_run(store: Store, file: str, text: str | None) -> None:
    """`text` None: a folder lies in the place of the file."""
    done, other = specs(1)
    store.prepare()
    store.write(done, *result(done), {})
    checkpoint.save(snapshots.begin(store.cache, done, kept=True), 80, {"step": 80})
    path = store.cache / file.format(done.key)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.mkdir() if text is None else path.write_text(text)
    assert go(store, [other, done], Fake()) == [] and store.has(other)
    assert running(store.cache) == []
    for left in leftovers(store):
        left.remove()


def test_a_damaged_snapshot_of_a_shorter_run_is_told(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    (short, _), (long, _) = specs(1), specs(1, 160)
    folder = snapshots.begin(store.cache, short, kept=True)
    (checkpoint.save(folder, 80, {"step": 80}) / "state.pt").unlink()
    assert go(store, [long], Fake()) == [] and "not taken over" in caplog.text


@pytest.mark.parametrize("code, traced", [(errno.ENOSPC, False), (errno.EBADF, True)])
def test_a_disk_that_is_full_when_a_record_is_written_is_one_sentence(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int, traced: bool
) -> None:
    def fails(self: Store, *arguments: Any) -> Path:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Store, "write", fails)
    with pytest.raises(JobsFailed, match=os.strerror(code)):
        go(store, specs(1)[:1], Fake())
    (record,) = [r for r in caplog.records if r.message.startswith("job failed")]
    assert bool(record.exc_info) == traced


def test_a_full_disk_under_the_leases_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Path, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", fails)
    with pytest.raises(InputError, match=r"cannot be written: .*No space left"), Leases(tmp_path).take(["a"]):
        pass
