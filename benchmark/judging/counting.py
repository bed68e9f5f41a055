"""The one verdict of a claim that so many of its tasks are confirmed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from benchmark.judging.evidence import Evidence, Outcome
from benchmark.suite.criterion import VERDICTS, Criterion
from benchmark.words import in_hours


def count(criterion: Criterion, family: Mapping[str, Evidence], tasks: Mapping[str, Outcome], at_least: int) -> Outcome:
    """One outcome for the family: effect is the number of confirmed tasks, interval the numbers still possible."""
    by = {verdict: [task for task, out in tasks.items() if out.verdict == verdict] for verdict in VERDICTS}
    wins, losses = len(by["reproduced"]), len(by["contradicted"])
    listed = "; ".join(f"{verdict} on {', '.join(names)}" for verdict, names in by.items() if names)
    out = Outcome("inconclusive", None, None, criterion.level, min(o.n for o in tasks.values()), None, listed)
    if by["invalid"]:
        first = by["invalid"][0]
        return replace(out, verdict="invalid", reason=f"{first}: {tasks[first].reason}")
    if wins < at_least <= len(tasks) - losses and by["incomplete"]:
        hours = [family[task].hours for task in by["incomplete"]]
        first = family[by["incomplete"][0]].lacking or tasks[by["incomplete"][0]].reason
        cost = "" if None in hours else f"; about {in_hours(sum(h for h in hours if h is not None))} on two cores"
        return replace(out, verdict="incomplete", reason=f"{listed} ({first}, and so on){cost}")
    marks = [evidence.mark for evidence in family.values() if evidence.mark]
    reason = "; ".join([f"{wins} of {len(tasks)} confirmed, {at_least} claimed: {listed}", *marks])
    out = replace(out, effect=float(wins), interval=(float(wins), float(len(tasks) - losses)), reason=reason)
    if wins >= at_least:
        return replace(out, verdict="reproduced")
    if len(tasks) - losses < at_least:
        return replace(out, verdict="contradicted")
    needs = sorted(tasks[task].needed or math.inf for task in by["inconclusive"])
    need = needs[at_least - wins - 1]  # enough open tasks to reach the number claimed
    return out if need == math.inf else replace(out, needed=int(need))
