"""One task of a submitted array, as submitit runs it on a node: the runner of a laptop, and the way it goes on.

SLURM tells a job to end by SIGUSR2 (its time is nearly over) or SIGTERM (preempted, cancelled, requeued). The runner
saves a snapshot at the end of the step and stops. Then submitit's checkpoint hook puts the same task back into the
queue, where it goes on from the snapshot with the same bits. A job that was cancelled or requeued by somebody else only
ends. One that is killed at once leaves its last snapshot, and leases that run out.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmark.cluster import slurm, submissions
from benchmark.records.store import Store
from benchmark.running.stopping import Stopped
from benchmark.running.workers import THREAD_VARIABLES, worker_device


@dataclass(frozen=True)
class Task:
    """The runs of one entry of a submission, to be trained where this is called."""

    results: str
    cache: str
    token: str
    index: int
    device: str = "auto"
    mix_engines: bool = False

    def __call__(self) -> None:
        """Train what has no record yet. Ends in `SystemExit` if it is told to stop."""
        os.environ.update(settings(os.environ))  # before torch is imported
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(message)s")
        logging.getLogger("benchmark").setLevel(logging.INFO)
        logging.getLogger("submitit").propagate = False  # it writes its own lines
        entry = submissions.read(submissions.page(Path(self.cache), self.token)).entries[self.index]
        try:
            import_module("benchmark.running.ensure").ensure(
                entry.runs(),
                Store(self.results, self.cache),
                device=self.device,
                max_lockstep=entry.most,
                mix_engines=self.mix_engines,
            )
        except Stopped as stopped:
            logging.getLogger("benchmark").info("%s", stopped)
            if goes_on(stopped.code - 128):
                signal.raise_signal(signal.SIGUSR2)  # submitit's handler: `checkpoint`, requeue, exit
            raise SystemExit(stopped.code) from stopped

    def checkpoint(self) -> Any:
        """What submitit submits in this task's stead: the same, for all that was trained is in the cache."""
        return import_module("submitit.helpers").DelayedSubmission(self)


def goes_on(number: int) -> bool:
    """Whether the job that this signal ended is to be put back into the queue by itself."""
    return number == signal.SIGUSR2 or slurm.own_state() in ("RUNNING", "TIMEOUT")


def settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Threads as `worker_device` settles them, and no more than SLURM gave this job of the node's CPUs."""
    given = environ.get("SLURM_CPUS_PER_TASK") or environ.get("SLURM_CPUS_ON_NODE")
    threads = {name: environ.get(name) or given for name in THREAD_VARIABLES if given}
    return worker_device({**environ, **{name: value for name, value in threads.items() if value}})
