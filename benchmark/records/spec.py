"""One run as a value.

The key of a run is a hash of every field that changes its numbers, so equal runs share one record whatever they are
called, and a record can be found without trusting its folder's name. The commit is provenance, not key:
`NUMERICS_VERSIONS` stand for the code. Fields at their defaults are left out of the hash, so a constant that is added
later orphans no record; a default that is changed must raise the versions (the golden keys in the tests say so).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mbpo.config import Budget, Config, Method, build, constant, numerics_version

Kind = Literal["train", "fit", "probe"]
Precision = Literal["fp32", "bf16", "tf32", "fp64"]
TAKES = {"train": ("budget",), "fit": ("fit",), "probe": ("fit", "probe")}
"""The fields that say how long a run of each kind is."""
POLICY_FORM = ("hidden_dims", "log_std", "min_log_std", "max_log_std")
"""What a learner must have in common with the policy that it takes over."""


class Replay(Config):
    """A data set that another run collected: the first `step` rows of its replay, in the order they were lived.

    It names the whole run but for task, groups left out and seed, which are those of the run that uses it, so that the
    rows can always be made again from the key.
    """

    method: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    constants: Method
    budget: Budget
    precision: Precision = "fp32"
    step: int = constant(..., "rows of its replay that are used, one an env step", unit="env steps", ge=20)
    numerics_version: int = constant(1, "version of the training that collected it; 1 for the first replays", ge=0)

    @model_validator(mode="after")
    def _within_the_run(self) -> Self:
        if self.step > self.budget.env_steps:
            raise ValueError(f"step = {self.step}: the run has {self.budget.env_steps} env steps; give at most that")
        if self.constants.real_capacity < self.step:
            raise ValueError(f"step = {self.step}: its buffer keeps {self.constants.real_capacity} rows only")
        return self


class FitBudget(Config):
    """The fixed data set of a `fit` run: of a policy that acts uniformly at random, or another run's replay."""

    transitions: int = constant(10_000, "rows the model is fitted on", unit="env steps", ge=10, le=10_000_000)
    heldout: int = constant(5_000, "further rows it is judged on", unit="env steps", ge=10, le=10_000_000)
    source: Literal["random"] | Replay = constant("random", "policy that collects both")
    refits: int = constant(
        1,
        "warm-started fits, the k-th on the first k / refits of the rows, as an agent's model is refitted",
        ge=1,
        le=1000,
    )

    @model_validator(mode="after")
    def _enough_rows(self) -> Self:
        if isinstance(self.source, Replay) and self.transitions + self.heldout > self.source.step:
            raise ValueError(
                f"transitions + heldout = {self.transitions + self.heldout}: the replay has {self.source.step} rows"
            )
        if min(self.transitions, self.heldout) < 10 * self.refits:
            raise ValueError(
                f"refits = {self.refits}: the first has {self.transitions // self.refits} rows to be fitted on and "
                f"{self.heldout // self.refits} to be judged on; each needs 10"
            )
        return self

    @property
    def source_name(self) -> str:
        """'random', 'sac replay at 100,000', or 'sac replay at 100,000, 20 refits'."""
        grown = f", {self.refits} refits" if self.refits > 1 else ""
        if not isinstance(self.source, Replay):
            return f"{self.source}{grown}"
        return f"{self.source.method} replay at {self.source.step:,}{grown}"


class ProbeBudget(Config):
    """What a `probe` does from a fixed policy, its replay and a fitted model, without any new env step.

    At every share of synthetic rows apart, the policy's critics are trained on alone, on mixed batches, and held
    against its Monte-Carlo soft returns; and actor and critics go on together from where they stand, and the policy
    that they reach is played.
    """

    shares: tuple[int, ...] = constant(
        (0, 50, 75, 95), "synthetic rows in a batch, real ones rounded up", unit="%", source="[D]", min_length=1
    )
    critic_updates: int = constant(2_000, "updates of the critics alone", unit="updates", ge=1, le=10_000_000)
    critic_tau: float = constant(
        0.05, "as sac.tau, for critics of a policy that stands still", source="ours; [C] STFL 0.005", gt=0, le=1
    )
    policy_updates: int = constant(2_000, "updates of actor and critics", unit="updates", ge=0, le=10_000_000)
    synthetic: int = constant(5_000, "one-step transitions branched at once", unit="rows", source="[C] STFL", ge=1)
    branch_every: int = constant(
        250, "updates on the same synthetic rows", unit="updates", source="[C] STFL: 400 rows a 20 updates", ge=1
    )
    look_every: int = constant(500, "period of measurements", unit="updates", ge=1)
    bias_episodes: int = constant(4, "episodes of the fixed policy that critics are held against", ge=1, le=1_000)
    eval_episodes: int = constant(4, "episodes of the policy before and after", ge=1, le=1_000)

    @model_validator(mode="after")
    def _shares_in_order(self) -> Self:
        if list(self.shares) != sorted(set(self.shares)) or not 0 <= self.shares[0] <= self.shares[-1] <= 100:
            raise ValueError(f"shares = {list(self.shares)}: give percentages in order, such as [0, 50, 95]")
        return self

    @property
    def updates(self) -> int:
        """Updates of both parts."""
        return self.critic_updates + self.policy_updates


