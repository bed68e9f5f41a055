"""What was predicted of every arm before the seeds were trained that judge it.

Seeds 0 to 2 explored: from them and from the closed forms each arm was predicted to end the runaway or not. Seeds 3 to
7 were trained afterwards and judge. The score of a run is the order of magnitude by which its mean Q misses the closed
form. An arm *ends* the runaway if it misses by a hundred times less than the chain does, and *goes on* if it misses by
a hundred times more than exact next states do.

Three accounts of what drives critics off are held against it. *reward*: values go wrong because rewards do. *entropy*:
the actor saturates where critics extrapolate, its entropy falls below target, the temperature winds up, soft values
follow; any link taken out ends it. *bootstrap*: critics that bootstrap at states from which no row starts need nothing
else. An account that says nothing of an arm has no entry there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from benchmark.studies.laboratory.arms import CHAIN, HEALTHY
from benchmark.suite.criterion import Criterion

Answer = Literal["ends", "goes on"]
JUDGES = range(3, 8)
"""Seeds that no prediction has seen."""
MARGIN = 2.0
"""Orders of magnitude."""
ACCOUNTS = ("reward", "entropy", "bootstrap")


@dataclass(frozen=True)
class Prediction:
    """What an arm was predicted to do, and what each account says of it."""

    arm: str
    answer: Answer
    accounts: Mapping[str, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "accounts", MappingProxyType(dict(self.accounts)))

    @property
    def against(self) -> str:
        """The arm that it is compared with."""
        return CHAIN.name if self.answer == "ends" else HEALTHY.name

    @property
    def criterion(self) -> Criterion:
        """Nearer than the chain by `MARGIN`, or farther than exact next states by as much."""
        return Criterion(kind="difference", direction="lower" if self.answer == "ends" else "higher", margin=MARGIN)

    @property
    def form(self) -> str:
        """8 hex digits of what decides the verdict."""
        made = (self.arm, self.answer, self.against, MARGIN, list(JUDGES))
        return hashlib.sha256(repr(made).encode()).hexdigest()[:8]


def _all(answer: Answer, *accounts: str) -> dict[str, Answer]:
    return dict.fromkeys(accounts, answer)


_NEEDS_A_LINK: Mapping[str, Answer] = {"entropy": "ends", "bootstrap": "goes on"}
"""A link of the entropy account is out; critics still bootstrap off the data."""
PREDICTIONS = (
    Prediction("chain", "goes on", _all("goes on", "entropy", "bootstrap")),
    Prediction("near", "ends", _all("ends", "bootstrap")),
    Prediction("clipped", "ends", _all("ends", "entropy", "bootstrap")),
    Prediction("trained-there", "ends", _all("ends", "entropy", "bootstrap")),
    Prediction("z-scored", "ends", _all("ends", "entropy")),
    Prediction("half-real", "goes on", _all("goes on", "bootstrap")),
    Prediction("layer-norm", "ends", _all("ends", "entropy", "bootstrap")),
    Prediction("bounded-mean", "goes on", _NEEDS_A_LINK),
    Prediction("std-floor", "goes on", _NEEDS_A_LINK),
    Prediction("unsaturated", "goes on", _NEEDS_A_LINK),
    Prediction("fixed-alpha", "goes on", _NEEDS_A_LINK),
    Prediction("capped-alpha", "goes on", _NEEDS_A_LINK),
    Prediction("hard-value", "goes on", _NEEDS_A_LINK),
    Prediction("no-reward", "goes on", {"reward": "ends", **_all("goes on", "entropy", "bootstrap")}),
    Prediction("bootstrap-alone", "goes on", {"reward": "ends", **_NEEDS_A_LINK}),
    Prediction("mean-critics", "goes on", _all("goes on", "bootstrap")),
    Prediction("random-next-action", "goes on", _NEEDS_A_LINK),
    Prediction("low-entropy-alone", "goes on", {"entropy": "goes on", "bootstrap": "ends"}),
    Prediction("large-observations-alone", "ends", _all("ends", "entropy", "bootstrap")),
)
