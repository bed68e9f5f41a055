"""The version check: what it refuses, what it says, and that it agrees with pyproject.toml and the lock."""

import itertools
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from mbpo import _versions
from mbpo._versions import RULES, find_conflict, satisfies

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]


def _named(lines: list[str]) -> dict[str, Requirement]:
    """Requirements by name, but for the project's own extras."""
    found = {canonicalize_name(r.name): r for r in map(Requirement, lines)}
    return {name: r for name, r in found.items() if name != PROJECT["project"]["name"]}


CORE = _named(PROJECT["project"]["dependencies"])
RUNTIME = CORE | _named(EXTRAS["benchmark"])
DEV = _named(EXTRAS["dev"])
LOCK_LINES = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
LOCK = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in LOCK_LINES)}

GOOD = {
    "python": "3.11.7",
    "torch": "2.13.0+cu130",
    "dm_control": "1.0.50",
    "mujoco": "3.17.0",
    "gymnasium": "1.4.0",
    "pandas": "2.3.3",
    "arch": "7.2.0",
    "rliable": "1.2.0",
}


# What is refused, and how it is said


def test_the_known_good_set_passes() -> None:
    assert find_conflict(GOOD) is None


def test_the_usual_trap_is_one_sentence_with_its_mend() -> None:
    assert find_conflict(GOOD | {"mujoco": "4.0.0"}) == (
        "mujoco 4.0.0 breaks dm_control 1.0.50 (suite.load fails with flex_vertedge); run: pip install 'mujoco==3.17.0'"
    )


@pytest.mark.parametrize(
    ("bad", "mend"),
    [
        ({"python": "3.10.13"}, "make setup PYTHON=python3.11"),
        ({"torch": "2.12.1"}, "pip install 'torch==2.13.0'"),
        ({"torch": "2.14.0+cpu"}, "pip install 'torch==2.13.0'"),
        ({"dm_control": "1.0.49"}, "pip install 'dm_control==1.0.50' 'mujoco==3.17.0'"),
        ({"mujoco": "3.16.0"}, "pip install 'mujoco==3.17.0'"),
        ({"mujoco": "3.18.0"}, "pip install 'mujoco==3.17.0'"),
        ({"gymnasium": "1.3.0"}, "pip install 'gymnasium[mujoco]==1.4.0' 'mujoco==3.17.0'"),
        ({"gymnasium": "1.10.0"}, "pip install 'gymnasium[mujoco]==1.4.0' 'mujoco==3.17.0'"),
        ({"pandas": "3.0.0"}, "pip install 'pandas<3'"),
        ({"arch": "8.0.0"}, "pip install 'arch<8' 'pandas<3'"),
        ({"rliable": "1.1.0"}, "pip install 'rliable==1.2.0' 'arch<8' 'pandas<3'"),
    ],
    ids=lambda value: "-".join(*value.items()) if isinstance(value, dict) else "",
)
def test_a_bad_version_is_named_with_the_command_that_mends_it(bad: dict[str, str], mend: str) -> None:
    ((package, version),) = bad.items()
    sentence = find_conflict(GOOD | bad)
    assert sentence is not None
    assert sentence.lower().startswith(f"{package} {version} ")
    assert sentence.endswith(f"; run: {mend}")
    assert "\n" not in sentence


@pytest.mark.parametrize("package", ["torch", "dm_control", "mujoco", "gymnasium"])
def test_the_core_is_missed(package: str) -> None:
    sentence = find_conflict({name: version for name, version in GOOD.items() if name != package})
    assert sentence is not None
    assert sentence.startswith(f"{package} is not installed, and mbpo needs it; run: pip install '{package}")


@pytest.mark.parametrize("package", ["pandas", "arch", "rliable"])
def test_what_only_the_benchmark_needs_may_be_absent(package: str) -> None:
    assert find_conflict({name: version for name, version in GOOD.items() if name != package}) is None


def test_every_mend_ends_the_conflict_it_is_given_for() -> None:
    for rule in RULES:
        pins = {Requirement(r).name: Requirement(r).specifier for r in rule.mend.split()}
        assert rule.package in pins
        for name, specifier in pins.items():
            assert LOCK[canonicalize_name(name)] in specifier, (
                f"{rule.package}: {name}{specifier} is not what is locked"
            )


# At import


