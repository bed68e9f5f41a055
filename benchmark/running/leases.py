"""Who trains what, among processes that share a cache folder.

A lease is a file lock per run, so it ends with its process however that ends, and two jobs that overlap in some runs
never train one twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


class Leases:
    """The leases under one cache folder."""

    def __init__(self, cache: Path) -> None:
        self.folder = cache / "leases"

    @contextmanager
    def take(self, keys: Iterable[str]) -> Iterator[list[str]]:
        """Hold those of `keys` that nobody else holds; yields them, perhaps none. Never waits for work to end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            # One process picks at a time: two that pick at once would each get a random half of a lockstep job.
            with FileLock(self.folder / "picking.lock"):
                mine = [key for key in keys if self._try(key, held)]
            yield mine

    def held(self, key: str) -> bool:
        """Whether some process holds the lease of `key` now."""
        if not self._path(key).exists():
            return False
        with ExitStack() as stack:
            return not self._try(key, stack)

    def _try(self, key: str, stack: ExitStack) -> bool:
        try:
            stack.enter_context(FileLock(self._path(key), blocking=False))
        except Timeout:
            return False
        return True

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.lock"
