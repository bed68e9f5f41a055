"""Records of finished runs, in the folders ``results/runs/<task>/<method>/<key>/`` or packed (`records.packed`).

Four files make a record: `spec.json`, `curve.csv`, `diagnostics.csv`, `provenance.json`. It appears whole or not at
all: it is written beside its place, flushed to disk, and renamed. It is never changed afterwards; `provenance.json`
holds the digests of the other three files and, in a sealed record, of what else it says itself. A folder that does not
match them is torn: logged, listed by `Store.torn`, and otherwise as good as absent. A run is looked up by its key, so
equal runs that go by two names share one record.

Columns: a train curve has ``env_steps, episode, episode_return, length``, a fit curve ``update, holdout_mse,
holdout_nll``, a probe curve ``share, updates, episode, episode_return, length`` (updates 0: the policy it starts from);
diagnostics have ``step, measure, dim, value`` with dim -1 for scalars and, in probes, the share of synthetic rows in
percent.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.records import packed
from benchmark.records.packed import FILES, Packed
from benchmark.records.spec import RunSpec, unique
from mbpo.config import InputError

RETURN = "episode_return"

STORE_VERSION = 1
COLUMNS = {
    "train": ["env_steps", "episode", "episode_return", "length"],
    "fit": ["update", "holdout_mse", "holdout_nll"],
    "probe": ["share", "updates", "episode", "episode_return", "length"],
}
SEAL = "provenance"
"""The entry among a record's digests that is of its provenance, less that entry; the first records have none."""
DIAGNOSTICS = ["step", "measure", "dim", "value"]
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading a damaged JSON file raises: it is a folder, out of reach, no text, no JSON, nested for ever, or else."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Record:
    """One finished run: what it was, what it returned, what was measured on the way, and where it came from."""

    spec: RunSpec
    curve: pd.DataFrame
    diagnostics: pd.DataFrame
    provenance: dict[str, Any]

    def last(self, measure: str) -> float:
        """The scalar `measure` at its last step. Raises `KeyError` where it was not taken."""
        table = self.diagnostics
        rows = table[(table["measure"].to_numpy() == measure) & (table["dim"].to_numpy() == -1)]
        if rows.empty:
            raise KeyError(f"{self.spec.label} has no scalar {measure!r}")
        return float(rows.loc[rows["step"].idxmax(), "value"])


Place = Path | Packed
"""Where a record is: a folder, or a row of a pack."""


