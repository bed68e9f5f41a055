"""Masses on springs whose maximum-entropy optimum has a formula: the known answers of the laboratory.

    s' = A s + B a + w,   r = -(s' Q s + a' R a),   w ~ N(0, W) on synthetic rows alone
    P  = Q + g A' P A - g^2 A' P B M^-1 B' P A,     M = R + g B' P B,     K = g M^-1 B' P A
    pi = N(-K s, alpha/2 M^-1)                      the soft optimum at the temperature alpha, actions unbounded
    Q(s, a) = -s' P s - (a + K s)' M (a + K s) - g / (1 - g) (alpha m / 2 + tr P W)      its reward part
              + g / (1 - g) alpha h                                                     its entropy part

with the discount g, m actions, and the entropy h of pi. So noise of the next states leaves the best policy what it is
and lowers every value by the same known number; a temperature costs the mean action nothing, and sampled actions
alpha m / 2 a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg

from benchmark.toys import FRICTION, START, STIFFNESS

Array = np.ndarray


@dataclass(frozen=True)
class Springs:
    """`masses` on springs, as in the toys, under a discount; states (2 m,), actions (m,)."""

    masses: int = 4
    dt: float = 0.1
    discount: float = 0.99

    @property
    def obs_dim(self) -> int:
        """Positions, then velocities."""
        return 2 * self.masses

    @cached_property
    def A(self) -> Array:
        """(2 m, 2 m)."""
        eye, dt = np.eye(self.masses), self.dt
        return np.block([[eye, dt * eye], [-dt * STIFFNESS * eye, (1 - dt * FRICTION) * eye]])

    @cached_property
    def B(self) -> Array:
        """(2 m, m)."""
        return np.vstack([np.zeros((self.masses, self.masses)), self.dt * np.eye(self.masses)])

    @property
    def state_cost(self) -> Array:
        """Q (2 m, 2 m)."""
        return self.dt * np.eye(self.obs_dim)

    @property
    def effort_cost(self) -> Array:
        """R (m, m)."""
        return self.dt * np.eye(self.masses)

    @cached_property
    def P(self) -> Array:
        """Cost to go of the optimum, ``s' P s``."""
        root = math.sqrt(self.discount)
        found = scipy.linalg.solve_discrete_are(root * self.A, root * self.B, self.state_cost, self.effort_cost)
        return np.asarray(found)

    @cached_property
    def idle(self) -> Array:
        """Cost to go of doing nothing."""
        return np.asarray(scipy.linalg.solve_discrete_lyapunov(math.sqrt(self.discount) * self.A.T, self.state_cost))

    @cached_property
    def M(self) -> Array:
        """Curvature of Q in the action (m, m)."""
        return self.effort_cost + self.discount * self.B.T @ self.P @ self.B

    @cached_property
    def K(self) -> Array:
        """Gain of the optimum (m, 2 m), at every temperature and for every noise."""
        return np.linalg.solve(self.M, self.discount * self.B.T @ self.P @ self.A)

    def covariance(self, alpha: float) -> Array:
        """Of the soft optimum's action (m, m)."""
        return alpha / 2 * np.linalg.inv(self.M)

    def entropy(self, alpha: float) -> float:
        """Of the soft optimum, in nats."""
        return float(self.masses / 2 * (1 + math.log(math.pi * alpha)) - np.linalg.slogdet(self.M)[1] / 2)

    def temperature(self, entropy: float) -> float:
        """The temperature at which the soft optimum has that entropy: what a target entropy settles at."""
        per_dim = (entropy + np.linalg.slogdet(self.M)[1] / 2) / (self.masses / 2)
        return math.exp(per_dim - 1) / math.pi

    def entropy_part(self, alpha: float) -> float:
        """Of the soft optimum's Q, at every state and action."""
        return self.discount / (1 - self.discount) * alpha * self.entropy(alpha)

    def reward_part(self, alpha: float, states: Array, actions: Array, noise: Array | None = None) -> Array:
        """Of the soft optimum's Q, at ``states (..., 2 m)`` and ``actions (..., m)``, under W = `noise` (2 m, 2 m)."""
        off = actions + states @ self.K.T
        lost = alpha * self.masses / 2 + (0.0 if noise is None else float(np.trace(self.P @ noise)))
        quadratic = _form(states, self.P) + _form(off, self.M)
        return np.asarray(-quadratic - self.discount / (1 - self.discount) * lost)

    def optimum(self, states: Array) -> Array:
        """Discounted return of the best policy from ``states (..., 2 m)``."""
        return -_form(states, self.P)

    def doing_nothing(self, states: Array) -> Array:
        """Discounted return of the action 0 from ``states (..., 2 m)``."""
        return -_form(states, self.idle)

    def random_rows(self, episodes: int, steps: int, seed: int = 0) -> tuple[Array, Array]:
        """States (episodes * steps, 2 m) and actions (..., m) of a policy that acts uniformly at random."""
        rng = np.random.default_rng(seed)
        state, states, actions = rng.uniform(-START, START, (episodes, self.obs_dim)), [], []
        for _ in range(steps):
            action = rng.uniform(-1, 1, (episodes, self.masses))
            states.append(state)
            actions.append(action)
            state = state @ self.A.T + action @ self.B.T
        return np.concatenate(states), np.concatenate(actions)


def _form(x: Array, weight: Array) -> Array:
    """``x' weight x`` over the last axis."""
    return np.asarray(np.einsum("...i,ij,...j", x, weight, x))
