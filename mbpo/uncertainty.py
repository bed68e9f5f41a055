"""How uncertain an ensemble is of a transition, as three methods of MBPO's line measure it.

    one-vs-rest      KL(p_i || rest): p_i the sampled member, rest a Gaussian with the moments of the others' mixture
    largest-std      max over members of |std|, the Euclidean norm over next_obs and reward, in raw units
    jensen-shannon   mean over pairs of members of 1/2 KL(p_i || g) + 1/2 KL(p_j || g), g their geometric mean

One-vs-rest is of M2AC (Pan et al. 2020), largest-std of MOPO (Yu et al. 2020), the geometric Jensen-Shannon divergence
of MACURA (Frauenknecht et al. 2024). Divergences do not depend on the units of the targets, so they are taken in target
space. All members count, elites or not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mbpo.dynamics import GaussianEnsemble
from mbpo.rollout_config import RolloutConfig
from mbpo.rollouts import Screen


def screen_of(config: RolloutConfig, ensemble: GaussianEnsemble | None) -> Screen | None:
    """The screen that `config` asks for, with the uncertainty of `ensemble`; None without one."""
    if config.uncertainty == "none" or ensemble is None:
        return None
    measure = MEASURES[config.uncertainty]

    def uncertainty(obs: Tensor, action: Tensor, member: Tensor) -> Tensor:
        return measure(*ensemble.all_members(obs, action), ensemble.elite(member), ensemble.map.scale)

    return Screen(config, uncertainty)


def one_vs_rest(mean: Tensor, var: Tensor, member: Tensor, scale: Tensor) -> Tensor:
    """KL of the sampled member from the rest, in nats: ``(R, N)``.

    Args:
        mean: ``(R, E, N, D)`` of each member, in target space.
        var: their variances.
        member: ``(R, N)``, the sampled one of 0..E-1.
        scale: ``(R, D)`` raw units in one target unit; it does not matter.
    """
    others = mean.shape[1] - 1
    index = member[:, None, :, None].expand(-1, 1, -1, mean.shape[-1])
    own = var.gather(1, index)[:, 0]
    apart = mean - mean.gather(1, index)  # of the sampled member 0; differences first, or small variances drown
    shift = apart.sum(1) / others
    from_rest = (apart - shift[:, None]).square()
    spread = var + from_rest
    rest = (spread.sum(1) - spread.gather(1, index)[:, 0]) / others
    return _kl(own, shift, rest)


def largest_std(mean: Tensor, var: Tensor, member: Tensor, scale: Tensor) -> Tensor:
    """The largest norm of a member's predicted std in raw units: ``(R, N)``. Arguments as in `one_vs_rest`."""
    return (var * scale[:, None, None].square()).sum(-1).sqrt().amax(1)


def jensen_shannon(mean: Tensor, var: Tensor, member: Tensor, scale: Tensor) -> Tensor:
    """Geometric Jensen-Shannon divergence, mean over all pairs: ``(R, N)``. Arguments as in `one_vs_rest`."""
    i, j = torch.triu_indices(mean.shape[1], mean.shape[1], offset=1, device=mean.device)
    apart, one, two = mean[:, j] - mean[:, i], var[:, i], var[:, j]
    between = 2.0 * one * two / (one + two)  # variance of the geometric mean
    from_one, from_two = 0.5 * between * apart / two, 0.5 * between * apart / one
    return 0.5 * (_kl(one, from_one, between) + _kl(two, from_two, between)).mean(1)


def _kl(var: Tensor, shift: Tensor, other: Tensor) -> Tensor:
    """KL(N(0, var) || N(shift, other)) of ``(..., D)``, summed over D."""
    return 0.5 * ((var + shift.square()) / other - 1.0 + (other / var).log()).sum(-1)


MEASURES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "one-vs-rest": one_vs_rest,
    "largest-std": largest_std,
    "jensen-shannon": jensen_shannon,
}
"""`RolloutConfig.uncertainty` -> its measure."""
