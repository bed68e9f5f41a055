"""What one entry of a page may say: tasks, families, methods and protocols as frozen, validated values."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from benchmark.records.spec import FitBudget, Kind, Precision, ProbeBudget
from mbpo.config import Budget, Config, InputError, build, nearest, numerics_version


class Entry(Config):
    """An entry whose unknown fields are refused before its missing ones: a misspelt field is both."""

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, data: Any) -> Any:
        for name in data if isinstance(data, dict) else ():
            if name not in cls.model_fields:
                raise ValueError(f"unknown field {str(name)!r}; {nearest(str(name), cls.model_fields)}")
        return data


class TaskEntry(Entry):
    """One task: where it belongs, and the scores that put its returns on a common scale."""

    suite: Literal["dmc", "gym", "toy", "control"]
    paper_seven: bool = False
    obs_dim: int | None = Field(None, ge=1)
    action_dim: int | None = Field(None, ge=1)
    time_limit: int | None = Field(None, ge=1)
    random_score: float | None = None
    random_std: float | None = None
    reference_score: float | None = None

    def normalize(self, score: float) -> float:
        """The score on a scale where a random policy has 0 and the reference 1. Raises `InputError` without both."""
        low, high = self.random_score, self.reference_score
        if low is None or high is None:
            raise InputError(
                "this task has no random_score or no reference_score to normalize by; add both to tasks.yaml"
            )
        return (score - low) / (high - low)


class Constant(Entry):
    """A constant's value, or its value on each task, and where that was read."""

    value: Any = None
    by_task: dict[str, Any] | None = None
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if ("value" in self.model_fields_set) == (self.by_task is not None):
            raise ValueError("give either value or by_task")
        return self


class Family(Entry):
    """A consistent set of all constants, from one origin.

    A page states those that are not the default of mbpo/config.py or have another source; the rest come from there.
    """

    doc: str
    constants: dict[str, Constant] = Field(default_factory=dict)

    @property
    def tasks(self) -> list[str] | None:
        """The tasks that it has constants for, or None where no constant depends on the task."""
        named = [set(constant.by_task) for constant in self.constants.values() if constant.by_task is not None]
        return sorted(set.intersection(*named)) if named else None


class MethodEntry(Entry):
    """A family and the constants in which this method differs from it."""

    doc: str
    family: str
    constants: dict[str, Constant] = Field(default_factory=dict)


class TrainPlan(Entry):
    """How a protocol trains online. `env_steps` is a number, or one per suite or task (the task's wins).

    `by_task` holds further overrides, each for all tasks whose id begins so.
    """

    env_steps: int | dict[str, int]
    eval_every: int
    eval_episodes: int
    bias_episodes: int = 0
    overrides: dict[str, Any] = Field(default_factory=dict)
    by_task: dict[str, dict[str, Any]] = Field(default_factory=dict)
    tasks: list[str] | None = None

    def budget(self, task: str) -> Budget:
        """The budget on one task. Raises `InputError` where the page names no length for it."""
        steps = self.env_steps
        if isinstance(steps, dict):
            suite = task.split(":")[0]
            if task not in steps and suite not in steps:
                raise InputError(f"train.env_steps has no entry for {task!r}; it has {', '.join(sorted(steps))}")
            steps = steps[task if task in steps else suite]
        looks = {name: getattr(self, name) for name in ("eval_every", "eval_episodes", "bias_episodes")}
        return build(Budget, {"env_steps": steps, **looks}, "train")


class FitPlan(FitBudget):
    """How a protocol fits models on a fixed data set. `by_task`: further overrides, for all tasks that begin so."""

    overrides: dict[str, Any] = Field(default_factory=dict)
    by_task: dict[str, dict[str, Any]] = Field(default_factory=dict)
    tasks: list[str] | None = None

    def budget(self) -> FitBudget:
        """The data set alone."""
        return FitBudget(**{name: getattr(self, name) for name in FitBudget.model_fields})


class ReplayPlan(TrainPlan):
    """Whose replay fits and probes may start from, instead of the rows of a random policy, and how it is split.

    `step` is where it is cut off, `more_steps` are others that a claim may name. With `must_learn`, no claim is judged
    on the replay of an agent whose return is not clearly above a random policy's. `numerics_version` pins the runs
    that collected it to an older version of training: their rows stay valid data.
    """

    method: str
    step: int
    more_steps: tuple[int, ...] = ()
    must_learn: bool = False
    transitions: int
    heldout: int
    precision: Precision = "fp32"
    numerics_version: int = Field(default_factory=lambda: numerics_version("train"), ge=0)


class TrajectoryPlan(Entry):
    """Warm-started refits on the growing replay, which is split as this says instead of as the replay plan does."""

    refits: int = Field(ge=2, le=1000)
    transitions: int
    heldout: int


class ProbePlan(ProbeBudget):
    """How a protocol probes critics and policies: constants on top of those of its fits."""

    overrides: dict[str, Any] = Field(default_factory=dict)

    def budget(self) -> ProbeBudget:
        """The budget alone."""
        return ProbeBudget(**{name: getattr(self, name) for name in ProbeBudget.model_fields})


class Protocol(Entry):
    """How much evidence to collect, and by which networks."""

    name: str
    doc: str
    seeds: int = Field(ge=1, le=10_000)
    hours: str
    notes: str
    train: TrainPlan
    fit: FitPlan
    replay: ReplayPlan | None = None
    trajectory: TrajectoryPlan | None = None
    probe: ProbePlan | None = None

    def carries(self, kind: Kind, task: str) -> bool:
        """Whether this protocol runs the task itself; what it does not carry is listed as incomplete."""
        tasks = self.train.tasks if kind == "train" else self.fit.tasks
        if kind == "probe" and self.probe is None:
            return False
        return tasks is None or task in tasks

    def overrides(self, kind: Kind, task: str) -> dict[str, Any]:
        """Constants that replace a family's on one task, by dotted path."""
        plan = self.train if kind == "train" else self.fit
        constants = dict(plan.overrides)
        for beginning, more in plan.by_task.items():
            constants |= more if task.startswith(beginning) else {}
        return constants | (self.probe.overrides if kind == "probe" and self.probe is not None else {})
