"""Submits a plan as one array through submitit. The only place that knows submitit's options."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmark.cluster import submissions
from benchmark.cluster.plan import Part
from benchmark.cluster.submissions import Submission
from benchmark.cluster.task import Task
from benchmark.records.store import Store
from benchmark.running.leases import Leases
from mbpo.config import InputError

MOST_PARTS = 1000
"""Of an array, as SLURM's MaxArraySize is unless a cluster says otherwise."""
WARNING_SECONDS = 120
"""Before the end of a job's time it is told to save, or a quarter of its time before if that is less."""


@dataclass(frozen=True)
class Request:
    """What is asked of SLURM for every task."""

    hours: float
    partition: str | None = None
    gres: str | None = None
    cpus: int = 1
    at_once: int = 256
    sbatch: Mapping[str, str] = field(default_factory=dict)
    """More options of sbatch by name, such as ``{"account": "x"}``."""

    @property
    def minutes(self) -> int:
        """Its time in SLURM's unit."""
        return max(math.ceil(self.hours * 60), 1)

    @property
    def warning_seconds(self) -> int:
        """How long before its end a job is told to save."""
        return min(WARNING_SECONDS, self.minutes * 15)

    def restarts(self, longest: float) -> int:
        """How often a task may run out of time: three times what its estimated hours need, and some."""
        return 10 + 3 * math.ceil(longest / self.hours)


Executor = Callable[[Path, Request, str, int], Any]


def executor(folder: Path, request: Request, name: str, restarts: int) -> Any:
    """Submitit's executor for SLURM. Raises `InputError` without submitit or SLURM.

    The batch shell becomes the Python process itself (`exec`, no `srun`), so that SLURM's signals reach it; `B:` sends
    the warning to that process.
    """
    try:
        submitit = import_module("submitit")
    except ImportError:
        raise InputError("submit needs submitit: pip install 'free-lunch-forensics[slurm]'") from None
    try:
        slurm = submitit.SlurmExecutor(folder, max_num_timeout=restarts, python=f"exec {shlex.quote(sys.executable)}")
    except RuntimeError as error:
        raise InputError(f"{error} Submit from a login node of the cluster") from None
    given = {"partition": request.partition, "gres": request.gres}
    slurm.update_parameters(
        job_name=name,
        time=request.minutes,
        cpus_per_task=request.cpus,
        array_parallelism=request.at_once,
        stderr_to_stdout=True,
        use_srun=False,
        setup=["trap '' USR2"],  # a warning before Python heeds it would end the job
        additional_parameters={"signal": f"B:USR2@{request.warning_seconds}", "requeue": True, **request.sbatch},
        **{option: value for option, value in given.items() if value is not None},
    )
    return slurm


def submit(
    parts: Sequence[Part],
    store: Store,
    request: Request,
    *,
    device: str = "auto",
    mix_engines: bool = False,
    make: Executor = executor,
) -> Submission:
    """Submit one task a part and note it in the cache. The caller holds `alone`.

    Raises `InputError` where submitit or SLURM refuses; then nothing is noted.
    """
    if len(parts) > MOST_PARTS:
        raise InputError(f"{len(parts)} tasks are more than an array holds ({MOST_PARTS}); name some claims by --claim")
    cache, results = store.cache.resolve(), store.results.resolve()
    submission = submissions.new(parts)
    folder = submissions.folder(cache, submission.token)
    through = make(folder, request, submission.token, request.restarts(max(part.all_hours for part in parts)))
    tasks = [
        Task(str(results), str(cache), submission.token, index, device, mix_engines) for index in range(len(parts))
    ]
    page = submissions.write(cache, submission)  # first: a task may start before sbatch has returned
    try:
        with through.batch():
            jobs = [through.submit(task) for task in tasks]
    except Exception as error:
        page.unlink()
        said = " ".join(str(error).split())
        raise InputError(f"sbatch refused the array: {said}") from error
    submission = replace(submission, job=str(jobs[0].job_id).split("_")[0])
    submissions.write(cache, submission)
    return submission


def alone(store: Store) -> Any:
    """The right to submit from this cache, for one process at a time: yields a list that is empty if another has it."""
    return Leases(store.cache).take(["submit"])
