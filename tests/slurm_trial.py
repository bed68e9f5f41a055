"""`make test-slurm`: jobs on a real SLURM, disturbed in every way, end with the records of a laptop, to the bit.

Needs SLURM and munge (Debian: apt-get install slurm-wlm munge) and submitit. Not part of the tests: it takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from slurm_cluster import Cluster, lacking, wait_for

ROOT = Path(__file__).parents[1]
TASK = "gym:InvertedPendulum-v5"
RUNS = ("--protocol", "smoke", "--task", TASK, "--method", "sac", "--method", "mbpo")
SHORT, LONG = "3000", "8000"
"""Env steps of runs that take half a minute, and of runs that a minute is too short for."""
CLAIM = "toy-smooth-ftfl"
LIMIT_HOURS = str(1 / 60)
FILES = ("spec.json", "curve.csv", "diagnostics.csv")
OVER = {"CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "TIMEOUT", "OUT_OF_MEMORY", ""}


def with_root() -> str:
    """PYTHONPATH with this project first."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Trial:
    """One cluster, one laptop's folder, and a folder for every way of disturbing."""

    def __init__(self, folder: Path, cluster: Cluster, log: Path | None) -> None:
        self.folder, self.cluster, self._log = folder, cluster, log
        self._start = time.monotonic()
        self._waiting: dict[str, float] = {}

    def say(self, line: str) -> None:
        """Print a line with the seconds since the start, and write it into the log, without paths."""
        line = re.sub(rf"{re.escape(str(self.folder))}/?|{re.escape(str(ROOT))}/?", "", line)
        line = f"{time.monotonic() - self._start:6.0f} s  {line.replace(os.uname().nodename, 'node')}"
        print(line, flush=True)
        if self._log is not None:
            with self._log.open("a") as stream:
                stream.write(line + "\n")

    def bench(self, command: str, name: str, *arguments: str, fails: bool = False) -> str:
        """A command of the benchmark on the folders called `name`; its output, or its error if it is to fail."""
        where = ("--results", str(self.folder / name / "results"), "--cache", str(self.folder / name / "cache"))
        environ = {
            **self.cluster.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": with_root(),
        }
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", command, *arguments, *where],
            cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        if (done.returncode != 0) != fails:
            raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        return done.stderr if fails else done.stdout

    def judge(self, name: str, *arguments: str) -> str:
        """What pytest says of the claim on the folders called `name`, where it trains what is missing."""
        where = [f"--{kind}={self.folder / name / kind}" for kind in ("results", "cache")]
        command = [sys.executable, "-m", "pytest", "benchmark/", "-m", "claims", "-k", CLAIM, "-q", "-rA"]
        environ = {**self.cluster.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": with_root()}
        done = subprocess.run(
            [*command, *arguments, *where], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600
        )
        return done.stdout

    def submit(self, name: str, *arguments: str) -> str:
        """Submit and return SLURM's number of the job."""
        for line in (lines := self.bench("submit", name, *arguments).splitlines()):
            self.say(f"  {line}")
        return lines[-1].split("job ")[1].split(";")[0]

    def state(self, job: str) -> str:
        """The job's state; one that waits after a requeue is let go soon. Empty: SLURM has forgotten it."""
        try:
            shown = self.cluster.call("scontrol", "show", "job", "--oneliner", job)
        except subprocess.CalledProcessError:
            return ""
        state = re.search(r"JobState=(\w+)", shown)[1]  # type: ignore[index]
        if state == "PENDING" and "Reason=BeginTime" in shown:
            # SLURM waits two minutes so that no word of the ended start reaches the next one; some seconds do here.
            if time.monotonic() - self._waiting.setdefault(job, time.monotonic()) > 8:
                self.cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now")
                self._waiting.pop(job)
        else:
            self._waiting.pop(job, None)
        return state

    def restarts(self, job: str) -> str:
        """How often SLURM started the job again."""
        return re.search(r"Restarts=(\d+)", self.cluster.call("scontrol", "show", "job", job))[1]  # type: ignore[index]

    def progress(self, name: str) -> list[dict[str, Any]]:
        """What the running jobs say of themselves."""
        found = []
        for path in (self.folder / name / "cache" / "progress").glob("*.json"):
            try:
                found.append(json.loads(path.read_text()))
            except (OSError, ValueError):
                continue
        return found

    def steps(self, name: str) -> int:
        """The furthest step of the running jobs."""
        return max((one["step"] for one in self.progress(name)), default=0)

    def until_step(self, name: str, job: str, step: int) -> None:
        """Wait until some run of the job is beyond `step`."""

        def reached() -> bool:
            self.state(job)
            return self.steps(name) >= step

        wait_for(reached, f"step {step} of job {job}")

    def until_over(self, job: str, seconds: float = 600) -> str:
        """Wait until the job has ended for good; its last state."""
        wait_for(lambda: self.state(job) in OVER, f"job {job} to end", seconds)
        return self.state(job)

    def status(self, name: str) -> list[dict[str, Any]]:
        """What `status` says of submitted tasks, which is also printed."""
        found: list[dict[str, Any]] = json.loads(self.bench("status", name, "--protocol", "smoke", "--json"))["cluster"]
        for one in found:
            self.say(f"  status: {one['sentence']}")
            for line in one["log"]:
                self.say(f"    log: {line}")
        return found

    def records(self, name: str) -> dict[str, dict[str, bytes]]:
        """The bytes of every record, by key."""
        folders = (self.folder / name / "results" / "runs").glob("*/*/*")
        return {path.name: {file: (path / file).read_bytes() for file in FILES} for path in folders if path.is_dir()}

    def compare(self, name: str, laptop: str) -> None:
        """Hold all records of `name` against the laptop's, byte by byte, and say so."""
        ours, theirs = self.records(name), self.records(laptop)
        if ours != theirs:
            differing = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
            raise AssertionError(f"{name}: {len(ours)} records of {len(theirs)}; {differing} differ from the laptop's")
        stretches = []
        for path in (self.folder / name / "results" / "runs").glob("*/*/*/provenance.json"):
            steps = [row["steps"] for row in json.loads(path.read_text())["stretches"]]
            if any(a[1] != b[0] for a, b in pairwise(steps)):
                raise AssertionError(f"{name}: a run has stretches {steps}")
            stretches.append(" ".join(f"{first}-{last}" for first, last in steps))
        self.say(
            f"  {len(ours)} records, whole and equal to the laptop's to the bit; steps {', '.join(set(stretches))}"
        )


def to_its_verdict(trial: Trial) -> None:
    """A claim of the quick protocol from nothing to its verdict."""
    job = trial.submit("claim", "--protocol", "quick", "--claim", CLAIM)
    again = trial.bench("submit", "claim", "--protocol", "quick", "--claim", CLAIM).splitlines()
    assert again[0] == "nothing to submit", again
    trial.say(f"  submitted again at once: {'; '.join(again)}")
    trial.say(f"  job {job}: {trial.until_over(job)}")
    for line in trial.judge("claim", "--no-train").splitlines():
        if re.match(r"PASSED |FAILED |XFAIL |SKIPPED |1 reproduced", line):
            trial.say(f"  verdict: {line}")
    trial.compare("claim", "laptop-claim")


def requeued(trial: Trial) -> None:
    """`scontrol requeue` by somebody else, and before it a SIGTERM as a preemption sends it."""
    job = trial.submit("requeue", *RUNS, "--steps", SHORT)
    trial.until_step("requeue", job, 500)
    running = trial.status("requeue")
    assert running[0]["state"] == "running" and running[0]["node"], running
    trial.cluster.call("scancel", "--batch", "--signal=TERM", job)
    wait_for(lambda: trial.state(job) != "RUNNING" and not trial.progress("requeue"), "the job to requeue itself")
    trial.say("  told to end by SIGTERM: it saved, and put itself back into the queue")
    trial.until_step("requeue", job, 1000)
    trial.cluster.call("scontrol", "requeue", job)
    wait_for(lambda: not trial.progress("requeue"), "the job to stop")
    trial.say("  scontrol requeue")
    state = trial.until_over(job)
    trial.say(f"  job {job}: {state}, started again {trial.restarts(job)} times")
    trial.compare("requeue", "laptop")


def cancelled(trial: Trial) -> None:
    """`cancel`, and the same `submit` again; a job of somebody else stays."""
    refused = trial.bench("submit", "cancel", *RUNS, "--partition", "nowhere", fails=True)
    trial.say(f"  {refused.strip().splitlines()[-1]}")
    other = trial.cluster.call("sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true").strip()
    job = trial.submit("cancel", *RUNS, "--steps", SHORT)
    trial.until_step("cancel", job, 500)
    trial.say(f"  {trial.bench('cancel', 'cancel').strip()}")
    trial.say(f"  job {job}: {trial.until_over(job)}; the job that was not ours: {trial.state(other)}")
    assert trial.state(other) == "PENDING"
    assert [one["state"] for one in trial.status("cancel")] == ["cancelled"]
    again = trial.submit("cancel", *RUNS, "--steps", SHORT)
    trial.say(f"  job {again}: {trial.until_over(again)}")
    trial.cluster.call("scancel", other)
    trial.compare("cancel", "laptop")


def died(trial: Trial) -> None:
    """The process is killed at once: `status` says so, and the next `submit` finds it."""
    job = trial.submit("died", *RUNS, "--steps", SHORT)
    trial.until_step("died", job, 500)
    os.kill(trial.progress("died")[0]["pid"], signal.SIGKILL)
    trial.say(f"  its process killed; job {job}: {trial.until_over(job)}")
    assert [one["state"] for one in trial.status("died")] == ["failed"]
    again = trial.submit("died", *RUNS, "--steps", SHORT)
    trial.say(f"  job {again}: {trial.until_over(again)}")
    trial.compare("died", "laptop")


def node_lost(trial: Trial) -> None:
    """The node daemon is killed: SLURM puts the job back into the queue, while nobody ends its process."""
    job = trial.submit("node", *RUNS, "--steps", LONG)
    trial.until_step("node", job, 300)
    pid = trial.progress("node")[0]["pid"]
    trial.cluster.kill_node()
    wait_for(lambda: trial.cluster.node_state() == "down", "the node to be missed")
    trial.say(
        f"  the node daemon killed: the node is down, job {job} {trial.state(job)}; its process "
        f"{'lives on' if is_alive(pid) else 'has ended'}, at step {trial.steps('node')}"
    )
    trial.cluster.start_node()
    wait_for(lambda: trial.state(job) in OVER | {"RUNNING"}, "the job to start again")
    trial.say(
        f"  the daemon is back, job {job} {trial.state(job)}; "
        f"the first process {'lives' if is_alive(pid) else 'has ended'}"
    )
    state = trial.until_over(job)
    trial.say(f"  job {job}: {state}, started again {trial.restarts(job)} times")
    trial.compare("node", "laptop-long")


def out_of_time(trial: Trial) -> None:
    """A time limit of one minute for runs that need more."""
    job = trial.submit("limit", *RUNS, "--steps", LONG, "--time", LIMIT_HOURS)
    state = trial.until_over(job, 900)
    restarts = trial.restarts(job)
    trial.say(f"  job {job}: {state}, started again {restarts} times")
    assert int(restarts) > 0, "the limit was never met"
    trial.compare("limit", "laptop-long")


TRIALS: tuple[Callable[[Trial], None], ...] = (to_its_verdict, requeued, cancelled, died, node_lost, out_of_time)


def main() -> int:
    """Run the trials; 0 if all records are a laptop's, 2 if something is not installed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, help="also append what is printed to this file")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(trial.__name__ for trial in TRIALS)}; all if none")
    given = parser.parse_args()
    if absent := lacking() + ([] if find_spec("submitit") else ["submitit"]):
        print(
            f"error: not installed: {', '.join(absent)} (apt-get install slurm-wlm munge; make setup)", file=sys.stderr
        )
        return 2
    chosen = [trial for trial in TRIALS if not given.names or trial.__name__ in given.names]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "slurm").mkdir()
        with Cluster(folder / "slurm") as cluster:
            trial = Trial(folder, cluster, given.log)
            trial.say(
                cluster.call("sinfo", "--version").strip() + ", one controller and one node daemon on this machine"
            )
            for names, laptop, arguments in (
                ({"to_its_verdict"}, "laptop-claim", None),
                ({"requeued", "cancelled", "died"}, "laptop", SHORT),
                ({"node_lost", "out_of_time"}, "laptop-long", LONG),
            ):
                if not names & {one.__name__ for one in chosen}:
                    continue
                if arguments is None:
                    trial.judge(laptop)
                else:
                    trial.bench("run", laptop, *RUNS, "--steps", arguments)
                trial.say(f"{laptop}: {len(trial.records(laptop))} records without SLURM")
            for one in chosen:
                trial.say(f"{one.__name__}: {' '.join((one.__doc__ or '').split())}")
                one(trial)
            trial.say(f"{len(chosen)} trials, all records whole and equal to a laptop's")
    return 0


if __name__ == "__main__":
    sys.exit(main())
