"""Text of numbers, counts, durations and task names, the same in tables and in sentences."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any


def minus(text: str) -> str:
    """`text` with true minus signs."""
    return text.replace("-", "\N{MINUS SIGN}")


def task_name(task: str) -> str:
    """`dmc:humanoid-run` as a label."""
    suite, _, name = task.rpartition(":")
    return f"{name.removesuffix('-v5')} (Gym)" if suite == "gym" else name.removesuffix("-v0")


def no_tags(text: str) -> str:
    """The text with what would open an HTML tag escaped, for Markdown."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


DASH, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"


def number(value: float | None) -> str:
    """Three significant digits (two below 0.1), commas between thousands, a true minus; a dash for None and NaN."""
    if value is None or not math.isfinite(value):
        return DASH
    size = abs(value)
    if size >= 999.5:
        text = f"{value:,.0f}"
    elif size and size < 0.001:
        text = f"{value:.1e}"
    else:
        text = f"{value:.3g}" if size >= 0.1 else f"{value:.2g}"
    return "0" if float(text.replace(",", "")) == 0 else minus(text)


def interval(bounds: Sequence[float | None] | None) -> str:
    """``[low, high]``, each by `number`; a dash for None."""
    return DASH if bounds is None else f"[{number(bounds[0])}, {number(bounds[1])}]"


def plain(value: Any) -> str:
    """A constant as a reader would write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) >= 1_000:
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(entry)}" for name, entry in value.items())
    if isinstance(value, list | tuple):
        first = value[0] if value else None
        same = len(value) > 2 and all(entry == first for entry in value)
        return f"{len(value)} {TIMES} {plain(first)}" if same else ", ".join(plain(entry) for entry in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def count(number: int, noun: str) -> str:
    """'1 run', '2 runs'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """'42 s', '7 min', '3.5 h', '12 days'."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def in_hours(hours: float) -> str:
    """'0.3 h', '530 h': always in hours, so that a column of estimates is easy to compare."""
    return f"{hours:.2g} h" if hours < 100 else f"{hours:.0f} h"
