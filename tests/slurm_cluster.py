"""A real SLURM on this machine alone: munge, a controller and one node daemon, started in a folder and ended again."""

from __future__ import annotations

import os
import platform
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

CONF = """
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdTimeout=15
ReturnToService=2
KillWait=20
OverTimeLimit=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")


def lacking() -> list[str]:
    """The programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]


def search_path() -> str:
    """Where programs are looked for: daemons lie in folders that are not on everybody's PATH."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 300.0) -> None:
    """Look twice a second until `condition` holds. Raises `TimeoutError` after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.5)


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


class Cluster:
    """The daemons. Use as a context manager; `folder` must be empty."""

    def __init__(self, folder: Path, cpus: int = 1) -> None:
        self.folder = folder.resolve()
        self.environ = {**os.environ, "PATH": search_path(), "SLURM_CONF": str(self.folder / "slurm.conf")}
        self._cpus = cpus
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o711)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        host = platform.node().split(".")[0]
        user = pwd.getpwuid(os.getuid()).pw_name
        settings = CONF.format(host=host, user=user, folder=self.folder, cpus=self._cpus, ports=free_ports(2))
        (self.folder / "slurm.conf").write_text(settings)
        self._stack.callback(self.stop)
        try:
            munge = self.folder / "munge"
            files = {"key-file": key, "socket": munge / "socket", "pid-file": munge / "pid", "log-file": munge / "log"}
            options = [f"--{name}={path}" for name, path in {**files, "seed-file": munge / "seed"}.items()]
            self._start("munged", "--foreground", "--force", *options)
            wait_for((munge / "socket").exists, "munge's socket", 30)
            self._start("slurmctld", "-D", "-f", self.environ["SLURM_CONF"])
            self.start_node()
            wait_for(lambda: self.node_state() == "idle", "the node", 60)
        except BaseException:
            self._stack.close()
            for path in sorted(self.folder.glob("*.log")):
                print(f"{path.name}: {path.read_text(errors='replace')[-1000:]}", file=sys.stderr)
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def start_node(self) -> None:
        """Start the node daemon."""
        self._start("slurmd", "-D", "-f", self.environ["SLURM_CONF"])

    def kill_node(self) -> None:
        """Kill the node daemon at once; what it started lives on."""
        self._daemons["slurmd"].kill()
        self._daemons["slurmd"].wait()

    def node_state(self) -> str:
        """The node's state in one word."""
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=self.environ, capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip().rstrip("*")

    def call(self, *command: str) -> str:
        """What one of SLURM's commands prints."""
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    def stop(self) -> None:
        """End every job and every daemon, the node's first."""
        if "slurmctld" in self._daemons and self._daemons["slurmctld"].poll() is None:
            user = pwd.getpwuid(os.getuid()).pw_name
            subprocess.run(["scancel", f"--user={user}"], env=self.environ, capture_output=True, timeout=60)
            time.sleep(2)
        for name in ("slurmd", "slurmctld", "munged"):
            if (process := self._daemons.get(name)) is not None and process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                [name, *arguments], env=self.environ, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
