"""Environments of a batch in processes that step side by side.

They pay where environments are many and CPUs are free, as beside a GPU: every step costs one message to each process
and one back, and observations pass through memory that all of them share. What hangs or crashes in a process ends that
process alone: the environment that was at work is named, and the others are brought back in a new process.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from mbpo.config import InputError
from mbpo.envs.flat import task_info
from mbpo.envs.load import Array
from mbpo.envs.patience import PATIENCE, patience
from mbpo.envs.served import CLOSING_SECONDS, NOBODY, Board, Order, end, registration_of, serve
from mbpo.envs.simulators import Steps

log = logging.getLogger(__name__)


class _Fault(NamedTuple):
    """Why an order was not carried out: the environment, whether the input is to blame, a sentence.

    `gone`: the process has ended, while that environment was at work or, if `idle`, between two orders. `hung`: it was
    ended because it did not answer.
    """

    row: int
    is_input: bool
    sentence: str
    gone: bool = False
    hung: bool = False
    idle: bool = False


class InProcesses:
    """In `workers` processes, each with a stretch of the environments.

    An error in an environment is raised here, that of the lowest place in `rows` if there are several, as `InputError`
    with its own sentence if it is one and else as `RuntimeError`; its process has then ended. With `isolate` it is
    noted as the failure of that environment. So is a hang, and the second end of a process at one environment; the
    first may have come from elsewhere. `life` gives an environment's seed (-1 before its first reset) and actions
    since, by which the others of a lost process are brought back.
    """

    def __init__(
        self, task: str, n: int, drop: Sequence[str], finite: bool, workers: int, isolate: bool = False
    ) -> None:
        self.failures: dict[int, str] | None = {} if isolate else None
        self.life: Callable[[int], tuple[int, Sequence[Array]]] = lambda i: (-1, ())
        self.info = task_info(task, drop)
        methods = multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        context.set_forkserver_preload([__name__])
        sizes = {"obs": 4 * n * self.info.obs_dim, "action": 4 * n * self.info.action_dim, "reward": 8 * n}
        sizes |= {"ended": 2 * n, "calls": 16 * workers}
        self._board = Board(**{name: context.RawArray("b", size) for name, size in sizes.items()}, info=self.info)
        self._obs, self._action, self._reward, self._ended, self._calls = self._board.arrays()
        self._cuts = cuts = [n * w // workers for w in range(workers + 1)]
        self._of = [w for w, (start, stop) in enumerate(pairwise(cuts)) for _ in range(start, stop)]
        self._patience, self._ends = patience(), Counter[int]()
        self._context, self._arguments = context, (registration_of(task), task, tuple(drop), finite, isolate)
        begun = [self._begin(w) for w in range(workers)]
        self._pipes, self._processes = [pipe for pipe, _ in begun], [process for _, process in begun]
        # Before multiprocessing's own farewell, which terminates and joins: these processes do not heed that signal.
        atexit.register(self.close)

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> Array:
        """As in `Simulators`."""
        self._ask(rows, seeds)
        return self._obs[list(rows)]

    def step(self, rows: Sequence[int], actions: Array) -> Steps:
        """As in `Simulators`."""
        rows = list(rows)
        self._action[rows] = actions
        self._ask(rows, None)
        return self._obs[rows], self._reward[rows], self._ended[rows, 0], self._ended[rows, 1]

    def close(self) -> None:
        """As in `Simulators`; returns when every process is gone."""
        atexit.unregister(self.close)
        end(self._pipes, self._processes)
        self._pipes, self._processes = [], []

    def _begin(self, w: int) -> tuple[Connection, Any]:
        """Start process `w`."""
        mine, theirs = self._context.Pipe()
        self._calls[w] = NOBODY, 0.0
        arguments = (theirs, self._board, w, self._cuts[w], self._cuts[w + 1], *self._arguments)
        process = self._context.Process(target=serve, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return mine, process

    def _ask(self, rows: Sequence[int], seeds: Sequence[int] | None) -> None:
        """Have every process step (or reset, if there are seeds) those of `rows` that are its own."""
        orders: dict[int, Order] = {}
        for i, seed in zip(rows, [None] * len(rows) if seeds is None else seeds, strict=True):
            orders.setdefault(self._of[i], []).append((i, seed))
        for w, order in orders.items():
            self._send(w, order)
        faults = [fault for w, order in orders.items() if (fault := self._carried_out(w, order)) is not None]
        if faults:
            first = min(faults, key=lambda fault: rows.index(fault.row) if fault.row in rows else 0)
            if first.is_input:
                raise InputError(first.sentence)
            raise RuntimeError(f"task {self.info.id!r}: environment {first.row}: {first.sentence}")

    def _send(self, w: int, order: Order) -> None:
        with suppress(OSError):  # a process that has ended is reported by its missing answer
            self._pipes[w].send(order)

    def _carried_out(self, w: int, order: Order) -> _Fault | None:
        """Wait for the answer of process `w` to `order`; with `isolate` a lost process is replaced meanwhile."""
        fault = self._answer(w)
        while fault is not None and fault.gone and self.failures is not None:
            self._note(fault)
            self._pipes[w].close()
            self._pipes[w], self._processes[w] = self._begin(w)
            fault = self._brought_back(w, order)
        return fault

    def _note(self, fault: _Fault) -> None:
        """Count a lost process against the environment that was at work; one that was idle is nobody's fault."""
        assert self.failures is not None
        if fault.idle:
            log.warning("task %r: %s; it is started again", self.info.id, fault.sentence)
            return
        i, told = fault.row, f"task {self.info.id!r}: {fault.sentence}"
        self._ends[i] += 1
        if fault.hung or self._ends[i] > 1:
            self.failures[i] = told
            self._obs[i], self._reward[i], self._ended[i] = 0.0, 0.0, False
        else:
            log.warning("%s; it is started again", told)

    def _brought_back(self, w: int, order: Order) -> _Fault | None:
        """Have the new process `w` live through the episodes of the old one, then carry out `order`."""
        assert self.failures is not None
        asked = self._action.copy()
        lives = {i: self.life(i) for i in range(self._cuts[w], self._cuts[w + 1])}
        lives = {i: life for i, life in lives.items() if life[0] >= 0}
        longest = max((len(actions) for _, actions in lives.values()), default=0)
        for t in range(-1, longest):
            if t < 0:
                past: Order = [(i, seed) for i, (seed, _) in lives.items() if i not in self.failures]
            else:
                past = [(i, None) for i, (_, actions) in lives.items() if t < len(actions) and i not in self.failures]
                for i, _ in past:
                    self._action[i] = lives[i][1][t]
            self._send(w, past)
            if (fault := self._answer(w)) is not None:
                break
        self._action[:] = asked
        if fault is None:
            self._send(w, [(i, seed) for i, seed in order if i not in self.failures])
            fault = self._answer(w)
        return fault

    def _answer(self, w: int) -> _Fault | None:
        """What process `w` answers; None if all is well."""
        process = self._processes[w]
        try:
            if not self._answers(w):
                process.kill()
                process.join()
                first, last = self._cuts[w], self._cuts[w + 1] - 1
                who = f"of environments {first} to {last}" if last > first else f"of environment {first}"
                why = (
                    f"the process {who} did not answer for {self._patience:g} s and was ended; {PATIENCE} sets how long"
                )
                return self._fault(w, why, hung=True)
            answer = self._pipes[w].recv()
        except (EOFError, OSError):
            process.join(CLOSING_SECONDS)
            why = f"its process ended with exit code {process.exitcode}"
            hint = "" if self._calls[w, 1] > 0 else "; a script that trains needs `if __name__ == '__main__':`"
            return self._fault(w, f"{why}{hint}")
        if isinstance(answer, tuple):
            return _Fault(*answer)
        if answer:
            assert self.failures is not None
            self.failures.update(answer)
        return None

    def _answers(self, w: int) -> bool:
        """Wait until process `w` has something to say; False if one call of it takes longer than `patience` allows.

        The process itself notices first, and can often end the call alone. Time in which this one stood still is not
        counted.
        """
        limit = self._patience + min(self._patience / 2, 60.0)  # as `patience.grace`
        piece, waited, seen = min(limit / 10, 1.0), 0.0, (0.0, 0.0)
        while waited < limit:
            before = time.monotonic()
            if self._pipes[w].poll(piece):
                return True
            call = (float(self._calls[w, 0]), float(self._calls[w, 1]))
            waited = waited + min(time.monotonic() - before, 2 * piece) if call == seen else 0.0
            seen = call
        return False

    def _fault(self, w: int, why: str, hung: bool = False) -> _Fault:
        """The end of process `w`, laid on the environment that was at work, if any was.

        One that was idle and had never carried anything out would end again.
        """
        at, has_worked = int(self._calls[w, 0]), self._calls[w, 1] > 0
        return _Fault(self._cuts[w] if at < 0 else at, False, why, gone=at >= 0 or has_worked, hung=hung, idle=at < 0)
