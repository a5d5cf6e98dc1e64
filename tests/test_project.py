"""The files around the code: pins in step, targets that exist, the package complete."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import workbench

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = ["results", "test", "lab", "demo", "figures", "study", "clean", "help"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> list[Requirement]:
    # The harness needs other versions of what is pinned: an environment of its own.
    extras = [own for name, own in PROJECT["optional-dependencies"].items() if name != "harness"]
    return [
        Requirement(text)
        for text in [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]
    ]


def pins(python: str) -> dict[str, str]:
    """Name -> version in constraints.txt, on a version of Python."""
    found: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        if not text:
            continue
        pin = Requirement(text)
        if pin.marker is not None and not pin.marker.evaluate({"python_version": python}):
            continue
        (specifier,) = pin.specifier
        assert specifier.operator == "==", f"not an exact pin: {line}"
        assert normal(pin.name) not in found, f"pinned twice on Python {python}: {pin.name}"
        found[normal(pin.name)] = specifier.version
    return found


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_requirement_is_pinned_within_its_range(python: str) -> None:
    versions = pins(python)
    wanted = requirements()
    if python == "3.13":
        repeng = {"repeng==0.4.0", "numpy<2"}
        assert repeng == set(PROJECT["optional-dependencies"]["repeng"])
        wanted = [each for each in wanted if str(each) not in repeng]
    for requirement in wanted:
        version = versions[normal(requirement.name)]
        assert requirement.specifier.contains(version), (str(requirement), version)


def test_every_pin_admits_the_first_release_of_each_python() -> None:
    """Where one does not (3.11.5 and up, say), pip tries versions of all the others for ever."""
    first = {f"{python}.0": pins(python) for python in ("3.11", "3.12", "3.13")}
    known = {normal(one.name): one for one in distributions()}
    refused = [
        (name, version, python)
        for python, versions in first.items()
        for name, version in versions.items()
        if name in known
        and known[name].version.split("+")[0] == version
        and python not in SpecifierSet(known[name].metadata["Requires-Python"] or "")
    ]
    assert refused == []


def test_numpy_is_open_upwards_in_the_core() -> None:
    (numpy,) = (r for r in map(Requirement, PROJECT["dependencies"]) if r.name == "numpy")
    assert numpy.specifier.contains("2.4.6")
    assert not any(part.operator in ("<", "<=", "==") for part in numpy.specifier)
    assert "repeng" not in {Requirement(text).name for text in PROJECT["dependencies"]}
    assert Version(pins("3.12")["numpy"]) < Version("2") <= Version(pins("3.13")["numpy"])


def test_conda_environment_has_the_same_pins() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    python, pip, section = environment["dependencies"]
    assert pip == "pip"
    lines = section["pip"]
    assert lines[0] == "-c constraints.txt"
    assert lines[-1] == "-e ."
    stated = dict(line.split("==") for line in lines[1:-1])
    expected = pins(python.removeprefix("python="))
    names = {normal(requirement.name) for requirement in requirements()}
    assert {normal(name) for name in stated} == names
    assert {normal(name): version for name, version in stated.items()} == {
        name: expected[name] for name in names
    }


def test_python_versions_agree() -> None:
    assert PROJECT["requires-python"] == ">=3.11"
    assert "sys.version_info < (3, 11)" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_versions_agree() -> None:
    version = PROJECT["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert workbench.__version__ == version
    assert citation["version"] == version
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert re.findall(r"^## (\S+)", changes, re.MULTILINE)[0] == version


def _make(*arguments: str) -> str:
    """What make prints as a user's own command, also where make runs these tests."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, check=True, capture_output=True, text=True, env=own
    ).stdout


def test_every_target_exists_and_is_listed() -> None:
    listed = _make("help")
    assert [line.split()[0] for line in listed.splitlines()[1:]] == [
        "help", *(name for name in TARGETS if name != "help"),
    ]  # fmt: skip


@pytest.mark.parametrize("target", ["results", "test", "lab", "demo", "figures", "study"])
def test_every_target_sets_up_its_environment(target: str, tmp_path: Path) -> None:
    plan = _make("-n", target, f"VENV={tmp_path}/none")
    assert f"{tmp_path}/none/.pins" in plan
    assert f"{tmp_path}/none/bin/python -m" in plan


def test_an_old_python_is_refused_with_a_remedy(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    made = subprocess.run(
        ["make", "pins", f"PYTHON={old}", f"VENV={tmp_path}/venv"],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode != 0
    assert "Python 3.11 or newer is needed" in made.stderr
    assert "is Python 3.9.2" in made.stderr
    assert "make PYTHON=" in made.stderr
    assert not (tmp_path / "venv").exists()


def test_same_pins_install_nothing(tmp_path: Path) -> None:
    """A stamp of the present pins is believed, whatever the files' times; another one is not."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    stamp = venv / ".pins"
    content = (ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes()
    # from the environment, as a name on the command line asks for that Python
    command = ["env", "PYTHON=false", "make", str(stamp), f"VENV={venv}"]
    stamp.write_bytes(content)
    os.utime(stamp, (0, 0))
    same = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert same.returncode == 0, same.stderr
    assert stamp.read_bytes() == content
    stamp.write_bytes(content + b"\n")
    os.utime(stamp, (0, 0))
    other = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert other.returncode != 0
    assert "Python 3.11 or newer is needed" in other.stderr


def test_another_python_asked_for_by_name_makes_the_environment_anew(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    stamp = venv / ".pins"
    stamp.write_bytes(
        (ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes()
    )
    for python, anew in ((sys.executable, False), ("false", True)):
        command = ["make", str(stamp), f"VENV={venv}", f"PYTHON={python}"]
        made = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        assert ("Python 3.11 or newer is needed" in made.stderr) == anew
        assert (made.returncode != 0) == anew


def test_ci_script_can_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    assert all(step in text for step in ("make test", "make results", "make_random_gpt2.py"))


def test_package_data_is_declared() -> None:
    """Every file of the package that is not Python matches a declared pattern."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    patterns = tool["setuptools"]["package-data"]["workbench"]
    package = ROOT / "workbench"
    declared = {path for pattern in patterns for path in package.glob(pattern)}
    forgotten = [
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path not in declared
    ]
    assert forgotten == []
