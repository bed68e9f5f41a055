"""Whether the pages under a results folder are what its records would give today."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from benchmark.drawing.gallery import MANIFEST
from benchmark.records import packed
from benchmark.report import page

MADE = (
    "README.md",
    "verdicts.json",
    "registry.json",
    "report.html",
    "report.md",
    "tables/*",
    "figures/*",
    "studies/*/*",
)
KEPT = (
    *("verdicts.json", "registry.json", "tables/calibration.*", "figures/calibration-*", "speed/*/*", "precision/*"),
    "studies/laboratory/curve.csv",
    "studies/laboratory/judges.csv",
    "studies/advice/curve.csv",
    "studies/advice/cases.csv",
)
"""Files that a report adds to or tells of, so that the check starts from them as well."""


def stale(results: Path, cache: Path, protocol: str | None = None) -> list[str]:
    """Files that a new report would make, change or no longer make, by their place under `results`.

    `results` is left as it is; its figures are drawn only where something may have moved them. Raises `InputError` for
    an unknown protocol or a folder that is none.
    """
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "results"
        fresh.mkdir()
        for records in ("runs", packed.FOLDER):
            if (results / records).is_dir():
                (fresh / records).symlink_to((results / records).resolve())
        for path in (path for pattern in KEPT for path in results.glob(pattern) if path.is_file()):
            place = fresh / path.relative_to(results)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
        page.build(fresh, cache, protocol, earlier=results)
        made, there = (
            {path.relative_to(folder) for pattern in MADE for path in folder.glob(pattern)}
            for folder in (fresh, results)
        )
        made.discard(
            MANIFEST
        )  # what it tells of is compared itself; it tells of the code too, which may move no figure
        there.discard(MANIFEST)
        return [str(name) for name in sorted(made | there) if not _same(fresh / name, results / name)]


def _same(a: Path, b: Path) -> bool:
    return a.is_file() and b.is_file() and a.read_bytes() == b.read_bytes()
