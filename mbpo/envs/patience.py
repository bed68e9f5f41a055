"""How long an environment may take to answer, and what is done about one that takes longer.

A thread looks at all calls of environments in this process. One that has not answered for `patience` seconds is named,
and the main thread is interrupted where it waits: a loop, a sleep or a lock of Python ends there with `NoAnswer`.
Compiled code that never returns cannot be interrupted, and where it holds Python's lock it is not even noticed. Only a
process of its own can then be ended, which `mbpo.envs.processes` does: the command line steps a user's own environment
so. Time in which the whole machine stood still does not count.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import weakref
from types import FrameType

from mbpo.config import InputError

PATIENCE = "MBPO_ENV_PATIENCE"
"""Environment variable: seconds within which an environment has to answer, 600 unless set."""
PROCESSES = "MBPO_ENV_PROCESSES"
"""Environment variable: processes that step environments even where they do not pay, so that any hang can be ended."""
OWN = "own"
"""Value of `PROCESSES` that asks for one process where the environment is a user's own, else for none."""
_SIGNAL = getattr(signal, "SIGVTALRM", None)
_LONGEST_TICK = 30.0
log = logging.getLogger(__name__)


class NoAnswer(BaseException):
    """Raised inside a call that takes too long; no `except Exception` of an environment swallows it."""


def patience() -> float:
    """Seconds within which an environment has to answer a step or reset. Raises `InputError` if set to nonsense."""
    given = os.environ.get(PATIENCE, "600")
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise InputError(f"{PATIENCE} = {given!r}: a number of seconds is needed")
    return seconds


def grace() -> float:
    """Seconds after which a process of environments is ended: by then it has noticed by itself, if it can."""
    seconds = patience()
    return seconds + min(seconds / 2, 60.0)


def processes(own: bool = False) -> int:
    """Processes that are asked for by `PROCESSES` for an environment that is a user's `own`, or not; 0 if none.

    Raises `InputError` if it is set to nonsense.
    """
    given = os.environ.get(PROCESSES, "0")
    if given == OWN:
        return int(own)
    if not given.isdecimal() or int(given) > 1_000:
        raise InputError(f"{PROCESSES} = {given!r}: a whole number or {OWN!r} is needed")
    return int(given)


class Clock:
    """The calls of one environment: `begin` before each, `end` after it, in whichever way it ends."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.call: int | None = None
        self.late: int | None = None  # the call that has taken too long
        self.calls, self._seen, self._waited = 0, -1, 0.0
        self._interruptible = threading.current_thread() is threading.main_thread()
        self.seconds = _start_watching()
        _clocks.add(self)

    def begin(self) -> None:
        """A call begins."""
        self.calls = self.call = self.calls + 1

    def end(self) -> None:
        """It is over."""
        self.call = None

    @property
    def sentence(self) -> str:
        """What is wrong with a call that has taken too long."""
        return (
            f"task {self.task!r}: the environment has not answered for {self.seconds:g} s; it hangs, or is slow "
            f"({PATIENCE} sets how long is waited)"
        )

    def look(self, passed: float) -> None:
        """Count `passed` further seconds to the call that goes on; name and interrupt it once they are too many."""
        call = self.call
        if call is None or call != self._seen:
            self._seen, self._waited = -1 if call is None else call, 0.0
            return
        self._waited += passed
        if self._waited < self.seconds:
            return
        if self.late != call:
            self.late = call
            log.error("%s", self.sentence)
        elif self._waited >= 2 * self.seconds > self._waited - passed:
            log.error(
                "task %r: the environment cannot be interrupted; end process %d with SIGKILL, and the same command "
                "goes on from its snapshots; with %s=1 a process of its own is ended in its place",
                *(self.task, os.getpid(), PROCESSES),
            )
        if self._interruptible and _SIGNAL is not None:
            signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)


_clocks: weakref.WeakSet[Clock] = weakref.WeakSet()
_watching: dict[int, float] = {}
"""The process whose calls are watched (a forked one has no thread yet) -> its patience."""


def _known() -> list[Clock]:
    while True:
        try:
            return list(_clocks)
        except RuntimeError:  # another thread has made an environment meanwhile
            continue


def calls() -> int:
    """Calls of the environments of this process that have begun so far."""
    return sum(clock.calls for clock in _known())


def _start_watching() -> float:
    """From now on a thread looks at all clocks of this process; returns the patience that it has."""
    if os.getpid() not in _watching:
        _watching.clear()
        _watching[os.getpid()] = seconds = patience()
        threading.Thread(target=_watch, args=(seconds,), daemon=True, name="environments").start()
    in_main = threading.current_thread() is threading.main_thread()
    if _SIGNAL is not None and in_main and signal.getsignal(_SIGNAL) is signal.SIG_DFL:
        signal.signal(_SIGNAL, _interrupted)
    return _watching[os.getpid()]


def _watch(seconds: float) -> None:
    tick = min(seconds / 4, _LONGEST_TICK)
    while True:
        before = time.monotonic()
        time.sleep(tick)
        passed = min(time.monotonic() - before, 2 * tick)  # more than that, and this process stood still as well
        for clock in _known():
            clock.look(passed)


def _interrupted(number: int, frame: FrameType | None) -> None:
    for clock in _known():
        if clock.call is not None and clock.call == clock.late:
            raise NoAnswer(clock.sentence)
