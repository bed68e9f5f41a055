"""Who trains what, among processes that share a cache folder, on one machine or on several.

A lease is two things. A kernel's file lock ends with its process however that ends, but on many network folders other
machines do not see it. A file with the holder's name is seen by all: its holder touches it every `BEAT` seconds, and
once it is `EXPIRY` seconds old anybody may take it over. Ages are measured by the clock of the folder's own server, so
the machines' clocks need not agree. Two jobs that overlap in some runs never train one twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from benchmark.records.store import DAMAGE
from mbpo.config import InputError

BEAT, EXPIRY = 20.0, 180.0
log = logging.getLogger(__name__)


def machine() -> str:
    """A name of the running kernel, which is where file locks hold for sure; nothing that could be read as a host."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        name = f"{uuid.getnode()}/{platform.node()}"
    return hashlib.sha256(name.encode()).hexdigest()[:12]


class Leases:
    """The leases under one cache folder. `lost` are those that another machine took over while they were held."""

    def __init__(self, cache: Path, name: str | None = None, beat: float = BEAT, expiry: float = EXPIRY) -> None:
        self.folder = cache / "leases"
        self.lost: set[str] = set()
        self._machine = name or machine()
        self._token = f"{self._machine}/{uuid.uuid4().hex}"
        self._beat, self._expiry = beat, expiry

    @contextmanager
    def take(self, keys: Iterable[str]) -> Iterator[list[str]]:
        """Hold those of `keys` that nobody else holds; yields them, perhaps none. Never waits for work to end.

        Raises `InputError` where the folder has files of another user that this one may not write.
        """
        with ExitStack() as held:
            with self._permitted():
                self.folder.mkdir(parents=True, exist_ok=True)
                # One process picks at a time: two that pick at once would each get a random half of a lockstep job.
                with FileLock(self.folder / f"picking.{self._machine}.lock"):
                    mine = [key for key in keys if self._try(key, held)]
            held.enter_context(self._beating(mine))
            yield mine

    def held(self, key: str) -> bool:
        """Whether some process holds the lease of `key` now."""
        if self._lock(key).exists():
            with suppress(PermissionError), ExitStack() as stack:
                if not self._locked(key, stack):
                    return True
        holder = self._holder(key)
        return holder is not None and not self._is_mine(holder) and self._age(key) <= self._expiry

    def _try(self, key: str, stack: ExitStack) -> bool:
        with ExitStack() as trial:
            if not self._locked(key, trial) or not self._claim(key):
                return False
            trial.callback(self._release, key)
            stack.push(trial.pop_all())
        return True

    def _locked(self, key: str, stack: ExitStack) -> bool:
        try:
            stack.enter_context(FileLock(self._lock(key), blocking=False))
        except Timeout:
            return False
        return True

    def _claim(self, key: str) -> bool:
        """Put this process's name on the lease, if nobody's is on it or that of a process that is gone."""
        path, draft = self._page(key), self.folder / f".{uuid.uuid4().hex}.tmp"
        draft.write_text(json.dumps({"holder": self._token}))
        try:
            holder = self._holder(key)
            if path.exists():
                if not self._is_mine(holder) and self._age(key) <= self._expiry:
                    return False
                aside = draft.with_suffix(".gone")
                os.rename(path, aside)
                if _name(aside) != holder:  # another took it over first: it gets it back
                    with suppress(FileExistsError):
                        os.link(aside, path)
                    aside.unlink()
                    return False
                aside.unlink()
            _create(draft, path)
        except (FileExistsError, FileNotFoundError):
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def _release(self, key: str) -> None:
        if self._holder(key) == self._token:
            self._page(key).unlink(missing_ok=True)

    @contextmanager
    def _beating(self, keys: Sequence[str]) -> Iterator[None]:
        """Touch the files of `keys` from a thread, until the block ends."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._beat):
                for key in [key for key in keys if key not in self.lost]:
                    try:
                        mine = self._holder(key) == self._token
                        if mine:
                            os.utime(self._page(key))
                    except OSError:
                        continue  # the folder is out of reach for now: the age tells in the end
                    if not mine:
                        log.warning("the lease of run %s was taken over: this process was out of reach too long", key)
                        self.lost.add(key)

        thread = threading.Thread(target=beat, name="leases", daemon=True)
        if keys:
            thread.start()
        try:
            yield
        finally:
            over.set()
            if keys:
                thread.join()

    @contextmanager
    def _permitted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not isinstance(error, PermissionError):
                raise InputError(f"the cache folder's {str(self.folder)!r} cannot be written: {error}") from error
            raise InputError(
                f"the cache folder has {str(error.filename or self.folder)!r} of another user, which cannot be "
                "written; give another --cache, or let its owner make the folder writable for both"
            ) from None

    def _is_mine(self, holder: str | None) -> bool:
        """Whether a holder ran on this machine: if its file lock is free as well, it has ended."""
        return holder is not None and holder.split("/")[0] == self._machine

    def _holder(self, key: str) -> str | None:
        return _name(self._page(key))

    def _age(self, key: str) -> float:
        """Seconds since the last beat, by the folder's own clock."""
        clock = self.folder / f".{uuid.uuid4().hex}.tmp"
        try:
            with suppress(PermissionError):
                clock.touch()
                return clock.stat().st_mtime - self._page(key).stat().st_mtime
            return 0.0
        except FileNotFoundError:
            return 0.0
        finally:
            clock.unlink(missing_ok=True)

    def _lock(self, key: str) -> Path:
        return self.folder / f"{key}.{self._machine}.lock"

    def _page(self, key: str) -> Path:
        return self.folder / f"{key}.lease"


def _create(draft: Path, path: Path) -> None:
    """Make `path` with the content of `draft`. Raises `FileExistsError` where it is there, whoever was first."""
    try:
        os.link(draft, path)  # it appears with its content
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with path.open("x") as file:
            file.write(draft.read_text())


def _name(page: Path) -> str | None:
    try:
        return str(json.loads(page.read_text())["holder"])
    except DAMAGE:
        return None
