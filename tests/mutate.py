"""Every stated fault is put into a copy of the code, and the test that is to find it is run.

    python tests/mutate.py                 # all of tests/mutations.yaml, outcomes to tests/mutations.md
    python tests/mutate.py twin-minimum    # some, by name: their lines of that table

An entry has the file, the exact text as it stands and as the fault has it, the test, and a part of what the test says.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
TABLE, OUTCOMES = ROOT / "tests" / "mutations.yaml", ROOT / "tests" / "mutations.md"


class Mutation(NamedTuple):
    """One fault: `why` says where it was seen or what it would do."""

    name: str
    why: str
    file: str
    old: str
    new: str
    test: str
    says: str


def mutations() -> list[Mutation]:
    return [Mutation(name, **entry) for name, entry in yaml.safe_load(TABLE.read_text(encoding="utf-8")).items()]


def copied(place: Path) -> Path:
    """The code and its tests, without results."""
    for name in ("mbpo", "benchmark", "tests"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, place)
    return place


def outcome(mutation: Mutation, place: Path) -> tuple[str, str]:
    """'caught', 'survived' or 'otherwise' (it failed and said something else), and the first line of what failed."""
    file = place / mutation.file
    sound = file.read_text(encoding="utf-8")
    assert sound.count(mutation.old) == 1, f"{mutation.name}: the text is not there once"
    file.write_text(sound.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        command = [sys.executable, "-B", "-m", "pytest", mutation.test, "-q", "-x", "-p", "no:cacheprovider"]
        environ = {**os.environ, "PYTHONPATH": str(place)}
        done = subprocess.run(command, cwd=place, env=environ, capture_output=True, text=True, timeout=600)
    finally:
        file.write_text(sound, encoding="utf-8")
    if done.returncode == 0:
        return "survived", ""
    lines = [line[1:].strip() for line in done.stdout.splitlines() if line.startswith("E  ") and line[1:].strip()]
    first = lines[0] if lines else (done.stdout + done.stderr).strip()[-200:]
    found = done.returncode == 1 and mutation.says in done.stdout
    return ("caught" if found else "otherwise"), " ".join(first.split())[:110]


HEAD = """Written by `python tests/mutate.py` from `tests/mutations.yaml`.

| fault | where | the test | outcome | it says |
|---|---|---|---|---|
"""


def line(mutation: Mutation, found: str, said: str) -> str:
    told = said.replace("|", "\\|").replace("`", "'")
    return f"| {mutation.name}: {mutation.why} | {mutation.file} | {mutation.test} | {found} | `{told}` |"


def known() -> dict[str, str]:
    """The lines of the table by the names of their faults."""
    text = OUTCOMES.read_text(encoding="utf-8").splitlines() if OUTCOMES.exists() else []
    return {row[2:].split(":")[0]: row for row in text if row.startswith("| ") and ":" in row[2:]}


def main() -> int:
    """Exit code 1 unless every fault was caught."""
    wanted = [m for m in mutations() if not sys.argv[1:] or m.name in sys.argv[1:]]
    for mutation in wanted:
        assert (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.old) == 1, mutation.name
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        place = copied(Path(folder))
        for mutation in wanted:
            found, said = outcome(mutation, place)
            bad += found != "caught"
            print(f"{found:10} {mutation.name}: {said}", flush=True)
            rows = {**known(), mutation.name: line(mutation, found, said)}
            lines = [rows[m.name] for m in mutations() if m.name in rows]
            OUTCOMES.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(wanted) - bad} of {len(wanted)} caught")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
