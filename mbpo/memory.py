"""Whether what a job keeps fits in memory, asked before it is begun."""

from __future__ import annotations

from pathlib import Path

from mbpo.config import InputError

_GROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"))
_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


def require(needed: int, free: int | None, what: str) -> None:
    """Raise `InputError` if `needed` bytes are more than are `free`; `what` is the subject of the sentence."""
    if free is not None and needed > free:
        raise InputError(
            f"{what} {_size(needed)} of memory and {_size(free)} are free; train fewer runs together, or give smaller "
            "observations (an image of every pixel is too much for these models)"
        )


def free_memory() -> int | None:
    """Bytes that this process may still take: the least of the machine's and its cgroup's; None where unknown."""
    found = []
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(1024 * int(lines["MemAvailable"].split()[0]))
    except (OSError, KeyError, ValueError):
        pass
    for folder in _GROUPS:
        for limit, used in _FILES:
            try:
                most, taken = int((folder / limit).read_text()), int((folder / used).read_text())
                cached = _cached(folder)
            except (OSError, ValueError):  # no such group, or no limit
                continue
            found.append(max(most - taken + cached, 0))
    return min(found, default=None)


def _cached(folder: Path) -> int:
    """Bytes of a group that are pages of files, which are given up when asked for."""
    rows = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return int(rows.get("inactive_file", rows.get("total_inactive_file", 0)))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
