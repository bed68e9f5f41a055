"""What soft actor-critic learns: actor, critics, targets, temperatures and their optimizers, for R runs at once.

`mbpo.sac` has the equations. Everything is written in place, so that a captured update goes on to read it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, normalize, relu

from mbpo.buffer import Layout
from mbpo.config import SacConfig
from mbpo.inits import HEADS
from mbpo.moments import mean_and_std
from mbpo.nn import Activation, Adam, stacked_mlp
from mbpo.streams import Streams


def normed_relu(x: Tensor) -> Tensor:
    """Layer normalization without weights, then relu, of ``x (..., B, width)``."""
    return relu(layer_norm(x, x.shape[-1:]))


def unit_relu(x: Tensor) -> Tensor:
    """Relu of ``x (..., B, width)``, each row scaled to length 1; a row of zeros stays zero."""
    return normalize(relu(x), dim=-1)


CRITIC_ACTIVATIONS: dict[str, tuple[Activation, Activation | None]] = {
    "none": (relu, None),
    "layer": (normed_relu, None),
    "features": (relu, unit_relu),
}
"""`SacConfig.critic_norm` -> the activation of hidden layers, and that of the last of them if it has its own."""


class Sac:
    """Actor ``(R,)``, N critics ``(R, N)``, their targets and temperatures ``(R,)``."""

    def __init__(self, config: SacConfig, layout: Layout, streams: Streams) -> None:
        device, dtype = streams.device, streams.dtype
        obs_dim, action_dim = layout.obs_dim, layout.action_dim
        self.config, self.layout = config, layout
        self.actor = stacked_mlp(
            (obs_dim, *config.hidden_dims, 2 * action_dim),
            None,
            config.init,
            relu,
            streams.generators("init-actor", "cpu"),
            device,
            dtype,
            HEADS[config.log_std_head](config.init),
        )
        activation, last = CRITIC_ACTIVATIONS[config.critic_norm]
        self.critic = stacked_mlp(
            (obs_dim + action_dim, *config.hidden_dims, 1),
            config.critics,
            config.init,
            activation,
            streams.generators("init-critic", "cpu"),
            device,
            dtype,
        )
        self.critic.last = last
        self.target_critic = self.critic.clone()
        runs = len(streams.entropies)
        self.log_alpha = torch.full(
            (runs,), math.log(config.init_temperature), device=device, dtype=dtype
        ).requires_grad_()
        self.target_entropy = config.entropy_target(action_dim)
        self.actor_adam = Adam(self.actor.parameters, config.learning_rate)
        self.critic_adam = Adam(self.critic.parameters, config.learning_rate)
        self.alpha_adam = Adam([self.log_alpha], config.temperature_learning_rate or config.learning_rate)
        self.obs_shift = torch.zeros(runs, 1, obs_dim, device=device, dtype=dtype)
        self.obs_scale = torch.ones_like(self.obs_shift)

    @property
    def alpha(self) -> Tensor:
        """Temperatures ``(R,)``, detached."""
        return self.log_alpha.detach().exp()

    def state(self) -> dict[str, object]:
        """Everything a checkpoint needs, by reference."""
        return {
            "actor": [p.detach() for p in self.actor.parameters],
            "critic": [p.detach() for p in self.critic.parameters],
            "target_critic": self.target_critic.parameters,
            "log_alpha": self.log_alpha.detach(),
            "adam": [adam.state() for adam in (self.actor_adam, self.critic_adam, self.alpha_adam)],
            "obs": {"shift": self.obs_shift, "scale": self.obs_scale},
        }

    def scaled(self, obs: Tensor) -> Tensor:
        """Raw ``obs (R, B, O)`` as actor and critics read them."""
        config = self.config
        seen = obs if config.obs_norm == "none" else (obs - self.obs_shift) / self.obs_scale
        return seen if config.obs_clip is None else seen.clamp(-config.obs_clip, config.obs_clip)

    def scaled_rows(self, rows: Tensor) -> Tensor:
        """Packed ``rows (R, B, W)`` with obs and next_obs as actor and critics read them."""
        if self.config.obs_norm == "none" and self.config.obs_clip is None:
            return rows
        layout = self.layout
        return layout.pack(
            self.scaled(layout.obs(rows)),
            layout.action(rows),
            self.scaled(layout.next_obs(rows)),
            layout.reward(rows),
            layout.mask(rows),
        )

    def fit_obs(self, obs: Tensor) -> None:
        """Take mean and standard deviation of ``obs (R, N, O)`` for `scaled`; a constant dimension keeps std 1."""
        all_rows = torch.ones(obs.shape[:2], device=obs.device, dtype=torch.bool)
        mean, std = mean_and_std(lambda rows: obs[:, rows], all_rows, obs.dtype)
        # In place: a captured update reads this memory.
        self.obs_shift.copy_(mean[:, None])
        self.obs_scale.copy_(std[:, None])

    @torch.no_grad()
    def start_temperature(self, reward: Tensor) -> None:
        """Set the first temperature in units of the spread of ``reward (R, N)``; 1 for one that does not vary."""
        every = torch.ones_like(reward, dtype=torch.bool)
        _, std = mean_and_std(lambda rows: reward[:, rows, None], every, reward.dtype)
        start = self.config.init_temperature * std[:, 0]
        highest = self.config.max_temperature
        self.log_alpha.copy_((start if highest is None else start.clamp(max=highest)).log())

    @torch.no_grad()
    def restart(self, streams: Streams) -> None:
        """Draw new weights and forget what the optimizers know; only the observations' statistics stay."""
        # In place: a captured update reads this memory.
        for mine, new in zip(self._learned(), Sac(self.config, self.layout, streams)._learned(), strict=True):
            mine.copy_(new)

    def _learned(self) -> list[Tensor]:
        """Everything that an update writes."""
        adams = (self.actor_adam, self.critic_adam, self.alpha_adam)
        moments = [tensor for adam in adams for tensor in (*adam.first, *adam.second, adam.steps)]
        nets = (self.actor, self.critic, self.target_critic)
        return [*(p for net in nets for p in net.parameters), self.log_alpha, *moments]
