"""Model-based policy optimization in torch, with every arm between MBPO and FTFL as data.

Axes, in the order in which they appear in every shape comment of this package:

    R  runs trained in lockstep (arms x seeds)     K  updates in one block
    E  ensemble members                            O  observation dimensions
    B  rows of one batch                           A  action dimensions
    H  steps of one branched rollout               D  target dimensions, O + 1 (reward last)

Every tensor on the training device starts with ``R``. Losses are means over ``B`` and sums over
stack axes, so the gradient of a run is the gradient it would have alone.

The heavy names are imported on first use: reading a config never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mbpo._versions import check_versions
from mbpo.config import Budget, InputError, Method, ModelConfig, RolloutConfig, SacConfig, Target

if TYPE_CHECKING:
    from mbpo.loop import Row, Run, train

check_versions()

__version__ = "0.1.0"
__all__ = [
    "Budget",
    "InputError",
    "Method",
    "ModelConfig",
    "RolloutConfig",
    "Row",
    "Run",
    "SacConfig",
    "Target",
    "train",
]

_LAZY = {"train": "mbpo.loop", "Run": "mbpo.loop", "Row": "mbpo.loop"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mbpo' has no attribute {name!r}")