class RunSpec(Config):
    """Everything that decides the numbers of one run, and the name its method goes by."""

    kind: Kind
    task: str = Field(min_length=1)
    drop: tuple[str, ...] = ()
    method: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    seed: int = Field(ge=0, lt=2**31)
    constants: Method
    budget: Budget | None = None
    fit: FitBudget | None = None
    probe: ProbeBudget | None = None
    precision: Precision = "fp32"
    numerics_version: int = Field(default_factory=lambda given: _version_of(given))

    @field_validator("drop")
    @classmethod
    def _in_one_order(cls, drop: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(drop)))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = tuple(name for name in ("budget", "fit", "probe") if getattr(self, name) is not None)
        if given != TAKES[self.kind]:
            raise ValueError(f"a {self.kind!r} run takes {' and '.join(TAKES[self.kind])} and nothing else")
        if self.kind != "train" and not self.constants.fits_model:
            raise ValueError(f"method {self.method!r} has no model to fit")
        if self.kind == "probe" and self.constants.simulated:
            raise ValueError(f"method {self.method!r} rolls out the simulator, whose states no replay holds")
        if self.kind == "probe" and self.source_run is None:
            raise ValueError("a 'probe' run starts from a policy: its fit.source must be a replay")
        if self.kind == "probe" and self.fit is not None and isinstance(self.fit.source, Replay):
            kept, mine = self.fit.source.constants.sac, self.constants.sac
            for name in POLICY_FORM:
                if getattr(kept, name) != getattr(mine, name):
                    raise ValueError(
                        f"sac.{name} = {getattr(mine, name)}: the policy that the probe starts from has "
                        f"{getattr(kept, name)}; give that"
                    )
        return self

    @cached_property
    def key(self) -> str:
        """16 hex digits that name this run: the hash of all fields but the method's name."""
        return digest(self._fields({"method"}))

    @cached_property
    def job(self) -> str:
        """The hash of what runs must share to train in lockstep: all but target and seed."""
        shared = self.constants.shared().model_dump(mode="json", exclude_defaults=True)
        return digest({**self._fields({"method", "seed"}), "constants": shared})

    @property
    def source_run(self) -> RunSpec | None:
        """The training run whose replay this one is fitted on; None where nobody's is."""
        if self.fit is None or not isinstance(source := self.fit.source, Replay):
            return None
        return RunSpec(
            kind="train",
            task=self.task,
            drop=self.drop,
            method=source.method,
            seed=self.seed,
            constants=source.constants,
            budget=source.budget,
            precision=source.precision,
            numerics_version=source.numerics_version,
        )

    @property
    def trainable(self) -> bool:
        """Whether this code makes the numbers of this run; those of another version can be read and judged only."""
        return self.numerics_version == numerics_version(self.kind, self.constants)

    @property
    def length(self) -> int:
        """Steps that progress is counted in: env steps of training, updates of a fit or probe."""
        if self.budget is not None:
            return self.budget.env_steps
        if self.probe is not None:
            return self.probe.updates
        refits = self.fit.refits if self.fit is not None else 1
        return self.constants.model.updates * refits if self.constants.model is not None else 0

    @property
    def slug(self) -> str:
        """The task as a folder name."""
        return self.task.replace(":", "-").replace("/", "-")

    @property
    def arm(self) -> str:
        """The method, and what its observations lack: 'ftfl without touch'."""
        return arm(self.method, self.drop)

    @property
    def label(self) -> str:
        """How messages name this run."""
        return f"{self.kind} {self.arm} on {self.task} seed {self.seed}"

    def to_json(self) -> dict[str, Any]:
        """All fields and the key, as `spec.json` holds them."""
        return {**self.model_dump(mode="json"), "key": self.key}

    def same_run(self, other: RunSpec) -> bool:
        """Whether the two differ in the method's name at most."""
        return self.model_copy(update={"method": other.method}) == other

    def _fields(self, exclude: set[str]) -> dict[str, Any]:
        fields = self.model_dump(mode="json", exclude=exclude, exclude_defaults=True)
        return {**fields, "numerics_version": self.numerics_version}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "spec.json") -> RunSpec:
        """The inverse of `to_json`. Raises `InputError` on an unknown field or an impossible value."""
        return build(cls, {name: value for name, value in data.items() if name != "key"}, where)


def _version_of(given: Mapping[str, Any]) -> int:
    """This code's version of a run with the fields `given`, of which a faulty one is left out."""
    return numerics_version(given.get("kind", "train"), given.get("constants"))


def arm(method: str, drop: Iterable[str] = ()) -> str:
    """How tables and sentences name a method whose observations lack the groups in `drop`."""
    groups = ", ".join(drop)
    return f"{method} without {groups}" if groups else method


def unique(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """The specs less those whose key came earlier, in order."""
    first: dict[str, RunSpec] = {}
    for spec in specs:
        first.setdefault(spec.key, spec)
    return list(first.values())


def lockstep(specs: Iterable[RunSpec], most: int) -> list[list[RunSpec]]:
    """Group distinct specs by job, in order of first appearance, into chunks of at most `most` runs."""
    groups: dict[str, list[RunSpec]] = {}
    for spec in unique(specs):
        groups.setdefault(spec.job, []).append(spec)
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


def digest(data: Any) -> str:
    """16 hex digits of canonical JSON."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
