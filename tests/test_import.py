"""`import fcnbook` is cheap, and the recipes can be read without torch."""

import importlib
import subprocess
import sys

import pytest

HEAVY = "[name for name in ('torch', 'numpy', 'cv2', 'matplotlib', 'albumentations') if name in sys.modules]"


def heavy_modules_after(statement):
    command = [sys.executable, "-c", f"import sys; {statement}; print({HEAVY})"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_loads_nothing_heavy():
    assert heavy_modules_after("import fcnbook") == "[]"


def test_recipes_and_published_rows_need_no_torch():
    assert heavy_modules_after("from fcnbook import RECIPES, PUBLISHED; RECIPES, PUBLISHED") == "[]"


@pytest.mark.parametrize("name", ["fcnbook", "fcnbook.viewers", "fcnbook.probes"])
def test_the_lazy_names_are_the_ones_that_all_lists(name):
    package = importlib.import_module(name)
    assert [name for name in package._HOME if getattr(package, name) is None] == []  # each is there
    assert set(dir(package)) == set(package.__all__) == set(package._HOME)
    with pytest.raises(AttributeError, match="has no attribute nothing"):
        package.nothing  # noqa: B018


def test_a_guess_needs_no_torch():
    assert "torch" not in heavy_modules_after("from fcnbook.viewers import Guess")
