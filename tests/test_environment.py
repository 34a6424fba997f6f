"""conda and make install the same packages; the lock names neither addresses nor indexes."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text().splitlines()


def locked():
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in LOCK}


def test_conda_brings_python_and_pip_and_the_rest_comes_from_this_package():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert [re.split(r"[=<>]", name)[0] for name in conda] == ["python", "pip"]
    assert pip["pip"] == ["--requirement requirements.lock", "--editable ."]
    makefile = (ROOT / "Makefile").read_text()
    assert "-r requirements.lock" in makefile and "--editable ." in makefile


def test_the_python_of_conda_is_one_that_the_package_supports():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    version = environment["dependencies"][0].partition("=")[2]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert Requirement(f"python{project['requires-python']}").specifier.contains(version)


def test_the_lock_holds_every_dependency_within_its_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    for requirement in map(Requirement, wanted):
        pinned = locked()[canonicalize_name(requirement.name)]
        (version,) = (s.version for s in pinned.specifier if s.operator == "==")
        assert requirement.specifier.contains(version), f"{requirement} against {pinned}"


def test_the_lock_is_exact_and_names_no_address():
    for line in LOCK:
        assert "://" not in line and not line.startswith("-"), line
        assert [s.operator for s in Requirement(line).specifier] == ["=="], line


def test_torch_is_the_ordinary_build():
    assert "+" not in str(locked()["torch"].specifier)
