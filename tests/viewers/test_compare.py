"""Finished runs side by side: numbers by hand, groups of seeds, differences per class, and runs that are no runs."""

import csv
import io
import json
import math
import statistics
import subprocess
import sys

import pytest

from fcnbook.files import InputError
from fcnbook.published import Measured, row_verdicts, rows_of
from fcnbook.runs.folder import RunDir
from fcnbook.viewers.compare import compare_runs, read_run, seed_group, spread

NAME = "fcn_r50-d8_512x1024_40k_cityscapes"


def result(**changes):
    return {
        "recipe": "fcn_r18-d8_360x480_10k_camvid",
        "recipe_hash": "0123456789abcdef",
        "scale": "tiny",
        "data": "streets",
        "row": None,
        "miou": 0.5,
        "miou_ms_flip": None,
        "macc": 0.6,
        "aacc": 0.7,
        "fwiou": 0.6,
        "iou_per_class": [0.9, 0.4, None],
        "classes": ["sky", "pole", "sign"],
        "protocol": "native size, whole, scale 1, no flip, scored at label size",
        "num_steps": 300,
        "seconds": 60.0,
        "parameters": 411_180,
        "flops": 260_610_048,
        "seed": 0,
        "execution": {"device": None, "workers": 0, "precision": None, "channels_last": False, "compile": False},
        "verdict": "NO ROW",
        **changes,
    }  # fmt: skip


def full(seed, **scores):
    verdict = "mIoU 72.00 vs 72.25 published, -0.25, PASS (at most 1.0 below), one seed, indicative, n = 1"
    fields = {"scale": "full", "data": "cityscapes", "num_steps": 40_000, "row": "000-01", "verdict": verdict}
    return result(recipe=NAME, seed=seed, **fields | scores)


@pytest.fixture
def finished(tmp_path):
    """Writes a run folder as a finished run leaves it."""

    def write(name, fields, overrides=None, events=()):
        run = RunDir(tmp_path / name)
        run.path.mkdir()
        recipe = {} if overrides is None else {"overrides": overrides}
        run.recipe_file.write_text(json.dumps({"recipe": recipe, "seed": fields.get("seed")}))
        for event in events:
            run.append_event(**event)
        run.result_file.write_text(json.dumps(fields))
        return run.path

    return write


def test_spread_is_the_sample_standard_deviation():
    found = spread([0.50, 0.54, 0.55])
    assert found.mean == pytest.approx(0.53) and (found.best, found.n) == (0.55, 3)
    assert found.sd == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.02**2) / 2))
    assert found.text() == "53.00 ± 2.65"
    assert spread([0.5]) is None and spread([0.5, None]) is None and spread([0.5, math.nan, 0.5]) is None


def test_one_line_per_run_and_one_per_group_of_seeds(finished):
    other = result(recipe_hash="f" * 16, miou=0.61)
    paths = [
        finished("a", result(miou=0.50, seed=0, seconds=60.0), ["optim.lr=0.02"]),
        finished("b", other, []),
        finished("c", result(miou=0.54, seed=1, seconds=70.0), ["optim.lr=0.02"]),
    ]
    comparison = compare_runs(paths)
    assert (comparison.problems, comparison.notes) == ((), ())
    (group,) = comparison.groups
    assert (group.runs, group.seeds, group.seconds) == ((0, 2), (0, 1), 65.0)
    assert group.miou.sd == pytest.approx(statistics.stdev([0.50, 0.54])) and group.miou_ms_flip is None
    head, first, second, third, mean = comparison.table()
    assert head == "#,recipe,overrides,scale,data,steps,seed,mIoU,mAcc,aAcc,params M,GFLOPs,s,verdict".split(
        ","
    )
    start = ["fcn_r18-d8_360x480_10k_camvid", "optim.lr=0.02", "tiny", "streets", "300"]
    assert first == ["1", *start, "0", "50.00", "60.00", "70.00", "0.41", "0.26", "60", "NO ROW"]
    assert second[:3] == ["2", start[0], "-"] and second[7] == "61.00"
    assert third[0] == "3"
    assert mean == [
        "mean",
        *start,
        "n=2",
        "52.00 ± 2.83",
        "60.00 ± 0.00",
        "70.00 ± 0.00",
        "0.41",
        "0.26",
        "65",
        "NO ROW",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe_hash": "f" * 16},
        {"num_steps": 150},
        {"scale": "smoke"},
        {"protocol": "fit to 10x10, whole"},
        {"execution": {"precision": "bf16"}},
        {"classes": ["sky", "pole", "tree"]},
    ],
)
def test_runs_that_differ_in_more_than_the_seed_have_no_mean(changes, finished):
    assert compare_runs([finished("a", result()), finished("b", result(seed=1, **changes))]).groups == ()


