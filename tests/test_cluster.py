"""SLURM without SLURM: the plan, what is submitted and noted, what becomes of it, and how a task stops and goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_trainer import Fake, result

from benchmark import cli
from benchmark.cluster import plan, slurm, submissions, submitting, task
from benchmark.cluster.plan import Part, makespan, measured_bytes, run_bytes
from benchmark.cluster.slurm import Known
from benchmark.cluster.submitting import Request
from benchmark.cluster.task import Task
from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from benchmark.running import ensure, provenance, work
from benchmark.running.cost import GPU, hours
from benchmark.running.leases import Leases
from benchmark.running.stopping import Stopped
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite, specs
from benchmark.suite.needs import runs
from mbpo.config import InputError

PENDULUM, HUMANOID = "gym:InvertedPendulum-v5", "dmc:humanoid-stand"
RUN = ["--protocol", "smoke", "--task", PENDULUM, "--method", "sac", "--method", "mbpo"]


# The plan


@pytest.fixture(scope="module")
def paper() -> list[RunSpec]:
    return specs("train", [HUMANOID, PENDULUM], ["mbpo", "ftfl", "sac"], "paper")


def test_every_run_is_planned_once_and_the_hours_are_those_of_status(paper: list[RunSpec]) -> None:
    parts = plan.plan(paper, GPU, 16)
    assert sorted(spec.key for part in parts for spec in part.specs) == sorted(spec.key for spec in paper)
    assert sum(part.hours for part in parts) == pytest.approx(hours(paper, GPU), rel=1e-12)
    assert [part.hours for part in parts] == sorted((part.hours for part in parts), reverse=True)
    assert max(part.most for part in parts) <= 16


def test_jobs_fit_in_a_gpu(paper: list[RunSpec]) -> None:
    """Of a run of SAC on humanoid the buffer takes 500,000 rows of twice 67 observed numbers, 21 actions and 2 more."""
    sac = next(spec for spec in paper if spec.method == "sac" and spec.task == HUMANOID)
    assert run_bytes(sac, 0.0) == 4 * 500_000 * (2 * 67 + 21 + 2)
    for gigabytes in (4.0, 10.0):
        parts = plan.plan(paper, GPU, 16, gpu_gigabytes=gigabytes)
        each = {job: sum(map(run_bytes, job)) / 1e9 for part in parts for job in part.jobs}
        assert max(each.values()) <= plan.USABLE * gigabytes
        assert max(part.gigabytes for part in parts) == pytest.approx(max(each.values()))
    assert plan.plan(paper, GPU, 16, gpu_gigabytes=0.1)[0].most == 1, "one run is tried, however little there is"
    rows: list[dict[str, Any]] = [
        {"device": "cpu", "runs": 1, "peak_memory_bytes": 9e9},
        {"device": "NVIDIA H200", "runs": 10, "peak_memory_bytes": 5e9},
    ]
    assert measured_bytes(rows) == 0.5e9 and measured_bytes(rows[:1]) == plan.WORKING_BYTES


def test_short_jobs_share_a_task_and_so_do_fits_of_one_replay() -> None:
    tiny = specs("train", [PENDULUM], ["sac", "mbpo", "ftfl"], "smoke")
    (part,) = plan.plan(tiny, GPU, 16)
    assert len(part.jobs) == 2 and part.label.endswith("and 1 job more")
    claim = next(c for c in load_ledger().claims if any(s.source_run for s in runs(c, load_suite().protocol("replay"))))
    fits = [s for s in runs(claim, load_suite().protocol("replay")) if s.source_run is not None]
    owners: dict[str, set[int]] = {}
    for i, one in enumerate(plan.plan(fits, GPU, 2)):
        for spec in one.specs:
            owners.setdefault(spec.source_run.key, set()).add(i)  # type: ignore[union-attr]
    assert all(len(parts) == 1 for parts in owners.values())
    assert all(part.sources_hours > 0 for part in plan.plan(fits, GPU, 2))
    assert all(part.sources_hours == 0 for part in plan.plan(fits, GPU, 2, is_kept=lambda run: True))
    assert plan.plan([], GPU, 16) == []


def test_the_end_is_that_of_greedy_scheduling() -> None:
    parts = [Part((), hours, 0.0, 0.0) for hours in (5.0, 4.0, 3.0, 3.0, 3.0)]
    assert [makespan(parts, n) for n in (1, 2, 3, 9)] == [18.0, 10.0, 7.0, 5.0]  # 2: 5+3, 4+3+3


# SLURM's words


def answering(monkeypatch: pytest.MonkeyPatch, text: str) -> list[tuple[str, ...]]:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(slurm, "call", lambda *command: (asked.append(command), text)[1])
    return asked


def test_the_queue_is_read_by_name_and_a_living_task_hides_an_ended_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["a|0|7_0|RUNNING|n1|None", "a|1|7_1|PENDING||BeginTime", "b|N/A|9|TIMEOUT|n2|TimeLimit",
             "a|0|3_0|FAILED|n1|NonZeroExitCode", "c|2|8_2|COMPLETING|n3|None"]  # fmt: skip
    asked = answering(monkeypatch, "\n".join(lines) + "\n")
    assert slurm.queue([]) == {} and asked == []
    queue = slurm.queue(["a", "b", "c"])
    assert "--name=a,b,c" in asked[0]
    assert {name: (known.state, known.is_over, known.is_waiting) for name, known in queue.items()} == {
        ("a", 0): ("RUNNING", False, False),
        ("a", 1): ("PENDING", False, True),
        ("b", 0): ("TIMEOUT", True, False),
        ("c", 2): ("COMPLETING", False, False),
    }
    assert queue["a", 0].id == "7_0" and queue["b", 0].id == "9"


def test_a_job_asks_what_is_to_become_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, "JobId=12 ArrayJobId=11 JobState=CANCELLED Reason=None Dependency=(null)")
    assert slurm.own_state({"SLURM_JOB_ID": "12"}) == "CANCELLED" and asked[0][-1] == "12"
    assert slurm.own_state({}) is None


def test_no_slurm_and_a_refusal_are_one_sentence() -> None:
    with pytest.raises(InputError, match="no there-is-no-such on this machine; submit from a login node"):
        slurm.call("there-is-no-such")
    with pytest.raises(InputError, match=r"^sh: not allowed for you$"):
        slurm.call("sh", "-c", "printf 'not allowed\\n  for you' >&2; exit 1")


# Submitting, status, cancel


class Cluster:
    """A SLURM of one list: what is submitted waits in it until a test says otherwise."""

    def __init__(self) -> None:
        self.queue: dict[tuple[str, int], Known] = {}
        self.tasks: list[Task] = []
        self.number = 40
        self.cancelled: list[str] = []

    def make(self, folder: Path, request: Request, name: str, restarts: int) -> Any:
        cluster, self.number = self, self.number + 1
        number = self.number

        class Executor:
            @contextmanager
            def batch(self) -> Iterator[None]:
                yield

            def submit(self, task: Task) -> Any:
                cluster.tasks.append(task)
                job = f"{number}_{task.index}"
                cluster.queue[name, task.index] = Known(name, task.index, job, "PENDING", "", "Priority")
                return type("Job", (), {"job_id": job})

        return Executor()

    def become(self, state: str, node: str = "") -> None:
        self.queue = {name: known._replace(state=state, node=node) for name, known in self.queue.items()}

    def cancel(self, tasks: list[Known]) -> None:
        self.cancelled += [known.id for known in tasks]
        for known in tasks:
            self.queue[known.name, known.number] = known._replace(state="CANCELLED")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(slurm, "queue", lambda names: cluster.queue)
    monkeypatch.setattr(slurm, "cancel", cluster.cancel)
    monkeypatch.setattr(submitting.submit, "__kwdefaults__", {**submitting.submit.__kwdefaults__, "make": cluster.make})
    return cluster


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    return ["--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]


@pytest.fixture
def store(folders: list[str]) -> Store:
    return Store(folders[1], folders[3])


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(work, "device_name", lambda device: "cpu")
    monkeypatch.setattr(provenance, "engine", lambda task, drop: "e0")
    monkeypatch.setattr(ensure, "_check", lambda specs, device: None)
    monkeypatch.setattr(ensure, "TRAINERS", {"train": fake, "fit": fake})
    return fake


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert cli.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def standing(capsys: pytest.CaptureFixture[str], folders: list[str]) -> list[dict[str, Any]]:
    return list(call(capsys, "status", "--protocol", "smoke", *folders)["cluster"])


def test_what_waits_or_runs_is_not_submitted_again_and_what_died_is(
    cluster: Cluster, folders: list[str], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "submit", *RUN, *folders, "--dry-run")["job"] is None and cluster.tasks == []
    first = call(capsys, "submit", *RUN, *folders)
    assert (first["job"], first["missing"], first["under_way"]) == ("41", 4, 0)
    for state, shown in (("PENDING", "queued"), ("RUNNING", "running")):
        cluster.become(state, "n7")
        again = call(capsys, "submit", *RUN, *folders)
        assert (again["job"], again["missing"], again["under_way"]) == (None, 0, 4)
        assert [one["state"] for one in standing(capsys, folders)] == [shown]
    cluster.become("NODE_FAIL")
    page = submissions.read_all(store.cache)[0]
    log = submissions.folder(store.cache, page.token) / "41_0_log.out"
    log.parent.mkdir()
    log.write_text("1\n2\n\n3\n4\n5\nRuntimeError: out of luck\n")
    (one,) = standing(capsys, folders)
    assert (one["state"], one["reason"], one["missing"]) == ("failed", "NODE_FAIL", 4)
    assert one["log"] == ["2", "3", "4", "5", "RuntimeError: out of luck"]
    second = call(capsys, "submit", *RUN, *folders)
    assert (second["job"], second["missing"]) == ("42", 4)
    assert [one["id"] for one in standing(capsys, folders)] == ["42_0"], "the first is superseded"
    cluster.queue = {}
    assert standing(capsys, folders)[0]["state"] == "failed", "SLURM has forgotten it"


def test_a_lease_that_beats_keeps_its_run_from_being_submitted(
    cluster: Cluster, folders: list[str], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """A laptop trains one run; its machine's file locks are not seen here, as on a network folder."""
    key = specs("train", [PENDULUM], ["sac"], "smoke")[0].key
    laptop = Leases(store.cache, "laptop", beat=60, expiry=0.0)
    with laptop.take([key]):
        found = call(capsys, "submit", *RUN, *folders, "--dry-run")
        assert (found["missing"], found["held"]) == (3, 1)
        lease = store.cache / "leases" / f"{key}.lease"
        os.utime(lease, (0, 0))  # the laptop is gone: no beat for long
        assert call(capsys, "submit", *RUN, *folders, "--dry-run")["held"] == 0


