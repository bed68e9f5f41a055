"""How far the running jobs are: one small JSON file per job, for `status` and for other processes.

Fields: job, kind, task, methods, runs, step, of, steps_per_s, eta_s, pid, updated (seconds since 1970), keys.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmark.records.spec import RunSpec
from benchmark.records.store import DAMAGE, replace_file
from benchmark.running.leases import Leases
from benchmark.words import count, duration

WINDOW_SECONDS = 60.0
"""Span that speed is taken over: random first steps are cheap, a mean since the start would promise too much."""
EVERY_SECONDS = 1.0
SILENT_SECONDS = 600.0
"""Time without a step after which a job is said to hang: as long as an environment may take to answer."""
_WRITING_SHARE = 0.005
_FIELDS = {"job", "kind", "task", "methods", "runs", "step", "of", "steps_per_s", "eta_s", "keys"}
log = logging.getLogger(__name__)


class Progress:
    """The progress of one job, from its first step to its last. Use as a context manager; the file goes with it."""

    def __init__(self, cache: Path, job: str, specs: Sequence[RunSpec], of: int) -> None:
        self.path = cache / "progress" / f"{job}.json"
        self.fields: dict[str, Any] = {
            "job": job,
            "kind": specs[0].kind,
            "task": specs[0].task,
            "methods": list(dict.fromkeys(spec.method for spec in specs)),
            "runs": len(specs),
            "keys": [spec.key for spec in specs],
            "pid": os.getpid(),
        }
        self._seen: deque[tuple[float, int]] = deque()
        self._due = 0.0
        self.step, self.of = 0, of

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write(time.monotonic())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.path.unlink(missing_ok=True)

    def __call__(self, step: int, of: int | None = None) -> None:
        """Note that `step` of `of` is reached; the file follows at most once a second."""
        now = time.monotonic()
        self.step, self.of = step, self.of if of is None else of
        if not self._seen or self._seen[-1][1] > step:  # a first step, or another stage that counts anew
            self._seen.clear()
        self._seen.append((now, step))
        while now - self._seen[0][0] > WINDOW_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        if now >= self._due:
            self._write(now)

    @property
    def steps_per_s(self) -> float | None:
        """Recent speed, None until two steps are known."""
        if len(self._seen) < 2 or self._seen[-1][0] <= self._seen[0][0]:
            return None
        (start, first), (end, last) = self._seen[0], self._seen[-1]
        return (last - first) / (end - start)

    def _write(self, now: float) -> None:
        speed = self.steps_per_s
        data = {
            **self.fields,
            "step": self.step,
            "of": self.of,
            "steps_per_s": speed,
            "eta_s": (self.of - self.step) / speed if speed else None,
            "updated": time.time(),
        }
        try:
            replace_file(self.path, json.dumps(data))
        except OSError as error:  # a disk that is full: nobody is told for now, and training goes on
            log.debug("progress not written: %s", error)
        took = time.monotonic() - now  # a slow disk must not slow the training down
        self._due = now + max(EVERY_SECONDS, took / _WRITING_SHARE)


def running(cache: Path) -> list[dict[str, Any]]:
    """The jobs that some process is training now. The files of killed ones remain, but nobody holds their leases."""
    leases = Leases(cache)
    jobs = []
    for path in sorted((cache / "progress").glob("*.json")):
        data = read(path)
        if data is not None and any(leases.held(key) for key in data["keys"]):
            jobs.append({name: value for name, value in data.items() if name != "keys"})
    return jobs


def read(path: Path) -> dict[str, Any] | None:
    """The fields of one file; None where it is gone or damaged, which is no reason to stop anything."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return dict(data) if set(data) >= _FIELDS and all(isinstance(key, str) for key in data["keys"]) else None
    except DAMAGE:
        return None


def sentence(job: dict[str, Any]) -> str:
    """One line for people: what trains, how far it is, how fast, how long it will take."""
    speed = "" if not job["steps_per_s"] else f", {job['steps_per_s']:.3g} steps/s"
    left = "" if job["eta_s"] is None else f", {duration(job['eta_s'])} left"
    silent = time.time() - job.get("updated", time.time())
    if silent > SILENT_SECONDS:
        left = f", no step for {duration(silent)}: process {job.get('pid')} hangs, or is slow"
    what = f"{job['kind']} {'+'.join(job['methods'])} on {job['task']} ({count(job['runs'], 'run')})"
    return f"{what}: step {job['step']} of {job['of']}{speed}{left}"


class Watch:
    """Tells `tell` one line per running job every `seconds`, from a thread of its own. Use as a context manager."""

    def __init__(self, cache: Path, tell: Callable[[str], None], seconds: float = 15.0) -> None:
        self._cache, self._tell, self._seconds = cache, tell, seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._seconds):
            for job in running(self._cache):
                self._tell(sentence(job))
