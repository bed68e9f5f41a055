"""Speeds of a machine from its measurements, in the form in which `benchmark.running.cost` assumes them.

An update in lockstep costs ``calls + runs * operations / flops``. Measurements at several numbers of runs give both
terms by least squares of relative errors; at a single one all is arithmetic on a CPU, and half of it on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmark.running import cost
from benchmark.running.cost import Rates, rates
from benchmark.running.workers import cpu_count, visible_gpus
from benchmark.speed import saved
from benchmark.suite.load import load_suite
from mbpo.config import Method

Found = Mapping[str, Any]
ARITHMETIC = {True: 1.0, False: 0.5}
"""Share of an update that is arithmetic where one number of runs was measured: on a CPU, on a GPU."""


def measured(found: Iterable[Found], cpus: int) -> Rates:
    """Rates of the whole machine: one GPU, or as many processes side by side as fill `cpus`. `found` is not empty."""
    rows = [row for row in found if row["seconds"].get("model_update")] or list(found)
    on_cpu = _on_cpu(rows[0])
    sac_flops, sac_calls = _line(rows, "sac_update", _sac_work)
    with_model = [row for row in rows if "model_update" in row["seconds"]]
    model_flops, model_calls = _line(with_model, "model_update", _model_work) if with_model else (sac_flops, 0.0)
    steps = [_step_seconds(row, model_flops) for row in rows]
    envs = [row["seconds"]["env"] / row["runs"] for row in rows]
    side_by_side = max(cpus // min(row["threads"] for row in rows), 1) if on_cpu else 1
    return Rates(
        flops=sac_flops * side_by_side,
        sac_update_s=sac_calls / side_by_side,
        model_update_s=model_calls / side_by_side,
        env_step_s=median(envs) / side_by_side,
        model_flops=model_flops * side_by_side,
        step_s=max(median(steps), 0.0) / side_by_side,
        kernels=all(_kernels(row) for row in rows),
    )


def alike(found: Sequence[Found]) -> list[Found]:
    """The measurements that one estimate may rest on: full precision, the fewest threads."""
    plain = [row for row in found if row["precision"] == "fp32"] or list(found)
    fewest = min((row["threads"] for row in plain), default=1)
    return [row for row in plain if row["threads"] == fewest]


def _line(rows: Sequence[Found], part: str, work: Callable[[Found], float]) -> tuple[float, float]:
    """Operations per second, and seconds per call beyond them, of one part."""
    from scipy.optimize import nnls  # half a second to import, which every command would pay

    taken = np.array([row["seconds"][part] for row in rows])
    done = np.array([work(row) for row in rows])
    if len({row["runs"] for row in rows}) == 1:
        share = ARITHMETIC[_on_cpu(rows[0])]
        return float(np.median(done / (taken * share))), float(np.median(taken * (1 - share)))
    unit = float(np.median(done / taken))  # so that both columns are of one size
    columns = np.stack([np.ones_like(taken), done / unit], axis=1) / taken[:, None]
    (calls, slowness), _ = nnls(columns, np.ones_like(taken))
    return unit / max(float(slowness), 1e-9), float(calls)


def _method(row: Found) -> Method:
    return load_suite().method(row["method"], row["task"])


def _dims(row: Found) -> tuple[int, int]:
    return int(row["obs_dim"]), int(row["action_dim"])


def _sac_work(row: Found) -> float:
    return float(row["runs"] * cost.sac_update_flops(_method(row), *_dims(row), kernels=_kernels(row)))


def _model_work(row: Found) -> float:
    model = _method(row).model
    assert model is not None
    return float(row["runs"] * cost.model_update_flops(model, *_dims(row)))


def _step_seconds(row: Found, model_flops: float) -> float:
    """Seconds of a lockstep env step that neither updates nor simulators nor the rollouts' arithmetic account for."""
    seconds, method = row["seconds"], _method(row)
    rest = float(seconds["act"] + seconds.get("host", 0.0))
    if "rollout" in seconds:
        per_step = seconds["rollout"] / method.rollout.every
        rest += per_step - row["runs"] * cost.rollout_flops(method, *_dims(row), kernels=_kernels(row)) / model_flops
    return rest


def _kernels(row: Found) -> bool:
    return row.get("means") == "kernels"


def _on_cpu(row: Found) -> bool:
    return str(row["device"]) == "cpu"


class Speeds(NamedTuple):
    """What hours rest on: the rates, the device they are of, and the files they were measured in, none if assumed."""

    rates: Rates
    device: str
    files: tuple[str, ...]

    @property
    def words(self) -> str:
        """Where the rates come from."""
        if not self.files:
            return "assumed speeds; measure this machine's with speed --save"
        more = f" and {len(self.files) - 1} more beside it" if len(self.files) > 1 else ""
        return f"speeds measured in {self.files[0]}{more}"


def speeds(results: Path, environ: Mapping[str, str], given: Path | None = None) -> Speeds:
    """Measured rates from the file or folder `given`, else from this machine's folder, else assumed ones.

    Raises `InputError` for a file that is no measurement or a folder that holds none.
    """
    gpus = len(visible_gpus(environ))
    if given is not None and not given.is_dir():
        found = {given: saved.read(given)}
    else:
        found = saved.read_all(given or saved.here(results, environ))
        if given is not None and not found:
            raise saved.none_in(given)
    if not found:
        return Speeds(rates(gpus), "one GPU" if gpus else "the CPUs", ())
    kept = alike(list(found.values()))
    files = tuple(str(path) for path, row in found.items() if any(row is other for other in kept))
    device = "the CPUs" if kept[0]["device"] == "cpu" else f"one {kept[0]['device']}"
    return Speeds(measured(kept, _cpus(kept[0])), device, files)


def _cpus(row: Mapping[str, Any]) -> int:
    return int(row.get("where", {}).get("cpus") or cpu_count())
