"""What SLURM says of our jobs, asked through its own commands. No answer means no SLURM, or none that is reachable."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mbpo.config import InputError

OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
}
"""The states of a job that has ended and does not start again by itself."""
WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING"}
FORMAT = "%j|%K|%i|%T|%N|%r"


class Known(NamedTuple):
    """One task of an array, as `squeue` lists it."""

    name: str
    """The job's name: a submission's token."""
    number: int
    """Of the task within its array."""
    id: str
    """As `scancel` takes it, such as '17_3'."""
    state: str
    node: str
    reason: str

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state in OVER

    @property
    def is_waiting(self) -> bool:
        """Whether it has yet to start, for the first time or again."""
        return self.state in WAITING


def queue(names: Iterable[str]) -> dict[tuple[str, int], Known]:
    """The tasks of the jobs of these names, whoever submitted them, by name and number within the array.

    Those that live are there, and for some minutes those that ended. Raises `InputError` where there is no SLURM or its
    controller does not answer.
    """
    if not (asked := ",".join(names)):
        return {}
    options = ("--array", "--noheader", "--states=all", f"--format={FORMAT}")
    lines = call("squeue", f"--name={asked}", *options).splitlines()
    tasks: dict[tuple[str, int], Known] = {}
    for line in lines:
        name, index, job, state, node, reason = (line.strip().split("|") + [""] * 6)[:6]
        task = Known(name, int(index) if index.isdigit() else 0, job, state, node, reason)
        before = tasks.get((name, task.number))
        if before is None or before.is_over:
            tasks[name, task.number] = task
    return tasks


def cancel(tasks: Sequence[Known]) -> None:
    """Take tasks back: waiting ones never start, running ones save a snapshot and end."""
    call("scancel", *(task.id for task in tasks))


def own_state(environ: Mapping[str, str] = os.environ) -> str | None:
    """What SLURM means this process's own job to be: 'RUNNING', 'CANCELLED', 'PENDING' once it is requeued."""
    job = environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    try:
        found = re.search(r"\bJobState=(\w+)", call("scontrol", "show", "job", "--oneliner", job))
    except InputError:
        return None
    return found[1] if found else None


def call(*command: str) -> str:
    """The standard output of one of SLURM's commands. Raises `InputError` with what it complains of."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        raise InputError(f"there is no {command[0]} on this machine; submit from a login node of the cluster") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"{command[0]} gave no answer within two minutes; is SLURM's controller up?") from None
    if done.returncode:
        raise InputError(f"{command[0]}: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")
    return done.stdout
