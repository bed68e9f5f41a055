"""How a block of updates runs: device, number format, precision of its products, and whether it is captured.

On a GPU most operations of an update take less time than their launch. A `Block` is therefore recorded once as a CUDA
graph and replayed from then on as one launch; on a CPU it is a plain call.
"""

from __future__ import annotations

import ctypes
import gc
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

import torch
from torch import Tensor

from mbpo.config import InputError, nearest
from mbpo.fast import kernels
from mbpo.fast.fusion import Fused, Outputs

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}
_FUSE_FROM = 100_000
"""Updates of a job from which on compiling one pays; it takes half a minute."""
_MAX_RECORDINGS = 4
"""Input shapes whose recordings a block keeps: whole blocks, a remainder, rollouts of two lengths."""

Call = Callable[[], Outputs]


class Recorder(Protocol):
    """Turns a call into one that can be replayed without Python."""

    def warm_up(self, call: Call) -> Outputs:
        """Make the call once, unrecorded, as a recording requires; returns its results."""

    def record(self, call: Call) -> tuple[Outputs, Callable[[], object]]:
        """The tensors of the call's results and a function that fills them; nothing is computed yet."""


class CudaGraphs:
    """Recordings as CUDA graphs; each owns the memory of its intermediate results."""

    def warm_up(self, call: Call) -> Outputs:
        """Make the call on another stream, so that no library initializes itself during a capture."""
        current, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            outputs = call()
        current.wait_stream(side)
        for tensor in outputs.values():
            tensor.record_stream(current)
        return outputs

    def record(self, call: Call) -> tuple[Outputs, Callable[[], object]]:
        """Capture the call as a graph."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = call()
        return outputs, graph.replay


@contextmanager
def _no_collection() -> Iterator[None]:
    """Switch garbage collection off inside: autograd graphs trigger it again and again, and leave no cycles."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@dataclass(frozen=True)
class _Recording:
    inputs: list[Tensor]
    outputs: Outputs
    replay: Callable[[], object]


class Block:
    """Work on tensors as one call: eager without a recorder, else recorded for each set of input shapes and replayed.

    A recording stays valid if the work reads only its inputs and tensors that are written in place, never replaced. It
    must not read values back from the device, draw random numbers, or branch on anything but shapes. For each set of
    shapes the first call is the warm-up, and the second records. The caller owns the results of a call.
    """

    def __init__(self, work: Callable[..., Outputs], recorder: Recorder | None = None) -> None:
        self._work, self._recorder = work, recorder
        self._recordings: dict[tuple[torch.Size, ...], _Recording | None] = {}

    def __call__(self, *inputs: Tensor) -> Outputs:
        """The results of the work for `inputs`, by name."""
        if self._recorder is None:
            with _no_collection():
                return self._work(*inputs)
        shapes = tuple(x.shape for x in inputs)
        if shapes not in self._recordings:
            self._recordings[shapes] = None
            while len(self._recordings) > _MAX_RECORDINGS:
                del self._recordings[next(iter(self._recordings))]
            return self._recorder.warm_up(partial(self._work, *inputs))
        recording = self._recordings[shapes]
        if recording is None:
            recording = self._recordings[shapes] = self._record(inputs)
        for fixed, tensor in zip(recording.inputs, inputs, strict=True):
            fixed.copy_(tensor)
        recording.replay()
        return {name: tensor.clone() for name, tensor in recording.outputs.items()}

    def _record(self, inputs: tuple[Tensor, ...]) -> _Recording:
        assert self._recorder is not None
        fixed = [x.clone() for x in inputs]
        return _Recording(fixed, *self._recorder.record(partial(self._work, *fixed)))


@dataclass(frozen=True)
class Engine:
    """A device and a precision: `dtype` is that of parameters and buffers, `precision` that of products."""

    device: torch.device
    dtype: torch.dtype
    precision: str
    capture: bool = False  # record blocks as CUDA graphs
    fuse_from: float = math.inf  # updates of a job from which on compiling one pays

    def step(self, update: Callable[..., Outputs], calls: float) -> Callable[..., Outputs]:
        """`update`, fused if a job makes so many `calls` of it that compiling pays; `Block` states what it may do."""
        return Fused(update) if calls >= self.fuse_from else update

    @property
    def means(self) -> str:
        """How updates are accelerated: "kernels" in C on a CPU, "graphs" on a GPU, or "torch" alone."""
        if self.capture:
            return "graphs"
        native = self.device.type == "cpu" and self.precision in ("fp32", "bf16") and kernels.library() is not None
        return "kernels" if native else "torch"

    def block(self, work: Callable[..., Outputs]) -> Block:
        """`work` as a block on this engine; `Block` states what it may do."""
        return Block(work, CudaGraphs() if self.capture else None)

    @contextmanager
    def products(self) -> Iterator[None]:
        """Matrix products inside run in `precision`; sums, losses and optimizers keep `dtype`."""
        if self.precision == "bf16":
            # Uncached: autocast would reuse its copy of a weight in all updates of a block.
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
    """The engine for a device name; "auto" is the GPU if there is one. Blocks are captured on a GPU.

    Raises:
        InputError: unknown precision or device, a missing GPU, or tf32 without one.
    """
    if precision not in _DTYPES:
        raise InputError(f"precision = {precision!r}: not a choice; {nearest(precision, _DTYPES)}")
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        torch_device = torch.device(name)
    except RuntimeError:
        raise InputError(
            f"device = {device!r}: not a device; {nearest(device, ['auto', 'cpu', 'cuda', 'cuda:0'])}"
        ) from None
    if torch_device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device = {device!r}: this torch sees no GPU; use device = 'cpu'")
    count = torch.cuda.device_count()
    if torch_device.type == "cuda" and (torch_device.index or 0) >= count:
        raise InputError(f"device = {device!r}: there are {count} GPUs; the last is 'cuda:{count - 1}'")
    if torch_device.type not in ("cpu", "cuda"):
        raise InputError(f"device = {device!r}: only cpu and cuda are supported; use device = 'auto'")
    if precision == "tf32" and torch_device.type != "cuda":
        raise InputError("precision = 'tf32': exists on a GPU alone; use 'fp32' or 'bf16' on a CPU")
    if torch_device.type == "cpu":
        keep_freed_memory()
    on_gpu = torch_device.type == "cuda"
    return Engine(torch_device, _DTYPES[precision], precision, on_gpu, _FUSE_FROM if on_gpu else math.inf)


@cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory: every update frees the same large blocks and allocates them again.

    By default the kernel hands out new pages each time and zeroes them at first touch. Without glibc this function
    does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # names and numbers of malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 64 * 2**20)
