"""Which GPU and how many CPU threads a process takes. To be settled before torch is imported: it reads both once.

Under pytest-xdist, worker `w` of `n` gets the caller's GPU number `w mod count` and an `n`-th of the CPUs that this
process may use.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
CGROUP = Path("/sys/fs/cgroup")


WAIT_POLICY = "OMP_WAIT_POLICY"
IDLE_LOAD = 0.5
"""CPUs that others may keep busy before they count as company."""


def worker_device(
    environ: Mapping[str, str], gpus: list[str] | None = None, cpus: int | None = None, load: float | None = None
) -> dict[str, str]:
    """The environment variables that this process should run with.

    Args:
        environ: the environment as the caller gave it, with xdist's variables if there are workers.
        gpus: GPUs on offer; by default those of the caller's CUDA_VISIBLE_DEVICES, or all.
        cpus: CPUs on offer; by default those of affinity and cgroup.
        load: CPUs that others keep busy; by default the machine's load over the last minute.

    Returns:
        Thread counts always (the caller's if it has set a smaller one), CUDA_VISIBLE_DEVICES under xdist when
        there is a GPU, and a wait policy (unless the caller has one) where other processes share the cores: threads
        that spin while they wait would take the time that the others need.
    """
    workers = max(int(environ.get("PYTEST_XDIST_WORKER_COUNT", "1")), 1)
    share = max((cpu_count() if cpus is None else cpus) // workers, 1)
    # One number for all pools: a pool that is larger than its fellow only waits for it.
    threads = min(share, *(_count(environ.get(name)) or share for name in THREAD_VARIABLES))
    settings = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if WAIT_POLICY not in environ and (workers > 1 or (_load() if load is None else load) > IDLE_LOAD):
        settings[WAIT_POLICY] = "PASSIVE"
    worker = environ.get("PYTEST_XDIST_WORKER", "")
    if worker.startswith("gw"):
        gpus = visible_gpus(environ) if gpus is None else gpus
        if gpus:
            settings["CUDA_VISIBLE_DEVICES"] = gpus[int(worker[2:]) % len(gpus)]
    return settings


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def visible_gpus(environ: Mapping[str, str]) -> list[str]:
    """The GPUs that CUDA would offer, as CUDA_VISIBLE_DEVICES names them. Does not import torch."""
    if "CUDA_VISIBLE_DEVICES" in environ:
        names = [name.strip() for name in environ["CUDA_VISIBLE_DEVICES"].split(",")]
        # CUDA ignores everything from the first name that it cannot use.
        bad = next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))
        return names[:bad]
    tool = shutil.which("nvidia-smi", path=environ.get("PATH"))
    if tool is None:
        return []
    try:
        listing = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = listing.stdout.splitlines() if listing.returncode == 0 else []
    return [str(i) for i, _ in enumerate(line for line in lines if line.startswith("GPU "))]


def cpu_count(cgroup: Path = CGROUP) -> int:
    """CPUs that this process may use: the least of the machine's, its affinity and its cgroup's quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(affinity, _quota(cgroup) or affinity), 1)


def _quota(cgroup: Path) -> int | None:
    """Whole CPUs of the cgroup's quota, version 2 or 1; None without one."""
    files = (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"])
    for names in files:
        if all((cgroup / name).is_file() for name in names):
            words = " ".join((cgroup / name).read_text() for name in names).split()
            quota, period = (_count(word) for word in words[:2])
            if quota and period:
                return max(quota // period, 1)
    return None


def _count(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdigit() else None
