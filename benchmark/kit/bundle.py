"""Pack this project and what it needs, but torch, into one archive for machines without a package index.

The machine needs Linux on x86-64, the Python that the bundle is made for with its pip, and torch. Packages come as
wheels of the versions in requirements.lock, without what no training reads: tests, headers, and dm_control beyond its
suite. The wheels inside are not compressed, for the archive is, and better. What judges and draws is left out: records
come back by `merge`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from mbpo.config import InputError

PACKAGES = (
    "absl-py", "annotated-doc", "annotated-types", "cloudpickle", "dm-env", "dm_control", "Farama-Notifications",
    "filelock", "glfw", "gymnasium", "ImageIO", "lxml", "markdown-it-py", "mdurl", "mujoco", "numpy", "packaging",
    "pandas", "pillow", "pydantic", "pydantic_core", "Pygments", "pyparsing", "python-dateutil", "pytz", "PyYAML",
    "rich", "safetensors", "scipy", "shellingham", "submitit", "tqdm", "typer", "typing-inspection",
    "typing_extensions", "tzdata",
    "dm-tree", "etils", "requests", "urllib3", "idna", "certifi", "charset-normalizer", "six", "click",
)  # fmt: skip
"""What training, its command line, `submit` and `speed` import, beside torch; those not in the lock are left out."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64")
NOT_NEEDED = (
    *("**/tests", "**/test", "**/__pycache__", "**/*.pyi", "**/*.pyx", "**/*.h", "*.data/data", "*.data/headers"),
    *(f"mujoco/{name}" for name in ("mjx", "include", "sample", "usd", "experimental", "_render_filament*")),
    *(f"dm_control/{name}" for name in ("locomotion", "composer", "entities", "manipulation", "blender", "viewer")),
    "dm_control/suite/dog_assets",
    *(f"scipy/{name}" for name in ("io", "signal", "stats", "datasets", "integrate")),
    *(f"scipy/{name}" for name in ("interpolate", "cluster", "odr", "misc")),
)
"""Patterns of files and folders in site-packages that are left out: no task but dm_control's dogs needs them."""
SOURCES = ("mbpo", "benchmark", "pyproject.toml", "README.md", "LICENSE")
INSTALL = """#!/bin/sh
# Installs what lies beside this file into a new environment, without any package index: ./install.sh DIR
# PYTHON names the Python, whose torch is used as well; TORCH names the folder that holds torch, if it lies elsewhere.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
env=${1:?give the folder of the new environment: ./install.sh DIR}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
fail() { echo "error: $1" >&2; exit 1; }
[ "$version" = "@PYTHON@" ] || fail "$python is Python $version, and these wheels are for @PYTHON@"
"$python" -m venv --system-site-packages --without-pip "$env"
"$python" -m pip --python "$env/bin/python" install -qq --disable-pip-version-check --no-index --no-deps --no-compile \\
    --force-reinstall --ignore-requires-python "$here"/wheels/*.whl
cd "$env"  # away from any checkout, which Python would import instead
env=$PWD
site=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
if [ -n "${TORCH:-}" ]; then
    echo "$TORCH" > "$site/torch-elsewhere.pth"
elif ! "$env/bin/python" -c 'import torch' 2>/dev/null; then
    "$python" -c 'import os, torch; print(os.path.dirname(os.path.dirname(torch.__file__)))' \\
        > "$site/torch-elsewhere.pth" 2>/dev/null ||
        fail "$python has no torch: name another PYTHON, or as TORCH the folder that holds it"
fi
"$env/bin/python" -m benchmark --version
echo "installed: $env/bin/python -m benchmark"
"""
RUN = """#!/bin/sh
# The command `gpu` with what lies beside this file: ./run.sh --minutes 25 --out DIR
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONDONTWRITEBYTECODE=1 MUJOCO_GL=disable
[ -x "$here/env/bin/python" ] || "$here/install.sh" "$here/env" || exit 1
exec "$here/env/bin/python" -m benchmark gpu --jobs "$here/jobs.txt" "$@"
"""
MOST_MB = 64.0


