"""Model-based policy optimization in torch, with every arm between MBPO and FTFL as data.

    from mbpo import Budget, Run, load_policy, method, train

    for row in train("dmc:quadruped-walk", Run(method("ftfl"), seed=0), Budget(env_steps=20_000)):
        print(row.env_steps, row.returns.mean())

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
from mbpo.methods import method

if TYPE_CHECKING:
    from mbpo.api import train
    from mbpo.loggers import CsvLogger, JsonLinesLogger, Logger, TensorBoardLogger, WandbLogger
    from mbpo.models import Dynamics, Prediction, load_dynamics
    from mbpo.policies import Policy, load_policy
    from mbpo.state import Row, Run
    from mbpo.views import View

check_versions()

__version__ = "0.1.0"
__all__ = [
    "Budget",
    "CsvLogger",
    "Dynamics",
    "InputError",
    "JsonLinesLogger",
    "Logger",
    "Method",
    "ModelConfig",
    "Policy",
    "Prediction",
    "RolloutConfig",
    "Row",
    "Run",
    "SacConfig",
    "Target",
    "TensorBoardLogger",
    "View",
    "WandbLogger",
    "load_dynamics",
    "load_policy",
    "method",
    "train",
]

_LAZY = {
    "train": "mbpo.api",
    "Run": "mbpo.state",
    "Row": "mbpo.state",
    "Policy": "mbpo.policies",
    "load_policy": "mbpo.policies",
    "Dynamics": "mbpo.models",
    "Prediction": "mbpo.models",
    "load_dynamics": "mbpo.models",
    "View": "mbpo.views",
    "Logger": "mbpo.loggers",
    "CsvLogger": "mbpo.loggers",
    "JsonLinesLogger": "mbpo.loggers",
    "TensorBoardLogger": "mbpo.loggers",
    "WandbLogger": "mbpo.loggers",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mbpo' has no attribute {name!r}")