def test_the_step_of_the_best_validation_and_the_workers_do_not_part_a_group(finished):
    paths = []
    for seed in (0, 1):
        protocol = f"native size, weights of step {100 * seed + 50}, the best of all validations on the evaluation set"
        execution = {
            "workers": seed,
            "device": "cpu",
            "precision": None,
            "channels_last": False,
            "compile": False,
        }
        paths.append(finished(str(seed), result(seed=seed, protocol=protocol, execution=execution)))
    assert len(compare_runs(paths).groups) == 1


def test_a_seed_that_occurs_twice_gives_no_mean_but_a_sentence(finished):
    comparison = compare_runs([finished("a", result()), finished("b", result(miou=0.4))])
    assert comparison.groups == ()
    assert comparison.notes == ("#1, #2: a seed occurs twice among them, so they have no mean over seeds.",)


def test_the_same_run_given_twice_is_taken_once(finished):
    folder = finished("a", result())
    comparison = compare_runs([folder, folder / "result.json", folder.parent / "a" / ".." / "a"])
    assert len(comparison.runs) == 1 and len(comparison.notes) == 2


def test_seeds_are_judged_together_by_the_rules_of_the_row(finished):
    scores = [0.7120, 0.7190, 0.7230]
    paths = [finished(str(seed), full(seed, miou=score), []) for seed, score in enumerate(scores)]
    (row,) = rows_of(NAME)
    (expected,) = row_verdicts(row, Measured(miou=scores))
    (group,) = compare_runs(paths).groups
    assert group.verdict == expected.text() and group.verdicts == (expected,)
    assert group.verdict.endswith("mean of 3 seeds, n = 3") and expected.tier == "three seeds or more"
    stored = json.loads(json.dumps(compare_runs(paths).as_dict(), allow_nan=False))["groups"][0]["verdicts"]
    assert stored == [expected.as_dict() | {"interval": list(expected.interval)}]
    assert compare_runs(paths).table()[-1][-1] == expected.text()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scale": "tiny"}, "no verdict: row 000-01 is judged at full scale only"),
        ({"num_steps": 39_999}, "no verdict: trained for 39,999 of 40,000 steps"),
        ({"data": "own"}, "NO ROW: the data is your own"),
        ({"recipe": "fcn_r18-d8_360x480_10k_camvid"}, "NO ROW"),
        ({"row": None, "verdict": "NO ROW"}, "NO ROW"),
    ],
)
def test_seeds_that_may_not_be_compared_with_a_row_say_why(changes, reason, finished):
    """Whatever their own verdicts claim."""
    scores = [0.7120, 0.7190, 0.7230]
    paths = [finished(str(seed), full(seed, miou=score) | changes) for seed, score in enumerate(scores)]
    (group,) = compare_runs(paths).groups
    assert (group.verdict, group.verdicts) == (reason, ())


def test_ms_flip_of_all_seeds_is_judged_and_of_some_is_missing(finished):
    """71.86 is 1.50 below 73.36, and 1.49 is the half width by s = 0.30."""
    for name, flips, outcomes in (
        ("none", [None] * 3, ["PASS"]),
        ("all", [0.7156, 0.7186, 0.7216], ["PASS", "FAIL"]),
        ("some", [0.7156, None, 0.7216], ["PASS", "FAIL"]),
    ):
        runs = [full(s, miou=0.72 + s / 1000, miou_ms_flip=flip) for s, flip in enumerate(flips)]
        (group,) = compare_runs([finished(f"{name}{s}", run) for s, run in enumerate(runs)]).groups
        assert [verdict.outcome for verdict in group.verdicts] == outcomes
        assert ("the score of 1 of 3 seeds is missing" in group.verdict) == (name == "some")


def test_a_run_without_a_verdict_leaves_its_group_without_one(finished):
    reason = "no verdict: 3 of the 500 images of val are there"
    paths = [finished("a", full(0, miou=0.7)), finished("b", {**full(1, miou=0.7), "verdict": reason})]
    assert compare_runs(paths).groups[0].verdict == reason


def test_changed_recipes_are_not_judged(finished):
    paths = [finished(str(seed), full(seed, miou=0.7), ["optim.lr=0.02"]) for seed in (0, 1)]
    assert compare_runs(paths).groups[0].verdict == "NO ROW: optim.lr=0.02 was changed by hand"


def test_scores_that_are_not_numbers_fail_and_have_no_mean(finished):
    paths = [finished("a", full(0, miou=0.7), []), finished("b", full(1, miou=math.nan), [])]
    (group,) = compare_runs(paths).groups
    assert group.miou is None and "FAIL" in group.verdict
    assert compare_runs(paths).table()[2][7] == "-"


