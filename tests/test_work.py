"""The background worker: what it takes first, what it leaves to others, and what it does when an arm fails."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from fake_trainer import Fake

from benchmark import cli
from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from benchmark.report import worker as work
from benchmark.report.queue import Batch, queue
from benchmark.running import ensure, provenance
from benchmark.running import work as running_work
from benchmark.running.cost import CPU, hours
from benchmark.running.job import Place
from benchmark.running.leases import Leases
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite, specs
from benchmark.suite.needs import runs
from mbpo.config import InputError

PENDULUM, HOPPER = "gym:InvertedPendulum-v5", "gym:Hopper-v5"


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    fake = Fake()
    monkeypatch.setattr(ensure, "TRAINERS", {"train": fake, "fit": fake})
    monkeypatch.setattr(running_work, "device_name", lambda device: "cpu")
    monkeypatch.setattr(provenance, "engine", lambda task, drop: "e0")
    monkeypatch.setattr(ensure, "_check", lambda specs, device: None)
    monkeypatch.setattr(work, "be_polite", lambda: None)  # the tests go on at their own priority
    yield fake


@pytest.mark.parametrize("leader", [True, False])
def test_a_worker_lowers_the_priority_of_its_own_session_alone(
    leader: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]
) -> None:
    """What else runs in the terminal that it was started in goes on as before."""
    lowered: list[int] = []
    group = tmp_path / "autogroup"
    group.write_text("0")
    monkeypatch.setattr(work, "AUTOGROUP", group)
    monkeypatch.setattr(os, "nice", lowered.append)
    monkeypatch.setattr(os, "getsid", lambda pid: os.getpid() if leader else os.getpid() - 1)
    work.be_polite()
    assert lowered == [19] and group.read_text() == ("19" if leader else "0")


def batch(method: str, seeds: int = 2) -> Batch:
    return Batch(tuple(specs("train", [PENDULUM], [method], "smoke", seeds)), 1.0, 1.0, ())


def test_the_queue_holds_what_the_claims_lack_once_and_the_best_per_hour_first(store: Store) -> None:
    protocol = load_suite().protocol("onset")
    batches = queue(protocol, store, CPU)
    every = [spec.key for batch in batches for spec in batch.specs]
    wanted = {spec.key for claim in load_ledger().claims for spec in runs(claim, protocol)}
    assert len(every) == len(set(every)) and set(every) == wanted
    values = [batch.value for batch in batches]
    assert values == sorted(values, reverse=True)
    for batch in batches:
        assert len({(spec.task, spec.method) for spec in batch.specs}) == 1
        assert batch.hours == pytest.approx(hours(batch.specs, CPU))


def test_a_batch_is_worth_one_row_per_hours_that_the_row_lacks(store: Store) -> None:
    protocol = load_suite().protocol("onset")
    claim = next(claim for claim in load_ledger().claims if "onset" in claim.protocols and len(claim.arms) == 2)
    task = claim.tasks[0]
    one = claim.model_copy(update={"tasks": (task,)})
    batches = queue(protocol, store, CPU, [one])
    lacks = sum(batch.hours for batch in batches)
    assert [batch.value for batch in batches] == pytest.approx([1 / lacks] * len(batches))
    twice = queue(protocol, store, CPU, [one, one.model_copy(update={"id": "the-same-again"})])
    assert [batch.value for batch in twice] == pytest.approx([2 / lacks] * len(batches))
    assert twice[0].claims == (claim.id, "the-same-again")


def test_work_trains_batch_after_batch_and_ends(store: Store, trainer: Fake) -> None:
    wanted = [batch("sac"), batch("mbpo")]
    lines: list[str] = []
    left = lambda: [b._replace(specs=tuple(m)) for b in wanted if (m := store.missing(b.specs))]  # noqa: E731
    assert work.work(left, store, lines.append) == []
    assert [[spec.method for spec in job] for job in trainer.jobs] == [["sac"] * 2, ["mbpo"] * 2]
    assert len(lines) == 2 and "train sac" in lines[0]


def test_an_arm_that_fails_is_set_aside_and_the_others_are_trained(store: Store, trainer: Fake) -> None:
    def before(runs: Sequence[RunSpec], place: Place) -> None:
        if runs[0].method == "sac":
            raise RuntimeError("no such thing")

    trainer._before = before
    wanted = [batch("sac"), batch("mbpo")]
    left = lambda: [b._replace(specs=tuple(m)) for b in wanted if (m := store.missing(b.specs))]  # noqa: E731
    assert work.work(left, store, lambda line: None) == [f"train sac on {PENDULUM}"]
    assert store.missing(wanted[1].specs) == [] and len(store.missing(wanted[0].specs)) == 2


def test_what_another_process_trains_is_left_to_it(store: Store, trainer: Fake) -> None:
    wanted = batch("sac")
    with Leases(store.cache).take([wanted.specs[0].key]):
        work.work(lambda: [wanted] if store.missing(wanted.specs[1:]) else [], store, lambda line: None)
    assert trainer.trained == [wanted.specs[1].key]


def test_no_batch_begins_after_the_minutes(store: Store, trainer: Fake) -> None:
    ticks = iter([0.0, 30.0, 61.0])
    work.work(lambda: [batch("sac"), batch("mbpo")], store, lambda line: None, minutes=1, clock=lambda: next(ticks))
    assert [spec.method for spec in trainer.jobs[0]] == ["sac", "sac"] and len(trainer.jobs) == 1


def test_a_list_is_trained_in_its_order(store: Store, tmp_path: Path, trainer: Fake) -> None:
    path = tmp_path / "jobs.txt"
    path.write_text(f"# first things first\nsmoke {PENDULUM} mbpo\n\nsmoke {PENDULUM} sac  # then\n")
    places = ["--results", str(store.results), "--cache", str(store.cache)]
    assert cli.main(["work", "--jobs", str(path), *places]) == 0
    assert [job[0].method for job in trainer.jobs] == ["mbpo", "sac"]
    assert cli.main(["work", "--jobs", str(path), *places]) == 0 and len(trainer.jobs) == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("smoke", ":1: 'smoke' is not of the form PROTOCOL TASK METHOD"),
        (f"smok {PENDULUM} sac", ":1: unknown protocol 'smok'"),
        (f"smoke {PENDULUM} sacc", ":1: unknown method 'sacc'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "jobs.txt"
    path.write_text(line)
    with pytest.raises(InputError, match=f"^{path}") as error:
        work.listed(path)
    assert said in str(error.value)


def test_the_command_lists_the_queue_without_training(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--results", str(store.results), "--cache", str(store.cache)]
    assert cli.main(["work", "--protocol", "onset", "--dry-run", *places]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(queue(load_suite().protocol("onset"), store, CPU)) and "(5 runs)" in lines[0]
