"""`import fcnbook` is cheap, and the recipes can be read without torch."""

import subprocess
import sys

HEAVY = "[name for name in ('torch', 'numpy', 'cv2', 'matplotlib', 'albumentations') if name in sys.modules]"


def heavy_modules_after(statement):
    command = [sys.executable, "-c", f"import sys; {statement}; print({HEAVY})"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_loads_nothing_heavy():
    assert heavy_modules_after("import fcnbook") == "[]"


def test_recipes_and_published_rows_need_no_torch():
    assert heavy_modules_after("from fcnbook import RECIPES, PUBLISHED; RECIPES, PUBLISHED") == "[]"


def test_the_lazy_names_are_the_ones_that_all_lists():
    import fcnbook

    assert [name for name in fcnbook._HOME if getattr(fcnbook, name) is None] == []  # each is there
    assert set(dir(fcnbook)) == set(fcnbook.__all__) == set(fcnbook._HOME)
