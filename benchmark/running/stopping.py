"""What a process does when it is told to stop (SIGINT, SIGTERM, SIGHUP, a scheduler's SIGUSR2): save, say so, end.

The first signal during training lets the step end and a snapshot be made; a second one, or one at another time, ends
at once, which loses what came after the last snapshot and nothing else.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2") if hasattr(signal, name))
log = logging.getLogger(__name__)


class Stopped(KeyboardInterrupt):
    """A signal ended the work; `code` is the exit code that says so."""

    def __init__(self, number: int, said: str = "") -> None:
        self.code = 128 + number
        super().__init__(f"{signal.Signals(number).name}: {said or 'stopped'}; the same command goes on from there")


class Stopping:
    """Heeds the signals while its block lasts, in the main thread; those that are ignored remain so."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._deferring = False
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.signal is not None:
            raise Stopped(self.signal)

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Inside, a first signal is only noted: the work asks `requested` and ends in order."""
        self._deferring = True
        try:
            yield
        except KeyboardInterrupt as error:
            if self.signal is None or isinstance(error, Stopped):
                raise
            raise Stopped(self.signal, str(error)) from error
        finally:
            self._deferring = False

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Inside, an error that follows a signal is the signal's: a module that it interrupts raises what it likes."""
        try:
            yield
        except Exception as error:
            if self.signal is not None:
                raise Stopped(self.signal) from error
            raise

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._heed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heed(self, number: int, frame: FrameType | None) -> None:
        first, self.signal = self.signal is None, number
        if not (first and self._deferring):
            raise Stopped(number)
        log.warning("%s: saving, then stopping; once more to stop at once", signal.Signals(number).name)
