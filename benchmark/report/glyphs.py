"""Small pictures inside table cells, as `svg` text: where an interval lies with respect to what is claimed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmark.judging.evidence import Outcome
from benchmark.judging.verdicts import Judgement
from benchmark.suite.criterion import Criterion

WIDTH, HEIGHT, PAD = 150.0, 18.0, 6.0


class Forest:
    """One scale for all rows of a claim: linear near zero, logarithmic far out, the claimed region shaded."""

    def __init__(self, criterion: Criterion, outcomes: Sequence[Outcome]) -> None:
        self._criterion = criterion
        shown = [value for out in outcomes for value in _numbers(out)]
        sizes = sorted(abs(value) for value in shown if value)
        ends = sorted(abs(end) for out in outcomes for end in _edges(criterion, out) if math.isfinite(end) and end)
        margin = ends[len(ends) // 2] if ends else 0.0
        # The margin has to be visible, and so have effects a thousand times larger.
        self._unit = margin or (sizes[len(sizes) // 2] if sizes else 1.0)
        far = max(abs(self._bend(value)) for value in [*shown, *(1.6 * end for end in ends), 0.0]) or 1.0
        self._reach = 1.06 * far

    def row(self, outcome: Outcome, color: str) -> str:
        """The interval as a line and the effect as a dot in `color`; empty without them."""
        if outcome.effect is None or outcome.interval is None:
            return ""
        low, high = (self._at(bound) for bound in outcome.interval)
        middle = HEIGHT / 2
        shapes = [self._shade(outcome), _line(self._at(0.0), 0, self._at(0.0), HEIGHT, "var(--soft)", 0.75)]
        shapes += [_line(low, middle, high, middle, color, 2)]
        shapes += [f'<circle cx="{self._at(outcome.effect):.1f}" cy="{middle}" r="3.4" fill="{color}"/>']
        return f'<svg class="forest" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" aria-hidden="true">{"".join(shapes)}</svg>'

    def _shade(self, outcome: Outcome) -> str:
        """The region in which the claim holds; with a relative margin each row has its own."""
        left, right = (self._at(end) for end in _edges(self._criterion, outcome))
        return f'<rect x="{left:.1f}" y="0" width="{right - left:.1f}" height="{HEIGHT:g}" fill="var(--claim)"/>'

    def _bend(self, value: float) -> float:
        return math.asinh(value / self._unit)

    def _at(self, value: float) -> float:
        if math.isinf(value):
            return WIDTH if value > 0 else 0.0
        return WIDTH / 2 + (WIDTH / 2 - PAD) * self._bend(value) / self._reach


def forest(rows: Sequence[Judgement]) -> Forest | None:
    """The scale for a claim's rows; None for a counting claim, whose effect is not a shift."""
    criterion = rows[0].claim.criterion
    return None if criterion.at_least else Forest(criterion, [row.outcome for row in rows])


def _edges(criterion: Criterion, out: Outcome) -> tuple[float, float]:
    """Ends of the claimed region: those of the outcome, else the margin's; a share of scores has none."""
    if out.edges is not None:
        return out.edges
    margin = 0.0 if criterion.relative else criterion.margin
    if criterion.kind == "equivalence":
        return -margin, margin
    offset = -margin if criterion.kind == "non-inferiority" else margin
    return (offset, math.inf) if criterion.direction == "higher" else (-math.inf, -offset)


def _numbers(out: Outcome) -> list[float]:
    given = [out.effect, *(out.interval or ())]
    return [value for value in given if value is not None and math.isfinite(value)]


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:g}" x2="{x2:.1f}" y2="{y2:g}" stroke="{color}" stroke-width="{width:g}"/>'
