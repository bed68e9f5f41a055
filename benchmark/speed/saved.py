"""Measurements kept under ``results/speed/<machine>/``: one JSON a question, with where and when it was answered.

Reading them needs no torch. A machine goes by its processor or GPU and the number of CPUs, never by a name of its own.
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


def file_name(found: Mapping[str, Any]) -> str:
    """The file of one measurement: ``dmc-hopper-hop-mbpo-R1-t1-fp32.json``."""
    task = slug(str(found["task"]))
    return f"{task}-{found['method']}-R{found['runs']}-t{found['threads']}-{found['precision']}.json"


def save(found: Mapping[str, Any], results: Path) -> Path:
    """Write one measurement under its machine, over an older one of the same question; return its path."""
    path = results / FOLDER / machine(str(found["device"])) / file_name(found)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**found, "where": where()}, indent=1) + "\n", encoding="utf-8")
    return path


def where() -> dict[str, Any]:
    """What a measurement has to be read with: processor, CPUs, load, packages, commit and day."""
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
    """One measurement, an older one in today's names. Raises `InputError` for a file that is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the speed file {str(path)!r} cannot be read: {(error.strerror or '').lower()}") from None
    except ValueError:
        raise InputError(f"the speed file {str(path)!r} is not JSON; write one with speed --save") from None
    found = _renamed(found) if isinstance(found, dict) else found
    lacking = [key for key in NEEDED if not isinstance(found, dict) or key not in found]
    if lacking:
        raise InputError(f"the speed file {str(path)!r} has no {lacking[0]!r}; write one with speed --save")
    return dict(found)


def _renamed(found: dict[str, Any]) -> dict[str, Any]:
    """`found`; what an older file calls the peak is torch's product, and the machine's it has not."""
    if "matmul_gflops" in found or "peak_gflops" not in found:
        return found
    torchs = {"matmul_gflops": found["peak_gflops"], "fraction_of_matmul": found.get("fraction_of_peak")}
    return {**found, **torchs, "peak_gflops": None, "fraction_of_peak": None}


def none_in(folder: Path) -> InputError:
    """What to raise where measurements are expected and there are none."""
    return InputError(f"the folder {str(folder)!r} holds no measurement; write one with speed --save")


def read_all(folder: Path) -> dict[Path, dict[str, Any]]:
    """The measurements in a machine's folder by their paths, in order; none where there is no folder."""
    return {path: read(path) for path in sorted(folder.glob("*-R*-t*.json"))}


def machines(results: Path) -> list[Path]:
    """The machines' folders that hold measurements, in order."""
    return sorted({path.parent for path in (results / FOLDER).glob("*/*-R*-t*.json")})


def here(results: Path, environ: Mapping[str, str]) -> Path:
    """Where this machine's measurements would be: its first GPU's, or without one its processor's."""
    return results / FOLDER / machine((_gpu_name() if visible_gpus(environ) else None) or "cpu")


def machine(device: str) -> str:
    """The folder of a device's measurements: the GPU's name, or processor and number of CPUs."""
    return slug(f"{processor()} {cpu_count()} cpus" if device == "cpu" else device)


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model and the instructions that decide its speed: 'AMD EPYC avx512 bf16'; 'cpu' if unknown."""
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = {"avx512f": "avx512", "avx512_bf16": "bf16", "amx_bf16": "amx"}
    words = [short for flag, short in flags.items() if re.search(rf"\b{flag}\b", text)]
    return " ".join([name[1].strip() if name else "cpu", *words])


def slug(text: str) -> str:
    """`text` as a file name: letters, digits, dots and single hyphens."""
    kept = re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-")
    return kept if ":" in text else kept.lower()


def _gpu_name() -> str | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    done = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30)
    name = re.match(r"GPU 0: (.+?) \(UUID", done.stdout)
    return name[1] if name else None
