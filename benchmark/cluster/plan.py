"""The plan of a submission: which missing runs train together, and in which order.

A lockstep job takes one GPU, or the CPUs of one task. It holds as many runs as `most` allows and as fit in the GPU's
memory: each takes its buffers, counted, and what torch held beside them when speed was measured. Jobs go longest first,
which ends soonest under any scheduler that starts them in order. Short ones share a task, for a start costs seconds of
imports and of waiting in a queue. Runs that are fitted on the same replays share a task as well: two tasks would wait
for one another.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmark.records.spec import RunSpec, lockstep, unique
from benchmark.running.cost import Rates, dimensions, hours
from benchmark.running.job import Job
from benchmark.words import count

WORTH_HOURS = 0.25
"""Jobs that are shorter share a task until it is this long."""
WORKING_BYTES = 0.46e9
"""Of a run beside its buffers, where nothing was measured: 12 runs on one H200 held 5.3 GiB."""
USABLE = 0.9
"""Of a GPU's memory: the rest is CUDA's own and lost between tensors."""


@dataclass(frozen=True)
class Part:
    """What one task of the array trains, one lockstep job after the other."""

    jobs: tuple[tuple[RunSpec, ...], ...]
    hours: float
    """Estimated hours of these runs."""
    sources_hours: float
    """Estimated hours of the runs whose replays they need and which are trained first."""
    gigabytes: float
    """Estimated memory of the largest job."""

    @property
    def specs(self) -> list[RunSpec]:
        """Its runs, in order."""
        return [spec for job in self.jobs for spec in job]

    @property
    def most(self) -> int:
        """Runs of the largest job."""
        return max(len(job) for job in self.jobs)

    @property
    def all_hours(self) -> float:
        """With the runs that are trained first."""
        return self.hours + self.sources_hours

    @property
    def label(self) -> str:
        """Such as 'train mbpo+ftfl on dmc:hopper-hop (12 runs)', or that and how many jobs more."""
        more = len(self.jobs) - 1
        return Job(self.jobs[0]).label + (f" and {count(more, 'job')} more" if more else "")


def plan(
    missing: Sequence[RunSpec],
    rates: Rates,
    most: int,
    *,
    gpu_gigabytes: float | None = None,
    working_bytes: float = WORKING_BYTES,
    is_kept: Callable[[RunSpec], bool] = lambda run: False,
) -> list[Part]:
    """The parts that train `missing`, the longest first.

    Args:
        missing: distinct runs without a record.
        rates: what hours are estimated by.
        most: most runs in lockstep.
        gpu_gigabytes: memory of one GPU; without it, jobs are as large as `most` allows.
        working_bytes: memory of one run beside its buffers.
        is_kept: whether a run's replay is in the cache.
    """
    jobs: list[tuple[RunSpec, ...]] = []
    for alike in lockstep(missing, max(len(missing), 1)):
        size = most if gpu_gigabytes is None else min(most, _fitting(alike[0], gpu_gigabytes, working_bytes))
        jobs += [tuple(alike[i : i + size]) for i in range(0, len(alike), size)]
    parts = [_part(group, rates, working_bytes, is_kept) for group in _joined(jobs)]
    return _packed(sorted(parts, key=lambda part: -part.all_hours))


def makespan(parts: Iterable[Part], at_once: int) -> float:
    """Hours until all parts have ended, if `at_once` run at a time, each started in order as soon as there is room."""
    ends = [0.0] * at_once
    for part in parts:
        heapq.heapreplace(ends, ends[0] + part.all_hours)
    return max(ends)


def run_bytes(spec: RunSpec, working_bytes: float = WORKING_BYTES) -> float:
    """Estimated memory of one run: its buffers in single precision, and what else was measured."""
    if spec.budget is None:
        return working_bytes
    obs, action = dimensions(spec)
    method, steps = spec.constants, spec.budget.env_steps
    rows = min(method.real_capacity, steps)
    if method.model is not None:
        rollout = method.rollout
        kept = min(rollout.retain, max(steps - method.random_steps, 0) + rollout.every)
        rows += rollout.per_step * rollout.max_length * kept
    return working_bytes + 4.0 * rows * (2 * obs + action + 2)


def measured_bytes(measurements: Iterable[dict[str, Any]]) -> float:
    """Memory of one run where speed was measured on a GPU; `WORKING_BYTES` where it was not."""
    each = [row["peak_memory_bytes"] / row["runs"] for row in measurements if row["device"] != "cpu"]
    return median(each) if each else WORKING_BYTES


def _fitting(spec: RunSpec, gigabytes: float, working_bytes: float) -> int:
    return max(int(USABLE * gigabytes * 1e9 / run_bytes(spec, working_bytes)), 1)


def _joined(jobs: Sequence[tuple[RunSpec, ...]]) -> list[list[tuple[RunSpec, ...]]]:
    """The jobs, those that need the replays of the same runs together."""
    groups: list[list[tuple[RunSpec, ...]]] = []
    needs: list[set[str]] = []
    for job in jobs:
        mine = {run.key for spec in job if (run := spec.source_run) is not None}
        same = [i for i, theirs in enumerate(needs) if mine & theirs]
        for i in reversed(same[1:]):
            groups[same[0]] += groups.pop(i)
            needs[same[0]] |= needs.pop(i)
        if same:
            groups[same[0]].append(job)
            needs[same[0]] |= mine
        else:
            groups.append([job])
            needs.append(mine)
    return groups


def _part(
    jobs: Sequence[tuple[RunSpec, ...]], rates: Rates, working_bytes: float, is_kept: Callable[[RunSpec], bool]
) -> Part:
    sources = unique(run for job in jobs for spec in job if (run := spec.source_run) is not None)
    return Part(
        tuple(jobs),
        sum(hours(job, rates, most=len(job)) for job in jobs),
        hours([run for run in sources if not is_kept(run)], rates),
        max(len(job) * run_bytes(job[0], working_bytes) for job in jobs) / 1e9,
    )


def _packed(parts: Sequence[Part]) -> list[Part]:
    """The parts with the short ones put together, in order, until they are worth a start."""
    packed = [part for part in parts if part.all_hours >= WORTH_HOURS]
    basket: list[Part] = []
    for part in parts[len(packed) :]:
        basket.append(part)
        if sum(one.all_hours for one in basket) >= WORTH_HOURS:
            packed.append(_together(basket))
            basket = []
    return packed + ([_together(basket)] if basket else [])


def _together(parts: Sequence[Part]) -> Part:
    return Part(
        tuple(job for part in parts for job in part.jobs),
        sum(part.hours for part in parts),
        sum(part.sources_hours for part in parts),
        max(part.gigabytes for part in parts),
    )