def pins(lock: Path, names: Sequence[str] = PACKAGES) -> list[str]:
    """The lines ``name==version`` of the lock for these packages; names are compared as pip does."""
    wanted = {_plain(name) for name in names}
    lines = [line.split("#")[0].strip() for line in lock.read_text().splitlines()]
    return [line for line in lines if "==" in line and _plain(line.split("==")[0]) in wanted]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def fetch(requirements: Sequence[str], to: Path, python: str) -> None:
    """Download the wheels of `requirements` for Linux and this Python into the folder `to`.

    Raises:
        InputError: pip has no wheel for one of them; its message is quoted.
    """
    platforms = [option for name in PLATFORMS for option in ("--platform", name)]
    what = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]
    _pip("download", *what, "--dest", str(to), *requirements, fault=f"pip cannot fetch wheels for Python {python}")


def own_wheel(root: Path, to: Path) -> None:
    """Make a wheel of the project in `root`, from a copy, into the folder `to`. Raises `InputError`."""
    with tempfile.TemporaryDirectory() as folder:
        for name in SOURCES:
            source, copy = root / name, Path(folder) / name
            if source.is_dir():
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy2(source, copy)
        _pip("wheel", "--no-build-isolation", "--wheel-dir", str(to), folder, fault="pip cannot pack this project")


def _pip(command: str, *arguments: str, fault: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, "-qq", "--disable-pip-version-check", "--no-deps", *arguments],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise InputError(f"{fault}: {done.stderr.strip().splitlines()[-1]}")


def is_needed(name: str) -> bool:
    """Whether a file of this name in a wheel is taken along."""
    parts = PurePosixPath(name).parts
    for pattern in NOT_NEEDED:
        wanted = PurePosixPath(pattern).parts
        if wanted[0] == "**":
            if any(fnmatchcase(part, wanted[1]) for part in parts):
                return False
        elif len(parts) >= len(wanted) and all(map(fnmatchcase, parts, wanted)):
            return False
    return True


def slim(wheel: Path) -> None:
    """Rewrite a wheel without what no training reads, its list of files too, and without compression."""
    draft = wheel.with_suffix(".tmp")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            if not is_needed(entry.filename):
                continue
            data = old.read(entry)
            if entry.filename.endswith(".dist-info/RECORD"):
                lines = data.decode().splitlines(keepends=True)
                data = "".join(line for line in lines if is_needed(line.rsplit(",", 2)[0].strip('"'))).encode()
            entry.compress_type = zipfile.ZIP_STORED
            new.writestr(entry, data)
    os.replace(draft, wheel)


def build(root: Path, out: Path, jobs: Sequence[str], python: str = "3.12") -> Path:
    """Write ``out / kit.tar.xz`` with ``wheels``, ``jobs.txt``, ``install.sh`` and ``run.sh``; returns its path.

    Args:
        root: the project's folder.
        out: folder of the archive; made if it is not there.
        jobs: lines PROTOCOL TASK METHOD: what `run.sh` trains, the most valuable first.
        python: version of the Python there.

    Raises:
        InputError: no wheels, or an archive of over `MOST_MB`.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "kit.tar.xz"
    with tempfile.TemporaryDirectory(dir=out) as folder:
        kit = Path(folder) / "kit"
        (kit / "wheels").mkdir(parents=True)
        fetch(pins(root / "requirements.lock"), kit / "wheels", python)
        for wheel in sorted((kit / "wheels").glob("*.whl")):
            slim(wheel)
        own_wheel(root, kit / "wheels")
        (kit / "jobs.txt").write_text("".join(f"{line}\n" for line in jobs))
        for name, text in (("install.sh", INSTALL.replace("@PYTHON@", python)), ("run.sh", RUN)):
            (kit / name).write_text(text)
            (kit / name).chmod(0o755)
        with tarfile.open(Path(folder) / path.name, "w:xz", preset=6) as archive:
            archive.add(kit, "kit")
        (Path(folder) / path.name).replace(path)
    if (size := path.stat().st_size / 1e6) > MOST_MB:
        raise InputError(f"{path}: {size:.0f} MB, of which {MOST_MB:.0f} may be taken along; leave packages out")
    return path
