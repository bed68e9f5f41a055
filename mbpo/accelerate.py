"""Where a block of updates runs: device, number format and the precision of its products."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch

from mbpo.config import InputError, nearest

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


@dataclass(frozen=True)
class Engine:
    """A device and a precision: `dtype` is that of parameters and buffers, `precision` that of products."""

    device: torch.device
    dtype: torch.dtype
    precision: str

    @contextmanager
    def products(self) -> Iterator[None]:
        """Matrix products inside run in `precision`; sums, losses and optimizers keep `dtype`."""
        if self.precision == "bf16":
            # Uncached: autocast would keep its copy of a weight over all the updates of a block.
            with torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=False):
                yield
            return
        if self.device.type != "cuda":
            yield
            return
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = self.precision == "tf32"
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before


def engine(device: str = "auto", precision: str = "fp32") -> Engine:
    """The engine for a device name; "auto" is the GPU if there is one.

    Raises:
        InputError: unknown precision or device, a GPU that is not there, or tf32 without one.
    """
    if precision not in _DTYPES:
        raise InputError(f"precision = {precision!r}: not a choice; {nearest(precision, _DTYPES)}")
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        place = torch.device(name)
    except RuntimeError:
        raise InputError(
            f"device = {device!r}: not a device; {nearest(device, ['auto', 'cpu', 'cuda', 'cuda:0'])}"
        ) from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device = {device!r}: this torch sees no GPU; use device = 'cpu'")
    count = torch.cuda.device_count()
    if place.type == "cuda" and (place.index or 0) >= count:
        raise InputError(f"device = {device!r}: there are {count} GPUs; the last is 'cuda:{count - 1}'")
    if place.type not in ("cpu", "cuda"):
        raise InputError(f"device = {device!r}: only cpu and cuda are supported; use device = 'auto'")
    if precision == "tf32" and place.type != "cuda":
        raise InputError("precision = 'tf32': exists on a GPU alone; use 'fp32' or 'bf16' on a CPU")
    if place.type == "cpu":
        keep_freed_memory()
    return Engine(place, _DTYPES[precision], precision)


@cache
def keep_freed_memory() -> None:
    """Let glibc keep what is freed: every update frees and takes the same large blocks again.

    By default each of them comes fresh from the kernel, which zeroes it page by page at first touch.
    Elsewhere than under glibc this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # names and numbers of malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 64 * 2**20)
