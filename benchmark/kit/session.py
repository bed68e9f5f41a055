"""What is done on a lent machine, in the order in which it is worth most, and stopped in time.

1. Is it right? Captured training equals eager training, and runs in lockstep equal each run alone.
2. How fast is it? `speed` for several runs in lockstep and several precisions.
3. Evidence: `work` trains what the list names until the time is up, and saves a snapshot when it is told to stop.

Every step writes into one folder, so that a session that is cut off leaves what it has done.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.records.store import Store
from mbpo import Budget, Method, loop
from mbpo.config import InputError
from mbpo.fast.engine import Engine, engine
from mbpo.loop import Run
from mbpo.state import TrainState

TOY = "gym:benchmark.toys:LQR-v0"
SHRUNK: dict[str, Any] = {
    "random_steps": 20,
    "utd": 4,
    "sac": {"hidden_dims": (32, 32), "batch_size": 32},
    "model": {"hidden_dims": (32, 32), "weight_decay": (0.0, 0.0, 0.0), "ensemble_size": 3, "num_elites": 2,
              "batch_size": 32, "updates": 20, "fit_every": 2},
    "rollout": {"per_step": 16, "retain": 20},
}  # fmt: skip
"""Constants of the check: small networks on a toy, so many blocks and fits that recordings are replayed."""
RUNS, PRECISIONS = (6, 12, 24, 48), ("tf32", "bf16", "fp32")
SHARE = 0.4
"""Of the time, what the speed measurements may take; evidence has the rest."""
SAVING_SECONDS = 45.0
"""Before the end, `work` is told to stop: it saves a snapshot first."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Check:
    """One comparison: the largest difference of any parameter, relative to its size, and the bound on it."""

    name: str
    difference: float
    bound: float

    @property
    def right(self) -> bool:
        """Whether the difference is within the bound; a NaN is not."""
        return self.difference <= self.bound


def trained(runs: Sequence[Run], on: Engine, steps: int = 26) -> list[Tensor]:
    """Parameters ``(R, ...)`` of actors, critics and models after `steps` env steps on the toy."""
    state = TrainState(TOY, list(runs), Budget(env_steps=steps, eval_every=steps, eval_episodes=1), on)
    try:
        while state.env_steps < steps:
            loop.advance(state)
        nets = [state.sac.actor, state.sac.critic, *([] if state.dynamics is None else [state.dynamics.net])]
        return [parameter.detach().double().cpu() for net in nets for parameter in net.parameters]
    finally:
        state.close()


def difference(ours: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """The largest difference of two lists of tensors, each relative to its largest number."""
    return max(float((a - b).abs().max()) / max(float(b.abs().max()), 1e-12) for a, b in zip(ours, others, strict=True))


def checks(device: str) -> list[Check]:
    """Whether captured training is eager training, and lockstep is each run alone, in double precision."""
    on = engine(device, "fp64")
    method = Method.model_validate(SHRUNK)
    runs = [Run(method, seed) for seed in range(3)]
    together = trained(runs, on)
    eager = trained(runs, replace(on, capture=False, fuse_from=float("inf")))
    alone = [torch.cat(parts) for parts in zip(*(trained([run], on) for run in runs), strict=True)]
    return [
        Check("captured is eager", difference(together, eager), 1e-6),
        Check("lockstep is each run alone", difference(together, alone), 1e-6),
    ]


def command(*arguments: object) -> list[str]:
    """This project's command line in a process of its own."""
    return [sys.executable, "-m", "benchmark", *map(str, arguments)]


def measure_speed(out: Path, device: str, until: float, log: Path, runs: Sequence[int] = RUNS) -> list[str]:
    """Save `speed` for every number of runs and precision until the time `until`; returns what was left out."""
    left = []
    precisions = PRECISIONS if device != "cpu" else ("fp32",)
    for precision in precisions:
        for number in runs:
            remaining = until - time.monotonic()
            name = f"{precision}, {number} runs"
            if remaining <= 0:
                left.append(name)
                continue
            options = ("--precision", precision, "--runs", number, "--device", device, "--rounds", 2, "--save")
            if not _run(command("speed", *options, "--results", out / "results"), log, remaining):
                left.append(name)
    return left


def gather_evidence(out: Path, jobs: Path, until: float, log: Path, max_lockstep: int) -> bool:
    """Train what the list names until the time `until`; whether it ended by itself with nothing left to do."""
    options = ("--jobs", jobs, "--results", out / "results", "--cache", out / "cache", "--max-lockstep", max_lockstep)
    return _run(command("work", *options), log, until - time.monotonic() - SAVING_SECONDS, SAVING_SECONDS)


def _run(arguments: Sequence[str], log: Path, seconds: float, grace: float = 5.0) -> bool:
    """Run a command, its output appended to `log`; after `seconds` tell it to stop. Whether it ended well in time."""
    if seconds <= 0:
        return False
    with log.open("a") as stream:
        stream.write(f"$ {' '.join(arguments[1:])}\n")
        stream.flush()
        process = subprocess.Popen(arguments, stdout=stream, stderr=subprocess.STDOUT)
        try:
            return process.wait(timeout=seconds) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return False


def session(
    minutes: float,
    out: Path,
    jobs: Path,
    device: str,
    say: Say,
    runs: Sequence[int] = RUNS,
    max_lockstep: int = 12,
) -> dict[str, Any]:
    """All three steps within `minutes`; the summary is also written to ``out / session.json``.

    Raises:
        InputError: the list of jobs is missing, or training is not right on this device: then nothing else is done.
    """
    start = time.monotonic()
    end = start + 60 * minutes
    if not jobs.is_file():
        raise InputError(f"{jobs}: no such file; give lines PROTOCOL TASK METHOD, as `work --dry-run` orders them")
    out.mkdir(parents=True, exist_ok=True)
    log = out / "session.log"
    summary: dict[str, Any] = {"minutes": minutes, "device": device, "torch": torch.__version__}
    found = checks(device)
    summary["checks"] = [
        {"name": c.name, "difference": c.difference, "bound": c.bound, "right": c.right} for c in found
    ]
    for check in found:
        say(
            f"{check.name}: {'yes' if check.right else 'NO'}, difference {check.difference:.2g} (bound {check.bound:g})"
        )
    _write(out, summary)
    if wrong := [check.name for check in found if not check.right]:
        raise InputError(f"not true on {device}: {'; '.join(wrong)}; nothing is measured or trained on it")
    summary["speed_left_out"] = measure_speed(out, device, start + SHARE * (end - start), log, runs)
    say(f"speed: {len(summary['speed_left_out'])} measurements left out")
    _write(out, summary)
    summary["nothing_left"] = gather_evidence(out, jobs, end, log, max_lockstep)
    summary["records"] = sum(1 for _ in Store(out / "results", out / "cache").specs())
    summary["seconds"] = round(time.monotonic() - start, 1)
    say(f"evidence: {summary['records']} records in {out / 'results'}, after {summary['seconds']:.0f} s in all")
    _write(out, summary)
    return summary


def _write(out: Path, summary: dict[str, Any]) -> None:
    (out / "session.json").write_text(json.dumps(summary, indent=2, sort_keys=True) + "\n")
