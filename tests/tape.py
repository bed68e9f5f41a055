"""A recorder for `Block` that needs no GPU: it writes down every operation with its tensors and plays them again.

Like a CUDA graph it knows no Python: a tensor that is replaced after the recording, a number that was computed on the
host or a branch taken stays as it was. What is true of a block on tape is thus true of a captured one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mbpo.fast.engine import Call, Outputs


class Tape:
    """Recording as a list of operations. Unlike a capture it computes meanwhile, so its first replay is void."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def warm_up(self, call: Call) -> Outputs:
        return call()

    def record(self, call: Call) -> tuple[Outputs, Callable[[], object]]:
        self.recorded += 1
        with _Writing() as tape:
            outputs = call()
        first = [True]

        def replay() -> None:
            if not first:
                self.replayed += 1
                tape.play()
            first.clear()

        return outputs, replay


class _Writing(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        writes = [r.alias_info is not None and r.alias_info.is_write for r in func._schema.returns]
        views = [r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns]
        if not any(views):
            fresh = (
                [] if any(writes) or func._schema.is_mutable else [x for x in tree_leaves(out) if isinstance(x, Tensor)]
            )
            self.lines.append((func, args, kwargs or {}, fresh))
        return out

    @torch.no_grad()
    def play(self) -> None:
        for func, args, kwargs, fresh in self.lines:
            found = [x for x in tree_leaves(func(*args, **kwargs)) if isinstance(x, Tensor)]
            if fresh:
                for tensor, value in zip(fresh, found, strict=True):
                    tensor.copy_(value)
