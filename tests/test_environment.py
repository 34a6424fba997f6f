"""conda and make install the same packages; the lock names neither addresses nor indexes."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
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


def run_peers(path="tests/peers", **environment):
    """`pytest tests/peers`, or one file of it, in a process of its own, told why tests are skipped."""
    command = [sys.executable, "-m", "pytest", "-rsfE", path]
    inherited = {name: value for name, value in os.environ.items() if name != "FCNBOOK_PEERS"}
    return subprocess.run(
        command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, check=False
    )


without_mmseg = pytest.mark.skipif(
    importlib.util.find_spec("mmseg") is not None, reason="mmsegmentation is installed here"
)


@without_mmseg
def test_peers_are_skipped_with_a_sentence_where_they_are_not_installed():
    done = run_peers()
    files = len(list((ROOT / "tests/peers").glob("test_*.py")))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{files} skipped in " in done.stdout and files > 4
    assert (
        "mmseg, mmengine, mmcv, segmentation_models_pytorch, ssseg not installed here: `make peers`"
        in done.stdout
    )
    assert done.stderr == ""


@without_mmseg
def test_make_peers_takes_a_missing_peer_for_an_error():
    line = subprocess.run(
        ["make", "--dry-run", "--old-file=.venv-peers/ready", "peers"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (setting,) = re.findall(r"FCNBOOK_PEERS=(\S+)", line)
    done = run_peers("tests/peers/test_mmsegmentation.py", FCNBOOK_PEERS=setting)
    assert done.returncode == 2, done.stdout
    assert "ModuleNotFoundError: No module named 'mmseg'" in done.stdout
    assert "skipped" not in done.stdout and "INTERNALERROR" not in done.stdout + done.stderr
