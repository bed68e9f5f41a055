"""Which commit last touched each claim's entry on the page, as git blames its lines."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from benchmark.running.provenance import git
from benchmark.suite.ledger import Ledger, load_ledger
from benchmark.suite.load import SUITE

PAGE = SUITE / "claims.yaml"


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
    if git("rev-parse", "--is-shallow-repository", folder=page.parent) != "false":
        return {}
    porcelain = git("blame", "--line-porcelain", "--", page.name, folder=page.parent)
    if porcelain is None:
        return {}
    blamed: dict[str, str] = {}
    for claim, lines in _entries(_lines(porcelain)).items():
        if all(set(commit) != {"0"} for _, commit in lines):
            blamed[claim] = max(lines)[1]
    return blamed


def _lines(porcelain: str) -> list[tuple[int, str, str]]:
    """(commit time, commit, text) of every line that git blames."""
    lines, commit, when = [], "", 0
    for line in porcelain.split("\n"):
        if line.startswith("\t"):
            lines.append((when, commit, line[1:]))
        elif line.startswith("committer-time "):
            when = int(line.split()[1])
        elif re.match(r"[0-9a-f]{40} \d+ \d+", line):
            commit = line[:40]
    return lines


def _entries(lines: Sequence[tuple[int, str, str]]) -> dict[str, list[tuple[int, str]]]:
    """The lines of each entry under ``claims:``, as (commit time, commit)."""
    entries: dict[str, list[tuple[int, str]]] = {}
    inside, name = False, ""
    for when, commit, text in lines:
        if re.match(r"\S", text) and not text.startswith("#"):
            inside = text.startswith("claims:")
        elif inside and (head := re.match(r"  ([a-z0-9-]+):\s*$", text)):
            name = head[1]
        if inside and name and text.startswith("  ") and text.strip() and not text.lstrip().startswith("#"):
            entries.setdefault(name, []).append((when, commit))
    return entries
