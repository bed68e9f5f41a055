"""Every constant of a run, as frozen and validated data.

A method is a value of `Method`; nothing below this file holds a hyper-parameter of its own. Defaults
are the paper's MBPO as its authors' predecessor code (CLeARoboticsLab/STFL) runs it; FTFL is
``Method(target=Target(normalize="both", predict="next_obs"))``. Each field carries its unit and its
source: [S] stated by the paper, [D] by a digest of it, [C] read in public code, [I] inferred.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import model_validator

from mbpo.fields import Config, InputError, build, constant, nearest
from mbpo.rollout_config import DISAGREEMENTS, RolloutConfig
from mbpo.sac_config import SacConfig, check_exponents

__all__ = [
    "NUMERICS_VERSIONS",
    "Budget",
    "Config",
    "InputError",
    "Method",
    "ModelConfig",
    "RolloutConfig",
    "SacConfig",
    "Target",
    "build",
    "constant",
    "nearest",
    "numerics_version",
]

_NEVER = 2**62

RunKind = Literal["train", "fit", "probe"]
NUMERICS_VERSIONS: dict[RunKind, int] = {"train": 2, "fit": 1, "probe": 1}
"""The version of the numbers of each kind of run. It is part of a run's key, so old and new numbers never mix.

Raise a kind's version if the same constants and seed give its runs other numbers, and only then: a kind that did not
change keeps its records. `train` is online training, `fit` a model on a fixed data set, `probe` critics and policies
from a fixed policy. The history, a line for each raise:

