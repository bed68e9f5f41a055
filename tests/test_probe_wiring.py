"""Which critics, which actions: what a probe's bias is of, held against the same computed in two lines."""

from __future__ import annotations

import numpy as np
import torch
from test_probes import PLACE, bench

from benchmark.running.bench import critics_along, evaluators, traces
from mbpo.sac import act, q_values


def test_the_bias_of_a_probe_is_of_the_mean_of_the_twins_under_the_stochastic_policy() -> None:
    made = bench((3, 5), (1.0, 0.5), bias_episodes=1)
    sac, shares = evaluators(made), len(made.budget.shares)
    for run, (trace,) in enumerate(traces(made)):
        obs, action = (torch.as_tensor(np.stack(x), dtype=PLACE.dtype) for x in (trace.obs, trace.action))
        rows = obs.expand(shares * 2, -1, -1), action.expand(shares * 2, -1, -1)
        twins = q_values(sac.critic, *rows)[run * shares : (run + 1) * shares].detach().numpy()  # (Q, 2, T)
        assert np.abs(twins[:, 0] - twins[:, 1]).max() > 1e-3
        along = np.stack([values for (values,) in critics_along(made, sac.critic, run, [trace])])
        np.testing.assert_allclose(along, twins.mean(1), rtol=1e-9)
        mean = act(made.sac, obs.expand(2, -1, -1), None)[run]
        assert (mean - action).abs().min() > 0, "the actions are drawn"
        assert np.std(trace.log_prob) > 0, "and their density is that of each"
