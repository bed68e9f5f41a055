"""Whether the pages under a results folder are what its records would give today."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from benchmark import report

MADE = ("verdicts.json", "registry.json", "report.html", "report.md", "tables/*", "figures/*")
KEPT = ("verdicts.json", "registry.json", "tables/calibration.*", "figures/calibration-*")
"""Files that a report adds to or tells of, so that the check starts from them as well."""


def stale(results: Path, cache: Path, protocol: str | None = None) -> list[str]:
    """Files that a new report would make or change, by their place under `results`, which is left as it is.

    Raises `InputError` for an unknown protocol or a folder that is none.
    """
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "results"
        fresh.mkdir()
        if (results / "runs").is_dir():
            (fresh / "runs").symlink_to((results / "runs").resolve())
        for path in (path for pattern in KEPT for path in results.glob(pattern)):
            place = fresh / path.relative_to(results)
            place.parent.mkdir(exist_ok=True)
            shutil.copy(path, place)
        report.build(fresh, cache, protocol)
        made = sorted(path.relative_to(fresh) for pattern in MADE for path in fresh.glob(pattern))
        return [str(name) for name in made if not _same(fresh / name, results / name)]


def _same(a: Path, b: Path) -> bool:
    return b.is_file() and a.read_bytes() == b.read_bytes()
