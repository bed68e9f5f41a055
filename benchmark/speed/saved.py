"""Measurements under ``results/speed/<machine>/``: one JSON file per question, with its machine, code and date.

Reading them needs no torch. A machine is named by its processor or GPU and its number of CPUs, never by its host name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark.running import provenance
from benchmark.running.workers import cpu_count, visible_gpus
from mbpo.config import InputError

FOLDER = "speed"
NEEDED = ("task", "method", "runs", "threads", "precision", "device", "matmul_gflops", "seconds")


def file_name(measurement: Mapping[str, Any]) -> str:
    """The file of one measurement: ``dmc-hopper-hop-mbpo-R1-t1-fp32.json``."""
    task, lockstep = slug(str(measurement["task"])), f"R{measurement['runs']}-t{measurement['threads']}"
    return f"{task}-{measurement['method']}-{lockstep}-{measurement['precision']}.json"


def save(measurement: Mapping[str, Any], results: Path) -> Path:
    """Write one measurement under its machine, over an older one of the same question; return its path."""
    path = results / FOLDER / machine(str(measurement["device"])) / file_name(measurement)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**measurement, "where": circumstances()}, indent=1) + "\n", encoding="utf-8")
    return path


def circumstances() -> dict[str, Any]:
    """Processor, CPUs, load, packages, commit and day of a measurement."""
    load = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return {
        "processor": processor(),
        "cpus": cpu_count(),
        "load_average": load,
        "versions": provenance.versions(),
        **provenance.code(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def read(path: Path) -> dict[str, Any]:
    """One measurement, with the keys of an older one renamed. Raises `InputError` for a file that is none."""
    try:
        measurement = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the speed file {str(path)!r} cannot be read: {(error.strerror or '').lower()}") from None
    except ValueError:
        raise InputError(f"the speed file {str(path)!r} is not JSON; write one with speed --save") from None
    measurement = _renamed(measurement) if isinstance(measurement, dict) else measurement
    lacking = [key for key in NEEDED if not isinstance(measurement, dict) or key not in measurement]
    if lacking:
        raise InputError(f"the speed file {str(path)!r} has no {lacking[0]!r}; write one with speed --save")
    return dict(measurement)


def _renamed(measurement: dict[str, Any]) -> dict[str, Any]:
    """`measurement` in today's keys: an older file calls torch's product the peak, and lacks the machine's."""
    if "matmul_gflops" in measurement or "peak_gflops" not in measurement:
        return measurement
    matmul = {"matmul_gflops": measurement["peak_gflops"], "fraction_of_matmul": measurement.get("fraction_of_peak")}
    return {**measurement, **matmul, "peak_gflops": None, "fraction_of_peak": None}


def no_measurement(folder: Path) -> InputError:
    """The error of a folder that should hold measurements and does not."""
    return InputError(f"the folder {str(folder)!r} holds no measurement; write one with speed --save")


def read_all(folder: Path) -> dict[Path, dict[str, Any]]:
    """The measurements in a machine's folder by path, in order; empty if there is no folder."""
    return {path: read(path) for path in sorted(folder.glob("*-R*-t*.json"))}


def machines(results: Path) -> list[Path]:
    """The machines' folders that hold measurements, in order."""
    return sorted({path.parent for path in (results / FOLDER).glob("*/*-R*-t*.json")})


def own_folder(results: Path, environ: Mapping[str, str]) -> Path:
    """The folder of this machine's measurements: those of its first GPU, or without one of its processor."""
    return results / FOLDER / machine((_gpu_name() if visible_gpus(environ) else None) or "cpu")


def machine(device: str) -> str:
    """Name of a device's folder: the GPU, or processor and number of CPUs."""
    return slug(f"{processor()} {cpu_count()} cpus" if device == "cpu" else device)


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model and the instructions that decide its speed: 'AMD EPYC avx512 bf16'; 'cpu' if unknown."""
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = {"avx512f": "avx512", "avx512_bf16": "bf16", "amx_bf16": "amx"}
    features = [short for flag, short in flags.items() if re.search(rf"\b{flag}\b", text)]
    return " ".join([name[1].strip() if name else "cpu", *features])


def slug(text: str) -> str:
    """`text` as a file name: letters, digits, dots and single hyphens."""
    hyphened = re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-")
    return hyphened if ":" in text else hyphened.lower()


def _gpu_name() -> str | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    listing = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30)
    name = re.match(r"GPU 0: (.+?) \(UUID", listing.stdout)
    return name[1] if name else None
