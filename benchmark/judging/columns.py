"""Names that others use for columns, tasks and methods, and how a name that fits nothing is answered."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from benchmark.records.spec import arm
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite
from mbpo.config import InputError

COLUMNS = ("suite", "task", "method", "seed", "env_steps", "return")
SYNONYMS: Mapping[str, str] = {
    **dict.fromkeys(("step", "steps", "timesteps", "timestep", "total_timesteps", "num_timesteps"), "env_steps"),
    **dict.fromkeys(("global_step", "env_step", "_step", "frames", "total_steps"), "env_steps"),
    **dict.fromkeys(("reward", "episode_reward", "episode_return", "score", "ep_rew_mean", "avg_return"), "return"),
    **dict.fromkeys(("returns", "episodic_return", "eval_return", "mean_reward", "eval/return"), "return"),
    **dict.fromkeys(("env", "env_id", "env_name", "environment", "task_name"), "task"),
    **dict.fromkeys(("algo", "algorithm", "agent", "exp_name", "algo_name"), "method"),
    **dict.fromkeys(("random_seed", "run_seed", "seed_id"), "seed"),
    **dict.fromkeys(("domain", "benchmark"), "suite"),
}
"""What a column goes by elsewhere. Frames and steps are the same thing at action repeat 1 alone."""
SAME = ("step", "reward", "env_step", "env_name", "exp_name", "episode_return")
"""Synonyms that are read without being asked: the columns of published score files."""
CUTOFF = 0.72


class Names(NamedTuple):
    """What the caller says that names mean: ours by theirs. The entry under "" is for files that do not say."""

    columns: Mapping[str, str] = {}
    tasks: Mapping[str, str] = {}
    methods: Mapping[str, str] = {}


def names(columns: Sequence[str] = (), tasks: Sequence[str] = (), methods: Sequence[str] = ()) -> Names:
    """Checked maps from ``return=reward,env_steps=step``, ``humanoid_walk=dmc:humanoid-walk`` and ``MyMBPO=mbpo``.

    Tasks and methods may be given either way round, or alone for a file without such a column. Raises `InputError`.
    """
    theirs: dict[str, str] = {}
    for pair in (part.strip() for text in columns for part in text.split(",") if part.strip()):
        ours, equals, other = (part.strip() for part in pair.partition("="))
        if not equals or not other:
            raise InputError(f"--columns {pair!r}: give OURS=THEIRS, such as return=reward")
        if ours not in COLUMNS:
            raise InputError(f"--columns {pair!r}: there is no column {ours!r}; {suggestion(ours, COLUMNS)}")
        if other in theirs:
            raise InputError(f"--columns names {other!r} twice, for {theirs[other]!r} and for {ours!r}")
        theirs[other] = ours
    return Names(theirs, _map("--task", tasks, load_suite().tasks), _map("--method", methods, known_methods()))


def _map(option: str, given: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    made: dict[str, str] = {}
    for text in given:
        one, equals, two = (part.strip() for part in text.partition("="))
        left, right = (_named(option, part) for part in (one, two))
        if not equals:
            left, one = "", one
            right = _named(option, one)
            two = one
        elif right not in known and left in known:
            one, right = two, left
        if right not in known:
            raise InputError(f"{option} {text!r}: {two!r} is not one of ours; {suggestion(two, known)}")
        key = "" if not equals else one
        if made.get(key, right) != right:
            raise InputError(f"{option} gives {key!r} two meanings: {made[key]!r} and {right!r}")
        made[key] = right
    return made


def _named(option: str, text: str) -> str:
    return (task_alias(text) or text) if option == "--task" else text


@cache
def known_methods() -> tuple[str, ...]:
    """Every method, and the arms of the ledger that go without some observations, as `export` names them."""
    less = [arm(*side) for claim in load_ledger().claims for side in claim.arms if side[1]]
    return tuple(dict.fromkeys([*load_suite().methods, *less]))


@cache
def task_alias(text: str) -> str | None:
    """The task that goes by `text`, whatever its underscores, capitals and suite; None for another version."""
    tasks = load_suite().tasks
    if text in tasks:
        return text
    plain = {re.sub(r"[_\s]", "-", name).lower(): name for name in tasks}
    flat = re.sub(r"[_\s]", "-", text.strip()).lower().replace("dm-control/", "dmc:").replace("dmc-", "dmc:")
    flat = flat.removesuffix("-v0") if flat.startswith("dmc:") else flat
    bare = {name.partition(":")[2]: task for name, task in plain.items()}
    return plain.get(flat) or bare.get(flat)


def unknown_task(text: str) -> str:
    """Why `text` is no task, as the end of a sentence: another version is told as one."""
    theirs = re.fullmatch(r"(?:gym:)?(\w+)-v(\d+)", text)
    for task in load_suite().tasks if theirs else ():
        ours = re.fullmatch(r"gym:(\w+)-v(\d+)", task)
        if ours and theirs and ours[1].lower() == theirs[1].lower():
            return f"it is another version than ours, {task}; if its returns may be compared, say --task {text}={task}"
    return suggestion(text, load_suite().tasks, prefixes=True)


def suggestion(text: str, known: Iterable[str], prefixes: bool = False) -> str:
    """'did you mean X?' for a name that is really near, else the list of known names."""
    known = list(known)
    short = {name.partition(":")[2] if prefixes else name: name for name in known}
    bare = text.rpartition(":")[2] if prefixes else text
    meant = SYNONYMS.get(text.lower())
    if meant in known:
        return f"did you mean {meant!r}?"
    near = difflib.get_close_matches(bare, short, n=1, cutoff=CUTOFF)
    if near:
        return f"did you mean {near[0]!r}?"
    return "known: " + ", ".join(sorted(known))
