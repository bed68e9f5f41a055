"""Replays of training runs, kept under the cache so that fits and probes can start from them.

A kept run is a folder ``cache/replays/<key>``: ``rows.npy``, all packed rows ``(N, W)`` in the order they were lived,
written last, and ``policy-<env_steps>.pt``, the whole learner at each evaluation. Both can be made again from the run's
key, so they stay out of the results. ``seal.json`` holds the engine that made them and the digests of these files, so
that neither another environment's rows nor damaged ones are ever fitted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.records.spec import Replay, RunSpec
from benchmark.records.store import DAMAGE, replace_file
from benchmark.running import provenance
from mbpo.buffer import Layout
from mbpo.checkpoint import copy_into, of_run, own
from mbpo.config import InputError
from mbpo.sac import Sac
from mbpo.state import TrainState

_SEAL = "seal.json"


def folder(cache: Path, run: RunSpec) -> Path:
    """Where the replay of `run` is kept."""
    return cache / "replays" / run.key


def has(cache: Path, run: RunSpec) -> bool:
    """Whether the replay of `run` is there, whole."""
    return (folder(cache, run) / "rows.npy").is_file()


def engine_of(cache: Path, run: RunSpec) -> str | None:
    """The engine that collected the replay of `run`, as its provenance names it; None where that is not stated."""
    return _seal(folder(cache, run)).get("engine")


def keeper(specs: Sequence[RunSpec], cache: Path) -> Callable[[TrainState], None]:
    """What `mbpo.train` calls at each evaluation to keep learners and, at the end, all rows of the runs `specs`."""

    def keep(state: TrainState) -> None:
        for r, spec in enumerate(specs):
            kept_in = folder(cache, spec)
            kept_in.mkdir(parents=True, exist_ok=True)
            policy = {"sac": own(of_run(state.sac.state(), r, len(specs))), "env_steps": state.env_steps}
            engine = provenance.engine(spec.task, spec.drop)
            _keep(kept_in / f"policy-{state.env_steps}.pt", partial(torch.save, policy), engine)
            if state.env_steps == state.budget.env_steps:
                rows = state.real.rows[r, : int(state.real.size[r])].float().cpu().numpy()
                _keep(kept_in / "rows.npy", partial(_save_rows, rows), engine)

    return keep


def transitions(cache: Path, spec: RunSpec, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Training and held-out rows ``(N, W), (M, W)`` of the replay that `spec` names: see `split`."""
    run, budget = spec.source_run, spec.fit
    assert run is not None and budget is not None and isinstance(budget.source, Replay)
    return split(cache, run, budget.source.step, layout, budget.transitions, budget.heldout)


def split(
    cache: Path, run: RunSpec, step: int, layout: Layout, train: int, heldout: int
) -> tuple[np.ndarray, np.ndarray]:
    """`train` and `heldout` rows ``(N, W), (M, W)`` of the first `step` of a kept replay, from different episodes.

    Whole episodes, evenly spread over the replay's life, are held out; training takes rows evenly from all others, so
    both span everything that the policy did. Raises `InputError` where the episodes do not give that many rows.
    """
    path = folder(cache, run) / "rows.npy"
    _check(path)
    try:
        rows = np.load(path, mmap_mode="r")[:step]
    except (OSError, ValueError, EOFError):
        raise _damaged(path) from None
    if rows.ndim != 2 or rows.shape[1] != layout.width:
        raise _damaged(path)
    held = held_out(rows, layout, heldout)
    left, kept = np.flatnonzero(~held), np.flatnonzero(held)
    if len(left) < train:
        raise InputError(
            f"transitions = {train}: {len(left)} of the {len(rows)} rows of the {run.method} replay remain when whole "
            f"episodes with {heldout} rows are held out; give at most that"
        )
    return _evenly(rows, left, train), _evenly(rows, kept, heldout)


def held_out(rows: np.ndarray, layout: Layout, n: int) -> np.ndarray:
    """Which of ``rows (N, W)`` belong to episodes that are held out, at least `n` rows in all: ``(N,)`` bool.

    Episodes are taken at even distances, the more the shorter they are. An episode ends where the next row does not
    start from the state that this one reached.
    """
    obs, after = rows[1:, : layout.obs_dim], rows[:-1, -2 - layout.obs_dim : -2]
    episode = np.concatenate([[0], np.cumsum((obs != after).any(1))])
    count, lengths = int(episode[-1]) + 1, np.bincount(episode)
    for wanted in range(1, count + 1):
        chosen = np.unique(np.linspace(0, count - 1, wanted + 2).round().astype(int)[1:-1])
        if lengths[chosen].sum() >= n:
            return np.isin(episode, chosen)
    raise InputError(f"heldout = {n}: the replay has {len(rows)} rows in {count} episodes; give fewer")


def load_policy(cache: Path, specs: Sequence[RunSpec], sac: Sac) -> None:
    """Put into run r of `sac` the learner that ``specs[r]`` starts from, optimizers included.

    Raises `InputError` if the learner was not kept at that step.
    """
    for r, spec in enumerate(specs):
        run = spec.source_run
        assert run is not None and spec.fit is not None and isinstance(spec.fit.source, Replay)
        path = folder(cache, run) / f"policy-{spec.fit.source.step}.pt"
        if not path.is_file():
            kept = sorted(int(p.stem.removeprefix("policy-")) for p in path.parent.glob("policy-*.pt"))
            raise InputError(f"fit.source.step = {spec.fit.source.step}: no policy was kept then; there are {kept}")
        _check(path)
        try:
            saved = torch.load(path, weights_only=True)["sac"]
        except Exception:  # whatever the reading of damaged bytes raises
            raise _damaged(path) from None
        copy_into(of_run(sac.state(), r, len(specs)), saved)


def _evenly(rows: np.ndarray, index: np.ndarray, n: int) -> np.ndarray:
    """`n` of the rows at `index`, evenly spread, in order."""
    return np.ascontiguousarray(rows[index[np.linspace(0, len(index) - 1, n).round().astype(int)]])


def _save_rows(rows: np.ndarray, draft: Path) -> None:
    with open(draft, "wb") as file:  # given a name, numpy would append its own ending
        np.save(file, rows)


def _keep(path: Path, save: Callable[[Path], object], engine: str) -> None:
    """Write a file whole, after its digest: a seal that is ahead of its file is written again with it."""
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    save(draft)
    with open(draft, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    files = {name: seal for name, seal in _seal(path.parent).get("files", {}).items() if (path.parent / name).exists()}
    replace_file(path.parent / _SEAL, json.dumps({"engine": engine, "files": {**files, path.name: digest}}) + "\n")
    draft.replace(path)


def _seal(kept_in: Path) -> Mapping[str, Any]:
    """What `_keep` wrote of the files in `kept_in`; nothing of replays that older versions kept."""
    with suppress(*DAMAGE):
        seal = json.loads((kept_in / _SEAL).read_text(encoding="utf-8"))
        if isinstance(seal, dict) and isinstance(seal.get("files"), dict):
            return seal
    return {}


def _check(path: Path) -> None:
    """Raise `InputError` for a file that is not what was written, as far as its seal says."""
    stated = _seal(path.parent).get("files", {}).get(path.name)
    try:
        with open(path, "rb") as file:
            sound = stated is None or hashlib.file_digest(file, "sha256").hexdigest() == stated
    except OSError:
        sound = False
    if not sound:
        raise _damaged(path)


def _damaged(path: Path) -> InputError:
    return InputError(f"{str(path)!r} is damaged; delete its folder, and the replay is collected again")
