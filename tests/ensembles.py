"""What the tests of the dynamics model share: tiny ensembles and a linear-Gaussian system to learn."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mbpo.buffer import Layout
from mbpo.config import ModelConfig, Target
from mbpo.dynamics import GaussianEnsemble
from mbpo.streams import Streams

CPU = torch.device("cpu")
F64 = torch.float64
LAYOUT = Layout(2, 1)
MBPO, FTFL = Target(), Target(normalize="both", predict="next_obs")
MIXED = (MBPO, FTFL, Target(normalize="reward", predict="fitted"))
SMALL: dict[str, Any] = {
    "ensemble_size": 3,
    "num_elites": 2,
    "hidden_dims": (16,),
    "weight_decay": (1e-3, 1e-2),
    "batch_size": 32,
    "updates": 30,
    "learning_rate": 3e-3,
}
EARLY: dict[str, Any] = {
    **SMALL,
    "stopping": "early",
    "patience": 2,
    "max_epochs": 60,
    "batch_size": 20,
    "learning_rate": 2e-2,
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def make_streams(names: Sequence[str]) -> Streams:
    return Streams(names, CPU, F64)


def make(
    constants: dict[str, Any], arms: Sequence[Target] = (MBPO,), names: Sequence[str] = ()
) -> tuple[GaussianEnsemble, Streams]:
    streams = make_streams(names or [f"run {r}" for r in range(len(arms))])
    return GaussianEnsemble(ModelConfig(**constants), arms, LAYOUT, streams), streams


def system(rows: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Packed rows (1, N, W) of a linear system, the mean (1, N, D) and the std (1, N, D) of its Gaussian noise."""
    obs, action = normal(1, rows, 2, seed=seed), 2 * uniform(1, rows, 1, seed=seed + 1) - 1
    inputs = torch.cat([obs, action], -1)
    gain = torch.tensor([[0.9, 0.2, 0.3], [-0.3, 0.8, 0.5], [0.4, -0.2, 0.6]], dtype=F64)
    mean = inputs @ gain.T + torch.tensor([0.5, -0.2, 0.7], dtype=F64)
    log_std = torch.stack([0.4 * obs[..., 0] - 1.2, torch.full_like(obs[..., 0], -0.7), 0.5 * action[..., 0] - 1.0], -1)
    raw = mean + log_std.exp() * normal(1, rows, 3, seed=seed + 2)
    packed = LAYOUT.pack(obs, action, raw[..., :2], raw[..., 2], torch.ones(1, rows, dtype=F64))
    return packed, mean, log_std.exp()


def runs_of(rows: int, runs: int) -> Tensor:
    """Other rows for each run: (R, N, W)."""
    return torch.cat([system(rows, seed=10 * r)[0] for r in range(runs)])


def weights(ensemble: GaussianEnsemble) -> list[Tensor]:
    return [p.detach().clone() for p in ensemble.parameters]


def equal(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def close(ours: Tensor, theirs: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=0, atol=atol)