class Store:
    """The records under `results`, and the working files under `cache` (leases, progress, checkpoints).

    Making one writes nothing. Raises `InputError` if `results` is not a folder or a newer version wrote it.
    """

    def __init__(self, results: Path | str, cache: Path | str) -> None:
        self.results, self.cache = Path(results), Path(cache)
        self.runs = self.results / "runs"
        self._sound: set[Place] = set()  # records never change, so one check each is enough
        self._warned: set[Place] = set()
        for name, folder in (("results", self.results), ("cache", self.cache)):
            if folder.exists() and not folder.is_dir():
                raise InputError(f"the {name} folder {str(folder)!r} is a file; give a folder")
        _check_version(self.results / "store.json")

    def check(self) -> None:
        """Prove that both folders can be written, and leave nothing behind. Raises `InputError` where not."""
        for name, folder in (("results", self.results), ("cache", self.cache)):
            present = next(place for place in (folder, *folder.absolute().parents) if place.exists())
            with _writable(name, folder), tempfile.TemporaryDirectory(dir=present):
                pass

    def prepare(self) -> None:
        """Create both folders and prove that they can be written. Raises `InputError` where not."""
        for name, folder in (("results", self.results), ("cache", self.cache)):
            with _writable(name, folder):
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    pass
        page = self.results / "store.json"
        if not page.exists():
            replace_file(page, json.dumps({"store_version": STORE_VERSION}) + "\n")

    def has(self, spec: RunSpec) -> bool:
        """Whether a sound record of this key exists, under whatever method name."""
        return self._find(spec) is not None

    def missing(self, specs: Iterable[RunSpec]) -> list[RunSpec]:
        """The distinct specs without a record, in order."""
        return [spec for spec in unique(specs) if not self.has(spec)]

    def read(self, spec: RunSpec) -> Record:
        """The record of this key, with `spec` as asked for. Raises `KeyError` if there is none."""
        folder = self._find(spec)
        if folder is None:
            raise KeyError(f"no record of {spec.label} ({spec.key}) in {str(self.results)!r}")
        return _load(folder, spec)

    def records(self) -> Iterator[Record]:
        """Every sound record that this version can read, in the order of folders."""
        yield from (_load(folder, spec) for folder, spec in self._stored())

    def specs(self) -> Iterator[RunSpec]:
        """The runs of these records, without their tables."""
        yield from (spec for _, spec in self._stored())

    def loose(self) -> Iterator[tuple[Path, str, str]]:
        """Folder, task's folder name and kind of every sound record that is not packed."""
        for folder, spec in self._stored():
            if isinstance(folder, Path):
                yield folder, folder.parent.parent.name, spec.kind

    def _stored(self) -> Iterator[tuple[Place, RunSpec]]:
        seen: dict[str, Place] = {}  # sound ones only: a torn folder must not hide its packed twin
        for folder in self._places():
            if folder.name in seen:  # packed, and not yet removed loose
                self._compare(seen[folder.name], folder)
                continue
            if self._is_sound(folder):
                seen[folder.name] = folder
                try:
                    yield folder, _stored_spec(folder)
                except InputError as error:
                    log.warning("record ignored, another version wrote it: %s", error)

    def torn(self) -> list[Place]:
        """What is in the place of a record and is not whole, or was changed after it was written."""
        return [place for place in self._places() if not self._is_sound(place)]

    def _places(self) -> list[Place]:
        """Every place of a record, the loose ones first."""
        rows = [row for path in packed.packs(self.results) for row in _parquet().read(path).values()]
        return [*self._folders(), *rows]

    def write(
        self, spec: RunSpec, curve: pd.DataFrame, diagnostics: pd.DataFrame, provenance: Mapping[str, Any]
    ) -> Path:
        """Write one record, whole or not at all, and return its folder.

        Raises `FileExistsError` if the key has a record, `ValueError` if a frame lacks rows or its columns.
        """
        _check_frame(spec, "curve", curve, COLUMNS[spec.kind])
        _check_frame(spec, "diagnostics", diagnostics, DIAGNOSTICS)
        if self.has(spec):
            raise FileExistsError(f"{spec.label} ({spec.key}) has a record; records are never overwritten")
        texts = {
            "spec.json": _pretty(spec.to_json()),
            "curve.csv": curve[COLUMNS[spec.kind]].to_csv(index=False, lineterminator="\n"),
            "diagnostics.csv": diagnostics[DIAGNOSTICS].to_csv(index=False, lineterminator="\n"),
        }
        digests = {name: _sha256(text.encode()) for name, text in texts.items()}
        told = {**provenance, "sha256": digests}
        texts["provenance.json"] = _pretty({**told, "sha256": {**digests, SEAL: _seal(told)}})
        return self._place(spec, {name: text.encode() for name, text in texts.items()})

    def files(self, spec: RunSpec) -> dict[str, bytes]:
        """The bytes of the record's four files, loose or packed. Raises `KeyError` if there is no record."""
        place = self._find(spec)
        if place is None:
            raise KeyError(f"no record of {spec.label} ({spec.key}) in {str(self.results)!r}")
        return {name: _bytes(place, name) for name in FILES}

    def adopt(self, spec: RunSpec, files: Mapping[str, bytes]) -> Path:
        """Write the files of another store's record to the same bytes, whole or not at all, and return its folder.

        Raises `FileExistsError` if the key has a record.
        """
        if self.has(spec):
            raise FileExistsError(f"{spec.label} ({spec.key}) has a record; records are never overwritten")
        return self._place(spec, files)

    def _place(self, spec: RunSpec, files: Mapping[str, bytes]) -> Path:
        folder = self.runs / spec.slug / spec.method / spec.key
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{spec.key}-", suffix=".tmp", dir=folder.parent))
        try:
            draft.chmod(0o755)  # mkdtemp's 0700 would hide the record from others
            for name, data in files.items():
                _flush(draft / name, data)
            if folder.exists():  # torn, or `has` would have seen it
                aside = Path(tempfile.mkdtemp(prefix=f"{spec.key}-torn-", suffix=".tmp", dir=folder.parent))
                log.warning("torn record set aside: %s -> %s", folder, aside)
                folder.rename(aside / folder.name)
            draft.rename(folder)
            sync(folder.parent)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return folder

    def _find(self, spec: RunSpec) -> Place | None:
        task = self.runs / spec.slug
        folders = [task / spec.method / spec.key, *sorted(task.glob(f"*/{spec.key}"))] if task.is_dir() else []
        pack = self.results / packed.FOLDER / f"{spec.slug}-{spec.kind}.parquet"
        places: list[Place] = [folder for folder in folders if folder.is_dir()]
        if pack.exists() and (row := _parquet().read(pack).get(spec.key)) is not None:
            places.append(row)
        sound = [place for place in places if self._is_sound(place)]
        for other in sound[1:]:
            self._compare(sound[0], other)
        folder = sound[0] if sound else None
        if folder is not None and not spec.same_run(stored := _stored_spec(folder)):
            raise InputError(
                f"{str(folder)!r} has the key of {spec.label} but other constants ({_difference(spec, stored)}): "
                "a default was changed, so raise NUMERICS_VERSIONS in mbpo/config.py"
            )
        return folder

    def _compare(self, used: Place, other: Place) -> None:
        """Log once that two sound records of one key differ."""
        if used not in self._warned and any(_bytes(used, name) != _bytes(other, name) for name in FILES):
            log.warning("two records of one key differ: %s is read, %s is not; remove the wrong one", used, other)
            self._warned.add(used)

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.runs.glob("*/*/*") if path.is_dir() and path.suffix != ".tmp")

    def _is_sound(self, folder: Place) -> bool:
        if folder not in self._sound:
            fault = _fault(folder)
            if fault:
                if folder not in self._warned:
                    log.warning("torn record ignored: %s (%s)", folder, fault)
                self._warned.add(folder)
                return False
            self._sound.add(folder)
        return True


