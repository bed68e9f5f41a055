"""The library of kernels, made of the sources in ``native`` by the compiler of this machine."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "native"
# The last: a lone sum too is made of fused products, as those of whole blocks are, whatever the processor likes better.
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "--param=avoid-fma-max-bits=0")


def built(compiler: str) -> Path:
    """The library's path, in the user's cache: one for each state of the sources, compiler and kind of processor."""
    sources = {path.name: path.read_bytes() for path in sorted(SOURCES.glob("*.[ch]"))}
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    info = Path("/proc/cpuinfo")
    processor = re.search(r"^flags.*$", info.read_text(errors="replace"), re.MULTILINE) if info.is_file() else None
    told = (repr(sources), version, processor[0] if processor else "", *FLAGS)
    path = folder() / f"mbpo-{hashlib.sha256(chr(0).join(told).encode()).hexdigest()[:24]}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=path.parent) as aside:
            made = Path(aside) / path.name
            command = [compiler, *FLAGS, str(SOURCES / "library.c"), "-o", str(made)]
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
            made.replace(path)  # at once: another process may be building the same
    return path


def folder() -> Path:
    """A folder that can be written to, and only by this user: what lies there is run."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for place in (base / "mbpo", Path(tempfile.gettempdir()) / f"mbpo-{os.getuid()}"):
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(place, os.W_OK) and place.stat().st_uid == os.getuid():
            return place
    raise OSError("neither the user's cache nor the folder for temporary files can be written to")
