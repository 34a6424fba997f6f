"""The gallery shows what the run folders say, as text, and goes on where one of them is damaged."""

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser

import nbformat
import pytest
from small_runs import small_recipe, write_notebook

from fcnbook.book.gallery import GalleryEntry, write_gallery
from fcnbook.book.headless import notebook_folder
from fcnbook.files import write_json
from fcnbook.recipe import DataSpec, recipe_to_dict
from fcnbook.runs.folder import RunDir
from fcnbook.runs.trainer import run

ATTACK = '"><img src=x onerror="alert(1)"><script>alert(2)</script>'


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A real run of seconds."""
    folder = tmp_path_factory.mktemp("run")
    run(small_recipe(2), folder)
    return folder


@pytest.fixture
def entry(finished, tmp_path):
    """A notebook with a copy of that run, which a test may spoil."""
    folder = tmp_path / "02_fcn"
    shutil.copytree(finished, folder / "a-run")
    return GalleryEntry("02_fcn", folder, 75.0, "mIoU 12.30", "NO ROW")


class Page(HTMLParser):
    """Every tag, and the text of every table cell."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.cells, self.text = [], [], [], ""
        self.in_cell = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag in ("td", "th"):
            self.cells.append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.cells[-1] += data.strip()


def page_of(tmp_path, *entries):
    return Page(write_gallery(tmp_path, entries, "a <title> & more").read_text())


def change(folder, **fields):
    file = RunDir(folder).result_file
    write_json(file, json.loads(file.read_text()) | fields)


def test_the_numbers_are_those_of_the_result(entry, tmp_path):
    page = page_of(tmp_path, entry)
    result = RunDir(entry.folder / "a-run").result()
    start = page.cells.index(result["recipe"])
    shown = [f"{100 * result[key]:.2f}" for key in ("miou", "macc", "aacc")]
    assert page.cells[start + 1 : start + 6] == [result["scale"], result["data"], *shown]
    ious = ["-" if iou is None else f"{100 * iou:.1f}" for iou in result["iou_per_class"]]
    legend = page.cells.index("IoU in %")
    assert page.cells[legend + 1 : legend + 11] == result["classes"]
    assert page.cells[legend + 12 : legend + 22] == ious
    assert page.cells[4:8] == ["02_fcn", "1 min 15 s", "mIoU 12.30", "NO ROW"]
    assert page.tags.count("img") == 4, "one for each drawn prediction"
    assert result["hardware"] in page.text and result["date"] in page.text


@pytest.mark.parametrize(
    "field", ["recipe", "scale", "data", "verdict", "protocol", "hardware", "date", "git_commit"]
)
def test_what_a_result_says_is_text(entry, tmp_path, field):
    plain = page_of(tmp_path, entry)
    change(entry.folder / "a-run", **{field: ATTACK})
    page = page_of(tmp_path, entry)
    assert ATTACK in page.text, "shown as it is written"
    assert (page.tags.count("script"), page.tags.count("img")) == (0, plain.tags.count("img"))
    assert not [name for name in page.attributes if name.startswith("on")]


def test_names_of_classes_notebooks_and_errors_are_text(entry, tmp_path):
    recipe = small_recipe(2)
    data = dataclasses.replace(recipe.data, classes=(ATTACK, *recipe.data.classes[1:]))
    stored = {"recipe": recipe_to_dict(dataclasses.replace(recipe, data=data)), "recipe_hash": "", "seed": 0}
    write_json(RunDir(entry.folder / "a-run").recipe_file, stored)
    page = page_of(
        tmp_path, entry, GalleryEntry(ATTACK, tmp_path / "none", 1.0, ATTACK, ATTACK, error=ATTACK)
    )
    assert page.text.count(ATTACK) == 5 and "script" not in page.tags and "title" not in page.tags[5:]
    assert "a <title> & more" in page.text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: run.result_file.write_text('{"recipe": "x"}'),
        lambda run: run.result_file.write_text('{"recipe": '),
        lambda run: run.result_file.write_text("[]"),
        lambda run: run.result_file.write_bytes(b"\xff\xfe\x00"),
        lambda run: run.recipe_file.unlink(),
        lambda run: run.recipe_file.write_text("{}"),
        lambda run: run.recipe_file.write_text('{"recipe": {"data": 3}}'),
        lambda run: change(run.path, miou="high"),
        lambda run: change(run.path, miou=True),
        lambda run: change(run.path, macc=54.5),
        lambda run: change(run.path, iou_per_class=[2] * 10),
        lambda run: change(run.path, iou_per_class=None),
    ],
)
def test_a_damaged_run_is_named_and_the_others_are_shown(entry, finished, tmp_path, spoil):
    shutil.copytree(finished, entry.folder / "whole")
    spoil(RunDir(entry.folder / "a-run"))
    page = page_of(tmp_path, entry)
    assert f"{entry.folder / 'a-run'} cannot be shown: its result.json or recipe.json is damaged" in page.text
    assert page.tags.count("figure") == 1


def test_each_set_of_classes_has_a_table_of_its_own(entry, finished, tmp_path):
    shutil.copytree(finished, entry.folder / "other")
    recipe = dataclasses.replace(small_recipe(2), data=DataSpec(name="ade20k"))
    stored = {"recipe": recipe_to_dict(recipe), "recipe_hash": "", "seed": 0}
    write_json(RunDir(entry.folder / "other").recipe_file, stored)
    change(entry.folder / "other", data="ade20k", iou_per_class=[0.5] * 150)
    page = page_of(tmp_path, entry)
    assert page.cells.count("IoU in %") == 2 and page.cells.count("50.0") == 150
    style = write_gallery(tmp_path, [entry], "t").read_text()
    assert style.count('<div class="scroll">') == 4 and ".scroll { overflow-x: auto" in style


def test_an_executed_notebook_is_linked_as_a_page(entry, tmp_path):
    write_notebook(RunDir(entry.folder).executed_notebook, "1 + 1")
    page = write_gallery(tmp_path, [entry], "t").read_text()
    assert page.count('<a href="02_fcn/executed.html">02_fcn</a>') == 2
    assert (entry.folder / "executed.html").is_file()


def test_links_to_the_glossary_lead_to_its_page(entry, tmp_path):
    notebook = RunDir(entry.folder).executed_notebook
    write_notebook(notebook, "1 + 1")
    node = nbformat.read(notebook, as_version=4)
    node.cells.insert(
        0, nbformat.v4.new_markdown_cell("Pixels that are [void](glossary.md#void), [all](glossary.md).")
    )
    nbformat.write(node, notebook)
    write_gallery(tmp_path, [entry], "t")
    page = (entry.folder / "executed.html").read_text()
    assert '<a href="../glossary.html#void">void</a>' in page and '<a href="../glossary.html">all</a>' in page
    glossary = (tmp_path / "glossary.html").read_text()
    text = (notebook_folder() / "glossary.md").read_text(encoding="utf-8")
    for heading in re.findall("^## (.*)$", text, flags=re.MULTILINE):
        assert f'id="{heading.replace(" ", "-")}"' in glossary
    assert '<a href="02_fcn/executed.html">02</a>' in glossary and ".ipynb" not in glossary
