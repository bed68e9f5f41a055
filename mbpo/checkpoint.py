"""All-or-nothing snapshots of one run, each with all that the run needs to go on in whatever company.

A snapshot is a folder written under a temporary name, whose sentinel file comes last, then renamed. One without its
sentinel is a torn write and is passed over. The sentinel holds the digests of the state and of the files of rows that
belong to it (`mbpo.rowlog`), which lie beside the snapshots: what does not match is an error, never a silent restart
nor a silent change of numbers.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mbpo import rowlog
from mbpo.buffer import ReplayBuffer
from mbpo.config import InputError
from mbpo.rowlog import Segment, damaged

_SENTINEL, _STATE = "COMPLETE", "state.pt"
Buffers = Mapping[str, ReplayBuffer]
log = logging.getLogger(__name__)


def save(
    folder: Path,
    step: int,
    tree: dict[str, Any],
    buffers: Buffers | None = None,
    run: int = 0,
    keep_older: bool = False,
) -> Path:
    """Write `tree` (tensors, numbers, strings, lists, dicts) as snapshot `step`; drop older ones after.

    The rows that `run` added to `buffers` since the last snapshot are written beside it. A write that fails leaves the
    older snapshots as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:012d}"
    if (final / _SENTINEL).exists():
        return final
    for torn in folder.glob(".*"):  # of a killed process: a run's folder has one owner at a time
        if torn.name.startswith(".step-") or torn.name.endswith(".tmp"):
            shutil.rmtree(torn) if torn.is_dir() else torn.unlink(missing_ok=True)
    before, draft = complete(folder), folder / f".{final.name}.{os.getpid()}"
    known = segments(before[-1]) if before and buffers else []
    files: list[Segment] = []
    try:
        for name, buffer in (buffers or {}).items():
            files += rowlog.append(folder, name, buffer, run, known)
        draft.mkdir()
        with open(draft / _STATE, "wb") as file:
            try:
                torch.save(tree, file)
            except RuntimeError as error:  # what it makes of a disk that is full
                raise OSError(f"{draft / _STATE} cannot be written: {str(error).splitlines()[0]}") from error
            _flush(file)
        lines = [_digest(draft / _STATE), *(f"{segment.digest} {segment.file}" for segment in files)]
        with open(draft / _SENTINEL, "w", encoding="utf-8") as sentinel:
            sentinel.write("\n".join(lines) + "\n")
            _flush(sentinel)
        shutil.rmtree(final, ignore_errors=True)
        draft.rename(final)
        _sync(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        for rest in folder.glob(f".*.{os.getpid()}.tmp"):
            rest.unlink(missing_ok=True)
        raise
    if not keep_older:
        keep_only(final)
    return final


def keep_only(snapshot: Path) -> None:
    """Drop all other snapshots of the run, and the files of rows that only they name."""
    folder, needed = snapshot.parent, {segment.file for segment in segments(snapshot)}
    for other in folder.glob("step-*"):
        if other != snapshot:
            (other / _SENTINEL).unlink(missing_ok=True)  # first: what is dropped in part is not whole
            shutil.rmtree(other, ignore_errors=True)
    for file in folder.glob(f"*{rowlog.ENDING}"):
        if file.name not in needed:
            file.unlink(missing_ok=True)


def complete(folder: Path) -> list[Path]:
    """Complete snapshots in `folder`, oldest first."""
    return sorted(p for p in folder.glob("step-*") if (p / _SENTINEL).exists())


def step_of(snapshot: Path) -> int:
    """The env step that a snapshot was made at."""
    return int(snapshot.name.removeprefix("step-"))


def steps(folder: Path) -> list[int]:
    """The env steps that a run can go on from, in order."""
    return [step_of(snapshot) for snapshot in complete(folder)]


def _sentinel(snapshot: Path) -> tuple[str, list[Segment]]:
    """The digest of a snapshot's state, and the files of rows that it needs. Raises `InputError` if it is damaged."""
    try:
        digest, *lines = (snapshot / _SENTINEL).read_text(encoding="utf-8").splitlines()
        return digest.strip(), [Segment.of(file, digest) for digest, file in (line.split() for line in lines)]
    except (OSError, ValueError):
        raise damaged(snapshot) from None


def segments(snapshot: Path) -> list[Segment]:
    """The files of rows that a snapshot needs, by buffer and in order. Raises `InputError` for a damaged sentinel."""
    return _sentinel(snapshot)[1]


def load(folder: Path, step: int | None = None) -> dict[str, Any] | None:
    """The newest complete snapshot in `folder`, or that of `step`, on the CPU; None if there is none.

    Raises:
        InputError: a complete snapshot whose state is missing or not what was written.
    """
    whole = [snapshot for snapshot in complete(folder) if step is None or step_of(snapshot) == step]
    if not whole:
        return None
    state = whole[-1] / _STATE
    if not _has_digest(state, _sentinel(whole[-1])[0]):
        raise damaged(whole[-1])
    return dict(torch.load(state, map_location="cpu", weights_only=True))


def is_sound(snapshot: Path) -> bool:
    """Whether all files of a snapshot are what was written."""
    try:
        state, files = _sentinel(snapshot)
    except InputError:
        return False
    parts = [(snapshot / _STATE, state), *((snapshot.parent / file.file, file.digest) for file in files)]
    return all(_has_digest(path, digest) for path, digest in parts)


def load_rows(folder: Path, step: int, buffers: Buffers, run: int, added: Mapping[str, int]) -> None:
    """Fill `run`'s part of `buffers` as it was at `step`, when it had `added` rows to each.

    Raises `InputError` where a file of rows is not what was written.
    """
    snapshot = folder / f"step-{step:012d}"
    known = segments(snapshot)
    for name, buffer in buffers.items():
        mine = [segment for segment in known if segment.name == name]
        if (mine[-1].last if mine else 0) != added[name]:
            raise damaged(snapshot)
        rowlog.read(folder, mine, buffer, run, added[name])


def common_step(folders: Sequence[Path]) -> int | None:
    """The newest step that all runs can go on from; None if none has a snapshot.

    A process that is killed while it saves leaves some runs a snapshot ahead: the older one is dropped last.

    Raises:
        InputError: some stand at other steps than the rest, or at their start.
    """
    known = [set(steps(folder)) for folder in folders]
    if not any(known):
        return None
    shared = set.intersection(*known)
    if not shared:
        newest = ", ".join(str(max(each, default=0)) for each in known)
        raise InputError(
            f"the checkpoints of these runs lie at different steps ({newest}): lockstep needs one; train them in as "
            "many calls, or delete the folders to train from the start"
        )
    return max(shared)


def take_over(source: Path, folder: Path) -> bool:
    """Let the run of `folder` go on from the newest snapshot in `source`, another run's, which stays as it is.

    Files are linked where the file system can, else copied. False where there is nothing to take over.
    """
    whole = complete(source)
    if not whole or complete(folder):
        return False
    final = folder / whole[-1].name
    draft = folder / f".{final.name}.{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        draft.mkdir(exist_ok=True)
        for segment in segments(whole[-1]):
            _link(source / segment.file, folder / segment.file)
        for name in (_STATE, _SENTINEL):
            _link(whole[-1] / name, draft / name)
        draft.rename(final)
    except (OSError, InputError) as error:  # it went meanwhile, or is damaged
        log.warning("the snapshot of a shorter run is not taken over: %s", error)
        shutil.rmtree(draft, ignore_errors=True)
        return False
    return True


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _has_digest(file: Path, digest: str) -> bool:
    try:
        return _digest(file) == digest
    except OSError:
        return False


@torch.no_grad()
def copy_into(live: Any, saved: Any, where: str = "state") -> None:
    """Copy the tensors of `saved` into those of `live`, a tree of the same form.

    Raises:
        InputError: the trees differ in form, with the path to where.
    """
    if isinstance(live, Tensor):
        fits = isinstance(saved, Tensor) and live.shape == saved.shape
    elif isinstance(live, dict):
        fits = isinstance(saved, dict) and live.keys() == saved.keys()
    else:
        fits = isinstance(saved, list) and len(live) == len(saved)
    if not fits:
        raise InputError(f"checkpoint does not fit this run at {where}; delete it to train from the start")
    if isinstance(live, Tensor):
        live.copy_(saved)
        return
    for key in live.keys() if isinstance(live, dict) else range(len(live)):
        copy_into(live[key], saved[key], f"{where}.{key}")


def of_run(tree: Any, run: int, runs: int) -> Any:
    """The part of a tree of tensors that belongs to one of `runs`: views ``(1, ...)`` of tensors ``(R, ...)``.

    What all runs have in common, such as Adam's step counts ``(1, n)``, is kept whole.
    """
    return _mapped(tree, lambda tensor: tensor[run : run + 1] if len(tensor) == runs else tensor)


def own(tree: Any) -> Any:
    """The same tree on the CPU with memory of its own: a saved view would drag along all runs."""
    return _mapped(tree, lambda tensor: tensor.detach().cpu().clone())


def _mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {name: _mapped(value, change) for name, value in tree.items()}
    return [_mapped(value, change) for value in tree] if isinstance(tree, list) else change(tree)


def same_keys(trees: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names that all of `trees` have. Raises `InputError` where they differ."""
    first, *rest = [list(tree) for tree in trees]
    if any(set(other) != set(first) for other in rest):
        raise InputError("the checkpoints of these runs hold different measures; train them in as many calls")
    return first
