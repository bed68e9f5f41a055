"""A reward head of its own: the reward's targets and the observations' never meet in a weight."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ensembles import EARLY, FTFL, MBPO, SMALL, close, equal, make, runs_of, system, weights
from toy_envs import PLANTED

from benchmark.records.spec import FitBudget, RunSpec
from benchmark.running.fit import fit_job
from mbpo.config import Method, ModelConfig
from mbpo.dynamics import GaussianEnsemble, nll, update
from mbpo.fitting import fit
from mbpo.nn import gradients

SEPARATE: dict[str, Any] = {**SMALL, "reward_head": "separate"}
REWARD = -2  # of a packed row


def parts(ensemble: GaussianEnsemble, values: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Those of the observations' network, those of the reward's."""
    layers = len(ensemble.config.weight_decay)
    weight, bias = values[: 2 * layers], values[2 * layers : 4 * layers]
    return [*weight[:layers], *bias[:layers]], [*weight[layers:], *bias[layers:]]


def changed_reward(rows: torch.Tensor) -> torch.Tensor:
    other = rows.clone()
    other[..., REWARD] = 100.0 * rows[..., REWARD].flip(1)
    return other


@pytest.mark.parametrize("constants", [SEPARATE, {**EARLY, "reward_head": "separate"}], ids=["fixed", "early"])
def test_another_reward_moves_nothing_of_the_observations_network(constants: dict[str, Any]) -> None:
    """Whole fits with a fixed number of updates; with early stopping, where the reward ends them, single updates."""
    rows, found = system(200)[0], []
    for data in (rows, changed_reward(rows)):
        ensemble, streams = make(constants)
        if constants.get("stopping") == "early":
            for _ in range(5):
                update(ensemble, data[:, :32])
        else:
            fit(ensemble, data, streams)
        found.append(parts(ensemble, weights(ensemble)))
    assert equal(found[0][0], found[1][0]) and not equal(found[0][1], found[1][1])


def test_with_one_network_another_reward_moves_the_observations() -> None:
    """What the separate head is compared with: the test above can fail."""
    rows, found = system(200)[0], []
    for data in (rows, changed_reward(rows)):
        ensemble, streams = make(SMALL)
        fit(ensemble, data, streams)
        found.append(weights(ensemble))
    assert not any(torch.equal(a, b) for a, b in zip(found[0], found[1], strict=True))


def test_outputs_are_the_two_networks_side_by_side() -> None:
    ensemble, _ = make(SEPARATE)
    obs, reward = ensemble.net.parts  # type: ignore[union-attr]
    x = torch.randn(1, 1, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = ensemble.net(x)
    assert out.shape == (1, 3, 7, 6)
    close(out[..., [0, 1, 3, 4]], obs(x))
    close(out[..., [2, 5]], reward(x))
    assert [w.shape[-1] for w in obs.weights] == [16, 4] and [w.shape[-1] for w in reward.weights] == [16, 2]


def test_decay_falls_on_both_networks_by_layer() -> None:
    ensemble, _ = make({**SEPARATE, "logvar_bounds": "learned"})
    layers = len(ensemble.net.weights) + len(ensemble.net.biases)
    assert ensemble.adam.weight_decay == [1e-3, 1e-2, 1e-3, 1e-2, *[0.0] * 4, 0.0, 0.0]
    assert len(ensemble.parameters) == layers + 2


def test_gradient_is_that_of_the_written_loss() -> None:
    ensemble, _ = make(SEPARATE)
    rows = system(40)[0]
    inputs, y = ensemble.layout.inputs(rows), ensemble.encode(rows)
    mean, logvar = ensemble(inputs)
    loss = ((mean - y[:, None]).square() / logvar.exp() + logvar).mean((-2, -1)).sum()
    for ours, theirs in zip(
        gradients(nll(ensemble, inputs, y), ensemble.parameters), gradients(loss, ensemble.parameters), strict=True
    ):
        close(ours, theirs)
        assert theirs.abs().sum() > 0


def test_a_run_in_lockstep_equals_a_solo_run() -> None:
    rows = runs_of(120, 2)
    together, streams = make(SEPARATE, (MBPO, FTFL))
    fit(together, rows, streams)
    for r, arm in enumerate((MBPO, FTFL)):
        alone, streams = make(SEPARATE, (arm,), (f"run {r}",))
        fit(alone, rows[r : r + 1], streams)
        for ours, solo in zip(together.parameters, alone.parameters, strict=True):
            close(ours[r : r + 1], solo, atol=1e-9)


def test_the_observations_network_starts_as_drawn_from_its_stream() -> None:
    """Every layer but the last, whose width differs, as in the shared network; the reward's is drawn apart."""
    shared, _ = make(SMALL)
    apart, _ = make(SEPARATE)
    assert torch.equal(shared.net.weights[0], apart.net.weights[0])
    assert not torch.equal(apart.net.weights[0], apart.net.weights[2])


def test_a_tiny_reward_is_found_by_its_own_network_alone() -> None:
    """The rival explanation, planted: raw targets, a reward of 0.02 beside observations of 50."""
    model = {"ensemble_size": 2, "num_elites": 2, "hidden_dims": (32, 32), "weight_decay": (0.0,) * 3, "updates": 600}
    r2 = {}
    for head in ("shared", "separate"):
        constants = Method(model=ModelConfig(**{**model, "reward_head": head, "learning_rate": 3e-3}))
        spec = RunSpec(
            kind="fit", task=PLANTED, method=head, seed=0, constants=constants,
            fit=FitBudget(transitions=2_000, heldout=1_000),
        )  # fmt: skip
        table = fit_job([spec], device="cpu")[0].diagnostics
        r2[head] = float(table[table["measure"] == "reward_r2"]["value"].iloc[-1])
    assert r2["separate"] > 0.5 > 0.0 > r2["shared"], r2