def test_differences_per_class_are_against_the_first_run(finished):
    paths = [
        finished("a", result()),
        finished("b", result(iou_per_class=[0.85, 0.45, 0.1], seed=1)),
        finished("c", result(iou_per_class=[0.95, None, None], recipe_hash="f" * 16)),
    ]
    assert compare_runs(paths).class_table() == [
        ["class", "#1", "#2", "#3"],
        ["sky", "90.00", "-5.00", "+5.00"],
        ["pole", "40.00", "+5.00", "-"],
        ["sign", "-", "-", "-"],
    ]


def test_other_data_sets_stay_in_the_table_but_out_of_the_differences(finished):
    paths = [
        finished("a", result()),
        finished("b", result(data="camvid", classes=["sky", "road"], iou_per_class=[0.9, 0.4])),
        finished("c", result(seed=1)),
    ]
    comparison = compare_runs(paths)
    assert [line[0] for line in comparison.table()] == ["#", "1", "2", "3", "mean"]
    assert comparison.class_table()[0] == ["class", "#1", "#3"]
    (note,) = comparison.notes
    assert (
        "on different data sets or classes" in note and "against #1 (streets), without #2 (camvid)." in note
    )
    assert compare_runs(paths[:2]).class_table() == []


def test_ms_flip_has_a_column_where_it_was_measured(finished):
    table = compare_runs([finished("a", result()), finished("b", result(seed=1, miou_ms_flip=0.55))]).table()
    assert table[0][8] == "ms+flip" and [line[8] for line in table[1:]] == ["-", "55.00", "-"]


def test_csv_and_json_hold_the_numbers_as_they_are(finished):
    paths = [
        finished("a", result(miou=1 / 3), ["optim.lr=0.02", "batch_size=4"]),
        finished("b", result(miou=0.5, seed=1, classes=["sky", "a,b"], iou_per_class=[0.25, 0.5])),
    ]
    comparison = compare_runs(paths)
    first, second = csv.DictReader(io.StringIO(comparison.csv()))
    assert (float(first["miou"]), first["overrides"], first["iou:sky"]) == (
        1 / 3,
        "optim.lr=0.02 batch_size=4",
        "0.9",
    )
    assert (first["iou:sign"], first["iou:a,b"], second["iou:a,b"], second["number"]) == ("", "", "0.5", "2")
    stored = json.loads(json.dumps(comparison.as_dict(), allow_nan=False))
    assert stored["runs"][0]["miou"] == 1 / 3 and stored["runs"][0]["path"] == str(paths[0])
    assert stored["runs"][1]["iou_per_class"] == [0.25, 0.5]
    assert (stored["groups"], stored["iou_difference_to_first"]) == ([], {})
    both = compare_runs(
        [
            paths[0],
            finished("c", result(seed=1, iou_per_class=[0.8, 0.5, None]), ["optim.lr=0.02", "batch_size=4"]),
        ]
    )
    stored = both.as_dict()
    assert stored["iou_difference_to_first"]["2"] == {
        "sky": pytest.approx(-0.1),
        "pole": pytest.approx(0.1),
        "sign": None,
    }
    assert stored["groups"][0]["miou"]["n"] == 2 and stored["groups"][0]["seeds"] == [0, 1]


# Runs that are no runs


