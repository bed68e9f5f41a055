"""What reading all records takes, packed and loose: ``python tests/pack_cost.py [RESULTS]``, in seconds of CPU."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmark.records import packed, parquet
from benchmark.records.pack import unpack
from benchmark.records.store import Store


def seconds(results: Path, cache: Path) -> tuple[int, float]:
    """Records, and the CPU seconds that a process which has read none takes for them with their tables."""
    parquet._read.cache_clear()
    parquet._tables.cache_clear()
    before = time.process_time()
    count = sum(1 for _ in Store(results, cache).records())
    return count, time.process_time() - before


def main(results: Path) -> None:
    """Print both, and how many times as fast the packed ones are."""
    with tempfile.TemporaryDirectory() as scratch:
        loose, cache = Path(scratch) / "loose", Path(scratch) / "cache"
        shutil.copytree(results / packed.FOLDER, loose / packed.FOLDER)
        seconds(results, cache)  # imports
        count, fast = seconds(results, cache)
        unpack(Store(loose, cache))
        _, slow = seconds(loose, cache)
    print(f"{count} records: packed {fast:.2f} s, loose {slow:.2f} s, {slow / fast:.1f} times as long")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
