"""Would MBPO break on a task, why, and what to do: the instruments of the suite on anyone's environment.

Transitions of a random policy, or of trained runs; the main arms fitted on them in lockstep; signatures with
severities; obstacles between reward and policy; a recommendation with its evidence. How well an agent would do takes
training: `benchmark.diagnosis.trial` does some.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmark.diagnosis import changes
from benchmark.diagnosis.advice import recommend
from benchmark.diagnosis.evidence import Evidence
from benchmark.diagnosis.obstacles import change, obstacles
from benchmark.diagnosis.samples import Sample
from benchmark.diagnosis.signatures import SIGNATURES, Measured, judge, measured
from benchmark.running import fit as forensics
from benchmark.running.job import Result
from benchmark.suite.load import load_suite
from mbpo import diagnostics
from mbpo.config import Method
from mbpo.fast.engine import engine
from mbpo.state import Run

ARMS = ("mbpo", "reward-norm", "norm-only", "direct-only", "fitted", "ftfl")
"""From the fewest changes to the most; the signatures of a task are those of the first."""
STEPS, SEEDS = 6_000, 3
PROTOCOL = "quick"
"""Whose constants a learner is judged by, that of `run` unless another is given."""
MODEL: Mapping[str, Any] = {
    "ensemble_size": 3,
    "num_elites": 3,
    "updates": 700,
    "batch_size": 128,
    "learning_rate": 1e-3,
}
"""The paper's layers, but 3 members as in the quick protocol, fewer updates of half a batch, and jannerm's step size:
minutes on two cores. How far raw arms get depends on it: the first weights shrink with the number of members."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Diagnosis:
    """Findings ready for JSON, and what pictures are drawn from."""

    findings: dict[str, Any]
    sample: Sample
    measured: Measured


def diagnose(
    sample: Sample,
    *,
    device: str = "auto",
    model: Mapping[str, Any] = MODEL,
    say: Say = lambda line: None,
    again: bool = True,
) -> Diagnosis:
    """Fit, measure, judge and recommend.

    Where the reward is to be multiplied or sensors are to be left out, the arm is chosen by further fits on the rows as
    they will be then: what a raw reward asks of a model, a multiplied one may not.

    Args:
        sample: transitions of S seeds, each with fits of its own.
        device: as for `mbpo.train`.
        model: constants of the model that replace the paper's.
        say: called with lines of progress.
        again: whether those further fits are made.
    """
    seeds = len(sample.train)
    for line in (*(f"left out: {line}" for line in sample.left_out), *sample.notes):
        say(line)
    say(f"fitting {len(ARMS)} arms, {seeds} seeds each, in lockstep")
    first = judged(sample, fit(sample, model, device, say))
    advice = first.findings["recommendation"]
    changed = changes.applied(sample, advice["adjust"].get("reward", 1.0), advice["drop"])
    if changed is sample or not again:
        return first
    say("fitting them again on the rows as they will be with what is advised")
    then = judged(changed, fit(changed, model, device, say)).findings["recommendation"]
    first.findings["recommendation"] = changes.merged(advice, then)
    return first


def fit(sample: Sample, model: Mapping[str, Any], device: str, say: Say) -> dict[str, list[Result]]:
    """Every arm on every seed's rows: ``{arm: [a result a seed]}``."""
    on, seeds = engine(device, "fp32"), len(sample.train)
    runs = [Run(_method(sample, arm, model), seed) for arm in ARMS for seed in range(seeds)]
    train, held = (
        torch.as_tensor(np.concatenate([rows] * len(ARMS))).to(on.device, on.dtype)
        for rows in (sample.train, sample.held)
    )

    def progress(done: int, of: int) -> None:
        if done < of:
            say(f"{done} of {of} updates")

    results = forensics.fit_rows(runs, sample.layout, train, held, on, progress)
    return {arm: results[i * seeds : (i + 1) * seeds] for i, arm in enumerate(ARMS)}


def _method(sample: Sample, arm: str, model: Mapping[str, Any]) -> Method:
    method = load_suite().method(arm, sample.info.id, kind="fit")
    assert method.model is not None
    changed = type(method.model).model_validate({**method.model.model_dump(), **model})
    return method.model_copy(update={"model": changed})


