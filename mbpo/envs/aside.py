"""A function that tries an environment, in a process of its own: what hangs or crashes there ends that process alone.

A user's environment may hang in compiled code that no signal interrupts, and may hold Python's lock meanwhile, so that
no thread could notice. From another process it is seen and ended.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from mbpo.config import InputError
from mbpo.envs.load import is_named
from mbpo.envs.patience import PATIENCE, calls, grace, patience, processes
from mbpo.envs.served import movable, register, registration_of
from mbpo.envs.simulators import sentence

_BEAT = 0.05
Answer = TypeVar("Answer")


def is_due(task: str) -> bool:
    """Whether the environments of `task` are to be kept out of this process, and can be."""
    asked = not multiprocessing.current_process().daemon and processes(own=not is_named(task)) > 0
    return asked and movable(task)


def call(task: str, function: Callable[..., Answer], *arguments: Any) -> Answer:
    """What `function` returns in a process of its own; it and its arguments are found by name there.

    Raises `InputError` with its sentence if it raises, ends the process, or has an environment that does not answer.
    """
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload(["mbpo.envs.processes"])
    mine, theirs = context.Pipe(duplex=False)
    beats = context.RawArray("d", 1)
    process = context.Process(
        target=_work, args=(theirs, beats, registration_of(task), task, function, arguments), daemon=True
    )
    process.start()
    theirs.close()
    try:
        if not _answers(mine, beats):
            raise InputError(
                f"task {task!r}: the environment did not answer for {patience():g} s in its short trial, and its "
                f"process was ended; {PATIENCE} sets how long is waited"
            )
        sound, answer = mine.recv()
    except EOFError:
        process.join()
        raise InputError(
            f"task {task!r}: the environment ended its process in its short trial, with exit code {process.exitcode}"
        ) from None
    finally:
        process.kill()
        process.join()
        mine.close()
    if not sound:
        raise InputError(answer)
    return answer


def _answers(pipe: Connection, beats: Any) -> bool:
    """Wait for an answer; False once no call of an environment has begun or ended for too long."""
    limit, waited, seen = grace(), 0.0, -1.0
    piece = min(limit / 10, 1.0)
    while waited < limit:
        before = time.monotonic()
        if pipe.poll(piece):
            return True
        waited = waited + min(time.monotonic() - before, 2 * piece) if beats[0] == seen else 0.0
        seen = beats[0]
    return False


def _work(
    pipe: Connection,
    beats: Any,
    registration: bytes | None,
    task: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # sent to the whole group: the one that asks decides what they mean
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_beat, args=(beats,), daemon=True).start()
    try:
        register(task, registration)
        pipe.send((True, function(*arguments)))
    except Exception as error:
        pipe.send((False, sentence(error) if isinstance(error, InputError) else f"task {task!r}: {sentence(error)}"))


def _beat(beats: Any) -> None:
    """Tell how many calls of environments there were so far: a call that holds Python's lock stops this as well."""
    while True:
        beats[0] = calls()
        time.sleep(_BEAT)