* train 2: other initial weights of the actor; a row that was held out once stays held out in later fits.
* fits and probes of a model that stops early, 2 (`EARLY_STOPPING_VERSION`): the last, partial batch of an epoch counts.
"""
EARLY_STOPPING_VERSION = 2
"""The version of runs whose model stops early, unless that of their kind is higher. Raise it with fits and probes."""


class Target(Config):
    """What the dynamics model regresses: the whole difference between MBPO and FTFL."""

    normalize: Literal["none", "reward", "obs", "both"] = constant(
        "none",
        "columns divided by their own running std after their mean is taken off",
        source="[S] abstract, [I] form",
    )
    predict: Literal["delta", "next_obs", "fitted"] = constant(
        "delta",
        "carry of obs into the target: 1 (delta), 0 (next_obs) or the regression slope",
        source="[S] abstract; fitted is ours",
    )


class ModelConfig(Config):
    """The Gaussian ensemble and how it is fitted."""

    ensemble_size: int = constant(7, "members", source="[C] STFL, jannerm", ge=1, le=100)
    num_elites: int = constant(5, "members that roll out, by lowest holdout error", source="[C] STFL, jannerm", ge=1)
    hidden_dims: tuple[int, ...] = constant(
        (200, 200, 200, 200), "widths of the hidden layers", source="[C] STFL", min_length=1
    )
    weight_decay: tuple[float, ...] = constant(
        (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4),
        "L2 coefficient per layer, 0.5 * c * |W|^2 in the loss",
        source="[C] STFL, jannerm",
    )
    learning_rate: float = constant(3e-4, "Adam step", source="[C] STFL; jannerm 1e-3", gt=0, le=1)
    batch_size: int = constant(256, "rows per update", unit="rows", source="[C] STFL, jannerm", ge=1, le=1_000_000)
    init: Literal["stacked-lecun", "truncated-normal"] = constant(
        "stacked-lecun",
        "weights: std 1/sqrt(E in) as JAX counts a stacked kernel, or truncated normal std 1/(2 sqrt(in))",
        source="[I] STFL; [C] jannerm",
    )
    reward_head: Literal["shared", "separate"] = constant(
        "shared",
        "one network for all targets, or a second one of the same widths for the reward",
        source="[C] STFL, jannerm shared; separate is ours",
    )
    logvar_bounds: Literal["constant", "learned"] = constant(
        "constant", "soft bounds of the log-variance", source="[C] STFL constant; jannerm learned"
    )
    min_logvar: float = constant(
        -10.0, "lower log-variance bound (initial, if learned)", unit="target units", source="[C] STFL, jannerm"
    )
    max_logvar: float = constant(
        0.5, "upper log-variance bound (initial, if learned)", unit="target units", source="[C] STFL, jannerm"
    )
    bound_weight: float = constant(
        0.01, "weight of sum(max) - sum(min) when bounds are learned", source="[C] jannerm", ge=0
    )
    bootstrap: Literal["shared", "per-member"] = constant(
        "shared",
        "all members see one batch, or each draws from its own bootstrap sample",
        source="[C] STFL shared (a discarded shuffle); jannerm per member",
    )
    fit_every: int = constant(250, "period of refits", unit="env steps", source="[C] STFL, jannerm", ge=1)
    stopping: Literal["fixed", "early"] = constant(
        "fixed",
        "a fixed number of updates, or until no member improves, best weights restored",
        source="[C] STFL fixed; jannerm early",
    )
    updates: int = constant(
        5_000,
        "updates per fit when stopping is fixed",
        unit="updates",
        source="[C] STFL: 25 x 200",
        ge=1,
        le=10_000_000,
    )
    patience: int = constant(
        5, "most epochs without an improving member; one more ends the fit", unit="epochs", source="[C] jannerm", ge=0
    )
    improvement: float = constant(0.01, "relative fall of holdout error that counts", source="[C] jannerm", gt=0, lt=1)
    max_epochs: int = constant(
        1_000, "cap on epochs per fit when stopping is early", unit="epochs", source="ours; jannerm has none", ge=1
    )
    holdout_ratio: float = constant(
        0.2, "share of rows held out, for the whole run", source="[C] STFL, jannerm", gt=0, lt=1
    )
    max_holdout: int = constant(
        50_000,
        "most held-out rows that elites are scored on, drawn at random",
        unit="rows",
        source="[C] STFL scores 50k, drawn with replacement; jannerm all",
        ge=1,
    )
    holdout_cap: int | None = constant(
        None, "largest holdout; rows beyond it are trained on", unit="rows", source="[C] STFL none; jannerm 5,000", ge=1
    )

    @model_validator(mode="before")
    @classmethod
    def _one_decay_for_all(cls, given: Any) -> Any:
        """A single number as weight_decay holds for every layer."""
        if not isinstance(given, Mapping) or isinstance(given.get("weight_decay"), bool):
            return given
        decay, widths = given.get("weight_decay"), given.get("hidden_dims", cls.model_fields["hidden_dims"].default)
        if not isinstance(decay, int | float) or not isinstance(widths, Sequence):
            return given
        return {**given, "weight_decay": (decay,) * (len(widths) + 1)}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.num_elites > self.ensemble_size:
            raise ValueError(f"num_elites = {self.num_elites} exceeds ensemble_size = {self.ensemble_size}")
        layers = len(self.hidden_dims) + 1
        if len(self.weight_decay) != layers:
            raise ValueError(
                f"weight_decay has {len(self.weight_decay)} entries for {layers} layers: give one per layer, or one "
                "number for all"
            )
        if min(self.weight_decay) < 0 or min(self.hidden_dims) < 1:
            raise ValueError("weight_decay must not be negative and hidden_dims must be positive")
        if self.min_logvar >= self.max_logvar:
            raise ValueError(f"min_logvar = {self.min_logvar} is not below max_logvar = {self.max_logvar}")
        check_exponents(min_logvar=self.min_logvar, max_logvar=self.max_logvar)
        return self


class Method(Config):
    """One algorithm. `model=None` is SAC; arms that differ in `target` alone train in one lockstep job."""

    sac: SacConfig = SacConfig()
    model: ModelConfig | None = ModelConfig()
    rollout: RolloutConfig = RolloutConfig()
    target: Target = Target()
    real_ratio: float = constant(
        0.05, "share of real rows in a batch, rounded up", source="[C] STFL: 13 of 256; jannerm 12", ge=0, le=1
    )
    utd: int = constant(20, "updates per env step", source="[C] STFL; jannerm 10 to 40", ge=1, le=10_000)
    random_steps: int = constant(
        10_000,
        "uniform random actions before the first update",
        unit="env steps",
        source="[C] STFL; jannerm 5,000",
        ge=1,
    )
    real_capacity: int = constant(1_000_000, "rows of the real buffer", unit="rows", source="[C] STFL, jannerm", ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("random_steps", "real_capacity") if self.model is not None else ():
            if getattr(self, name) < 2:
                raise ValueError(f"{name} = {getattr(self, name)}: a model needs 2 rows or more, one of them held out")
        if self.model is not None and self.model.ensemble_size < 2 and self.rollout.uncertainty in DISAGREEMENTS:
            raise ValueError(
                f"rollout.uncertainty = {self.rollout.uncertainty!r} compares members; give model.ensemble_size 2 or "
                "more"
            )
        return self

    @property
    def fits_model(self) -> bool:
        """Whether an ensemble is fitted: not for SAC, nor where rollouts take nothing from one."""
        return self.model is not None and self.rollout.learned

    @property
    def simulated(self) -> bool:
        """Whether rollouts are, in whole or in part, the simulator's."""
        return self.model is not None and self.rollout.simulated

    @property
    def real_rows(self) -> int:
        """Real rows in one batch; all of them without a model."""
        if self.model is None:
            return self.sac.batch_size
        return math.ceil(self.sac.batch_size * self.real_ratio - 1e-9)

    def rollout_length(self, env_steps: int) -> int:
        """Length of the rollouts that are branched at `env_steps`, the random ones counted."""
        return self.rollout.length(env_steps - self.random_steps)

    @property
    def obs_fit_every(self) -> int:
        """Env steps between two fits of the mean and std that z-score the learner's observations, after the first."""
        every = ModelConfig().fit_every if self.model is None else self.model.fit_every
        return every if self.sac.obs_norm == "running" else _NEVER

    def shared(self) -> Method:
        """This method with the default target: what all runs of one lockstep job share."""
        return self.model_copy(update={"target": Target()})


class Budget(Config):
    """Length of training and cadence of evaluation."""

    env_steps: int = constant(
        500_000, "length of training", unit="env steps", source="[C] STFL: DMC 500k, Gym 300k", ge=1, le=1_000_000_000
    )
    eval_every: int = constant(5_000, "period of evaluation", unit="env steps", source="[C] STFL", ge=1)
    eval_episodes: int = constant(
        10, "episodes per evaluation, deterministic policy", unit="episodes", source="[C] STFL", ge=1, le=10_000
    )
    bias_episodes: int = constant(
        0, "episodes per evaluation for critic bias, stochastic policy", unit="episodes", source="ours", ge=0, le=1_000
    )


def numerics_version(kind: RunKind, method: Method | None = None) -> int:
    """The version of the numbers that this code gives runs of `kind`: see `NUMERICS_VERSIONS`."""
    early = method is not None and method.model is not None and method.model.stopping == "early"
    return max(NUMERICS_VERSIONS[kind], EARLY_STOPPING_VERSION if early else 0)