def judged(sample: Sample, results: Mapping[str, Sequence[Result]]) -> Diagnosis:
    """Signatures and recommendation of finished fits."""
    train, layout = torch.as_tensor(sample.train), sample.layout
    learner = load_suite().method(ARMS[0], sample.info.id, PROTOCOL)
    standing = obstacles(Evidence(sample, learner))
    geometry = {name: value.numpy() for name, value in diagnostics.target_geometry(train, layout).items()}
    obs, target = (part.double().numpy() for part in (layout.obs(train), layout.targets(train)))
    spread = {"value": target.std(1), "increment": (target[..., :-1] - obs).std(1)}
    m = measured(results, spread["value"], _signal(spread), geometry, sample.varies)
    arms = {arm: {sign.id: judge(sign, m, arm) for sign in SIGNATURES} for arm in results}
    findings = {
        "task": sample.info.id,
        "geometry": _geometry(sample, geometry, spread),
        "arms": {arm: _arm(sample, m, arm, arms[arm]) for arm in arms},
        "signatures": {
            sign.id: {
                **{name: getattr(sign, name) for name in ("title", "meaning", "mild", "severe", "decides")},
                "arm": ARMS[0],
                **arms[ARMS[0]][sign.id],
                "by_arm": {arm: arms[arm][sign.id]["severity"] for arm in arms},
            }
            for sign in SIGNATURES
        },
        "obstacles": {o.id: o.to_json() for o in standing},
        "recommendation": recommend(sample, m, arms, change(standing)),
    }
    return Diagnosis(_plain(findings), sample, m)


def summary(diagnosis: Diagnosis) -> list[str]:
    """The diagnosis in lines for a terminal."""
    findings = diagnosis.findings
    lines = [f"{sign['severity'] or 'not judged':<10}  {sign['title']}" for sign in findings["signatures"].values()]
    advice = findings["recommendation"]
    lines += [f"{o['severity']:<10}  {o['title']}" for o in findings["obstacles"].values() if o["change"]]
    lines.append(f"recommended: {advice['arm']} (normalize = {advice['normalize']}, predict = {advice['predict']})")
    lines += [f"  {line}" for line in (f"That is, {advice['words']}.", *advice["evidence"])]
    lines += [f"  Change: {line}" for line in advice["changes"]]
    return [*lines, f"  {advice['command']}"]


def _signal(spread: Mapping[str, np.ndarray]) -> np.ndarray:
    """What there is to predict, ``(S, D)``: the lesser of the value's and the increment's standard deviation."""
    value, increment = spread["value"], spread["increment"]
    padded = np.concatenate([increment, value[:, -1:]], axis=1)
    return np.where(padded > 0, np.minimum(padded, value), value)


def _arm(sample: Sample, m: Measured, arm: str, signs: Mapping[str, Any]) -> dict[str, Any]:
    """Medians over seeds of one arm, and its signatures."""
    scalars = {name: float(np.median(v)) for name, v in m.values[arm].items() if v.ndim == 1}
    dims = {name: np.median(m.of(arm, name), axis=0).tolist() for name in m.values[arm] if name.startswith("dim_")}
    target = _method(sample, arm, {}).target
    return {
        "normalize": target.normalize,
        "predict": target.predict,
        "signatures": {name: sign["severity"] for name, sign in signs.items()},
        "values": {name: sign["value"] for name, sign in signs.items()},
        "measures": {name: value for name, value in scalars.items() if name not in m.geometry},
        "dimensions": dims,
    }


def _geometry(sample: Sample, geometry: Mapping[str, np.ndarray], spread: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The data in numbers: sizes, groups, dimensions, the reward, and what a reader must know. Means over seeds."""
    info, reward = sample.info, sample.train[..., -2].astype(np.float64)
    per_dim = {name: geometry[name].mean(0) for name in _PER_DIM}
    stds = {f"{name}_std": value.mean(0)[: len(sample.columns)] for name, value in spread.items()}
    dimensions = [
        {"name": name, "varies": bool(sample.varies[i]), **{key: float(v[i]) for key, v in (per_dim | stds).items()}}
        for i, name in enumerate(sample.names)
    ]
    groups = {}
    for name, members in sample.groups.items():
        varying = [i for i in members if sample.varies[i]]
        medians = {key: float(np.median(v[varying])) if varying else None for key, v in per_dim.items()}
        groups[name] = {"dimensions": len(members), "varying": len(varying), **medians}
    return {
        "policy": sample.policy,
        "seeds": len(sample.train),
        "train_rows": sample.train.shape[1],
        "heldout_rows": sample.held.shape[1],
        "obs_dim": info.obs_dim,
        "action_dim": info.action_dim,
        "time_limit": info.time_limit,
        "termination": info.termination,
        "terminated_share": float((sample.train[..., -1] == 0).mean()),
        "groups": groups,
        "dimensions": dimensions,
        "reward": {
            **{"mean": float(reward.mean()), "std": float(reward.std(1).mean()), "varies": bool(sample.varies[-1])},
            **{name: float(geometry[name].mean()) for name in ("reward_share_delta", "reward_share_next_obs")},
        },
        "left_out": list(sample.left_out),
        "notes": list(sample.notes),
    }


_PER_DIM = ("increment_ratio", "fitted_carry", "increment_kurtosis", "zero_increments")


def _plain(data: Any) -> Any:
    """The same in values that JSON has: what is not finite becomes None."""
    if isinstance(data, dict):
        return {name: _plain(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    return None if isinstance(data, float) and not np.isfinite(data) else data
