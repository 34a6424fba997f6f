"""A notebook on a code host must be worth reading without running anything."""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
ALL = sorted([*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("solutions/*.ipynb")])
CHAPTERS = [path for path in ALL if path.stem[0].isdigit() and path.parent == NOTEBOOKS]
by_name = pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
chapters = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def test_every_chapter_has_its_solutions():
    assert {path.stem[:2] for path in CHAPTERS} == {
        path.stem[:2] for path in NOTEBOOKS.glob("solutions/*.ipynb")
    }


@by_name
def test_it_is_valid_small_and_without_widget_state(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size <= 400_000
    assert "widgets" not in notebook.metadata
    assert "papermill" not in notebook.metadata
    assert notebook.metadata.kernelspec.name == "python3"


@by_name
def test_it_holds_no_path_of_a_machine(path):
    found = re.search(r'(?<![\w.])/(root|home|tmp|work|Users|private)/[^"\s]*', path.read_text())
    assert found is None, found


@by_name
def test_it_was_executed_from_top_to_bottom_without_error(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", (cell.source, output.text[:200])


@chapters
def test_a_chapter_shows_images_and_checks_some_of_its_outputs(path):
    cells = code_cells(path)
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    assert sum(cell.source.startswith("# NBVAL_CHECK_OUTPUT") for cell in cells) >= 5


@pytest.mark.parametrize("path", [p for p in ALL if p.parent == NOTEBOOKS], ids=lambda p: p.stem)
def test_one_parameters_cell_of_literals(path):
    import ast

    (cell,) = [cell for cell in code_cells(path) if "parameters" in tags(cell)]
    values = {}
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.Assign), cell.source
        values[node.targets[0].id] = ast.literal_eval(node.value)
    assert values["SCALE"] == "tiny"
    assert {"SEED", "DATA_ROOT", "OUT_DIR"} <= set(values)
    assert values["DATA_ROOT"] is None


@chapters
def test_cells_are_short(path):
    lengths = sorted(len(cell.source.splitlines()) for cell in code_cells(path))
    assert lengths[-1] <= 60
    assert lengths[len(lengths) // 2] <= 10
    builds = [cell for cell in code_cells(path) if "build" in tags(cell)]
    assert builds, "a chapter builds its part in the open"
