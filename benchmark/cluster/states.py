"""What became of everything that was submitted from a cache: waiting, running, done, failed, cancelled.

A task is done when all its runs have records, whoever trained them. Otherwise SLURM says how it stands. A task that
SLURM does not know any more, and of which nobody holds a lease, has failed: the next `submit` plans its runs anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.cluster import slurm, submissions
from benchmark.cluster.slurm import Known
from benchmark.cluster.submissions import Entry, Submission
from benchmark.records.store import Store
from benchmark.running import progress
from benchmark.running.leases import Leases
from benchmark.words import count
from mbpo.config import InputError

LAST_LINES = 5
"""Of a failed task's log, as `status` shows them."""
Queue = Mapping[tuple[str, int], Known]


class Standing(NamedTuple):
    """How one task stands. `state` is queued, running, failed, cancelled, or unknown where SLURM does not answer."""

    id: str
    state: str
    label: str
    missing: int
    """Runs without a record."""
    hours: float
    keys: tuple[str, ...]
    """Those runs."""
    reason: str = ""
    """SLURM's own word for it."""
    node: str | None = None
    step: int | None = None
    of: int | None = None
    steps_per_s: float | None = None
    log: tuple[str, ...] = ()
    """The last lines of a failed task's log."""

    @property
    def sentence(self) -> str:
        """One line for people."""
        where = f" on {self.node}" if self.node else ""
        at = "" if self.step is None else f": step {self.step} of {self.of}"
        speed = f", {self.steps_per_s:.3g} steps/s" if self.steps_per_s else ""
        why = f" ({self.reason})" if self.reason and self.state != "running" else ""
        return f"{self.state} {self.id}{where}: {self.label}, {count(self.missing, 'run')} missing{at}{speed}{why}"

    def as_json(self) -> dict[str, Any]:
        """All of it but the keys, and the sentence."""
        return {**{name: value for name, value in self._asdict().items() if name != "keys"}, "sentence": self.sentence}


def ask(cache: Path) -> Queue | None:
    """SLURM's list of what was submitted from this cache; None where it gives no answer."""
    names = [submission.token for submission in submissions.read_all(cache)]
    try:
        return slurm.queue(names)
    except InputError:
        return None


def standings(store: Store, queue: Queue | None) -> list[Standing]:
    """Every task that still lacks records, the latest submission's first; a run counts in its latest task alone."""
    leases, paces = Leases(store.cache), _paces(store.cache)
    later: set[str] = set()
    found = []
    for submission in submissions.read_all(store.cache):
        for index, entry in enumerate(submission.entries):
            open_keys = [key for key in _missing(entry, store) if key not in later]
            if open_keys:
                known = (queue or {}).get((submission.token, index))
                trained = any(leases.held(key) for key in open_keys)
                state = _state(submission, index, known, queue is not None, trained)
                found.append(_standing(store.cache, submission, index, entry, state, known, open_keys, paces))
        later.update(key for entry in submission.entries for key in entry.keys)
    return found


def under_way(standings: Sequence[Standing]) -> set[str]:
    """The keys of the runs that SLURM is to train or trains."""
    return {key for one in standings if one.state in ("queued", "running") for key in one.keys}


def _missing(entry: Entry, store: Store) -> list[str]:
    """The keys of its runs without a record; none where another version of this project wrote them."""
    try:
        return [spec.key for spec in store.missing(entry.runs())]
    except InputError:
        return []


def _state(submission: Submission, index: int, known: Known | None, answered: bool, trained: bool) -> str:
    if known is not None and not known.is_over:
        return "queued" if known.is_waiting else "running"
    if trained:
        return "running"
    if index in submission.cancelled:
        return "cancelled"
    return "failed" if answered else "unknown"


def _standing(
    cache: Path,
    submission: Submission,
    index: int,
    entry: Entry,
    state: str,
    known: Known | None,
    keys: Sequence[str],
    paces: Mapping[str, Mapping[str, Any]],
) -> Standing:
    pace = next((paces[key] for key in keys if key in paces), None) if state == "running" else None
    number = submission.job or submission.token
    return Standing(
        id=known.id if known else f"{number}_{index}" if len(submission.entries) > 1 else number,
        state=state,
        label=entry.label,
        missing=len(keys),
        hours=entry.hours,
        keys=tuple(keys),
        reason="" if known is None else known.reason if state == "queued" else known.state,
        node=(known.node or None) if known and state == "running" else None,
        log=_last_lines(submission.log(cache, index)) if state == "failed" else (),
        **({} if pace is None else {name: pace[name] for name in ("step", "of", "steps_per_s")}),
    )


def _paces(cache: Path) -> dict[str, Mapping[str, Any]]:
    """The progress of every run that some process wrote last, by its key."""
    files = [progress.read(path) for path in sorted((cache / "progress").glob("*.json"))]
    return {key: data for data in files if data is not None for key in data["keys"]}


def _last_lines(path: Path | None) -> tuple[str, ...]:
    try:
        text = "" if path is None else path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    return tuple([line for line in text.splitlines() if line.strip()][-LAST_LINES:])
