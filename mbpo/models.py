"""A fitted dynamics ensemble without its trainer: saved in one file, loaded anywhere, raw inputs in, raw outputs out.

    model = load_dynamics("dynamics.safetensors")
    next_obs, reward = model.sample(obs, action)

Observations come out flat, in the order of the groups that the learner read. A file holds weights and biases of all E
members, bounds of the log-variance, statistics of the inputs, the target map and the elites.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mbpo import checkpoint, export, tensorfile
from mbpo.buffer import Layout
from mbpo.config import InputError, Method, ModelConfig, Target, build
from mbpo.dynamics import GaussianEnsemble
from mbpo.envs.load import Array
from mbpo.envs.native import Native, native_of
from mbpo.state import TrainState
from mbpo.streams import Streams

KIND = "dynamics"


class Prediction(NamedTuple):
    """What K elites predict: means ``next_obs (K, ..., O)``, ``reward (K, ...)``, and their standard deviations."""

    next_obs: Array
    reward: Array
    next_obs_std: Array
    reward_std: Array


class Dynamics:
    """The ensemble of one run, see `sample`; `target` says what its networks regress."""

    def __init__(self, ensemble: GaussianEnsemble, native: Native, seed: int = 0) -> None:
        self._ensemble, self.native = ensemble, native
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def target(self) -> Target:
        """What the networks regress."""
        return self._ensemble.arms[0]

    @classmethod
    def of(cls, state: TrainState, run: int, native: Native | None = None) -> Dynamics:
        """A copy of the ensemble that run `run` has now. Raises `InputError` for a method without a model."""
        if state.dynamics is None or state.method.model is None:
            raise InputError("this method has no dynamics model: its `model` is None")
        native = native or native_of(state.envs.info.id, state.envs.info.drop)
        made = _ensemble(state.method.model, state.runs[run].method.target, native, state.engine.dtype)
        _copy(_tensors(made), {name: tensor[run] for name, tensor in _tensors(state.dynamics).items()})
        return cls(made, native)

    def sample(self, obs: Any, action: Any, noise: bool = True) -> tuple[Array, Array]:
        """Next observations and rewards that the model draws, an elite member for each row.

        Args:
            obs: raw observations as the environment gives them, or flat rows ``(..., O)``.
            action: raw actions ``(..., *action_shape)`` in the environment's own units.
            noise: draw from the predicted Gaussian; else its mean, still of a random elite.

        Returns:
            next_obs ``(..., O)`` float32 and reward ``(...)`` float64.
        """
        flat, acted, leading = self._rows(obs, action)
        member = torch.rand(flat.shape[:2], generator=self._generator).to(flat.dtype)
        drawn = torch.randn((*flat.shape[:2], flat.shape[2] + 1), generator=self._generator).to(flat.dtype)
        with torch.no_grad():
            out = self._ensemble.sample(flat, acted, member, drawn if noise else torch.zeros_like(drawn))[0]
        drawn_rows = out.double().numpy().reshape(*leading, -1)
        return drawn_rows[..., :-1].astype(np.float32), drawn_rows[..., -1]

    def predict(self, obs: Any, action: Any) -> Prediction:
        """What each of the K elites predicts: no random number is drawn. The arguments are those of `sample`."""
        flat, acted, leading = self._rows(obs, action)
        with torch.no_grad():
            both = export.elites(self._ensemble, flat, acted)
        mean, std = (x.double().numpy().reshape(len(x), *leading, -1) for x in both)
        return Prediction(
            mean[..., :-1].astype(np.float32), mean[..., -1], std[..., :-1].astype(np.float32), std[..., -1]
        )

    def _rows(self, obs: Any, action: Any) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """Observations ``(1, N, O)``, actions ``(1, N, A)`` in [-1, 1], and the leading axes that make up N."""
        rows, unit = self.native.flat(obs), self.native.unit(action)
        if rows.shape[:-1] != unit.shape[:-1]:
            raise InputError(f"{rows.shape[:-1]} observations and {unit.shape[:-1]} actions do not go together")
        dtype = self._ensemble.input_mean.dtype
        flat, acted = (torch.as_tensor(x.reshape(1, -1, x.shape[-1])).to(dtype) for x in (rows, unit))
        return flat, acted, rows.shape[:-1]

    def export(self, path: Path | str) -> Path:
        """Write the elites' predictions as a graph that needs no `mbpo`, and return its path.

        Args:
            path: ends in ``.onnx``, for any ONNX runtime (needs the packages onnx and onnxscript), or in ``.pt2``, for
                ``torch.export.load(path).module()``.

        The graph takes raw ``obs (N, *obs_shape)``, or one input for each part of a mapping, and raw
        ``action (N, *action_shape)``, all float32, and gives the four arrays of `Prediction` as `predict` does. Raises
        `InputError` for another ending or a missing package.
        """
        return export.write(path, export.DynamicsGraph(self._ensemble, self.native), self._page())

    def seed(self, seed: int) -> None:
        """Start the draws anew."""
        self._generator.manual_seed(seed)

    def save(self, path: Path | str) -> Path:
        """Write the ensemble to one file and return its path; the name should end in ``.safetensors``."""
        path = Path(path)
        tensorfile.write(
            path, KIND, {name: tensor[0] for name, tensor in _tensors(self._ensemble).items()}, self._page()
        )
        return path

    def _page(self) -> dict[str, Any]:
        return {
            "model": self._ensemble.config.model_dump(mode="json"),
            "target": self.target.model_dump(mode="json"),
            "native": self.native.to_json(),
        }


def load_dynamics(path: Path | str, method: Method | None = None) -> Dynamics:
    """The ensemble in a file, or in the newest snapshot of a run.

    Args:
        path: what `Dynamics.save` wrote, or a folder of snapshots, such as ``train(..., checkpoint=...)`` makes or
            ``.cache/snapshots/KEY`` of a run that was made with ``--keep-last``.
        method: of a folder's run; not needed where a page ``run.json`` beside the snapshots says it.

    Raises:
        InputError: nothing is there, it is damaged, it has no model, or `method` is not that of the snapshot.
    """
    path = Path(path)
    if path.is_dir():
        return _from_snapshot(path, method)
    found, page = tensorfile.read(path, KIND)
    native = Native.from_json(page["native"])
    model, target = (
        build(cls, page[name], f"{path}: {name}") for cls, name in ((ModelConfig, "model"), (Target, "target"))
    )
    assert isinstance(model, ModelConfig) and isinstance(target, Target)
    made = _ensemble(model, target, native, found["input_mean"].dtype if "input_mean" in found else torch.float32)
    tensorfile.take(_tensors(made), found, path)
    return Dynamics(made, native)


def _from_snapshot(folder: Path, method: Method | None) -> Dynamics:
    tree = checkpoint.load(folder)
    if tree is None:
        inside = sorted(str(each) for each in folder.iterdir() if each.is_dir())
        way = (
            f"give one of its runs: {', '.join(inside[:5])}"
            if inside
            else "keep one by checkpoint= with keep_last=True"
        )
        raise InputError(f"the folder {str(folder)!r} holds no snapshot; {way}")
    page = folder / "run.json"
    if method is None and page.is_file():
        method = build(Method, json.loads(page.read_text(encoding="utf-8"))["spec"]["constants"], str(page))
    if method is None:
        raise InputError("a snapshot does not say its constants: give load_dynamics the run's method as well")
    constants = method.model_dump_json(exclude_defaults=True)
    if tree["run"]["run"].partition("/")[2] != hashlib.sha256(constants.encode()).hexdigest():
        raise InputError(f"the snapshot in {str(folder)!r} is of a run with other constants than the method given")
    if method.model is None or "dynamics" not in tree["live"]:
        raise InputError(f"the run of the snapshot in {str(folder)!r} has no dynamics model")
    native = native_of(tree["run"]["task"], tuple(tree["run"]["drop"]))
    saved = tree["live"]["dynamics"]
    made = _ensemble(method.model, method.target, native, saved["frozen"]["input_mean"].dtype)
    checkpoint.copy_into(_without_adam(made.state()), _without_adam(saved))
    return Dynamics(made, native)


def _without_adam(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != "adam"}


def _ensemble(model: ModelConfig, target: Target, native: Native, dtype: torch.dtype) -> GaussianEnsemble:
    layout = Layout(native.obs_dim, native.action_dim)
    return GaussianEnsemble(model, [target], layout, Streams([KIND], torch.device("cpu"), dtype))


def _tensors(ensemble: GaussianEnsemble) -> dict[str, Tensor]:
    """What of an ensemble decides its predictions, by name in a file: ``(R, ...)`` each."""
    state = ensemble.state()
    parameters, frozen, affine = state["parameters"], state["frozen"], state["map"]
    assert isinstance(parameters, list) and isinstance(frozen, dict) and isinstance(affine, dict)
    named = {f"parameters.{i}": tensor for i, tensor in enumerate(parameters)}
    return {**named, **frozen, **{f"map.{name}": tensor for name, tensor in affine.items()}}


def _copy(into: dict[str, Tensor], source: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in into.items():
            tensor[0].copy_(source[name])
