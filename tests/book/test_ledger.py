"""The ledger: what enters it, what its lines say, and that the README and the page show the same, as text."""

import csv
import dataclasses
import io
import json
import os
import re
import shutil
import statistics
from pathlib import Path

import pytest
from small_runs import small_recipe

from fcnbook.book.ledger import (
    LedgerEntry,
    add,
    as_csv,
    as_json,
    entry_of_run,
    ledger_folder,
    ledger_lines,
    method_label,
    read_entries,
    read_entry,
    results_table,
    runs_below,
)
from fcnbook.book.ledger_page import shown_line
from fcnbook.files import InputError, write_json
from fcnbook.published import PUBLISHED
from fcnbook.recipe import Execution, recipe_from_dict, recipe_hash
from fcnbook.recipes import RECIPES, chosen_recipe
from fcnbook.runs.folder import RunDir
from fcnbook.runs.trainer import run

README = Path(__file__).parents[2] / "README.md"
NAME = "fcn_r18-d32_192x384_10k_streets"
FORMER_HASHES = {"fdf106d95beec9d7": "fc4e05cbacc47d87"}
"""Of a recipe when it had fewer fields -> of the same recipe today; the two were compared field by field."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A real run of two steps of a named recipe, of clean code."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run(chosen_recipe(NAME, scale="tiny", max_steps=2), folder, execution=Execution(device="cpu"))
    change(folder, git_commit="0123456789ab")  # whatever the checkout of this test is
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of that run, which a test may spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def change(folder, **fields):
    file = RunDir(folder).result_file
    write_json(file, json.loads(file.read_text()) | fields)


def change_recipe(folder, **fields):
    file = RunDir(folder).recipe_file
    write_json(file, json.loads(file.read_text()) | fields)


def entry(finished, seed=0, miou=0.5, **fields):
    """An entry like that of the run, with another seed and score."""
    report = entry_of_run(finished).report
    ious = [miou] * len(report.classes)
    report = dataclasses.replace(report, seed=seed, miou=miou, iou_per_class=ious, **fields)
    return dataclasses.replace(entry_of_run(finished), report=report)


# What enters


def test_a_finished_run_becomes_an_entry_that_reads_as_the_same(finished, tmp_path):
    file = add(finished, folder=tmp_path / "ledger")
    assert file == tmp_path / "ledger" / f"{NAME}-tiny-2-seed0.json"
    read, of_run = read_entry(file), entry_of_run(finished)
    assert dataclasses.replace(read, where="") == dataclasses.replace(of_run, where="")
    stored, result = json.loads(file.read_text()), RunDir(finished).result()
    assert {key: stored[key] for key in result} == result
    assert (stored["method"], stored["backbone"], stored["crop"]) == ("FCN", "r18-d32", [96, 192])
    assert str(finished) not in file.read_text(), "no path of this machine"
    before = file.read_bytes()
    assert add(finished, folder=tmp_path / "ledger") == file and file.read_bytes() == before


def test_another_run_does_not_take_the_place_of_an_entry(folder, tmp_path):
    file = add(folder, folder=tmp_path / "ledger")
    change(folder, date="2031-01-01")
    with pytest.raises(InputError, match=r"holds another run of the same recipe, steps and seed\. Remove"):
        add(folder, folder=tmp_path / "ledger")
    assert read_entry(file).report.date != "2031-01-01"


def end_with(folder, miou):
    RunDir(folder).append_event("end", step=2, miou=miou)


def without_an_end(folder):
    file = RunDir(folder).events_file
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if '"end"' not in line))


def other_recipe(folder, **optim):
    """The recipe is another one than its name says, everywhere in the folder, and nothing tells so."""
    stored = RunDir(folder).recipe()
    stored["recipe"]["optim"] |= optim
    found = recipe_hash(recipe_from_dict(stored["recipe"]))
    change_recipe(folder, recipe=stored["recipe"], recipe_hash=found)
    change(folder, recipe_hash=found)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda run: RunDir(run).result_file.unlink(), "It has not finished, it is at step 2 of 2"),
        (lambda run: RunDir(run).recipe_file.unlink(), "There is no recipe.json"),
        (lambda run: change(run, miou=0.9), "mIoU 90.00 is not the mean of its IoUs"),
        (lambda run: change(run, miou=0.9, iou_per_class=[0.9] * 10), "does not end with the mIoU of result"),
        (without_an_end, "events.jsonl does not end with the mIoU"),
        (lambda run: end_with(run, 0.9), "events.jsonl does not end with the mIoU"),
        (
            lambda run: change(run, seed=1),
            "result.json is not that of the recipe and the seed in recipe.json",
        ),
        (lambda run: change_recipe(run, seed=1), "result.json is not that of the recipe and the seed"),
        (lambda run: change(run, num_steps=600), "result.json is not that of the recipe and the seed"),
        (lambda run: change(run, scale="full"), "result.json is not that of the recipe and the seed"),
        (lambda run: change(run, data="camvid"), "result.json is not that of the recipe and the seed"),
        (lambda run: change(run, recipe_hash="0" * 16), "result.json is not that of the recipe and the seed"),
        (
            lambda run: other_recipe(run, lr=0.5),
            f"its recipe is not {NAME} at tiny scale, though it has that",
        ),
        (lambda run: change(run, macc=float("nan")), "its scores are not all numbers"),
        (
            lambda run: change(run, git_commit="0123456789ab+changes"),
            "0123456789ab+changes, code that was changed",
        ),
        (
            lambda run: change(run, git_commit=None),
            "it ran no commit. Run it again from a clean checkout, or",
        ),
        (lambda run: RunDir(run).result_file.write_text("{"), "not readable as JSON|damaged|cannot be shown"),
        (
            lambda run: (
                (run / "events.jsonl").rename(run.parent / "e") and (run / "events.jsonl").symlink_to("../e")
            ),
            "is a link",
        ),
    ],
)
def test_what_does_not_enter(folder, tmp_path, spoil, sentence):
    spoil(folder)
    with pytest.raises(InputError, match=re.escape(sentence) if "|" not in sentence else sentence):
        add(folder, folder=tmp_path / "ledger")
    assert not (tmp_path / "ledger").exists()


def test_a_run_that_is_being_written_does_not_enter(folder, tmp_path):
    with RunDir(folder).lock(), pytest.raises(InputError, match="is still being written by process"):
        add(folder, folder=tmp_path)


def test_changes_that_are_said_enter(folder, tmp_path):
    """The same recipe as above, but the override stands in it; and changed code with a note."""
    stored = RunDir(folder).recipe()["recipe"]
    change_recipe(folder, recipe=stored | {"overrides": ["optim.lr=0.5"]})
    other_recipe(folder, lr=0.5)
    change(folder, git_commit="0123456789ab+changes")
    file = add(folder, note="A print was added.", folder=tmp_path / "ledger")
    assert file.name == f"{NAME}-tiny-optim.lr=0.5-2-seed0.json"
    (line,) = ledger_lines([read_entry(file)])
    assert line.overrides == ("optim.lr=0.5",) and line.note.startswith("A print was added. ")
    assert line.note.endswith(", code 0123456789ab+changes.")
    assert f"| {NAME} optim.lr=0.5 |" in results_table([line]).replace("&#95;", "_")


def test_a_smoke_run_and_one_without_a_name_do_not_enter(tmp_path):
    run(small_recipe(2), tmp_path / "smoke", execution=Execution(device="cpu"))
    with pytest.raises(InputError, match="a smoke run is a test, not a result"):
        add(tmp_path / "smoke", "a note", tmp_path / "ledger")
    with pytest.raises(InputError, match="nowhere is no run folder"):
        add(tmp_path / "nowhere", "", tmp_path / "ledger")


# What is read


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        '"x"',
        "{}",
        "[" * 100_000,
        '{"miou": 1}',
        "\udcff",
        '{"seed": ' + "9" * 5000 + "}",
    ],
)
def test_a_damaged_entry_is_named_and_the_others_are_read(finished, tmp_path, text):
    add(finished, folder=tmp_path)
    (tmp_path / "damaged.json").write_bytes(text.encode(errors="surrogateescape"))
    (tmp_path / "folder.json").mkdir()
    entries, problems = read_entries(tmp_path)
    assert len(entries) == 1 and len(problems) == 2
    assert problems[0].startswith(f"{tmp_path / 'damaged.json'} is no entry of the ledger (")
    assert problems[1].startswith(f"{tmp_path / 'folder.json'} is no entry of the ledger (")
    assert all("\n" not in problem for problem in problems)


@pytest.mark.parametrize(
    "fields",
    [
        {"method": 3},
        {"overrides": "lr"},
        {"overrides": [1]},
        {"crop": [96]},
        {"crop": 96},
        {"crop": [96, -1]},
        {"crop": [True, 192]},
        {"crop": [96, 192, 3]},
        {"batch_size": 8.5},
        {"batch_size": None},
        {"note": None},
        {"miou": "high"},
        {"miou": 0.9},
        {"miou": 55.2},
        {"seconds": None},
        {"seconds": float("inf")},
        {"seed": 2**70},
        {"extra": 1},
    ],
)
def test_an_entry_with_a_wrong_field_is_none(finished, tmp_path, fields):
    file = add(finished, folder=tmp_path)
    write_json(file, json.loads(file.read_text()) | fields)
    with pytest.raises(InputError, match="is no entry of the ledger"):
        read_entry(file)


def test_runs_are_found_below_folders_and_damaged_ones_are_named(finished, folder, tmp_path):
    deep = tmp_path / "a" / "b" / "other"
    shutil.copytree(finished, deep)
    change(deep, iou_per_class=[])
    (tmp_path / "loop").symlink_to(tmp_path)
    RunDir(tmp_path / "unfinished").path.mkdir()
    RunDir(tmp_path / "unfinished").recipe_file.write_text("{}")
    entries, problems = runs_below([tmp_path, folder])
    assert [entry.where for entry in entries] == [str(folder)]
    assert len(problems) == 1 and problems[0].startswith(f"{deep} cannot be shown. ")
    with pytest.raises(InputError, match="nowhere is no folder"):
        runs_below([tmp_path / "nowhere"])
    RunDir(folder).result_file.unlink()
    (tmp_path / "empty").mkdir()
    entries, problems = runs_below([tmp_path / "empty", folder])
    assert entries == [] and problems == [
        f"{tmp_path / 'empty'} holds no finished run.",
        f"{folder} cannot be shown. It has not finished, it is at step 2 of 2; the command that started it resumes it.",
    ]


ODD = [
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x" * 5000,
    "\x1b[2J\n",
    [],
    [[]],
    {},
    {"a": 1},
]


def test_no_field_of_a_run_can_do_more_than_a_sentence(folder):
    """Every field of result.json and of the recipe in turn holds what it should not."""
    result, stored = RunDir(folder).result(), RunDir(folder).recipe()
    refused = shown = 0
    for odd in ODD:
        for name in result:
            write_json(RunDir(folder).result_file, result | {name: odd})
            outcome = outcome_of(folder)
            refused, shown = refused + (outcome is None), shown + (outcome is not None)
        write_json(RunDir(folder).result_file, result)
        for name in stored["recipe"]:
            change_recipe(folder, recipe=stored["recipe"] | {name: odd})
            outcome_of(folder)
        for name in stored:
            write_json(RunDir(folder).recipe_file, stored | {name: odd})
            outcome_of(folder)
        write_json(RunDir(folder).recipe_file, stored)
    assert refused > 200 and shown > 50


def outcome_of(folder):
    """The lines of the run and the row of its cells, None where it is refused in a sentence."""
    entries, problems = runs_below([folder])
    assert len(entries) + len(problems) == 1
    assert all(text.isprintable() for text in problems)
    if problems:
        return None
    (line,) = ledger_lines(entries)
    assert results_table([line]).count("\n") == 2 and json.loads(as_json([line])) and as_csv([line])
    return shown_line(line)


@pytest.mark.parametrize("name", ["result.json", "recipe.json", "events.jsonl"])
def test_a_pipe_is_not_waited_for(folder, tmp_path, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    _, problems = runs_below([folder])
    assert problems == [f"{folder} cannot be shown. {folder / name} is no file."]
    os.mkfifo(tmp_path / "x.json")
    assert read_entries(tmp_path)[1][0].startswith(
        f"{tmp_path / 'x.json'} is no entry of the ledger ({tmp_path}"
    )


def test_a_run_that_is_in_the_ledger_too_counts_once(finished, tmp_path):
    committed = read_entry(add(finished, folder=tmp_path))
    (line,) = ledger_lines([committed, entry_of_run(finished)])
    assert (line.runs, line.seeds) == (1, (0,))


# Lines


def test_seeds_are_one_line_with_mean_and_sample_deviation(finished):
    scores = [0.55, 0.52, 0.56]
    lines = ledger_lines([entry(finished, seed, miou) for seed, miou in zip((2, 0, 1), scores, strict=True)])
    (line,) = lines
    assert (line.seeds, line.runs) == ((0, 1, 2), 3)
    assert line.miou == pytest.approx(statistics.fmean(scores)) and line.miou_sd == pytest.approx(
        0.0208167, abs=1e-6
    )
    assert line.score_text() == "54.33 ± 2.08"
    assert (line.miou_ms_flip, line.reasons["miou_ms_flip"]) == (None, "not scored: run with --ms-flip")


def test_what_differs_in_more_than_the_seed_is_another_line(finished):
    first = entry(finished)
    others = [
        entry(finished, 1, num_steps=300),
        entry(finished, 1, recipe_hash="1" * 16),
        entry(finished, 1, scale="full"),
        entry(finished, 1, protocol="slide"),
        dataclasses.replace(entry(finished, 1), overrides=("optim.lr=0.5",)),
    ]
    for other in others:
        assert [line.runs for line in ledger_lines([first, other])] == [1, 1]
    twice = ledger_lines([first, entry(finished, 0, 0.6)])
    assert [line.runs for line in twice] == [1, 1] and "Seed 0 ran more than once" in twice[0].note


def test_a_score_that_is_no_number_is_a_blank_with_a_reason(finished):
    nan = entry(finished, 1, miou=0.5)
    nan = dataclasses.replace(
        nan, report=dataclasses.replace(nan.report, miou=float("nan"), peak_memory_gib=float("nan"))
    )
    (line,) = ledger_lines([entry(finished), nan])
    assert (line.miou, line.miou_sd, line.score_text()) == (None, None, "")
    assert line.reasons["miou"] == "the score of one of the seeds is not a number"
    assert (line.memory_gib, line.reasons["memory_gib"]) == (None, "not recorded")
    assert "| - |" in results_table([line])


def test_the_published_rows_are_those_of_the_table():
    lines = {line.key: line for line in ledger_lines([], PUBLISHED.values())}
    assert list(lines) == list(PUBLISHED) and len(lines) == 74
    for key, row in PUBLISHED.items():
        line = lines[key]
        assert (line.miou, line.miou_ms_flip) == (row.figure("miou"), row.figure("miou_ms_flip"))
        assert (line.memory_gib, line.images_per_second) == (row.figure("mem_gb"), row.figure("fps"))
        for name in ("miou", "miou_ms_flip", "macc", "aacc", "memory_gib", "images_per_second", "seconds"):
            assert getattr(line, name) is not None or line.reasons[name], (
                f"{key} does not say why {name} is blank"
            )
        for name in ("data", "scale", "hardware", "num_steps"):
            assert getattr(line, name) or line.reasons[name], f"{key} does not say why {name} is blank"
    assert lines["002-04"].parameters == 51_950_000 and lines["002-04"].macs == 108_210_000_000
    assert lines["003-02"].reasons["miou"] == "a placeholder in the source"
    assert lines["002-01"].runs == 3 and "their mean is 70.72" not in lines["002-01"].reasons["miou_sd"]
    assert lines["002-01"].reasons["miou"].startswith("the best of 3 runs; their mean is ")
    assert (lines["000-01"].num_steps, lines["000-01"].data_title) == (40_000, "Cityscapes")


def test_methods_have_one_name_each():
    names = {method_label(recipe.model) for recipe in RECIPES.values()}
    assert names >= {"FCN", "FCN-D6", "FCN-32s", "FCN-16s", "FCN-8s", "FCN-8s-atonce", "Semantic FPN"}
    assert names >= {
        "PSPNet",
        "DeepLabV3",
        "EncNet",
        "FCN + JPU",
        "PSPNet + JPU",
        "DeepLabV3 + JPU",
        "EncNet + JPU",
    }
    assert method_label(RECIPES["fastfcn_r50-d32_jpu_enc_512x1024_80k_cityscapes"].model) == "EncNet + JPU"


def test_csv_and_json_hold_every_line(finished):
    lines = ledger_lines([entry(finished), entry(finished, 1, 0.6)], PUBLISHED.values())
    table = list(csv.DictReader(io.StringIO(as_csv(lines))))
    found = json.loads(as_json(lines))
    assert len(table) == len(found) == 75
    assert (float(table[0]["miou"]), table[0]["seeds"], table[0]["crop"]) == (
        pytest.approx(0.55),
        "0 1",
        "96x192",
    )
    assert (table[1]["macc"], found[1]["macc"]) == ("", None)
    assert found[1]["reasons"]["macc"] == "the source does not print it"


def test_a_text_of_a_table_is_no_formula(finished):
    (line,) = ledger_lines([entry(finished, hardware="=HYPERLINK(1)")])
    assert next(csv.DictReader(io.StringIO(as_csv([line]))))["hardware"] == "'=HYPERLINK(1)"


# What is committed


def committed() -> list[LedgerEntry]:
    entries, problems = read_entries()
    assert problems == []
    return entries


def test_every_committed_entry_is_what_its_name_says():
    entries = committed()
    assert entries
    for one in entries:
        assert Path(one.where).name == one.file_name
        recipe = chosen_recipe(
            one.report.recipe,
            scale=one.report.scale,
            data_root=None if one.report.data == "streets" else ".",
            max_steps=one.report.num_steps,
            changes=one.overrides,
        )
        found = FORMER_HASHES.get(one.report.recipe_hash, one.report.recipe_hash)
        assert recipe_hash(recipe) == found, f"{one.where} is of another recipe"
        assert method_label(recipe.model) == one.method
    assert ledger_folder().name == "ledger" and len({one.identity for one in entries}) == len(entries)


def split_readme() -> tuple[str, str, str]:
    """What stands before the table of the results, the table, and what stands after it."""
    text = README.read_text(encoding="utf-8")
    found = re.search(r"\n## Results\n(?:(?![|#]).*\n)*((?:\|.*\n)+)", text)
    assert found, "the README has a table below ## Results"
    return text[: found.start(1)], found[1], text[found.end(1) :]


def test_the_readme_shows_what_the_ledger_prints():
    _, shown, _ = split_readme()
    printed = results_table(ledger_lines(committed())) + "\n"
    assert shown == printed, "`python tests/book/test_ledger.py` puts the table into the README"


if __name__ == "__main__":
    before, _, after = split_readme()
    README.write_text(f"{before}{results_table(ledger_lines(committed()))}\n{after}", encoding="utf-8")
