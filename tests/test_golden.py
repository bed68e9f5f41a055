"""Fingerprints of short runs: the numbers of equal constants and seeds stay as they are, or say that they moved.

Stored results are reused by their key, of which the version of training is a part. A change of the core that moves
numbers must raise it, else old and new results would be pooled. This file run as a script stores the fingerprints anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import FTFL, MBPO, drive, parameters, small, small_janner
from toy_envs import DRIFT

from mbpo import Budget, Method
from mbpo.config import numerics_version
from mbpo.loop import Run

GOLDEN = Path(__file__).parent / "golden"
CASES: dict[str, Method] = {
    "sac": small(model=None),
    "mbpo": small(MBPO),
    "ftfl": small(FTFL),
    "mbpo-janner": small_janner(MBPO),
}
VERSION = numerics_version("train")
BUDGET = Budget(env_steps=100, eval_every=50, eval_episodes=2, bias_episodes=1)
PRECISIONS = ("fp64", "fp32")
# Initial weights are drawn in float32, whose last bit differs between processors; so short a run makes 2e-6 of it.
RTOL, ATOL = 1e-4, 1e-5
REGENERATE = "python tests/test_golden.py"

Fingerprint = dict[str, list[float]]


def fingerprint(method: Method, precision: str = "fp64") -> Fingerprint:
    """Returns, diagnostics and mean size of the parameters of two runs."""
    rows, state = drive(DRIFT, [Run(method, 0), Run(method, 1)], BUDGET, precision=precision)
    found: dict[str, Any] = {f"returns at {row.env_steps}": row.returns.flatten() for row in rows}
    found |= {name: values for name, values in rows[-1].diagnostics.items()}
    for r in range(2):
        for name, tensors in parameters(state, r).items():
            sizes = [float(t.double().abs().mean()) for t in tensors if t.numel()]
            found[f"|{name}| of run {r}"] = np.array([np.mean(sizes)])
    return {name: values.tolist() for name, values in found.items()}


def moved(new: Fingerprint, old: Fingerprint, rtol: float = RTOL, atol: float = ATOL) -> list[str]:
    """What differs between two fingerprints, a line each; a measure that came after the stored one is no difference."""
    lines = [f"{name}: no longer measured" for name in sorted(old.keys() - new.keys())]
    for name in sorted(new.keys() & old.keys()):
        if not np.allclose(new[name], old[name], rtol=rtol, atol=atol, equal_nan=True):
            lines.append(f"{name}: {new[name]} where {old[name]} is stored")
    return lines


def stored(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", CASES)
def test_numbers_have_not_moved(name: str, precision: str) -> None:
    golden = stored(name)
    assert golden["numerics_version"] == VERSION, (
        f"fingerprints are of training's version {golden['numerics_version']}, the code is of {VERSION}: "
        f"run `{REGENERATE}`"
    )
    lines = "\n  ".join(moved(fingerprint(CASES[name], precision), golden[precision]))
    assert not lines, f"numbers moved: if intended raise NUMERICS_VERSIONS and run `{REGENERATE}`\n  {lines}"


def test_no_fingerprint_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == CASES.keys()


NUDGES: dict[str, dict[str, Any]] = {
    "tau": {"sac": {"tau": 0.00505}},
    "discount": {"sac": {"discount": 0.9895}},
    "entropy": {"sac": {"target_entropy": -0.52}},
    "log-std": {"sac": {"max_log_std": 2.02}},
    "bound": {"model": {"max_logvar": 0.51}},
    "step": {"model": {"learning_rate": 3.1e-4}},
    "decay": {"model": {"weight_decay": (1e-4, 1e-4, 3e-4)}},
    "retain": {"rollout": {"retain": 49}},
    "ratio": {"real_ratio": 0.07},
}


@pytest.fixture(scope="module")
def plain() -> Iterator[Fingerprint]:
    """The fingerprint of nothing nudged; while it is in use, all randomness is that of a seed alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "entropy", property(lambda run: f"seed {run.seed}"))
        yield fingerprint(small(MBPO))


@pytest.mark.parametrize("name", NUDGES)
def test_a_small_change_would_show(name: str, plain: Fingerprint) -> None:
    """One constant nudged and all randomness as before: the fingerprint is not too coarse."""
    assert moved(fingerprint(small(MBPO, **NUDGES[name])), plain)


def regenerate() -> int:
    """Store the fingerprints of this version of training; refused if its numbers moved under the same version."""
    GOLDEN.mkdir(exist_ok=True)
    for name, method in CASES.items():
        path, new = GOLDEN / f"{name}.json", {precision: fingerprint(method, precision) for precision in PRECISIONS}
        if path.exists() and stored(name)["numerics_version"] == VERSION:
            lines = [line for precision in PRECISIONS for line in moved(new[precision], stored(name)[precision])]
            if lines:
                print(f"error: {name} moved; raise its version in mbpo/config.py first", *lines, sep="\n  ")
                return 2
            continue
        path.write_text(json.dumps({"numerics_version": VERSION, **new}, indent=1) + "\n")
        print(f"stored {path}")
    for path in GOLDEN.iterdir():
        if path.stem not in CASES:
            path.unlink()
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(regenerate())
