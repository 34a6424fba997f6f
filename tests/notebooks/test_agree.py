"""What a notebook shows is what the package does: its setup, build and agree cells run alone, in seconds."""

import ast
import importlib
import inspect
from pathlib import Path

import matplotlib
import nbformat
import pytest
from torch import nn

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHAPTERS = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))


def tagged_cells(path, *tags):
    notebook = nbformat.read(path, as_version=4)
    return [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and set(tags) & set(cell.metadata.get("tags", []))
    ]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_build_and_agree_cells(path, monkeypatch, tmp_path):
    matplotlib.use("Agg")
    monkeypatch.setenv("FCNBOOK_SCALE", "smoke")
    monkeypatch.chdir(tmp_path)
    cells = tagged_cells(path, "parameters", "setup", "build", "agree")
    assert tagged_cells(path, "agree"), f"{path.name} proves nothing equal to the package"
    namespace = {"__name__": "__main__"}
    for number, source in enumerate(cells):
        exec(compile(source, f"{path.name}, tagged cell {number}", "exec"), namespace)


CHAPTER_TO_COME = {
    "CaffeNet": "03",
    "GoogLeNet": "03",
    "TwoStreamVGG16": "03",
    "LateFusionHead": "03",
    "PSPHead": "08",
    "ASPPHead": "08",
    "EncHead": "08",
}
"""Parts whose chapter is not written yet. When it is, its parts leave this list."""


def test_no_part_waits_for_a_chapter_that_exists():
    written = {path.name[:2] for path in CHAPTERS}
    assert [part for part, chapter in CHAPTER_TO_COME.items() if chapter in written] == []


@pytest.mark.parametrize("folder", ["backbones", "necks", "heads"])
def test_every_public_network_part_is_built_in_a_notebook(folder):
    package = importlib.import_module(f"fcnbook.models.{folder}")
    parts = {
        name
        for name, value in vars(package).items()
        if inspect.isclass(value) and issubclass(value, nn.Module)
    }
    assert parts, f"fcnbook.models.{folder} exports no module"
    named = {
        node.id if isinstance(node, ast.Name) else node.attr  # ResNet, or backbones.ResNet
        for path in CHAPTERS
        for source in tagged_cells(path, "agree", "setup")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name | ast.Attribute)
    } | {
        alias.name
        for path in CHAPTERS
        for source in tagged_cells(path, "agree", "setup")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert parts - set(CHAPTER_TO_COME) <= named
    assert not named & set(CHAPTER_TO_COME)
