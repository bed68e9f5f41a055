"""Registration: proof that a claim was written down before its runs, or the mark that it was not.

The *form* of a claim is a hash of what decides its verdict. Every run carries, in its provenance, the forms of the
claims it served when it was trained. A claim is judged on runs that carry another form of it only with a mark, until
they are run again or the edit is declared in `claims.yaml`. Runs from before forms were carried are vouched for by
``registry.json``, which notes the first form in which each claim was judged on any run, and is only ever added to.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark.suite.ledger import Claim, Ledger, load_ledger
from benchmark.suite.load import SUITE
from benchmark.suite.needs import CARRIED
from mbpo.config import InputError

if TYPE_CHECKING:
    from benchmark.records.store import Record

PAGE = SUITE / "claims.yaml"


class Registration(NamedTuple):
    """What a verdict says of its claim: its form, the commit that last touched it, and whether its runs came first."""

    form: str
    commit: str | None
    mark: str


def mark(claim: Claim, records: Iterable[Record], first: Mapping[str, str], ledger: Ledger) -> str:
    """Why the claim's runs do not vouch for its present form, in one sentence; empty if they do.

    `first` is the form in which each claim was first judged, as `read_registry` gives it.
    """
    missing = object()
    others: set[str] = set()
    late = False
    for record in records:
        carried = record.provenance.get(CARRIED)
        form = first.get(claim.id, claim.form) if carried is None else carried.get(claim.id, missing)
        if form is missing:
            late = True
        elif form != claim.form:
            others.add(str(form))
    if not others and not late:
        return ""
    declared = [edit for edit in ledger.declared_edits if (edit.claim, edit.form) == (claim.id, claim.form)]
    if declared:
        return f"edited after its runs, declared on {declared[0].date}: {declared[0].reason}"
    told = f"its runs were trained under {', '.join(sorted(others))}" if others else "its runs were trained before it"
    return f"edited after its runs: the present form is {claim.form}, {told}"


def read_registry(results: Path) -> list[dict[str, Any]]:
    """The entries of ``registry.json``, oldest first. Raises `InputError` for a file that is not one."""
    path = results / "registry.json"
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        ok = all(isinstance(entry["claim"], str) and isinstance(entry["form"], str) for entry in entries)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        ok = False
    if not ok:
        raise InputError(f"{str(path)!r} is not a list of claims and forms; restore it from its last commit")
    return list(entries)


def first_forms(results: Path) -> dict[str, str]:
    """The form in which each claim was first judged on any run."""
    found: dict[str, str] = {}
    for entry in read_registry(results):
        found.setdefault(entry["claim"], entry["form"])
    return found


def note(results: Path, judged: Iterable[Claim]) -> Path:
    """Append the forms of these claims that ``registry.json`` does not hold yet; nothing is ever taken out."""
    path = results / "registry.json"
    entries = read_registry(results)
    known = {(entry["claim"], entry["form"]) for entry in entries}
    fresh = [{"claim": c.id, "form": c.form} for c in judged if (c.id, c.form) not in known]
    if fresh or not path.exists():
        draft = path.with_name(f".registry.{os.getpid()}.tmp")
        lines = ",\n".join(f" {json.dumps(entry)}" for entry in entries + fresh)
        draft.write_text(f"[\n{lines}\n]\n" if lines else "[]\n", encoding="utf-8")
        draft.replace(path)
    return path


def commits(results: Path, ledger: Ledger | None = None) -> dict[str, str | None]:
    """The commit that last touched each claim's entry on the page.

    Where git cannot tell (no or a shallow checkout, an entry not yet committed), what ``verdicts.json`` noted for the
    same form, else None: so verdicts that are committed together with their claims do not change by that.
    """
    noted = _noted(results)
    return {c.id: _blamed().get(c.id) or noted.get((c.id, c.form)) for c in (ledger or load_ledger()).claims}


def _noted(results: Path) -> dict[tuple[str, str], str]:
    try:
        rows = json.loads((results / "verdicts.json").read_text(encoding="utf-8"))
        return {(row["claim"], row["form"]): row["commit"] for row in rows if row.get("form") and row.get("commit")}
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return {}  # none yet, or of another version: nothing is noted


@cache
def _blamed(page: Path = PAGE) -> dict[str, str]:
    """Per claim, the newest commit among the lines of its entry; claims with a line not yet committed are left out."""
    if _git(page.parent, "rev-parse", "--is-shallow-repository") != "false":
        return {}
    porcelain = _git(page.parent, "blame", "--line-porcelain", "--", page.name)
    if porcelain is None:
        return {}
    found: dict[str, str] = {}
    for claim, lines in _entries(_lines(porcelain)).items():
        if all(set(commit) != {"0"} for _, commit in lines):
            found[claim] = max(lines)[1]
    return found


def _lines(porcelain: str) -> list[tuple[int, str, str]]:
    """(commit time, commit, text) of every line that git blames."""
    found, commit, when = [], "", 0
    for line in porcelain.split("\n"):
        if line.startswith("\t"):
            found.append((when, commit, line[1:]))
        elif line.startswith("committer-time "):
            when = int(line.split()[1])
        elif re.match(r"[0-9a-f]{40} \d+ \d+", line):
            commit = line[:40]
    return found


def _entries(lines: Sequence[tuple[int, str, str]]) -> dict[str, list[tuple[int, str]]]:
    """The lines of each entry under ``claims:``, as (commit time, commit)."""
    found: dict[str, list[tuple[int, str]]] = {}
    inside, name = False, ""
    for when, commit, text in lines:
        if re.match(r"\S", text) and not text.startswith("#"):
            inside = text.startswith("claims:")
        elif inside and (head := re.match(r"  ([a-z0-9-]+):\s*$", text)):
            name = head[1]
        if inside and name and text.startswith("  ") and text.strip() and not text.lstrip().startswith("#"):
            found.setdefault(name, []).append((when, commit))
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip("\n") if done.returncode == 0 else None
