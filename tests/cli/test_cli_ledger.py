"""`fcnbook ledger`: what it prints, writes, adds and returns."""

import json
import shutil

import pytest

from fcnbook.book.ledger import ledger_lines, read_entries, results_table
from fcnbook.cli import main
from fcnbook.files import write_json
from fcnbook.recipe import Execution
from fcnbook.recipes import chosen_recipe
from fcnbook.runs.folder import RunDir
from fcnbook.runs.trainer import run

NAME = "fcn_r18-d32_192x384_10k_streets"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a-run"
    run(chosen_recipe(NAME, scale="tiny", max_steps=2), folder, execution=Execution(device="cpu"))
    file = RunDir(folder).result_file
    write_json(file, json.loads(file.read_text()) | {"git_commit": "0123456789ab"})
    return folder


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """A folder for entries, and a working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "entries"


def command(*words):
    return main(["ledger", *map(str, words)])


def test_the_committed_entries_are_printed_and_written(ledger, tmp_path, capsys):
    assert command() == 0
    printed, said = capsys.readouterr()
    assert printed == results_table(ledger_lines(read_entries()[0])) + "\n"
    assert said.endswith("The table with the published rows, filters and charts: ledger.html\n")
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.html"]
    page = (tmp_path / "ledger.html").read_text()
    assert page.count("<tbody") == 74 + printed.count("\n") - 2


def test_a_run_is_added_and_then_shown(finished, ledger, tmp_path, capsys):
    assert command("--add", finished, "--ledger", ledger) == 0
    printed, said = capsys.readouterr()
    assert said == f"{finished} is in the ledger: {ledger / f'{NAME}-tiny-2-seed0.json'}\n"
    assert printed.count("\n") == 3 and f"| {NAME.replace('_', '&#95;')} |" in printed.replace("_", "&#95;")
    assert not (tmp_path / "ledger.html").exists(), "nobody asked for the page"


def test_runs_below_folders_are_shown_too(finished, ledger, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "runs" / "here" / "other")
    other = RunDir(tmp_path / "runs" / "here" / "other").result_file
    write_json(other, json.loads(other.read_text()) | {"seed": 1, "date": "2031-01-01"})
    page = tmp_path / "page.html"
    assert command(finished, "runs", "--ledger", ledger, "--out", page) == 0
    printed, _ = capsys.readouterr()
    assert printed.count("\n") == 3 and "| 0, 1 |" in printed and " ± 0.00 |" in printed
    assert page.read_text().count("<tbody") == 75


def test_what_cannot_be_read_is_said_and_the_rest_is_shown(finished, ledger, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "runs" / "damaged")
    RunDir(tmp_path / "runs" / "damaged").result_file.write_text('{"recipe": "\\u001b[2J"}')
    ledger.mkdir()
    (ledger / "x.json").write_text("{}")
    assert command(finished, "runs", "--ledger", ledger) == 1
    printed, said = capsys.readouterr()
    assert printed.count("\n") == 3
    assert said.startswith(f"{ledger / 'x.json'} is no entry of the ledger (It lacks overrides")
    assert "damaged cannot be shown. This result.json is damaged" in said and "\x1b" not in said
    assert "damaged cannot be shown" in (tmp_path / "ledger.html").read_text()


@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_printed_for_other_programs_and_nothing_else(option, finished, ledger, tmp_path, capsys):
    assert command(finished, "--ledger", ledger, option, "-") == 0
    printed, said = capsys.readouterr()
    assert said == "" and list(tmp_path.iterdir()) == []
    if option == "--json":
        assert len(json.loads(printed)) == 75
    else:
        assert printed.startswith("source,key,recipe,") and printed.count("\n") == 76


def test_files(finished, ledger, tmp_path, capsys):
    assert command(finished, "--ledger", ledger, "--csv", "a.csv", "--json", "a.json", "--out", "a.html") == 0
    assert capsys.readouterr().out.startswith("| recipe |")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.html", "a.json"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "nowhere is no folder. Give run folders"),
        (["--add", "nowhere"], "nowhere is no run folder."),
        (["--note", "x"], "--note belongs to a run that is added; give --add RUN too."),
        (["--csv", "-", "--json", "-"], "Only one of --csv and --json can be printed"),
        (["--out", "nowhere/a.html"], "Cannot write nowhere/a.html"),
    ],
)
def test_what_cannot_be_done(words, sentence, ledger, tmp_path, capsys):
    assert command(*words, "--ledger", ledger) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_changed_is_refused(finished, ledger, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    file = RunDir(tmp_path / "run").result_file
    write_json(file, json.loads(file.read_text()) | {"git_commit": "0123456789ab+changes"})
    assert command("--add", "run", "--ledger", ledger) == 2
    assert "code that was changed without a commit" in capsys.readouterr().err and not ledger.exists()
    assert command("--add", "run", "--note", "A print was added.", "--ledger", ledger) == 0
    assert json.loads(next(ledger.iterdir()).read_text())["note"] == "A print was added."
