"""Whether a termination rule says what the environment's own `terminated` flag says, on steps that are lived anyway.

A rule may differ where float32 rounds to the other side of its bound, so rare differences are let pass.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from mbpo.config import InputError
from mbpo.envs.tasks import GIVE_RULE, TaskInfo
from mbpo.envs.terminations import Termination

SHARE = 0.05
"""Of the steps that rule or flag calls an end, the share in which they may differ."""
FEWEST = 2
"""Differences up to one are rounding."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Agreement:
    """Counts of steps: all, those that end by the rule, by the flag, and those in which the two differ."""

    steps: int = 0
    by_rule: int = 0
    by_flag: int = 0
    wrong: int = 0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.steps + other.steps,
            self.by_rule + other.by_rule,
            self.by_flag + other.by_flag,
            self.wrong + other.wrong,
        )

    @property
    def holds(self) -> bool:
        """Whether the rule may stand for the flag."""
        either = (self.by_rule + self.by_flag + self.wrong) / 2
        return self.wrong < FEWEST or self.wrong <= SHARE * either

    def sentence(self, info: TaskInfo) -> str:
        """What is wrong, or nothing."""
        if self.by_flag and info.termination == "never":
            return (
                f"task {info.id!r}: episodes terminate ({self.by_flag / self.steps:.2%} of {self.steps:,} steps), but "
                f"no termination rule is known, so synthetic rollouts run on where real ones end; {GIVE_RULE}"
            )
        if self.holds:
            return ""
        return (
            f"task {info.id!r}: its termination rule ({info.termination}) disagrees with the environment's "
            f"`terminated` in {self.wrong / self.steps:.1%} of {self.steps:,} steps (it ends {self.by_rule:,} of them, "
            f"the environment {self.by_flag:,}), so synthetic rollouts would end elsewhere than real ones; "
            "mend `termination`"
        )


def compare(rule: Termination, next_obs: Tensor, terminated: Tensor) -> Agreement:
    """Hold `rule` on ``next_obs (..., O)`` against the flags ``terminated (...)``."""
    with torch.no_grad():
        ends = rule(next_obs)
    counts = torch.stack([ends.sum(), terminated.sum(), (ends != terminated).sum()]).tolist()
    return Agreement(terminated.numel(), *counts)


class Watch:
    """Compares as steps come in: refuses a wrong rule while `early`, and later tells of one once."""

    def __init__(self, info: TaskInfo, rule: Termination) -> None:
        self._info, self._rule, self._told = info, rule, False
        self.agreement = Agreement()

    def look(self, next_obs: Tensor, terminated: Tensor, early: bool) -> None:
        """Take further steps. Raises `InputError` where the rule is wrong and `early` is set."""
        self.agreement += compare(self._rule, next_obs, terminated)
        sentence = self.agreement.sentence(self._info)
        if sentence and early and self._info.termination != "never":
            raise InputError(sentence)
        if sentence and not self._told:
            log.warning("%s", sentence)
            self._told = True
