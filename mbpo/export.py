"""A kept policy or ensemble as a graph that runs without this package: an ``.onnx`` file, or torch's own ``.pt2``.

    load_policy("policy.safetensors").export("policy.onnx")
    load_dynamics("dynamics.safetensors").export("dynamics.pt2")

Inputs are raw observations in float32: one input ``obs (N, *obs_shape)``, or one for each part of a mapping, by its
name; for an ensemble also ``action (N, *action_shape)``. N is free. Outputs are in the environment's own units, and
the graph draws no random number.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mbpo.config import InputError
from mbpo.dynamics import GaussianEnsemble
from mbpo.envs.native import Native
from mbpo.nn import StackedMLP, TwoHeads, stacked_linear
from mbpo.sac import Sac, policy

ONNX, TORCH = ".onnx", ".pt2"
OPSET = 20
"""ONNX operators of 2023: old enough for the runtimes in use, new enough for the exporter."""
ACTION, NEXT_OBS, REWARD = "action", "next_obs", "reward"


class _Network:
    """A network from torch operators alone, which can be traced; the kernels cannot."""

    def __init__(self, net: StackedMLP | TwoHeads) -> None:
        self._parts = [part.frozen() for part in (net.parts if isinstance(net, TwoHeads) else (net,))]

    def __call__(self, x: Tensor) -> Tensor:
        """As the network itself."""
        outs = [stacked_linear(part.features(x), part.weights[-1], part.biases[-1]) for part in self._parts]
        return outs[0] if len(outs) == 1 else TwoHeads.joined(outs)


class _Inputs(nn.Module):
    """Raw observations to flat rows, the inverse of what an environment does."""

    def __init__(self, native: Native) -> None:
        super().__init__()
        self.names = tuple(name for name, _ in native.parts) or ("obs",)
        self.shapes = tuple(shape for _, shape in native.parts) or (native.obs_shape,)
        self.native = native

    def rows(self, obs: tuple[Tensor, ...]) -> Tensor:
        """``(1, N, O)`` float32, as `Native.flat` makes them."""
        flat = torch.cat([part.reshape(part.shape[0], -1) for part in obs], dim=-1)
        whole = tuple(range(flat.shape[-1]))
        if self.native.columns and self.native.columns != whole:
            flat = flat[:, list(self.native.columns)]
        return flat[None]


class PolicyGraph(_Inputs):
    """``obs (N, ...) -> action (N, *action_shape)``: what `Policy.act` does, deterministic."""

    outputs = (ACTION,)

    def __init__(self, learner: Sac, native: Native) -> None:
        super().__init__(native)
        self._learner, self._actor = learner, _Network(learner.actor)
        self._low, self._high, self._scale, self._shift = (torch.from_numpy(b.copy()) for b in native.bounds())

    def forward(self, *obs: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        rows = self._learner.scaled(self.rows(obs).to(self._learner.log_alpha.dtype))
        mean, _ = policy(self._learner, rows, actor=self._actor)
        unit = torch.tanh(mean)[0].float().to(self._scale.dtype)
        action = torch.maximum(torch.minimum(unit * self._scale + self._shift, self._high), self._low)
        return (action.reshape(-1, *self.native.action_shape),)


class DynamicsGraph(_Inputs):
    """``obs (N, ...), action (N, *action_shape)`` to what each of the K elites predicts: see `Dynamics.predict`.

    ``next_obs (K, N, O), reward (K, N), next_obs_std (K, N, O), reward_std (K, N)``.
    """

    outputs = (NEXT_OBS, REWARD, f"{NEXT_OBS}_std", f"{REWARD}_std")

    def __init__(self, ensemble: GaussianEnsemble, native: Native) -> None:
        super().__init__(native)
        self.names, self.shapes = (*self.names, ACTION), (*self.shapes, native.action_shape)
        self._ensemble, self._net = ensemble, _Network(ensemble.net)
        self._bounds = ensemble.min_logvar.detach(), ensemble.max_logvar.detach()
        self._chosen = chosen_of(ensemble)
        self._scale, self._shift = (torch.from_numpy(b.astype(np.float64)) for b in native.bounds()[2:])

    def forward(self, *obs_and_action: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        obs, action = obs_and_action[:-1], obs_and_action[-1]
        dtype = self._ensemble.input_mean.dtype
        acted = action.reshape(action.shape[0], -1).double()
        unit = ((acted - self._shift) / self._scale).clamp(-1.0, 1.0).float()[None].to(dtype)
        mean, std = elites(self._ensemble, self.rows(obs).to(dtype), unit, self._net, self._bounds, self._chosen)
        return mean[..., :-1].float(), mean[..., -1].double(), std[..., :-1].float(), std[..., -1].double()


def elites(
    ensemble: GaussianEnsemble,
    obs: Tensor,
    unit: Tensor,
    net: _Network | None = None,
    bounds: tuple[Tensor, Tensor] | None = None,
    chosen: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Means and standard deviations ``(K, N, D)`` of the K elites of one run, in raw units.

    Args:
        ensemble: of one run.
        obs: ``(1, N, O)``.
        unit: actions ``(1, N, A)`` in [-1, 1].
        net: its network as torch operators alone.
        bounds: least and largest log-variance ``(1, 1, 1, D)`` without gradients.
        chosen: the members that are elites.
    """
    out = (net or ensemble.net)(ensemble.scaled(torch.cat([obs, unit], dim=-1)))
    mean, logvar = ensemble.bounded(out, *(bounds or (ensemble.min_logvar, ensemble.max_logvar)))
    chosen = chosen or chosen_of(ensemble)
    raw = torch.cat([ensemble.map.decode(obs, mean[:, e]) for e in chosen])
    return raw, torch.cat([ensemble.map.scale[:, None] * (0.5 * logvar[:, e]).exp() for e in chosen])


