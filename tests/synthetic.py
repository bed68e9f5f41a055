"""Made-up records whose verdicts are known, for tests of everything that reads a store."""

import shutil
import zlib
from copy import deepcopy
from functools import cache

import numpy as np
import pandas as pd
import yaml

from benchmark.records.spec import RunSpec, unique
from benchmark.records.store import Store
from benchmark.suite import needs
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import SUITE, load_page, load_suite
from benchmark.suite.needs import runs

PROVENANCE = {
    "engine": "e0",
    "versions": {"python": "3.11.7", "torch": "2.13.0+cpu", "mujoco": "3.17.0"},
    "device": "cpu",
    "commit": None,
}
NORMALIZED = ("norm-only", "ftfl")


@cache
def _claims_page():
    return load_page("claims.yaml", SUITE)


def edited_ledger(folder, edit):
    """The ledger of a copy of the pages in `folder`, after `edit` of the content of ``claims.yaml``."""
    for page in SUITE.glob("*.yaml"):
        shutil.copy(page, folder)
    data = deepcopy(_claims_page())
    edit(data)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    (folder / "claims.yaml").write_text(yaml.dump(data, Dumper=dumper, sort_keys=False))
    return load_ledger(folder)


def _registered(spec):
    """What a run carries that was trained for the claims as they stand."""
    return {needs.CARRIED: needs.served(spec), needs.CARRIED_TERMS: needs.served_terms(spec)}


def write_fit(store: Store, spec: RunSpec, measures, bins=None, **provenance):
    """A fit record with these last scalars, a decoy at an earlier step, and ten bins of (true, predicted) rewards."""
    rows = [(40, name, -1, value + 1e6) for name, value in measures.items()]
    rows += [(400, name, -1, value) for name, value in measures.items()]
    for index, (true, predicted) in enumerate(bins or ()):
        rows += [(400, "reward_true_bin", index, true), (400, "reward_pred_bin", index, predicted)]
    curve = pd.DataFrame({"update": [40, 400], "holdout_mse": [1.0, 0.5], "holdout_nll": [1.0, 0.1]})
    diagnostics = pd.DataFrame(rows, columns=["step", "measure", "dim", "value"])
    return store.write(spec, curve, diagnostics, {**PROVENANCE, **_registered(spec), **provenance})


def write_train(store: Store, spec: RunSpec, returns, measures=(), **provenance):
    """A train record with one evaluation per entry of `returns`, spread evenly from step 0 to the end."""
    steps = np.linspace(0, spec.budget.env_steps, len(returns)).astype(int)
    curve = pd.DataFrame({"env_steps": steps, "episode": 0, "episode_return": returns, "length": 1000})
    rows = [(int(steps[-1]), name, -1, value) for name, value in dict(measures).items()]
    diagnostics = pd.DataFrame(rows or [(0, "q_mean", -1, 0.0)], columns=["step", "measure", "dim", "value"])
    return store.write(spec, curve, diagnostics, {**PROVENANCE, **_registered(spec), **provenance})


def needed(protocol, claims=None):
    """All runs that the protocol carries of these claims, or of all."""
    chosen = [claim for claim in load_ledger().claims if claims is None or claim.id in claims]
    return unique(spec for claim in chosen for spec in runs(claim, protocol))


def fill(store: Store, protocol: str = "quick", skip=(), claims=None, tasks=None):
    """Records for these claims and tasks, or all: the paper is right, but for variance in raw units."""
    for spec in needed(load_suite().protocol(protocol), claims):
        if (spec.task, spec.method, spec.seed) in skip or (tasks is not None and spec.task not in tasks):
            continue
        rng = np.random.default_rng(zlib.crc32(f"{spec.task} {spec.method} {spec.seed}".encode()))
        if spec.kind == "fit":
            write_fit(store, spec, *_fit(spec, rng))
        else:
            write_train(store, spec, _returns(spec.task, spec.method, rng))


def _fit(spec, rng):
    raw, direct, gym = (
        spec.method not in NORMALIZED,
        spec.method in ("ftfl", "direct-only"),
        spec.task.startswith("gym"),
    )
    lost = 0.02 if gym else 10 ** rng.normal(1.2 if "humanoid" in spec.task else 0.0, 0.1)
    r2 = 0.7 + 0.02 * rng.normal() - (lost if raw else 0.0)
    scale = 1.0 if gym else 0.03
    true = scale * np.sort(rng.gamma(2.0, 1.0, 10))
    slope = 0.9 if not raw or gym else 0.1
    predicted = (
        true.mean() + slope * (true - true.mean()) + scale * (1.5 if raw and not gym else 0.05) * rng.normal(size=10)
    )
    logvar = -3.0 + 0.1 * rng.normal() - (0.8 if direct else 0.0)
    measures = {
        "reward_r2": r2,
        "reward_std_ratio": float(np.exp((1.5 if raw and not gym else 0.1) + 0.05 * rng.normal())),
        "reward_true_std": scale,
        "reward_true_mean": float(true.mean()),
        "reward_pred_mean": float(true.mean()) * (0.5 if raw and not gym else 1.0),
        "reward_pred_std": 0.5 * scale,
        "reward_noise_std": 0.5 * scale,
        "reward_slope": slope,
        "logvar_target": logvar,
        "logvar_raw": logvar + (1.9 if direct else 1.0),
        "error_over_delta": 60.0 + rng.normal(),
    }
    if "toys" in spec.task:
        measures |= toy_measures(spec.task, spec.method, rng)
    return measures, list(zip(true, predicted, strict=True))


def toy_measures(task, method, rng):
    """Every knob turns its own measure, of the arms that are not made against it."""
    raw, direct = method in ("mbpo", "direct-only", "mbpo-wide-bounds"), method in ("ftfl", "direct-only")
    lost = any(knob in task for knob in ("Tiny", "Ceiling", "Large")) and raw
    held = "Ceiling" in task and raw and method != "mbpo-wide-bounds"
    measures = {
        "reward_r2": 0.8 - (3.0 + 2.0 * direct if lost else 0.0),
        "calibration_obs": 0.25 if held else 1.2,
        "error_over_delta": 30.0 if direct and "Smooth" in task else 3.0,
        "logvar_raw": -9.0 if direct else -8.0,
    }
    return {name: value + 0.01 * rng.normal() for name, value in measures.items()}


def _returns(task, method, rng):
    progress = np.linspace(0, 1, 13)
    if "toys" in task:
        return toy_returns(task, method, progress, rng)
    pace = {"sac": 0.9, "mbpo": 0.35, "ftfl": 0.3}[method]
    return np.clip(20 + 960 / (1 + np.exp(-(progress - pace) * 14)) + 15 * rng.normal(size=13), 0, 1000)


def toy_returns(task, method, progress, rng):
    """Costs that fall towards the optimum, except where the arm's knob is turned."""
    lost = {"SmallReward": ("mbpo", "direct-only"), "Smooth": ("direct-only", "ftfl")}
    bad = any(knob in task and method in arms for knob, arms in lost.items())
    end = 6.0 if bad else 3.0 if method == "sac" else 1.1
    best = load_suite().task(task).reference_score
    return best * (end + (8 - end) * np.exp(-8 * progress)) * (1 + 0.01 * rng.normal(size=13))
