"""Registration: proof that a claim was written down before its runs, or the mark that it was not.

1. The *form* of a claim is a hash of what it compares; its *terms* are all else that decides its verdict.
2. Terms hold protocols, seeds, `needs`, every field of the rule with its default, and the versions of the rules.
3. Every run carries the forms and terms of the claims it served when it was trained, under the seal of its provenance.
4. ``registry.json`` notes the first form and the first terms in which each claim was judged on any run.
5. ``records.json`` notes the digest of every record at its first judging; both files are only ever added to.
6. A claim that its runs or the registry do not know was written after the runs; its verdict says so.
7. A claim whose form or terms differ from those noted or carried is marked as edited, with what changed. If it is only
   a rule of judging that has another version now, the verdict says that the rule was revised.
   Runs of code with uncommitted changes are counted in the verdict.
8. A record that differs from its first digest was changed, or deleted and run again; the verdict says so.
9. Records of form 1 (without a seal) and of the first weeks (without forms) have no such guarantee but that of 4 and 5;
   a verdict counts the unsealed ones.
10. None of this stops who runs seeds in secret, or rewrites both files and the history of git before anyone has a copy.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark.records.spec import digest
from benchmark.records.store import SEAL, replace_file
from benchmark.suite.ledger import Claim, Ledger
from benchmark.suite.needs import CARRIED, CARRIED_TERMS, terms
from mbpo.config import InputError

if TYPE_CHECKING:
    from benchmark.records.store import Record

POST_HOC = "post hoc, written after the runs"
"""How the mark of a claim begins that none of its runs knows."""
RULE = "rules."
"""How the names of terms begin that are versions of the rules of judging."""


class Registration(NamedTuple):
    """What a verdict says of its claim: its form, the commit that last touched it, and whether its runs came first."""

    form: str
    commit: str | None
    mark: str
    records: tuple[tuple[str, str], ...] = ()
    """Key and digest of every record that it is judged on."""
    unsealed: int = 0
    """How many of these are of form 1: nothing vouches for their provenance but the digest at their first judging."""
    revised: str = ""
    """Which rules of judging are younger than the claim's runs, and how many runs no commit vouches for; a clause."""


def register(
    claim: Claim, records: Sequence[Record], results: Path, ledger: Ledger, commit: str | None
) -> Registration:
    """The claim's registration, checked against every record that it is judged on and against what was noted before."""
    entries = read_registry(results)
    digests = tuple((record.spec.key, fingerprint(record)) for record in records)
    noted = read_records(results)
    again = [key for key, value in digests if noted.get(key, value) != value]
    marks = [
        mark(claim, records, first_forms(results), ledger),
        _edited_terms(claim, records, entries),
        f"{len(again)} of {len(records)} records were changed or run again since they were first judged"
        if again
        else "",
    ]
    unsealed = sum(SEAL not in record.provenance["sha256"] for record in records)
    revised = "; ".join(filter(None, [_revised_rules(claim, records, entries), _uncommitted(records)]))
    return Registration(claim.form, commit, "; ".join(filter(None, marks)), digests, unsealed, revised)


def mark(claim: Claim, records: Iterable[Record], first: Mapping[str, str], ledger: Ledger) -> str:
    """Why the claim's runs do not vouch for its present form, in one sentence; empty if they do.

    `first` is the form in which each claim was first judged, as `first_forms` gives it.
    """
    others: set[str] = set()
    late = False
    for record in records:
        carried = record.provenance.get(CARRIED)
        form = (first if carried is None else carried).get(claim.id)
        if form is None:
            late = True
        elif form != claim.form:
            others.add(str(form))
    if not others and not late:
        return ""
    declared = [edit for edit in ledger.declared_edits if (edit.claim, edit.form) == (claim.id, claim.form)]
    if declared:
        return f"edited after its runs, declared on {declared[0].date}: {declared[0].reason}"
    if others:
        remark = f"its runs were trained under {', '.join(sorted(others))}"
        return f"edited after its runs: the present form is {claim.form}, {remark}"
    return f"{POST_HOC}: no run was trained for form {claim.form}"


