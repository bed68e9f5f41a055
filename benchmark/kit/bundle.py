"""Pack this project and what it needs, but torch, into one archive for a machine without a network.

The machine needs Linux on x86-64, the Python that the bundle is made for, and torch. Packages come as wheels of the
versions in requirements.lock, without what no training reads: tests, headers, and dm_control beyond its suite.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mbpo.config import InputError

PACKAGES = (
    "absl-py", "annotated-doc", "annotated-types", "cloudpickle", "dm-env", "dm_control", "Farama-Notifications",
    "filelock", "glfw", "gymnasium", "ImageIO", "lxml", "markdown-it-py", "mdurl", "mujoco", "numpy", "packaging",
    "pandas", "pillow", "pydantic", "pydantic_core", "Pygments", "pyparsing", "python-dateutil", "pytz", "PyYAML",
    "rich", "safetensors", "scipy", "shellingham", "tqdm", "typer", "typing-inspection", "typing_extensions", "tzdata",
    "dm-tree", "etils", "requests", "urllib3", "idna", "certifi", "charset-normalizer", "six", "click",
)  # fmt: skip
"""What training, its command line and `speed` import, beside torch; those not in the lock are left out."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64")
NOT_NEEDED = (
    *("**/tests", "**/test", "**/__pycache__", "**/*.pyi", "**/*.pyx", "**/*.h", "bin", "share"),
    *(f"mujoco/{name}" for name in ("mjx", "include", "sample", "usd", "experimental", "_render_filament*")),
    *(f"dm_control/{name}" for name in ("locomotion", "composer", "entities", "manipulation", "blender", "viewer")),
    "dm_control/suite/dog_assets",
    *(f"scipy/{name}" for name in ("io", "signal", "stats", "datasets", "integrate")),
    *(f"scipy/{name}" for name in ("interpolate", "cluster", "odr", "misc")),
)
"""Patterns of files and folders in site-packages that are removed: no task but dm_control's dogs needs them."""
SOURCES = ("mbpo", "benchmark", "pyproject.toml", "conftest.py", "README.md", "LICENSE")
RUN = """#!/bin/sh
# The command `gpu` with what lies beside this file: ./run.sh --minutes 25 --out DIR
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$here/project:$here/site${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1 MUJOCO_GL=disable
exec "${PYTHON:-python3}" -m benchmark gpu --jobs "$here/jobs.txt" "$@"
"""
MOST_MB = 60.0


def pins(lock: Path, names: Sequence[str] = PACKAGES) -> list[str]:
    """The lines ``name==version`` of the lock for these packages; names are compared as pip does."""
    wanted = {_plain(name) for name in names}
    lines = [line.split("#")[0].strip() for line in lock.read_text().splitlines()]
    return [line for line in lines if "==" in line and _plain(line.split("==")[0]) in wanted]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def fetch(requirements: Sequence[str], site: Path, python: str) -> None:
    """Unpack the wheels of `requirements` for Linux and this Python into `site`.

    Raises:
        InputError: pip has no wheel for one of them; its message is quoted.
    """
    platforms = [option for name in PLATFORMS for option in ("--platform", name)]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-qq",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-compile",
    ]
    where = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms, "--target"]
    done = subprocess.run([*command, *where, str(site), *requirements], capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"pip cannot fetch wheels for Python {python}: {done.stderr.strip().splitlines()[-1]}")


def slim(site: Path) -> None:
    """Remove what no training reads."""
    for pattern in NOT_NEEDED:
        for path in list(site.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()


def build(root: Path, out: Path, jobs: Sequence[str], python: str = "3.12") -> Path:
    """Write ``out / kit.tar.xz`` with ``site``, ``project``, ``jobs.txt`` and ``run.sh``; returns its path.

    Args:
        root: the project's folder.
        out: folder of the archive; made if it is not there.
        jobs: lines PROTOCOL TASK METHOD: what to train there, the most valuable first.
        python: version of the Python there.

    Raises:
        InputError: no wheels, or an archive of over `MOST_MB`.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "kit.tar.xz"
    with tempfile.TemporaryDirectory(dir=out) as folder:
        kit = Path(folder) / "kit"
        (kit / "project").mkdir(parents=True)
        fetch(pins(root / "requirements.lock"), kit / "site", python)
        slim(kit / "site")
        for name in SOURCES:
            source, to = root / name, kit / "project" / name
            if source.is_dir():
                shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy2(source, to)
        (kit / "jobs.txt").write_text("".join(f"{line}\n" for line in jobs))
        (kit / "run.sh").write_text(RUN)
        (kit / "run.sh").chmod(0o755)
        with tarfile.open(Path(folder) / path.name, "w:xz", preset=6) as archive:
            archive.add(kit, "kit")
        (Path(folder) / path.name).replace(path)
    if (size := path.stat().st_size / 1e6) > MOST_MB:
        raise InputError(f"{path}: {size:.0f} MB, of which {MOST_MB:.0f} may be taken along; leave packages out")
    return path
