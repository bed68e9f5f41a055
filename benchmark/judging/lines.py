"""Verdicts as lines for a terminal: what was seen, what it was held against, and how far that is settled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmark.suite.ledger import load_ledger

COLOURS = {"reproduced": "green", "contradicted": "red", "invalid": "red"}


def held_against(claim: str) -> str:
    """The region of the shift that a claim says, such as '< -0.05' or 'within +-25'."""
    criterion = load_ledger().claim(claim).criterion
    if criterion.at_least is not None:
        return f"at least {criterion.at_least} tasks"
    share = " of the reference" if criterion.relative else ""
    if criterion.kind == "equivalence":
        return f"within +-{criterion.words}{share}"
    higher = criterion.direction == "higher"
    sign = "-" if criterion.margin and higher == (criterion.kind == "non-inferiority") else ""
    return (
        f"{'>' if higher else '<'} {sign}{criterion.words}{share}"
        if criterion.margin
        else f"{'>' if higher else '<'} 0"
    )


def cells(row: Mapping[str, Any]) -> list[str]:
    """Verdict, claim, task, seeds, effect with its interval, what that is held against, and p beside its level."""
    interval = row.get("interval")
    within = "" if not interval else " [" + ", ".join("" if end is None else f"{end:.3g}" for end in interval) + "]"
    effect = "" if row.get("effect") is None else f"{row['effect']:.3g}{within}"
    against = f"claimed {held_against(row['claim'])}" if effect else ""
    p = "" if row.get("p") is None else f"adjusted p {row['p']:.2g}, level {row['level']:g}"
    why = row["reason"] if row["verdict"] in ("incomplete", "invalid") else ""
    return [row["verdict"], row["claim"], row["task"], f"n={row['n']}", effect, against, p, why]


def table(rows: Iterable[Mapping[str, Any]], width: int) -> list[tuple[str, str]]:
    """The lines and the colour of each: a row a line where that fits `width`, else its numbers on a second one."""
    rows = list(rows)
    made = [cells(row) for row in rows]
    widths = [max((len(line[i]) for line in made), default=0) for i in range(7)]
    wide = sum(widths) + 2 * len(widths) <= width
    lines = []
    for row, line in zip(rows, made, strict=True):
        colour = COLOURS.get(row["verdict"], "yellow")
        padded = [cell.ljust(size) for cell, size in zip(line, widths, strict=False)]
        if wide:
            lines.append(("  ".join([*padded, line[7]]).rstrip(), colour))
            continue
        lines.append((f"{line[0]:<12}  {line[1]}, {line[2]}, {line[3]}", colour))
        lines += [(" " * 14 + text, colour) for text in _folded([cell for cell in line[4:] if cell], width - 14)]
    return lines


def _folded(parts: list[str], width: int) -> list[str]:
    """The parts with semicolons between, broken between words at `width`."""
    words = "; ".join(parts).split()
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
