"""The rows of a sample as they will be once the advice is followed, and the advice that both together give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmark.diagnosis.advice import command
from benchmark.diagnosis.samples import Sample
from mbpo.envs import task_info
from mbpo.envs.tasks import kept_columns


def applied(sample: Sample, reward: float, drop: Sequence[str]) -> Sample:
    """The sample with its reward multiplied and without the observations in `drop`; itself where neither changes it.

    Bounds of actions and an observed past would take new transitions: they are left as they are.
    """
    if reward == 1.0 and set(drop) == set(sample.info.drop):
        return sample
    info = task_info(sample.info.id, tuple(drop))
    groups = task_info(sample.info.id).groups
    had, kept = kept_columns(groups, sample.info.drop), kept_columns(groups, drop)
    dim_of = {had[column]: i for i, column in enumerate(sample.columns)}  # of a whole observation's column in the rows
    dims = [dim_of[column] for column in kept if column in dim_of]
    columns = tuple(i for i, column in enumerate(kept) if column in dim_of)
    o, a = sample.layout.obs_dim, sample.layout.action_dim
    wanted = [*dims, *range(o, o + a), *(o + a + dim for dim in dims), -2, -1]
    parts = []
    for rows in (sample.train, sample.held):
        part = np.ascontiguousarray(rows[..., wanted])
        part[..., -2] *= reward
        parts.append(part)
    varies = np.append(sample.varies[dims], sample.varies[-1])
    return replace(sample, info=info, columns=columns, train=parts[0], held=parts[1], varies=varies)


def merged(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """What `first` says to change, with the arm that is best `then`, and the reasons of both."""
    arm = {name: then[name] for name in ("arm", "normalize", "predict", "words")}
    further = [line for line in then["evidence"] if line not in first["evidence"]]
    evidence = [*first["evidence"], *(f"With what is advised: {line}" for line in further)]
    line = command(first["task"], then["arm"], first["drop"], first["settings"])
    return {**first, **arm, "evidence": evidence, "burden_then": then["burden"], "command": line}