def chosen_of(ensemble: GaussianEnsemble) -> list[int]:
    """The K members that are elites of the one run."""
    return [int(member) for member in ensemble.elites[0]]


def write(path: Path | str, graph: PolicyGraph | DynamicsGraph, page: Mapping[str, Any]) -> Path:
    """Write `graph` to `path`, whose ending says in which format, and return the path.

    `page` is written beside it: metadata ``mbpo`` of an ``.onnx`` file, the extra file ``mbpo.json`` of a ``.pt2``.

    Raises:
        InputError: another ending; a package is missing; the folder cannot be written.
    """
    path = Path(path)
    if path.suffix not in (ONNX, TORCH):
        raise InputError(f"export to {str(path)!r}: give a name that ends in {ONNX} or {TORCH}")
    if path.suffix == ONNX and not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise InputError(
            f"export to {str(path)!r} needs onnx and onnxscript: pip install onnx onnxscript, or give a {TORCH}"
        )
    # Two rows: a size of one would be taken for a constant.
    examples = tuple(torch.zeros(2, *shape) for shape in graph.shapes)
    rows = torch.export.Dim("N", min=1)
    program = torch.export.export(graph.eval(), examples, dynamic_shapes=(tuple({0: rows} for _ in examples),))
    text = json.dumps({"inputs": dict(zip(graph.names, graph.shapes, strict=True)), "outputs": graph.outputs, **page})
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == TORCH:
            torch.export.save(program, draft, extra_files={"mbpo.json": text})
        else:
            _write_onnx(draft, program, graph, text)
        draft.replace(path)
    except OSError as error:
        raise InputError(f"export to {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
    finally:
        draft.unlink(missing_ok=True)
    return path


def _write_onnx(path: Path, program: Any, graph: PolicyGraph | DynamicsGraph, text: str) -> None:
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            made: Any = torch.onnx.export(
                program,
                input_names=list(graph.names),
                output_names=list(graph.outputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    made.model.metadata_props["mbpo"] = text
    made.save(path, external_data=False)
