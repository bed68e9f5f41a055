"""One background worker: trains what is most valuable per hour, one arm after another, until nothing is left.

It runs at the lowest priority on one thread, so that it takes only what others leave. It may be killed at any moment:
the next worker goes on from the last snapshot. Several workers share a cache without training a run twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from benchmark.report.queue import Batch, queue
from benchmark.running import ensure
from benchmark.running.cost import Rates, hours
from benchmark.running.leases import Leases
from benchmark.suite.entries import Protocol
from benchmark.suite.load import load_suite, specs
from benchmark.words import count, duration
from mbpo.config import InputError

Say = Callable[[str], None]


AUTOGROUP = Path("/proc/self/autogroup")


def be_polite() -> None:
    """Give this process the lowest priority and torch one thread; a session of its own (`setsid`) as a whole too.

    Linux schedules sessions as groups: without that a session takes a share as large as any other. The session of a
    terminal is left as it is, for all that is typed there belongs to it.
    """
    os.nice(19)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            AUTOGROUP.write_text("19")
    import torch

    torch.set_num_threads(1)


def listed(path: Path) -> list[list[RunSpec]]:
    """The runs that a list names, a group a line: `PROTOCOL TASK METHOD`, after `#` a comment.

    Raises `InputError` that names file and line for a line of another form, and for a name that does not exist.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a file of lines PROTOCOL TASK METHOD") from error
    groups = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 3:
            raise InputError(f"{path}:{number}: {line.strip()!r} is not of the form PROTOCOL TASK METHOD")
        try:
            groups.append(specs("train", [words[1]], [words[2]], load_suite().protocol(words[0])))
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from error
    return groups


def from_list(groups: Sequence[Sequence[RunSpec]], store: Store, rates: Rates) -> list[Batch]:
    """The listed groups that lack runs, in the order of the list."""
    lacking = [missing for group in groups if (missing := store.missing(group))]
    return [Batch(tuple(missing), hours(missing, rates), 0.0, ()) for missing in lacking]


def from_protocols(protocols: Sequence[Protocol], store: Store, rates: Rates) -> list[Batch]:
    """The queues of several protocols, one protocol after the other."""
    return [batch for protocol in protocols for batch in queue(protocol, store, rates)]


def work(
    wanted: Callable[[], list[Batch]],
    store: Store,
    say: Say,
    *,
    minutes: float = float("inf"),
    max_lockstep: int = ensure.MAX_LOCKSTEP,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Train batch after batch of what `wanted` returns, asked anew each time; return the labels of those that failed.

    No batch begins after `minutes`; the one that runs then is finished. What another process trains is left to it.
    """
    end, failed = clock() + 60 * minutes, dict[str, str]()
    while clock() < end:
        batch = next(_free(wanted(), store, failed), None)
        if batch is None:
            break
        say(f"{batch.label}: {count(len(batch.specs), 'run')}, about {duration(batch.hours * 3600)}{_for(batch)}")
        try:
            ensure.ensure(batch.specs, store, max_lockstep=max_lockstep)
        except (ensure.JobsFailed, InputError) as error:  # the others are worth their hours all the same
            say(f"{batch.label} is set aside: {error}")
            failed.update(dict.fromkeys((spec.key for spec in batch.specs), batch.label))
    return list(dict.fromkeys(failed.values()))


def _free(batches: Sequence[Batch], store: Store, failed: dict[str, str]) -> Iterator[Batch]:
    """The batches without what failed before and what another process trains now."""
    leases = Leases(store.cache)
    for batch in batches:
        left = [spec for spec in batch.specs if spec.key not in failed and not leases.held(spec.key)]
        if left:
            yield batch._replace(specs=tuple(left))


def _for(batch: Batch) -> str:
    if not batch.claims:
        return ""
    others = len(batch.claims) - 1
    return f"; {batch.claims[0]}{f' and {others} more' if others else ''} {'wait' if others else 'waits'} for it"
