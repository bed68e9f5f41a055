"""A trained policy without its trainer: saved in one small file, loaded anywhere, raw observations in, raw actions out.

    policy = load_policy("policy.safetensors")
    obs, _ = env.reset()
    obs, reward, terminated, truncated, _ = env.step(policy.act(obs))

A file holds the actor's weights (``weights.0 (in, out), biases.0 (out,), ...``), shift and scale of the observations
``(O,)``, and a page of JSON: the learner's constants, the environment's spaces, and where the policy comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbpo import export, tensorfile
from mbpo.buffer import Layout
from mbpo.config import InputError, SacConfig, build
from mbpo.envs.load import Array
from mbpo.envs.native import Native, native_of
from mbpo.kept import BEST, FINAL, FOLDERS, find
from mbpo.sac import Sac, act
from mbpo.state import TrainState
from mbpo.streams import Streams

__all__ = ["BEST", "FINAL", "FOLDERS", "Origin", "Policy", "find", "load_policy", "origin_of"]

KIND = "policy"


@dataclass(frozen=True)
class Origin:
    """Where a policy comes from: the run's seed, its env steps so far, and its mean evaluation return then.

    `window_mean` is the mean return of the evaluations that it was chosen by, where it was. `failure` says why its run
    is lost, if it is. `label` is free text, such as the run's method.
    """

    seed: int
    env_steps: int
    mean_return: float | None = None
    window_mean: float | None = None
    failure: str | None = None
    label: str = ""


class Policy:
    """The squashed Gaussian policy of one run; see `act`."""

    def __init__(self, sac: Sac, native: Native, origin: Origin, seed: int = 0) -> None:
        self._sac, self.native, self.origin = sac, native, origin
        self._generator = torch.Generator().manual_seed(seed)

    @classmethod
    def of(cls, state: TrainState, run: int, native: Native | None = None, label: str = "") -> Policy:
        """A copy of the policy that run `run` of a training job has now."""
        native = native or native_of(state.envs.info.id, state.envs.info.drop)
        policy = cls(_learner(state.method.sac, native, state.engine.dtype), native, _origin(state, run, label))
        with torch.no_grad():
            for mine, theirs in zip(_tensors(policy._sac).values(), _tensors(state.sac).values(), strict=True):
                mine[0].copy_(theirs[run])
        return policy

    def act(self, obs: Any, deterministic: bool = True) -> Array:
        """Actions for raw observations, in the environment's own units and bounds.

        Args:
            obs: what the environment returns, an array or a mapping; or flat rows ``(..., O)``. Leading axes are kept,
                so a batch of observations is acted on at once.
            deterministic: the tanh of the mean, as in evaluations; else a sample, as in training.

        Returns:
            ``(*action_shape)``, with the leading axes of `obs` before it.

        Raises:
            InputError: observations of another shape; a policy that diverged, whose actions are not finite.
        """
        rows = self.native.flat(obs)
        flat = torch.as_tensor(rows.reshape(1, -1, rows.shape[-1])).to(self._sac.log_alpha.dtype)
        shape = (1, flat.shape[1], self.native.action_dim)
        noise = None if deterministic else torch.randn(shape, generator=self._generator).to(flat.dtype)
        unit = act(self._sac, flat, noise)[0].float().numpy()
        if not np.isfinite(unit).all():
            why = self.origin.failure or "an observation or a parameter of the policy is not finite"
            raise InputError(f"the policy gives no finite action: {why}")
        return self.native.action(unit.reshape(*rows.shape[:-1], self.native.action_dim))

    def seed(self, seed: int) -> None:
        """Start the noise of stochastic actions anew."""
        self._generator.manual_seed(seed)

    def export(self, path: Path | str) -> Path:
        """Write the deterministic policy as a graph that needs no `mbpo`, and return its path.

        Args:
            path: ends in ``.onnx``, for any ONNX runtime (needs the packages onnx and onnxscript), or in ``.pt2``, for
                ``torch.export.load(path).module()``.

        The graph takes raw observations in float32, ``obs (N, *obs_shape)`` or one input for each part of a mapping,
        and gives ``action (N, *action_shape)`` as `act` does. Raises `InputError` for another ending, and where a
        package is missing.
        """
        return export.write(path, export.PolicyGraph(self._sac, self.native), self._page())

    def save(self, path: Path | str) -> Path:
        """Write the policy to one file and return its path; the name should end in ``.safetensors``."""
        path = Path(path)
        tensorfile.write(path, KIND, {name: tensor[0] for name, tensor in _tensors(self._sac).items()}, self._page())
        return path

    def _page(self) -> dict[str, Any]:
        return {
            "sac": self._sac.config.model_dump(mode="json"),
            "native": self.native.to_json(),
            "origin": vars(self.origin),
        }


def load_policy(path_or_key: Path | str, which: str = FINAL, folders: Sequence[Path] = FOLDERS) -> Policy:
    """The policy of a file, of a folder that holds ``final`` and ``best``, or of a run by its key.

    Args:
        path_or_key: a file, a folder, or six or more digits of a run's key, which is looked for in `folders`.
        which: "final", after the last step, or "best", at the best window of evaluations; for folders and keys.
        folders: where kept policies lie, one folder a run, named by its key.

    Raises:
        InputError: nothing is there, or it is not a policy.
    """
    path = find(path_or_key, which, folders)
    found, page = tensorfile.read(path, KIND)
    dtype = found["obs_shift"].dtype if "obs_shift" in found else torch.float32
    native = Native.from_json(page["native"])
    sac = _learner(build(SacConfig, page["sac"], f"{path}: sac"), native, dtype)
    tensorfile.take(_tensors(sac), found, path)
    return Policy(sac, native, Origin(**page["origin"]))


def origin_of(path: Path) -> Origin:
    """Where the policy in the file at `path` comes from, without its weights."""
    return Origin(**tensorfile.page_of(path, KIND)["origin"])


def _learner(config: SacConfig, native: Native, dtype: torch.dtype) -> Sac:
    layout = Layout(native.obs_dim, native.action_dim)
    return Sac(config, layout, Streams([KIND], torch.device("cpu"), dtype))


def _tensors(sac: Sac) -> dict[str, Tensor]:
    """What of a learner decides its actions, by name in a file: ``(R, ...)`` each."""
    actor = sac.actor
    weights = {f"weights.{i}": tensor for i, tensor in enumerate(actor.weights)}
    biases = {f"biases.{i}": tensor[:, 0] for i, tensor in enumerate(actor.biases)}
    scaling = {"obs_shift": sac.obs_shift[:, 0], "obs_scale": sac.obs_scale[:, 0]}
    return {name: tensor.detach() for name, tensor in {**weights, **biases, **scaling}.items()}


def _origin(state: TrainState, run: int, label: str) -> Origin:
    failure = state.failures.get(run)
    last = state.rows[-1] if state.rows and state.rows[-1].env_steps == state.env_steps else None
    mean = None if last is None else float(last.returns[run].mean())
    cause = None if failure is None else f"its run failed at env step {failure.step}: {failure.cause}"
    return Origin(state.runs[run].seed, state.env_steps, mean, failure=cause, label=label)