def test_what_cannot_be_read_is_named_and_the_others_are_compared(finished, tmp_path):
    unfinished = RunDir(tmp_path / "unfinished")
    unfinished.path.mkdir()
    unfinished.recipe_file.write_text("{}")
    unfinished.append_event("start", num_steps=300)
    unfinished.append_event("train", step=150, loss=1.0, images_per_second=9.0, eta_s=8.0)
    (tmp_path / "empty").mkdir()
    damaged = finished("damaged", result())
    (damaged / "result.json").write_text('{"recipe": "a')
    paths = [
        finished("a", result()),
        tmp_path / "nowhere",
        unfinished.path,
        tmp_path / "empty",
        damaged,
        tmp_path,
    ]
    comparison = compare_runs([*paths, finished("b", result(seed=1))])
    assert [run.path.name for run in comparison.runs] == ["a", "b"] and len(comparison.groups) == 1
    missing, stopped, empty, broken, parent = comparison.problems
    assert missing == f"{tmp_path / 'nowhere'}: there is no such run folder or result.json."
    assert "has not finished, it is at step 150 of 300; the command that started it resumes it." in stopped
    assert empty == f"{tmp_path / 'empty'} is no run folder: there is no recipe.json."
    assert "result.json is not readable as JSON" in broken
    assert parent.endswith(f"is no run folder, but holds 3 of them: give {tmp_path}/*, or some of them.")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"miou": 54.5}, "miou lies in [0, 1], got 54.5"),
        ({"miou": "high"}, "miou is no number"),
        ({"seed": True}, "seed is no whole number"),
        ({"seconds": math.inf}, "seconds is no number"),
        ({"seconds": 10**400}, "seconds is no number"),
        ({"miou": True}, "miou is no number"),
        ({"miou": math.inf}, "miou is no number"),
        ({"miou": 10**400}, "miou lies in [0, 1], got 1000"),
        ({"macc": -0.01}, "macc lies in [0, 1], got -0.01"),
        ({"iou_per_class": [0.1, 2, 0.3]}, "iou_per_class lies in [0, 1], got 2"),
        ({"classes": ["sky"]}, "it has 1 classes and 3 IoUs"),
        ({"classes": 3}, "classes is no list"),
        ({"iou_per_class": [0.1, 0.2, [0.3]]}, "iou_per_class is no number"),
        ({"verdict": None}, "verdict is no text"),
        ({"overrides": 3}, "overrides is no list"),
    ],
)
def test_a_result_with_a_wrong_value_is_named_with_the_value(changes, reason, finished):
    with pytest.raises(InputError) as caught:
        read_run(finished("a", result(**changes)))
    assert reason in str(caught.value) and "result.json is no result of a run" in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", "\x00", "[" * 100_000])
def test_a_result_that_is_no_result(text, finished):
    folder = finished("a", result())
    (folder / "result.json").write_text(text)
    assert len(compare_runs([folder]).problems) == 1


def test_texts_of_a_file_cannot_forge_lines_of_a_terminal(finished):
    folder = finished("a", result(verdict="PASS\n1  forged\x1b[2K", classes=["a\rb", "c", "d"]), ["x\x07=1"])
    comparison = compare_runs([folder, finished("b", result())])
    lines = comparison.table() + comparison.class_table() + [[comparison.csv().replace("\n", "")]]
    assert all(cell.isprintable() for line in lines for cell in line)


# Curves


def events(losses, mious):
    start = [{"event": "start", "num_steps": len(losses), "recipe": "a"}]
    train = [{"event": "train", "step": step, "loss": loss} for step, loss in enumerate(losses, 1)]
    return [
        *start,
        *train,
        *({"event": "validation", "step": s, "miou": m, "iou_per_class": []} for s, m in mious),
    ]


def test_the_figure_has_loss_and_miou_of_every_run(finished):
    resumed = events([3.0, 2.5, 2.2], [])
    resumed += [{"event": "start", "num_steps": 3, "recipe": "a"}, {"event": "resume", "step": 1}]
    resumed += [{"event": "train", "step": 2, "loss": 2.0}, {"event": "train", "step": 3, "loss": 1.5}]
    paths = [
        finished("a", result(), ["init=$x$"], resumed),
        finished("b", result(seed=1), [], events([3.0, 1.0], [(1, 0.2), (2, 0.5)])),
        finished("c", result(seed=2), [], ()),
        finished("d", result(seed=3), [], [{"event": "train"}]),
    ]
    comparison = compare_runs(paths)
    loss, miou = comparison.figure().axes
    assert [line.get_xydata().tolist() for line in loss.lines] == [
        [[1, 3.0], [2, 2.0], [3, 1.5]],  # what came after the checkpoint was done again
        [[1, 3.0], [2, 1.0]],
    ]
    assert loss.lines[0].get_label() == r"#1 fcn_r18-d8_360x480_10k_camvid init=\$x\$ seed 0"
    (line,) = miou.lines
    assert line.get_xydata().tolist() == [[1, 20.0], [2, 50.0]]
    assert line.get_color() == loss.lines[1].get_color() != loss.lines[0].get_color()
    assert [sentence.partition(":")[0] for sentence in comparison.without_curves()] == [
        str(paths[2]),
        str(paths[3]),
    ]
    comparison.figure().savefig(io.BytesIO(), format="png")


def test_comparing_loads_no_large_package(finished):
    script = (
        "import sys; from fcnbook.viewers.compare import compare_runs\n"
        f"comparison = compare_runs([{str(finished('a', result()))!r}]); comparison.table()\n"
        "assert len(comparison.runs) == 1\n"
        "print([name for name in ('torch', 'numpy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_figure_needs_no_torch(finished):
    folder = finished("a", result(), [], events([3.0, 1.0], [(1, 0.2)]))
    script = (
        "import sys; from fcnbook.viewers.compare import compare_runs\n"
        f"assert compare_runs([{str(folder)!r}]).figure().axes[0].lines\n"
        "print([name for name in ('torch', 'ipywidgets', 'matplotlib.pyplot') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_seed_group_takes_runs_that_belong_together(finished):
    group = seed_group([read_run(finished(str(s), result(seed=s, miou=0.4 + s / 10))) for s in (0, 1)])
    assert (group.runs, group.seeds, group.miou.best) == ((0, 1), (0, 1), 0.5)