def test_one_process_submits_at_a_time(cluster: Cluster, folders: list[str], store: Store) -> None:
    with submitting.alone(store) as mine:
        assert mine and cli.main(["submit", *RUN, *folders]) == 2
    assert cluster.tasks == []


def test_cancel_takes_back_what_was_submitted_and_nothing_else(
    cluster: Cluster, folders: list[str], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    call(capsys, "submit", *RUN, *folders)
    stranger = Known("somebody-else", 0, "40", "RUNNING", "n1", "None")
    cluster.queue["somebody-else", 0] = stranger
    assert call(capsys, "cancel", *folders) == {"cancelled": ["41_0"]} and cluster.cancelled == ["41_0"]
    assert cluster.queue["somebody-else", 0] is stranger
    assert [one["state"] for one in standing(capsys, folders)] == ["cancelled"]
    assert call(capsys, "cancel", *folders) == {"cancelled": []}
    assert cli.main(["cancel", "--job", "40", *folders]) == 2
    assert "job 40 was not submitted from this cache" in capsys.readouterr().err
    assert call(capsys, "submit", *RUN, *folders)["missing"] == 4


def test_a_refused_array_leaves_nothing_noted(cluster: Cluster, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        @contextmanager
        def batch(self) -> Iterator[None]:
            yield
            raise RuntimeError("sbatch: error: invalid partition specified: nowhere")

        def submit(self, task: Task) -> None: ...

    parts = plan.plan(specs("train", [PENDULUM], ["sac"], "smoke"), GPU, 16)
    with pytest.raises(InputError, match="refused the array: sbatch: error: invalid partition"):
        submitting.submit(parts, store, Request(1.0), make=lambda *given: Refusing())
    assert submissions.read_all(store.cache) == []
    with pytest.raises(InputError, match="1001 tasks are more than an array holds"):
        submitting.submit(parts * 1001, store, Request(1.0), make=cluster.make)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--claim", "toy-smoth-ftfl"], "unknown claim 'toy-smoth-ftfl'; did you mean 'toy-smooth-ftfl'?"),
        (["--protocol", "smoke"], "no such claim is judged under the smoke protocol; give --task and --method"),
        (["--task", PENDULUM], "give --claim, or both --task and --method"),
        (["--sbatch", "account"], "--sbatch 'account' is not of the form NAME=VALUE"),
        (["--sbatch", "signal=TERM"], "--sbatch signal is set by submit itself"),
        (["--time", "0"], "greater than or equal to 0.01"),
    ],
)
def test_bad_input_is_one_line(
    given: list[str], told: str, folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["submit", *given, *folders, "--dry-run"]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error:"))
    assert told in line


# One task


def test_a_task_trains_what_was_noted_with_a_laptop_s_runner(
    cluster: Cluster, trainer: Fake, folders: list[str], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    call(capsys, "submit", *RUN, *folders)
    wanted = specs("train", [PENDULUM], ["sac", "mbpo"], "smoke")
    done = result(wanted[0])
    store.write(wanted[0], *done, {"engine": "e0"})
    cluster.tasks[0]()
    assert sorted(trainer.trained) == sorted(spec.key for spec in wanted[1:])
    assert store.missing(wanted) == [] and standing(capsys, folders) == []
    cluster.tasks[0]()  # requeued for nothing
    assert len(trainer.trained) == 3


@pytest.mark.parametrize(
    ("number", "state", "requeued"),
    [
        (signal.SIGUSR2, "RUNNING", True),  # its time is nearly over
        (signal.SIGTERM, "RUNNING", True),  # preempted, with time to save
        (signal.SIGTERM, "TIMEOUT", True),  # the warning came before the process heeded it
        (signal.SIGTERM, "CANCELLED", False),
        (signal.SIGTERM, "PENDING", False),  # SLURM has requeued it
        (signal.SIGTERM, None, False),
    ],
)
def test_a_task_that_is_told_to_end_saves_first_and_goes_on_if_it_may(
    number: int, state: str | None, requeued: bool, cluster: Cluster, trainer: Fake, folders: list[str],
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    call(capsys, "submit", *RUN, *folders)
    asked: list[bool] = []

    def told(specs: Any, place: Any) -> None:
        signal.raise_signal(number)
        asked.append(place.stop())
        raise Stopped(number, "saved")

    hooks: list[int] = []
    monkeypatch.setattr(trainer, "_before", told)
    monkeypatch.setattr(slurm, "own_state", lambda: state)
    before = signal.signal(signal.SIGUSR2, lambda n, frame: hooks.append(n))  # as submitit's handler
    try:
        with pytest.raises(SystemExit) as ended:
            cluster.tasks[0]()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert ended.value.code == 128 + number and asked == [True]
    assert hooks == ([signal.SIGUSR2] if requeued else [])
    assert not any(Leases(store.cache).held(key) for key in submissions.read_all(store.cache)[0].entries[0].keys)


def test_threads_are_those_that_slurm_gave() -> None:
    assert task.settings({"SLURM_CPUS_PER_TASK": "1"})["OMP_NUM_THREADS"] == "1"
    assert task.settings({"SLURM_CPUS_ON_NODE": "1", "PATH": ""})["MKL_NUM_THREADS"] == "1"


def test_submitit_makes_the_script_that_signals_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit")
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    request = Request(1 / 60, "p", "gpu:1", 4, 8, {"account": "x"})
    made = submitting.executor(tmp_path, request, "mbpo-1", request.restarts(2.5))
    text = made._make_submission_file_text(made._submitit_command_str, "0")
    for line in ("--time=1", "--partition=p", "--gres=gpu:1", "--cpus-per-task=4", "--signal=B:USR2@15", "--requeue",
                 "--account=x", "--job-name=mbpo-1"):  # fmt: skip
        assert f"#SBATCH {line}\n" in text
    assert (
        "\ntrap '' USR2\n" in text and "\nexec " in text and "srun" not in text and made.max_num_timeout == 10 + 3 * 150
    )
    again = Task("r", "c", "t", 0).checkpoint()
    assert again.function == Task("r", "c", "t", 0)


def test_without_submitit_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(submitting, "import_module", absent)
    with pytest.raises(InputError, match=r"pip install 'free-lunch-forensics\[slurm\]'"):
        submitting.executor(tmp_path, Request(1.0), "x", 1)


def test_without_an_answer_of_slurm_nothing_is_submitted_twice(
    cluster: Cluster, folders: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call(capsys, "submit", *RUN, *folders)

    def silent(names: Any) -> None:
        raise InputError("squeue: Unable to contact slurm controller")

    monkeypatch.setattr(slurm, "queue", silent)
    assert [one["state"] for one in standing(capsys, folders)] == ["unknown"]
    assert cli.main(["submit", *RUN, *folders]) == 2 and len(cluster.tasks) == 1
    assert "squeue does not answer" in capsys.readouterr().err


def test_a_damaged_page_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "x.json").write_text("{")
    with pytest.raises(InputError, match="is no submission"):
        submissions.read_all(tmp_path)
