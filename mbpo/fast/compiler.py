"""Compiles the kernel library from the sources in ``native`` with this machine's compiler."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "native"
# The last: the compiler uses fused multiply-adds for a single sum too, as in whole blocks, whatever its tuning.
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "--param=avoid-fma-max-bits=0")


def build(compiler: str) -> Path:
    """Path of the library, compiled unless it is cached: a file per sources, compiler, flags and processor."""
    sources = {path.name: path.read_bytes() for path in sorted(SOURCES.glob("*.[ch]"))}
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    info = Path("/proc/cpuinfo")
    processor = re.search(r"^flags.*$", info.read_text(errors="replace"), re.MULTILINE) if info.is_file() else None
    key_parts = (repr(sources), version, processor[0] if processor else "", *FLAGS)
    path = cache_folder() / f"mbpo-{hashlib.sha256(chr(0).join(key_parts).encode()).hexdigest()[:24]}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=path.parent) as aside:
            draft = Path(aside) / path.name
            command = [compiler, *FLAGS, str(SOURCES / "library.c"), "-o", str(draft)]
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
            draft.replace(path)  # at once: another process may be building the same
    return path


def cache_folder() -> Path:
    """A folder that this user alone can write to, because what lies there is executed.

    Raises:
        OSError: neither the user's cache nor the folder for temporary files can be written to.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for folder in (base / "mbpo", Path(tempfile.gettempdir()) / f"mbpo-{os.getuid()}"):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    raise OSError("neither the user's cache nor the folder for temporary files can be written to")
