"""Everything the report is made of, read once: verdicts, records and their tidy frames."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from benchmark.drawing import style
from benchmark.judging import aggregates, verdicts
from benchmark.judging.verdicts import Judgement
from benchmark.records import frames
from benchmark.records.spec import RunSpec, unique
from benchmark.records.store import RETURN, Record, Store
from benchmark.suite import needs
from benchmark.suite.entries import Protocol
from benchmark.suite.ledger import Claim, Ledger, load_ledger
from benchmark.suite.load import load_suite

ONLINE = {"critic_bias", "temperature"}
"""What a chapter's figure shows of online runs, beside what claims speak of."""


@dataclass(frozen=True)
class Data:
    """Everything the pages are made of."""

    ledger: Ledger
    protocol: Protocol
    judgements: tuple[Judgement, ...]
    records: tuple[Record, ...]
    scalars: pd.DataFrame
    bins: pd.DataFrame
    curves: pd.DataFrame
    logvars: pd.DataFrame
    online: pd.DataFrame
    """Measures along online training, in the columns of `frames.traces`."""
    together: dict[str, pd.DataFrame]
    """Of all tasks: `aggregates`, `improvement` and `profiles`; empty frames without runs."""

    def rows(self, claim: Claim) -> list[Judgement]:
        """The verdicts of one claim."""
        return [row for row in self.judgements if row.claim is claim]

    def values(self, measure: str) -> pd.DataFrame:
        """``task, method, seed, value`` of one fit measure."""
        return self.scalars[self.scalars["measure"] == measure]


def gather(store: Store, protocol: Protocol) -> Data:
    """Verdicts, and the records of the runs that claims name, in the order of the ledger.

    An online claim that another protocol judges is shown by that one's runs, on tasks that this one has none on.
    """
    ledger = load_ledger()
    own = unique(spec for claim in ledger.claims for spec in needs.runs(claim, protocol))
    online = [claim for claim in ledger.claims if claim.kind == "train"]
    others = [s for claim in online for s in needs.runs(claim, verdicts.judged_by(claim, store, protocol))]
    taken = {spec.task for spec in own if spec.kind == "train"}
    wanted = unique([*own, *(spec for spec in others if spec.task not in taken)])
    records = tuple(verdicts.read(store, spec) for spec in sorted(wanted, key=_order) if store.has(spec))
    fits = [record for record in records if record.spec.kind == "fit"]
    trains = [record for record in records if record.spec.kind == "train"]
    # Returns after budgets of two protocols do not belong in one table.
    mine = {spec.key for spec in own}
    curves = frames.curves(record for record in trains if record.spec.key in mine)
    return Data(
        ledger=ledger,
        protocol=protocol,
        judgements=tuple(verdicts.judge_all(store, protocol, ledger)),
        records=records,
        scalars=frames.scalars(fits),
        bins=frames.reward_bins(fits),
        curves=curves,
        logvars=frames.traces(fits, ["logvar_target", "logvar_raw"]),
        online=frames.traces(trains, ONLINE | {claim.estimand.measure for claim in ledger.claims} - {RETURN}),
        together=aggregates.frames(aggregates.matrices(curves, load_suite())),
    )


def _order(spec: RunSpec) -> tuple[str, int, str, int]:
    return spec.kind, rank(spec.method), spec.method, spec.seed


def rank(method: str) -> int:
    """Place of the method in the palette, which is the order of legends and tables."""
    whole = method.partition(" without ")[0]
    return list(style.COLORS).index(whole) if whole in style.COLORS else len(style.COLORS)