def _edited_terms(claim: Claim, records: Iterable[Record], entries: Iterable[Mapping[str, Any]]) -> str:
    """Which of the claim's terms are not those that were noted or carried for this form; empty if none.

    Terms that an older version of this code did not know are passed over. The versions of the rules of judging are no
    edit of the claim; `_revised_rules` tells of them.
    """
    now = terms(claim)
    changed = {
        name: f"{name} was {before[name]!r} and is {now.get(name)!r}"
        for before in _earlier_terms(claim, records, entries)
        for name in before
        if before[name] != now.get(name) and not name.startswith(RULE)
    }
    return f"edited after its runs: {', '.join(changed.values())}" if changed else ""


def _revised_rules(claim: Claim, records: Iterable[Record], entries: Iterable[Mapping[str, Any]]) -> str:
    """Which rules that concern the claim have another version now than when it was first judged or trained for."""
    now = terms(claim)
    changed = {
        name: f"{name.removeprefix(RULE)} from {before[name]} to {now.get(name)}"
        for before in _earlier_terms(claim, records, entries)
        for name in before
        if name.startswith(RULE) and before[name] != now.get(name) and (claim.gate or name != f"{RULE}gate")
    }
    return f"rules of judging revised since: {', '.join(changed.values())}" if changed else ""


def _uncommitted(records: Sequence[Record]) -> str:
    """How many records were made by code that no commit holds, as a clause; empty if none is known to be."""
    dirty = sum(bool(record.provenance.get("dirty")) for record in records)
    return f"{dirty} of {len(records)} runs were made by code with uncommitted changes" if dirty else ""


def _earlier_terms(
    claim: Claim, records: Iterable[Record], entries: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The terms first noted for the claim in its present form, and those that its runs carry."""
    noted = [e["terms"] for e in entries if (e["claim"], e["form"]) == (claim.id, claim.form) and "terms" in e][:1]
    for record in records:
        carried = record.provenance.get(CARRIED_TERMS, {}).get(claim.id)
        if carried is not None and carried not in noted:
            noted.append(carried)
    return noted


def fingerprint(record: Record) -> str:
    """The digest of all that a record says: its provenance holds those of its other files."""
    return digest(record.provenance)


def read_records(results: Path) -> dict[str, str]:
    """Key of every record that was ever judged, and its digest then. Raises `InputError` for a spoilt file."""
    path = results / "records.json"
    if not path.is_file():
        return {}
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        ok = isinstance(noted, dict) and all(isinstance(value, str) for value in noted.values())
    except (json.JSONDecodeError, UnicodeDecodeError):
        ok = False
    if not ok:
        raise InputError(f"{str(path)!r} is not a table of records' digests; restore it from its last commit")
    return dict(noted)


def note_records(results: Path, records: Iterable[tuple[str, str]]) -> Path:
    """Append the digests of records that ``records.json`` does not hold yet; the first digest of a key stays."""
    path = results / "records.json"
    noted = read_records(results)
    fresh = {key: value for key, value in sorted(set(records)) if key not in noted}
    if fresh or not path.exists():
        replace_file(path, json.dumps({**noted, **fresh}, indent=0) + "\n")
    return path


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
    """The form in which each claim was first judged on any run; none for a claim that came after its runs then."""
    first: dict[str, str | None] = {}
    for entry in read_registry(results):
        first.setdefault(entry["claim"], None if entry.get("post_hoc") else entry["form"])
    return {claim: form for claim, form in first.items() if form is not None}


def note(results: Path, judged: Iterable[Claim], late: Iterable[str] = ()) -> Path:
    """Append the forms and terms of these claims that ``registry.json`` does not hold yet; nothing is taken out.

    Those in `late` were written after their runs: that is noted too, so that being noted vouches for nothing.
    """
    after = set(late)
    path = results / "registry.json"
    entries = read_registry(results)
    known = {(entry["claim"], entry["form"]) for entry in entries if "terms" in entry}
    fresh = [
        {"claim": c.id, "form": c.form, "terms": terms(c)} | ({"post_hoc": True} if c.id in after else {})
        for c in judged
        if (c.id, c.form) not in known
    ]
    if fresh or not path.exists():
        lines = ",\n".join(f" {json.dumps(entry)}" for entry in entries + fresh)
        replace_file(path, f"[\n{lines}\n]\n" if lines else "[]\n")
    return path
