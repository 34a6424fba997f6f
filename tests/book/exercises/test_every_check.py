"""What every check of every chapter does with no answer, and with answers that make no sense."""

import importlib
from pathlib import Path

import pytest

import fcnbook.book.exercises

COMMON = ["seven", object(), [], lambda *_: 1 / 0]
TABLE = [[1, 2], [3]]
NONSENSE = {
    "n02": [TABLE],
    "n04": [TABLE],
    "n05": [TABLE, lambda *_: "x"],
    "n06": [0.0625, lambda *_: None, lambda *_: []],
    "n07": [3, lambda *_: None, lambda *_: ["x"]],
    "n09": [3, lambda *_: None, lambda *_: "x", lambda *_: float("nan")],
}
"""Further answers by chapter; in another chapter some of them may be right. 00 and 01 have tests of their own."""
OWN_TESTS = {"n00", "n01"}


def checks_of(chapter):
    """The checks of a chapter, by name."""
    module = importlib.import_module(f"fcnbook.book.exercises.{chapter}")
    return {name: value for name, value in vars(module).items() if name.startswith("check_")}


CHECKS = [
    pytest.param(chapter, check, id=f"{chapter}-{name}")
    for chapter in NONSENSE
    for name, check in checks_of(chapter).items()
]


def test_no_chapter_is_forgotten():
    (folder,) = fcnbook.book.exercises.__path__
    assert {path.stem for path in Path(folder).glob("n*.py")} == NONSENSE.keys() | OWN_TESTS


@pytest.mark.parametrize(("chapter", "check"), CHECKS)
@pytest.mark.parametrize("answer", [None, ...])
def test_no_answer(chapter, check, answer, capsys):
    assert check(answer) is False
    assert "Not answered yet" in capsys.readouterr().out


@pytest.mark.parametrize(("chapter", "check"), CHECKS)
def test_nonsense_gets_a_hint(chapter, check, capsys):
    for answer in (*COMMON, *NONSENSE[chapter]):
        assert check(answer) is False, answer
        assert "Not yet." in capsys.readouterr().out, answer
