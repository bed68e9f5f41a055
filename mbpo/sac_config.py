"""Constants of soft actor-critic, each with its unit and source; `mbpo.config` has the tags of sources."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from mbpo.fields import Config, constant

MAX_EXPONENT = 88.0
"""In nats. e^88 is the largest whole power of e that float32 holds."""


def check_exponents(**bounds: float) -> None:
    """Raise `ValueError` for a bound of a logarithm if exp of it or of its negative overflows float32."""
    for name, bound in bounds.items():
        if abs(bound) > MAX_EXPONENT:
            raise ValueError(
                f"{name} = {bound}: float32, which trains, cannot hold exp of it and of its negative; "
                f"give a bound within +-{MAX_EXPONENT:g}"
            )


class SacConfig(Config):
    """Soft actor-critic."""

    hidden_dims: tuple[int, ...] = constant(
        (256, 256), "widths of actor and critic", source="[C] STFL, jannerm", min_length=1
    )
    learning_rate: float = constant(
        3e-4, "Adam step of actor, critic and temperature", source="[C] STFL, jannerm", gt=0, le=1
    )
    batch_size: int = constant(
        256, "rows per update, real and synthetic together", unit="rows", source="[C] STFL, jannerm", ge=1, le=1_000_000
    )
    discount: float = constant(0.99, "discount per env step", source="[C] STFL, jannerm", ge=0, le=1)
    tau: float = constant(
        0.005, "share of the critic that enters its target per update", source="[C] STFL, jannerm", gt=0, le=1
    )
    init: Literal["orthogonal", "glorot-uniform"] = constant(
        "orthogonal", "weights; orthogonal has gain sqrt 2", source="[C] STFL; softlearning glorot"
    )
    init_temperature: float = constant(1.0, "first temperature", source="[C] STFL, jannerm", gt=0)
    init_temperature_unit: Literal["absolute", "reward-std"] = constant(
        "absolute",
        "unit of init_temperature: 1, or the standard deviation of the real rewards when learning starts",
        source="[C] STFL, jannerm absolute; reward-std is ours",
    )
    target_entropy: float | None = constant(
        None, "absolute target entropy; None takes the scale below", unit="nats", source="[C] jannerm: per task"
    )
    target_entropy_scale: float = constant(
        -0.5, "target entropy per action dimension", unit="nats", source="[C] STFL: -|A|/2"
    )
    temperature_loss: Literal["alpha", "log-alpha"] = constant(
        "alpha", "what multiplies the entropy gap", source="[C] STFL alpha; jannerm log alpha"
    )
    log_std: Literal["tanh", "clip"] = constant(
        "tanh", "how log std is kept in its bounds", source="[C] STFL tanh-rescaled; jannerm clipped"
    )
    log_std_head: Literal["own", "joint"] = constant(
        "own",
        "first weights of log std: a layer of its own (orthogonal: gain 1), or one drawn together with the mean's",
        source="[C] STFL, jaxrl: own layer, gain 1; softlearning: joint",
    )
    min_log_std: float = constant(-10.0, "lower bound of log std", source="[C] STFL -10; jannerm -20")
    max_log_std: float = constant(2.0, "upper bound of log std", source="[C] STFL, jannerm")
    critic_loss_scale: float = constant(1.0, "factor of each squared error", source="[C] STFL 1; jannerm 0.5", gt=0)
    temperature: Literal["learned", "fixed"] = constant(
        "learned", "whether the temperature follows the entropy gap or stays where it starts", source="[C] STFL learned"
    )
    temperature_learning_rate: float | None = constant(
        None, "Adam step of the temperature; None takes learning_rate", source="[C] STFL: one for all", gt=0, le=1
    )
    max_temperature: float | None = constant(
        None, "upper bound of the temperature; None for no bound", source="[C] STFL none; ours", gt=0
    )
    mean_bound: float | None = constant(
        None,
        "the Gaussian's mean before tanh is bound * tanh(mean / bound); None leaves it free",
        source="[C] STFL none; ours",
        gt=0,
    )
    mean_penalty: float = constant(
        0.0, "weight of the mean square of the mean before tanh in the actor's loss", source="[C] STFL none; ours", ge=0
    )
    critic_norm: Literal["none", "layer", "features"] = constant(
        "none",
        "critics as they are, with layer normalization (without weights of its own) before each relu, or with the last "
        "hidden layer's output scaled to length 1 (features)",
        source="[C] STFL none; layer: Ball et al. 2023; features: Hussing et al. 2024",
    )
    critics: int = constant(2, "critics and their targets", source="[C] STFL, jannerm 2; REDQ 10", ge=1, le=100)
    target_critics: int | None = constant(
        None,
        "critics that each target is computed from, drawn at random anew for every update; None takes all",
        source="[C] STFL, jannerm all; REDQ (Chen et al. 2021) 2 of 10",
        ge=1,
    )
    target_value: Literal["min", "mean"] = constant(
        "min", "what a target takes of its critics' values", source="[C] STFL, jannerm, REDQ min; mean is ours"
    )
    actor_value: Literal["min", "mean"] = constant(
        "min", "what the actor's loss takes of all critics' values", source="[C] STFL, jannerm min; REDQ mean"
    )
    backup: Literal["soft", "reward"] = constant(
        "soft",
        "whether the critics' targets hold the entropy of later actions, or rewards alone",
        source="[C] STFL, jannerm soft; reward is jaxrl's backup_entropy=False",
    )
    reset_every: int | None = constant(
        None,
        "updates after which actor, critics, temperature and their optimizers begin anew, buffers and model kept; None "
        "for never",
        unit="updates",
        source="[C] STFL: off, its flag resets every 2,560,000 as SR-SAC (D'Oro et al. 2023) does",
        ge=1,
    )
    obs_norm: Literal["none", "frozen", "running"] = constant(
        "none",
        "observations that actor and critics read: raw, or z-scored by the real rows of the random phase (frozen) "
        "or of every model fit (running)",
        source="[C] STFL none; ours",
    )
    obs_clip: float | None = constant(
        None,
        "bound of the size of each observation that actor and critics read, after obs_norm; None for no bound",
        unit="the observation's, or its std where obs_norm z-scores it",
        source="[C] STFL, jannerm none; SB3's VecNormalize 10",
        gt=0,
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if min(self.hidden_dims) < 1:
            raise ValueError(f"hidden_dims = {self.hidden_dims}: widths must be positive")
        if self.min_log_std >= self.max_log_std:
            raise ValueError(f"min_log_std = {self.min_log_std} is not below max_log_std = {self.max_log_std}")
        check_exponents(min_log_std=self.min_log_std, max_log_std=self.max_log_std)
        if self.target_critics is not None and self.target_critics > self.critics:
            raise ValueError(f"target_critics = {self.target_critics} exceeds critics = {self.critics}")
        if self.max_temperature is not None and self.init_temperature > self.max_temperature:
            raise ValueError(
                f"init_temperature = {self.init_temperature} exceeds max_temperature = {self.max_temperature}"
            )
        return self

    @property
    def draws_critics(self) -> bool:
        """Whether each target is computed from some of the critics, drawn at random."""
        return self.target_critics not in (None, self.critics)

    def entropy_target(self, action_dim: int) -> float:
        """The target entropy in nats for `action_dim` actions."""
        return self.target_entropy_scale * action_dim if self.target_entropy is None else self.target_entropy
