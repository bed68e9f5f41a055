"""Files of learning curves, whoever wrote them, as one table in our columns, each row with the place it came from.

Read are .csv, .tsv, .txt and .parquet, gzipped or not, with commas, semicolons or tabs; folders of them; tables with a
row per evaluation, with a row per metric (``metric, value``), and with a column per run as trackers export them.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

import pandas as pd

from benchmark.judging.columns import COLUMNS, SAME, SYNONYMS, Names, known_methods, suggestion, task_alias
from mbpo.config import InputError

ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".csv.gz", ".tsv.gz", ".txt.gz")
PLACE = "place"
"""The column of where a row was read."""


def files(paths: Sequence[Path]) -> list[Path]:
    """The files, and those in the folders, in order. Raises `InputError` for a folder without any."""
    listed: list[Path] = []
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.name.endswith(ENDINGS)) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"the folder {str(path)!r} has no file that ends in {', '.join(ENDINGS)}")
        listed += inside
    return list(dict.fromkeys(listed))


def table(path: Path, names: Names) -> pd.DataFrame:
    """The file's rows as text in the six columns and `PLACE`. Raises `InputError` with the file and the line."""
    frame = _raw(path)
    frame[PLACE] = [f"{path.name} line {index + 2}" for index in range(len(frame))]
    if len(frame) == 0:
        raise InputError(f"{path.name} has no row below its header")
    if any(" - " in str(column) for column in frame.columns):
        frame = _wide(frame, path, names)
    frame = _renamed(frame, path, names)
    stem = path.name.split(".")[0]
    if "task" not in frame:
        frame["task"] = names.tasks.get(stem) or names.tasks.get("") or task_alias(stem)
    if "method" not in frame:
        folder = path.parent.name
        known = {**{name: name for name in known_methods()}, **names.methods}
        frame["method"] = names.methods.get("") or known.get(folder) or known.get(stem)
    for column, option in (("task", "--task"), ("method", "--method")):
        if frame[column].isna().any():
            raise InputError(f"{path.name}: no column and no name says which {column} this is; give {option} NAME")
    if "suite" not in frame:
        frame["suite"] = ""
    _check(frame, path)
    return frame[[*COLUMNS, PLACE]]


def _raw(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path).astype(str).reset_index(drop=True)
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
        if "\x00" in text:
            raise InputError(f"{str(path)!r} cannot be read: it is not text")
        head = text.partition("\n")[0]
        separator = max((",", ";", "\t"), key=head.count)
        _check_widths(text, separator, path)
        frame = pd.read_csv(
            StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False, skip_blank_lines=False
        )
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} cannot be read: it is not text (byte {error.start})") from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {' '.join(str(error).split()).lower()}") from None
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ImportError, ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {' '.join(str(error).split())}") from None
    frame.columns = [str(column).strip() for column in frame.columns]
    return frame


def _check_widths(text: str, separator: str, path: Path) -> None:
    """Rows with more or fewer fields than the header, where no field is quoted: a torn file."""
    if '"' in text:
        return
    wanted = 0
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.count(separator) + 1
        wanted = wanted or fields
        if fields != wanted:
            raise InputError(f"{path.name} line {number}: {fields} fields, and the header has {wanted}")


def _renamed(frame: pd.DataFrame, path: Path, names: Names) -> pd.DataFrame:
    """Columns by our names: as the caller maps them, and by the known names of published score files."""
    for other, ours in names.columns.items():
        if other not in frame:
            raise InputError(
                f"{path.name}: --columns names {other!r} for {ours!r}, and there is no such column; "
                f"{suggestion(other, [c for c in frame.columns if c != PLACE])}"
            )
    if {"metric", "value"} <= set(frame.columns):
        kept = [SYNONYMS.get(name.lower(), name.lower()) == "return" for name in frame["metric"]]
        if not any(kept):
            metrics = ", ".join(sorted(set(frame["metric"]))[:6])
            raise InputError(f"{path.name}: no metric is a return; it has {metrics}")
        frame = frame[kept].drop(columns="metric").rename(columns={"value": "return"})
    frame = frame.rename(columns=dict(names.columns))
    present = set(frame.columns)
    rest = {other: SYNONYMS[other] for other in SAME if other in present and SYNONYMS[other] not in present}
    frame = frame.rename(columns=rest)
    twice = [column for column in COLUMNS if list(frame.columns).count(column) > 1]
    if twice:
        raise InputError(f"{path.name}: two columns could be {twice[0]!r}; say which by --columns {twice[0]}=NAME")
    return frame


def _check(frame: pd.DataFrame, path: Path) -> None:
    lacking = [column for column in COLUMNS if column not in frame.columns]
    if not lacking:
        return
    for column in (c for c in frame.columns if c not in (*COLUMNS, PLACE)):
        if "did you mean" in (advice := suggestion(str(column), lacking)):
            ours = advice.split("'")[1]
            raise InputError(f"{path.name}: unknown column {column!r}; {advice} Then say --columns {ours}={column}")
    raise InputError(f"{path.name}: the column {lacking[0]!r} is missing; the columns are {', '.join(COLUMNS)}")


def _wide(frame: pd.DataFrame, path: Path, names: Names) -> pd.DataFrame:
    """A row per evaluation of ``Step, RUN - METRIC, RUN - METRIC__MIN, ...``; blanks are steps that RUN did not log."""
    runs = [c for c in frame.columns if " - " in c and not c.endswith(("__MIN", "__MAX"))]
    steps = [c for c in frame.columns if " - " not in c and c != PLACE]
    if len(steps) != 1:
        raise InputError(f"{path.name}: one column of steps beside the runs is needed, not {len(steps)}")
    parts = []
    for column in runs:
        task, method, seed = _run_name(column.rpartition(" - ")[0], path, names)
        kept = frame[frame[column].str.strip() != ""]
        made = {"task": task, "method": method, "seed": seed, "env_steps": kept[steps[0]], "return": kept[column]}
        parts.append(pd.DataFrame({**made, PLACE: kept[PLACE] + f", {column}"}))
    return pd.concat(parts, ignore_index=True)


def _run_name(run: str, path: Path, names: Names) -> tuple[str, str, str]:
    """Task, method and seed of a run's name, such as ``ftfl-humanoid-walk-s3``."""
    match = re.fullmatch(r"(.*?)[-_. ]*(?:seed|s)?[-_=. ]?(\d+)", run)
    if match is None:
        raise InputError(f"{path.name}: the run {run!r} does not end in its seed")
    rest, task = match[1], names.tasks.get("")
    for other, ours in _task_parts(rest, names):
        rest, task = re.sub(r"^[-_. ]+|[-_. ]+$", "", rest.replace(other, "")), ours
        break
    method = names.methods.get(rest, rest or None) or names.methods.get("")
    if rest not in (*known_methods(), *names.methods):
        method = names.methods.get("", rest)
    if task is None:
        raise InputError(f"{path.name}: the run {run!r} does not say its task; give --task NAME")
    if not method:
        raise InputError(f"{path.name}: the run {run!r} does not say its method; give --method NAME")
    return task, method, match[2]


def _task_parts(text: str, names: Names) -> Iterator[tuple[str, str]]:
    """Parts of a run's name that are a task, the longest first."""
    ends = [0, *(m.end() for m in re.finditer(r"[-_. ]", text)), len(text) + 1]
    spans = {text[a : b - 1] for i, a in enumerate(ends) for b in ends[i + 1 :]}
    for part in sorted(spans, key=len, reverse=True):
        if ours := (names.tasks.get(part) if part else None) or task_alias(part):
            yield part, ours
