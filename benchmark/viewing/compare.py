"""Two arms on one task, judged by the tests that claims are judged by, but stated after the runs."""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmark.judging import criteria
from benchmark.judging.evidence import Evidence, Outcome
from benchmark.judging.scores import score
from benchmark.judging.verdicts import rounded
from benchmark.records.store import Store
from benchmark.suite.criterion import Criterion, Estimand
from benchmark.viewing import runs
from benchmark.words import interval, number
from mbpo.config import InputError

AFTERWARDS = (
    "stated after the runs, so it counts for less than a claim of the ledger: try it on new seeds, "
    "or write it down as a claim first (docs/extend.md)"
)


class Comparison(NamedTuple):
    """What was compared, and how it came out."""

    task: str
    arm: str
    against: str
    estimand: Estimand
    criterion: Criterion
    outcome: Outcome
    steps: int

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        out = self.outcome
        return {
            "task": self.task,
            "arm": self.arm,
            "against": self.against,
            "estimand": self.estimand.words,
            "env_steps": self.steps,
            "verdict": out.verdict,
            "effect": rounded(out.effect),
            "interval": None if out.interval is None else [rounded(bound) for bound in out.interval],
            "p": rounded(out.p),
            "level": out.level,
            "n": out.n,
            "reason": out.reason,
            "note": AFTERWARDS,
        }

    def lines(self) -> list[str]:
        """All of it in sentences."""
        out = self.outcome
        beyond = f" by more than {self.criterion.words}" if self.criterion.margin else ""
        found = []
        if out.effect is not None:
            found.append(f"shift of a typical seed {number(out.effect)} {interval(out.interval)}, p {number(out.p)}")
        return [
            f"{out.verdict}: {self.arm} is {self.criterion.direction} than {self.against}{beyond} on {self.task}",
            f"{self.estimand.words}, {self.steps:,} env steps, n = {out.n} seeds per arm",
            *found,
            *([out.reason] if out.reason else []),
            AFTERWARDS,
        ]


def compare(
    store: Store,
    task: str,
    arm: str,
    against: str,
    estimand: Estimand,
    criterion: Criterion,
    steps: int | None = None,
) -> Comparison:
    """Judge that `arm` differs from `against` as `criterion` says, from the seeds that both have on `task`.

    Raises `InputError` where an arm has no run.
    """
    if arm == against:
        raise InputError(f"--arm and --against are both {arm!r}: name two methods")
    chosen = runs.of_task(store, task, (arm, against), steps)
    lacking = [name for name in (arm, against) if name not in chosen.arms]
    if lacking:
        raise InputError(f"no run of {lacking[0]!r} on {task!r} has the length of the others; --steps names a length")
    both = [{spec.seed: spec for spec in chosen.arms[name]} for name in (arm, against)]
    shared = both[0].keys() & both[1].keys()
    # Seeds that one arm alone has were often trained later, elsewhere; they count where too few are shared.
    counted = [[r[seed] for seed in r if seed in shared or len(shared) < criteria.MIN_SEEDS] for r in both]
    x, y = (tuple(score(store.read(spec), estimand) for spec in group) for group in counted)
    (outcome,) = criteria.judge(criterion, {task: Evidence(arm, against, x, y)}).values()
    return Comparison(task, arm, against, estimand, criterion, outcome, chosen.runs[0].length)
