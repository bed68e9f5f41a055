"""Speeds of a machine from its measurements, as `benchmark.running.cost` takes them.

An update in lockstep costs ``calls + runs * operations / flops`` seconds. Measurements at several numbers of runs give
both terms by least squares of relative errors. At a single number of runs all of it counts as arithmetic on a CPU, and
half of it on a GPU.
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

Measurement = Mapping[str, Any]
ARITHMETIC = {True: 1.0, False: 0.5}
"""Share of an update that counts as arithmetic if only one number of runs was measured: on a CPU, on a GPU."""


def rates_of(measurements: Iterable[Measurement], cpus: int) -> Rates:
    """Rates of the whole machine, from one measurement or more: of one GPU, or of processes that fill `cpus`."""
    rows = [row for row in measurements if row["seconds"].get("model_update")] or list(measurements)
    on_cpu = _on_cpu(rows[0])
    sac_flops, sac_calls = _fit_line(rows, "sac_update", _sac_work)
    with_model = [row for row in rows if "model_update" in row["seconds"]]
    model_flops, model_calls = _fit_line(with_model, "model_update", _model_work) if with_model else (sac_flops, 0.0)
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


def comparable(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The measurements for one estimate: fp32 if there are any, with the fewest threads."""
    plain = [row for row in measurements if row["precision"] == "fp32"] or list(measurements)
    fewest = min((row["threads"] for row in plain), default=1)
    return [row for row in plain if row["threads"] == fewest]


def _fit_line(rows: Sequence[Measurement], part: str, work: Callable[[Measurement], float]) -> tuple[float, float]:
    """Operations per second of one part, and its seconds per call beyond them."""
    from scipy.optimize import nnls  # half a second to import, which every command would pay

    durations = np.array([row["seconds"][part] for row in rows])
    operations = np.array([work(row) for row in rows])
    if len({row["runs"] for row in rows}) == 1:
        share = ARITHMETIC[_on_cpu(rows[0])]
        return float(np.median(operations / (durations * share))), float(np.median(durations * (1 - share)))
    unit = float(np.median(operations / durations))  # so that both columns are of one size
    columns = np.stack([np.ones_like(durations), operations / unit], axis=1) / durations[:, None]
    (calls, slowdown), _ = nnls(columns, np.ones_like(durations))
    return unit / max(float(slowdown), 1e-9), float(calls)


def _method(row: Measurement) -> Method:
    return load_suite().method(row["method"], row["task"])


def _dims(row: Measurement) -> tuple[int, int]:
    return int(row["obs_dim"]), int(row["action_dim"])


def _sac_work(row: Measurement) -> float:
    return float(row["runs"] * cost.sac_update_flops(_method(row), *_dims(row), kernels=_kernels(row)))


def _model_work(row: Measurement) -> float:
    model = _method(row).model
    assert model is not None
    return float(row["runs"] * cost.model_update_flops(model, *_dims(row)))


def _step_seconds(row: Measurement, model_flops: float) -> float:
    """Seconds of a lockstep env step beyond updates, simulators and the arithmetic of rollouts."""
    seconds, method = row["seconds"], _method(row)
    rest = float(seconds["act"] + seconds.get("host", 0.0))
    if "rollout" in seconds:
        per_step = seconds["rollout"] / method.rollout.every
        rest += per_step - row["runs"] * cost.rollout_flops(method, *_dims(row), kernels=_kernels(row)) / model_flops
    return rest


def _kernels(row: Measurement) -> bool:
    return row.get("means") == "kernels"


def _on_cpu(row: Measurement) -> bool:
    return str(row["device"]) == "cpu"


class Speeds(NamedTuple):
    """Basis of an estimate in hours: rates, their device, and the files they come from (none if assumed)."""

    rates: Rates
    device: str
    files: tuple[str, ...]

    @property
    def words(self) -> str:
        """The origin of the rates as text."""
        if not self.files:
            return "assumed speeds; measure this machine's with speed --save"
        more = f" and {len(self.files) - 1} more beside it" if len(self.files) > 1 else ""
        return f"speeds measured in {self.files[0]}{more}"


def speeds(results: Path, environ: Mapping[str, str], given: Path | None = None) -> Speeds:
    """Measured rates from the file or folder `given`, else from this machine's folder, else assumed ones.

    Raises:
        InputError: `given` is a file that is no measurement, or a folder without any.
    """
    gpus = len(visible_gpus(environ))
    if given is not None and not given.is_dir():
        measurements = {given: saved.read(given)}
    else:
        measurements = saved.read_all(given or saved.own_folder(results, environ))
        if given is not None and not measurements:
            raise saved.no_measurement(given)
    if not measurements:
        return Speeds(rates(gpus), "one GPU" if gpus else "the CPUs", ())
    used = comparable(list(measurements.values()))
    files = tuple(str(path) for path, row in measurements.items() if any(row is other for other in used))
    device = "the CPUs" if used[0]["device"] == "cpu" else f"one {used[0]['device']}"
    return Speeds(rates_of(used, _cpus(used[0])), device, files)


def _cpus(row: Mapping[str, Any]) -> int:
    return int(row.get("where", {}).get("cpus") or cpu_count())