@contextmanager
def _writable(name: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"the {name} folder {str(folder)!r} cannot be written ({reason}); give another") from None


def _parquet() -> Any:
    """`records.parquet`, which needs pyarrow: where no record is packed, none is needed."""
    return import_module("benchmark.records.parquet")


def _bytes(place: Place, name: str) -> bytes:
    return place.files[name] if isinstance(place, Packed) else (place / name).read_bytes()


def _fault(place: Place) -> str:
    """What is wrong with a record's files, or nothing."""
    lacking = [] if isinstance(place, Packed) else [name for name in FILES if not (place / name).is_file()]
    if lacking:
        return "no " + ", ".join(lacking)
    try:
        told = json.loads(_bytes(place, "provenance.json"))
        digests = told["sha256"]
        key = json.loads(_bytes(place, "spec.json"))["key"]
        changed = [name for name in FILES[:3] if _sha256(_bytes(place, name)) != digests[name]]
        if SEAL in digests and _seal(told) != digests[SEAL]:
            changed.append("provenance.json")
    except DAMAGE:
        return "its JSON cannot be read"
    if key != place.name:
        return f"its spec.json is of {key}"
    return "changed since it was written: " + ", ".join(changed) if changed else ""


@lru_cache(maxsize=8192)
def _stored_spec(place: Place) -> RunSpec:
    return RunSpec.from_json(json.loads(_bytes(place, "spec.json")), f"{place}: spec.json")


def _difference(one: RunSpec, other: RunSpec) -> str:
    """The first field in which two runs differ, as 'path: a, b'."""
    a: Any = one.model_dump(mode="json")
    b: Any = other.model_dump(mode="json")
    path: list[str] = []
    while isinstance(a, dict) and isinstance(b, dict):
        name = next(name for name in a if a[name] != b.get(name) and (path or name != "method"))
        path, a, b = [*path, name], a[name], b.get(name)
    return f"{'.'.join(path)}: {a} asked for, {b} stored"


def _load(place: Place, spec: RunSpec) -> Record:
    curve, diagnostics = (
        _parquet().table(place, name) if isinstance(place, Packed) else packed.parse(_bytes(place, name))
        for name in ("curve.csv", "diagnostics.csv")
    )
    return Record(spec, curve, diagnostics, json.loads(_bytes(place, "provenance.json")))


def _check_version(page: Path) -> None:
    if not page.exists():
        return
    try:
        version = json.loads(page.read_text())["store_version"]
        newer = version > STORE_VERSION
    except DAMAGE:
        raise InputError(
            f"{str(page)!r} is not a store's page; expected {{'store_version': {STORE_VERSION}}}"
        ) from None
    if newer:
        raise InputError(
            f"{str(page)!r} was written by a newer version (store_version {version}, this one reads up to "
            f"{STORE_VERSION}); update this project or give another results folder"
        )


def _check_frame(spec: RunSpec, name: str, frame: pd.DataFrame, columns: list[str]) -> None:
    lacking = [column for column in columns if column not in frame.columns]
    if lacking or frame.empty:
        fault = f"lacks the columns {lacking}" if lacking else "has no rows"
        raise ValueError(f"{name} of {spec.label} {fault}; a record must be whole")


def _pretty(data: Any) -> str:
    return json.dumps(data, indent=1) + "\n"


def _seal(provenance: Mapping[str, Any]) -> str:
    """The digest of a provenance's canonical JSON without its own seal."""
    digests = {name: value for name, value in provenance["sha256"].items() if name != SEAL}
    canonical = json.dumps({**provenance, "sha256": digests}, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return _sha256(canonical.encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _flush(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, text: str) -> None:
    """Write a small file so that no reader ever sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _flush(draft, text.encode())
    draft.replace(path)


def sync(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