def _import_mbpo(planted: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`import mbpo` in a fresh interpreter that finds the metadata in `planted` first."""
    variables = os.environ | {"PYTHONPATH": f"{planted}{os.pathsep}{ROOT}", "PYTHONWARNINGS": "default"} | env
    return subprocess.run([sys.executable, "-c", "import mbpo"], env=variables, capture_output=True, text=True)


@pytest.fixture
def mujoco_4(tmp_path: Path) -> Path:
    info = tmp_path / "mujoco-4.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mujoco\nVersion: 4.0.0\n\nVersion: of the readme\n")
    return tmp_path


def test_import_stops_with_the_sentence(mujoco_4: Path) -> None:
    process = _import_mbpo(mujoco_4, **{_versions.OVERRIDE: ""})
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == "mbpo._versions.VersionError: " + str(
        find_conflict(GOOD | {"mujoco": "4.0.0"})
    )


def test_import_goes_on_with_a_warning_where_the_user_insists(mujoco_4: Path) -> None:
    process = _import_mbpo(mujoco_4, **{_versions.OVERRIDE: "1"})
    assert process.returncode == 0, process.stderr
    assert "RuntimeWarning: mujoco 4.0.0 breaks dm_control" in process.stderr


def test_installed_reads_what_metadata_says() -> None:
    versions = _versions.installed()
    assert versions.pop("python") == ".".join(map(str, sys.version_info[:3]))
    assert versions == {name: metadata.version(name) for name in versions}
    assert {rule.package for rule in RULES if rule.core} <= set(versions)


# Agreement: the table, pyproject.toml, the lock


def _around(version: str) -> list[str]:
    """Versions near `version`: each of its first three numbers moved by one, and none moved."""
    numbers = [*Version(version).release, 0, 0][:3]
    moved = [[n + step * (i == j) for j, n in enumerate(numbers)] for i in range(3) for step in (-1, 0, 1)]
    return [".".join(map(str, m)) for m in moved if min(m) >= 0]


def test_comparison_agrees_with_packaging() -> None:
    versions = {v for rule in RULES for v in _around(LOCK[canonicalize_name(rule.package)])} | {
        "3",
        "3.17",
        "2.13.0+cpu",
    }
    for rule, version in itertools.product(RULES, sorted(versions)):
        assert satisfies(version, rule.spec) == (version in SpecifierSet(rule.spec)), (version, rule.spec)


def test_table_takes_all_that_pyproject_takes_and_no_later_release() -> None:
    for package in {rule.package for rule in RULES}:
        requirement = RUNTIME[canonicalize_name(package)]
        table = SpecifierSet(",".join(rule.spec for rule in RULES if rule.package == package))
        locked = Version(LOCK[canonicalize_name(package)])
        for version in map(Version, _around(str(locked))):
            if version in requirement.specifier:
                assert version in table, f"pyproject takes {package} {version}, mbpo refuses it"
            elif version.release[:2] > locked.release[:2]:
                assert version not in table, f"pyproject refuses {package} {version}, mbpo takes it"


def test_python_agrees() -> None:
    requires = SpecifierSet(PROJECT["project"]["requires-python"])
    oldest = ".".join(map(str, _versions.PYTHON))
    assert oldest in requires
    assert f"{_versions.PYTHON[0]}.{_versions.PYTHON[1] - 1}" not in requires
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")


def test_every_range_is_capped() -> None:
    optional = ("tensorboard", "wandb", "onnx", "film", "docs", "slurm")
    extra = _named([line for name in optional for line in EXTRAS[name]])
    built = map(Requirement, PROJECT["build-system"]["requires"])
    for requirement in [*RUNTIME.values(), *DEV.values(), *extra.values(), *built]:
        assert any(s.operator in ("==", "<", "<=") for s in requirement.specifier), f"{requirement} has no upper bound"


def test_the_core_installs_without_what_only_judges_draws_or_tests() -> None:
    assert {"torch", "numpy", "gymnasium", "dm-control", "mujoco", "pydantic", "safetensors"} == set(CORE)
    assert {"pytest", "rliable", "matplotlib", "pandas", "typer"} <= set(_named(EXTRAS["benchmark"]))
    assert f"{PROJECT['project']['name']}[benchmark]" in EXTRAS["dev"]  # `make lock` resolves '.[dev]'


CORE_ALONE = """
import sys
for name in ("pytest", "rliable", "seaborn", "matplotlib", "pandas", "scipy", "typer", "rich", "yaml", "filelock"):
    sys.modules[name] = None
import mbpo
assert all(getattr(mbpo, name) for name in mbpo.__all__)
from mbpo.policies import Policy
next(mbpo.train("gym:Pendulum-v1", [("sac", 0)], mbpo.Budget(env_steps=1, eval_episodes=1), device="cpu"))
"""


def test_the_core_runs_without_them() -> None:
    done = subprocess.run([sys.executable, "-c", CORE_ALONE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_lock_is_exact_and_names_no_place_or_build() -> None:
    for line in LOCK_LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line), line
    assert len(LOCK) == len(LOCK_LINES)


def test_lock_satisfies_pyproject() -> None:
    build = Requirement(PROJECT["build-system"]["requires"][0])
    for name, requirement in (RUNTIME | DEV | {canonicalize_name(build.name): build}).items():
        assert name in LOCK, f"{requirement} is not locked; run: make lock"
        assert LOCK[name] in requirement.specifier, (
            f"{name} {LOCK[name]} is locked, {requirement} asked; run: make lock"
        )


def test_lock_holds_the_whole_tree() -> None:
    """Whatever a locked package asks of this interpreter is locked too, but for what torch brings for CUDA."""
    for name in LOCK:
        distribution = metadata.distribution(name)
        assert Version(distribution.version).public == LOCK[name], f"{name} is not the locked one; run: make setup"
        for requirement in map(Requirement, distribution.requires or []):
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and not re.match(r"nvidia|cuda|triton", requirement.name):
                assert canonicalize_name(requirement.name) in LOCK, f"{name} needs {requirement}; run: make lock"
