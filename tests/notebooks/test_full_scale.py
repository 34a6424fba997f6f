"""SCALE = "full" runs every chapter that trains, on a tree of its data set: four steps, small crops and networks.

pytest -m slow tests/notebooks/test_full_scale.py
"""

from dataclasses import replace
from pathlib import Path

import fake_trees
import IPython.display
import matplotlib
import nbformat
import pytest

from fcnbook.recipes import RECIPES

pytestmark = pytest.mark.slow

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHAPTERS = ["02_fcn", "04_dilated_resnet", "05_fcn_d6", "06_jpu", "07_semantic_fpn"]


def smaller(recipe):
    """The full recipe with crops and a batch that a CPU trains on in seconds; the network is as it is."""
    small = (72, 96)
    return replace(recipe, augment=replace(recipe.augment, base_size=small, crop_size=small), batch_size=2)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_full_scale(chapter, tmp_path, monkeypatch):
    matplotlib.use("Agg")
    for name in [name for name in RECIPES if name.endswith("_camvid")]:
        monkeypatch.setitem(RECIPES, name, smaller(RECIPES[name]))
    monkeypatch.setenv("FCNBOOK_HEADLESS", "1")
    monkeypatch.delenv("FCNBOOK_SCALE", raising=False)
    monkeypatch.chdir(tmp_path)
    fake_trees.camvid(tmp_path / "camvid")
    asked = {
        "SCALE": "full",
        "MAX_STEPS": 4,
        "DATA_ROOT": str(tmp_path / "camvid"),
        "OUT_DIR": str(tmp_path / "runs" / chapter),
    }
    namespace = {"__name__": "__main__", "display": IPython.display.display}
    for cell in nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{chapter}, {cell.id}", "exec"), namespace)
            if "parameters" in cell.metadata.get("tags", []):
                assert set(asked) <= set(namespace)
                namespace |= asked
    reports = namespace["reports"].values()
    assert [report.scale for report in reports] == ["full"] * len(reports)
    assert [report.num_steps for report in reports] == [4] * len(reports)
