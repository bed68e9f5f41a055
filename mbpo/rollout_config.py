"""Constants of branched rollouts, each with its unit and source; `mbpo.config` has the tags of sources."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from mbpo.fields import Config, constant

DISAGREEMENTS = ("one-vs-rest", "jensen-shannon")
"""Uncertainties that need two members or more."""


class RolloutConfig(Config):
    """Branched rollouts: how many, how often, how long, how long kept."""

    per_step: int = constant(
        400,
        "start states per env step (drawn `per_step * every` at once)",
        unit="rows",
        source="[C] STFL; jannerm 100k per 250",
        ge=1,
        le=100_000,
    )
    every: int = constant(1, "period of branching", unit="env steps", source="[C] STFL 1; jannerm 250", ge=1)
    schedule: tuple[int, int, int, int] = constant(
        (0, 1, 1, 1),
        "(from, to) epochs since the random steps over which length grows linearly (from, to)",
        unit="epochs, rollout steps",
        source="[C] STFL: always 1",
    )
    epoch_steps: int = constant(
        1,
        "epoch of the schedule; within one the length stays",
        unit="env steps",
        source="ours 1: no epochs; jannerm 1,000, InvertedPendulum 250",
        ge=1,
    )
    retain: int = constant(
        2_500, "env steps whose rollouts are kept", unit="env steps", source="[C] STFL: FIFO 1e6 / 400", ge=1
    )
    noise: Literal["sampled", "none"] = constant(
        "sampled",
        "what is stored: a sample of the predicted Gaussian, or its mean",
        source="[C] STFL, jannerm sample; none is ours",
    )
    clip: Literal["none", "data-range"] = constant(
        "none",
        "synthetic next_obs and reward stay as predicted, or are clipped to the range of the real rows of the last fit",
        source="[C] STFL, jannerm none; data-range is ours",
    )
    dynamics: Literal["learned", "simulator"] = constant(
        "learned",
        "next_obs and termination: the ensemble's, or those of the task's simulator, put back to the replayed state",
        source="[C] STFL, jannerm learned; [D] digest of STFL: simulator",
    )
    reward: Literal["learned", "oracle", "simulator"] = constant(
        "learned",
        "the ensemble's reward, the task's own reward of the synthetic (action, next_obs), or the simulator's of the "
        "step from the replayed state",
        source="[C] STFL, jannerm learned; [D] digest of STFL: simulator; oracle is ours, where a task's reward is a "
        "function of both",
    )
    uncertainty: Literal["none", "one-vs-rest", "largest-std", "jensen-shannon"] = constant(
        "none",
        "of a synthetic row: how far the sampled member lies from the rest of the ensemble, the largest predicted std "
        "of a member, or how far all pairs of members lie apart",
        source="[C] STFL, jannerm none; [S] M2AC (Pan et al. 2020), MOPO (Yu et al. 2020), MACURA (Frauenknecht et al. "
        "2024), in this order",
    )
    keep: float = constant(
        1.0,
        "share of the rows of a rollout step that are stored, the least uncertain; rollouts go on after the others too",
        source="[C] STFL, jannerm all; [S] M2AC masks by rank",
        gt=0,
        le=1,
    )
    penalty: float = constant(
        0.0,
        "weight of the uncertainty that is taken off a synthetic reward",
        source="[C] STFL, jannerm none; [S] MOPO, M2AC",
        ge=0,
    )
    cut: float | None = constant(
        None,
        "a rollout ends before the first row whose uncertainty exceeds so many times the `cut_quantile` of the first "
        "rows",
        source="[C] STFL, jannerm none; [S] MACURA",
        gt=0,
    )
    cut_quantile: float = constant(
        0.95, "quantile of the uncertainty of the first rows of a call", source="[I] MACURA", gt=0, le=1
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        start, stop, first, last = self.schedule
        if start < 0 or stop <= start:
            raise ValueError(
                f"schedule = {self.schedule}: its second epoch must exceed its first, and neither be negative"
            )
        if min(first, last) < 1 or max(first, last) > 1_000:
            raise ValueError(f"schedule = {self.schedule}: lengths must lie in 1..1000")
        if self.reward == "simulator" and self.dynamics == "learned" and self.max_length > 1:
            raise ValueError(
                f"reward = 'simulator' with schedule = {self.schedule}: the simulator cannot follow learned dynamics "
                "beyond a replayed state; give rollouts of one step, or dynamics = 'simulator'"
            )
        if not self.learned and (self.noise, self.clip) != ("sampled", "none"):
            raise ValueError(
                f"noise = {self.noise!r} and clip = {self.clip!r} change what a model predicts, and dynamics = "
                f"'simulator' with reward = {self.reward!r} leaves it nothing to predict; leave them out"
            )
        return self

    @model_validator(mode="after")
    def _screens(self) -> Self:
        used = (self.keep, self.penalty, self.cut) != (1.0, 0.0, None)
        if self.uncertainty == "none" and used:
            raise ValueError(
                f"keep = {self.keep}, penalty = {self.penalty} and cut = {self.cut} need an uncertainty; it is 'none'"
            )
        if self.uncertainty != "none" and not used:
            raise ValueError(
                f"uncertainty = {self.uncertainty!r} changes nothing by itself; give keep below 1, a penalty or a cut"
            )
        if self.uncertainty != "none" and self.dynamics == "simulator":
            raise ValueError(
                f"uncertainty = {self.uncertainty!r} is the ensemble's, and with dynamics = 'simulator' the next "
                "states are not"
            )
        return self

    @property
    def learned(self) -> bool:
        """Whether anything of a synthetic transition is the ensemble's."""
        return "learned" in (self.dynamics, self.reward)

    @property
    def simulated(self) -> bool:
        """Whether anything of a synthetic transition is the simulator's."""
        return "simulator" in (self.dynamics, self.reward)

    def length(self, learned: int) -> int:
        """Rollout length `learned` env steps after the random ones.

        Linear in whole epochs between the two ends, clamped, rounded down (jannerm: exploration is no epoch).
        """
        start, stop, first, last = self.schedule
        epoch = learned // self.epoch_steps
        share = min(max((epoch - start) / (stop - start), 0.0), 1.0)
        return int(first + share * (last - first))

    @property
    def max_length(self) -> int:
        """The longest rollout of the schedule."""
        return max(self.schedule[2:])
