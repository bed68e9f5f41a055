"""What failed, kept so that one broken job does not stop the others."""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from benchmark.running.job import Job
from benchmark.words import count
from mbpo.config import InputError

DISK = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO")}
"""Errors that lie in the disk: their sentence says all, and where in this project they arose says nothing."""
log = logging.getLogger("benchmark.running.ensure")


class JobsFailed(RuntimeError):
    """Some jobs ended in an error; all others were finished first. `failures` holds (label, error) of each."""

    def __init__(self, failures: Sequence[tuple[str, Exception]]) -> None:
        self.failures = list(failures)
        sentences = "; ".join(f"{label}: {_named(error)}" for label, error in failures)
        super().__init__(f"{count(len(self.failures), 'job')} failed: {sentences}")

    @property
    def bad_input(self) -> bool:
        """Whether every failure lies in what was given, not in this project."""
        return all(isinstance(error, InputError) for _, error in self.failures)


def _named(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


class Failures:
    """Errors of jobs, kept so that one broken job does not stop the others; an interrupt stops everything."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, Exception]] = []
        self.keys: set[str] = set()
        self._job: Job | None = None
        self._passing: type[Exception] | None = None

    def of(self, job: Job, passing: type[Exception] | None = None) -> Self:
        """For a `with` block in which `job` may fail; an error of the type `passing` is the caller's."""
        self._job, self._passing = job, passing
        return self

    def tell(self) -> None:
        """Raise `JobsFailed` if any job did."""
        if self.errors:
            raise JobsFailed(self.errors) from self.errors[0][1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or self._job is None:
            return False
        if self._passing is not None and isinstance(error, self._passing):
            return False
        expected = isinstance(error, InputError) or (isinstance(error, OSError) and error.errno in DISK)
        log.error("job failed: %s", self._job.label, exc_info=None if expected else error)
        self.errors.append((self._job.label, error))
        self.keys.update(spec.key for spec in self._job.specs)
        return True
