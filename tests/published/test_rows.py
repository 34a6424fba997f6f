"""The published rows against recipes.md §8, transcribed here by itself."""

import csv
import hashlib
import importlib.resources
import io
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest

from fcnbook.published import ALIASES, PUBLISHED, rows_of
from fcnbook.recipe import recipe_name
from fcnbook.recipes import RECIPES

# key, mIoU, mIoU(ms+flip), crop as labelled, iterations or epochs, recipe
TABLE = """
000-01 72.25 73.36  512x1024  40000 fcn_r50-d8_512x1024_40k_cityscapes
000-02 75.45 76.58  512x1024  40000 fcn_r101-d8_512x1024_40k_cityscapes
000-03 71.47 72.54   769x769  40000 fcn_r50-d8_769x769_40k_cityscapes
000-04 73.93 75.14   769x769  40000 fcn_r101-d8_769x769_40k_cityscapes
000-05 71.11 72.91  512x1024  80000 fcn_r18-d8_512x1024_80k_cityscapes
000-06 73.61 74.24  512x1024  80000 fcn_r50-d8_512x1024_80k_cityscapes
000-07 75.13 75.94  512x1024  80000 fcn_r101-d8_512x1024_80k_cityscapes
000-08 76.80     -  512x1024  80000 fcn_r101-d8_fp16_512x1024_80k_cityscapes
000-09 70.80 73.16   769x769  80000 fcn_r18-d8_769x769_80k_cityscapes
000-10 72.64 73.32   769x769  80000 fcn_r50-d8_769x769_80k_cityscapes
000-11 75.52 76.61   769x769  80000 fcn_r101-d8_769x769_80k_cityscapes
000-12 70.24 72.77  512x1024  80000 fcn_r18b-d8_512x1024_80k_cityscapes
000-13 75.65 77.59  512x1024  80000 fcn_r50b-d8_512x1024_80k_cityscapes
000-14 77.37 78.77  512x1024  80000 fcn_r101b-d8_512x1024_80k_cityscapes
000-15 69.66 72.07   769x769  80000 fcn_r18b-d8_769x769_80k_cityscapes
000-16 73.83 76.60   769x769  80000 fcn_r50b-d8_769x769_80k_cityscapes
000-17 77.02 78.67   769x769  80000 fcn_r101b-d8_769x769_80k_cityscapes
000-18 77.06 78.85  512x1024  40000 fcn_d6_r50-d16_512x1024_40k_cityscapes
000-19 77.27 78.88  512x1024  80000 fcn_d6_r50-d16_512x1024_80k_cityscapes
000-20 76.82 78.22   769x769  40000 fcn_d6_r50-d16_769x769_40k_cityscapes
000-21 77.04 78.40   769x769  80000 fcn_d6_r50-d16_769x769_80k_cityscapes
000-22 77.36 79.18  512x1024  40000 fcn_d6_r101-d16_512x1024_40k_cityscapes
000-23 78.46 80.42  512x1024  80000 fcn_d6_r101-d16_512x1024_80k_cityscapes
000-24 77.28 78.95   769x769  40000 fcn_d6_r101-d16_769x769_40k_cityscapes
000-25 78.06 79.58   769x769  80000 fcn_d6_r101-d16_769x769_80k_cityscapes
000-26 76.99 79.03  512x1024  80000 fcn_d6_r50b-d16_512x1024_80k_cityscapes
000-27 76.86 78.52   769x769  80000 fcn_d6_r50b-d16_769x769_80k_cityscapes
000-28 77.72 79.53  512x1024  80000 fcn_d6_r101b-d16_512x1024_80k_cityscapes
000-29 77.34 78.91   769x769  80000 fcn_d6_r101b-d16_769x769_80k_cityscapes
000-30 35.94 37.94   512x512  80000 fcn_r50-d8_512x512_80k_ade20k
000-31 39.61 40.83   512x512  80000 fcn_r101-d8_512x512_80k_ade20k
000-32 36.10 38.08   512x512 160000 fcn_r50-d8_512x512_160k_ade20k
000-33 39.91 41.40   512x512 160000 fcn_r101-d8_512x512_160k_ade20k
000-34 67.08 69.94   512x512  20000 fcn_r50-d8_512x512_20k_voc12aug
000-35 71.16 73.57   512x512  20000 fcn_r101-d8_512x512_20k_voc12aug
000-36 66.97 69.04   512x512  40000 fcn_r50-d8_512x512_40k_voc12aug
000-37 69.91 72.38   512x512  40000 fcn_r101-d8_512x512_40k_voc12aug
000-38 44.43 45.63   480x480  40000 fcn_r101-d8_480x480_40k_pascal_context
000-39 44.13 45.26   480x480  80000 fcn_r101-d8_480x480_80k_pascal_context
000-40 48.42  50.4   480x480  40000 fcn_r101-d8_480x480_40k_pascal_context_59
000-41 49.35 51.38   480x480  80000 fcn_r101-d8_480x480_80k_pascal_context_59
001-01 64.73     -   512x512     60 ssseg_fcn_r50-os8_512x512_60e_voc12aug
001-02 66.80     -   512x512     60 ssseg_fcn_r50-os16_512x512_60e_voc12aug
001-03 71.10     -   512x512     60 ssseg_fcn_r101-os8_512x512_60e_voc12aug
001-04 71.17     -   512x512     60 ssseg_fcn_r101-os16_512x512_60e_voc12aug
001-05 35.72     -   512x512    130 ssseg_fcn_r50-os8_512x512_130e_ade20k
001-06 35.15     -   512x512    130 ssseg_fcn_r50-os16_512x512_130e_ade20k
001-07 40.07     -   512x512    130 ssseg_fcn_r101-os8_512x512_130e_ade20k
001-08 38.67     -   512x512    130 ssseg_fcn_r101-os16_512x512_130e_ade20k
001-09     -     -  512x1024    220 ssseg_fcn_r50-os8_512x1024_220e_cityscapes
001-10     -     -  512x1024    220 ssseg_fcn_r50-os16_512x1024_220e_cityscapes
001-11     -     -  512x1024    220 ssseg_fcn_r101-os8_512x1024_220e_cityscapes
001-12     -     -  512x1024    220 ssseg_fcn_r101-os16_512x1024_220e_cityscapes
002-01 70.83     -   321x321     30 autodrive_fcn_r101_321x321_30e_voc12aug_amp
002-02 71.55     -   321x321     30 autodrive_fcn_r101_321x321_30e_voc12aug
002-03 68.20     -   321x321     60 autodrive_fcn_r101_256x512_60e_cityscapes_amp
002-04     -     -   256x512      - -
002-05     -     -  512x1024      - -
002-06     -     - 1024x2048      - -
003-01 79.32 80.57  512x1024  80000 deeplabv3_r50-d8_512x1024_80k_cityscapes
003-02     0     0  512x1024  80000 fastfcn_r50-d32_jpu_aspp_512x1024_80k_cityscapes
003-03 79.52 80.91  512x1024  80000 fastfcn_r50-d32_jpu_aspp_4x4_512x1024_80k_cityscapes
003-04 78.55 79.79  512x1024  80000 pspnet_r50-d8_512x1024_80k_cityscapes
003-05 79.26 80.86  512x1024  80000 fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes
003-06 78.76 80.03  512x1024  80000 fastfcn_r50-d32_jpu_psp_4x4_512x1024_80k_cityscapes
003-07 77.94 79.13  512x1024  80000 encnet_r50-d8_512x1024_80k_cityscapes
003-08 77.97 79.92  512x1024  80000 fastfcn_r50-d32_jpu_enc_512x1024_80k_cityscapes
003-09  78.6 80.25  512x1024  80000 fastfcn_r50-d32_jpu_enc_4x4_512x1024_80k_cityscapes
004-01 70.88     -   512x512     60 ssseg_fpn_r50_512x512_60e_voc12aug
004-02 72.51     -   512x512     60 ssseg_fpn_r101_512x512_60e_voc12aug
004-03 38.16     -   512x512    130 ssseg_fpn_r50_512x512_130e_ade20k
004-04 39.85     -   512x512    130 ssseg_fpn_r101_512x512_130e_ade20k
004-05 76.09     -  512x1024    220 ssseg_fpn_r50_512x1024_220e_cityscapes
004-06 76.39     -  512x1024    220 ssseg_fpn_r101_512x1024_220e_cityscapes
"""

# Names in mmsegmentation 1.2.2, configs/*/metafile.yaml, in row order. The three 4x4 FastFCN runs are filed there under
# the 4xb2 names; these are the names of their configuration files.
NAMES_1X = """
000 fcn_r50-d8_4xb2-40k_cityscapes-512x1024
000 fcn_r101-d8_4xb2-40k_cityscapes-512x1024
000 fcn_r50-d8_4xb2-40k_cityscapes-769x769
000 fcn_r101-d8_4xb2-40k_cityscapes-769x769
000 fcn_r18-d8_4xb2-80k_cityscapes-512x1024
000 fcn_r50-d8_4xb2-80k_cityscapes-512x1024
000 fcn_r101-d8_4xb2-80k_cityscapes-512x1024
000 fcn_r101-d8_4xb2-amp-80k_cityscapes-512x1024
000 fcn_r18-d8_4xb2-80k_cityscapes-769x769
000 fcn_r50-d8_4xb2-80k_cityscapes-769x769
000 fcn_r101-d8_4xb2-80k_cityscapes-769x769
000 fcn_r18b-d8_4xb2-80k_cityscapes-512x1024
000 fcn_r50b-d8_4xb2-80k_cityscapes-512x1024
000 fcn_r101b-d8_4xb2-80k_cityscapes-512x1024
000 fcn_r18b-d8_4xb2-80k_cityscapes-769x769
000 fcn_r50b-d8_4xb2-80k_cityscapes-769x769
000 fcn_r101b-d8_4xb2-80k_cityscapes-769x769
000 fcn-d6_r50-d16_4xb2-40k_cityscapes-512x1024
000 fcn-d6_r50-d16_4xb2-80k_cityscapes-512x1024
000 fcn-d6_r50-d16_4xb2-40k_cityscapes-769x769
000 fcn-d6_r50-d16_4xb2-80k_cityscapes-769x769
000 fcn-d6_r101-d16_4xb2-40k_cityscapes-512x1024
000 fcn-d6_r101-d16_4xb2-80k_cityscapes-512x1024
000 fcn-d6_r101-d16_4xb2-40k_cityscapes-769x769
000 fcn-d6_r101-d16_4xb2-80k_cityscapes-769x769
000 fcn-d6_r50b-d16_4xb2-80k_cityscapes-512x1024
000 fcn-d6_r50b-d16_4xb2-80k_cityscapes-769x769
000 fcn-d6_r101b-d16_4xb2-80k_cityscapes-512x1024
000 fcn-d6_r101b-d16_4xb2-80k_cityscapes-769x769
000 fcn_r50-d8_4xb4-80k_ade20k-512x512
000 fcn_r101-d8_4xb4-80k_ade20k-512x512
000 fcn_r50-d8_4xb4-160k_ade20k-512x512
000 fcn_r101-d8_4xb4-160k_ade20k-512x512
000 fcn_r50-d8_4xb4-20k_voc12aug-512x512
000 fcn_r101-d8_4xb4-20k_voc12aug-512x512
000 fcn_r50-d8_4xb4-40k_voc12aug-512x512
000 fcn_r101-d8_4xb4-40k_voc12aug-512x512
000 fcn_r101-d8_4xb4-40k_pascal-context-480x480
000 fcn_r101-d8_4xb4-80k_pascal-context-480x480
000 fcn_r101-d8_4xb4-40k_pascal-context-59-480x480
000 fcn_r101-d8_4xb4-80k_pascal-context-59-480x480
003 deeplabv3_r50-d8_4xb2-80k_cityscapes-512x1024
003 fastfcn_r50-d32_jpu_aspp_4xb2-80k_cityscapes-512x1024
003 fastfcn_r50-d32_jpu_aspp_4xb4-80k_cityscapes-512x1024
003 pspnet_r50-d8_4xb2-80k_cityscapes-512x1024
003 fastfcn_r50-d32_jpu_psp_4xb2-80k_cityscapes-512x1024
003 fastfcn_r50-d32_jpu_psp_4xb4-80k_cityscapes-512x1024
003 encnet_r50-d8_4xb2-80k_cityscapes-512x1024
003 fastfcn_r50-d32_jpu_enc_4xb2-80k_cityscapes-512x1024
003 fastfcn_r50-d32_jpu_enc_4xb4-80k_cityscapes-512x1024
"""
SOURCES = {
    "000": "mmsegmentation",
    "001": "sssegmentation",
    "002": "pytorch-auto-drive",
    "003": "mmsegmentation",
    "004": "sssegmentation",
}
OUR_COLUMNS = ["recipe", "alias", "hardware", "revision", "protocol", "note"]
LINES = [line.split() for line in TABLE.split("\n") if line]


def test_the_printed_columns_are_the_reference_table():
    """Facts are copied, never edited: what we know better goes into the columns after these 25."""
    table = importlib.resources.files("fcnbook").joinpath("published/table.csv").read_text(encoding="utf-8")
    lines = list(csv.reader(table.splitlines()))
    assert lines[0][0] == "table" and lines[0][25:] == OUR_COLUMNS
    lines[0][0] = "seed"  # the reference table's word
    # Its lines end as those of a spreadsheet do.
    printed = io.StringIO()
    csv.writer(printed, lineterminator="\r\n").writerows(line[:25] for line in lines)
    assert (
        hashlib.sha256(printed.getvalue().encode()).hexdigest()
        == "46d06cb4e12cd4dd97d8d642baee73c92e1b03ed2976d1bfd11c84954438053b"
    )


def test_keys_come_in_order_and_number():
    assert list(PUBLISHED) == [line[0] for line in LINES]
    assert Counter(row.table for row in PUBLISHED.values()) == {
        "000": 41,
        "001": 12,
        "002": 6,
        "003": 9,
        "004": 6,
    }
    assert all(row.key == key for key, row in PUBLISHED.items())


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_a_row_says_what_the_published_table_says(line):
    key, miou, ms_flip, crop, schedule, recipe = line
    row = PUBLISHED[key]
    assert row.miou == (None if miou == "-" else pytest.approx(float(miou) / 100, abs=1e-12))
    assert row.miou_ms_flip == (None if ms_flip == "-" else pytest.approx(float(ms_flip) / 100, abs=1e-12))
    assert row.crop == tuple(map(int, crop.split("x")))
    assert row.schedule.split(" ")[0] == schedule.replace("-", "")
    assert row.recipe == (None if recipe == "-" else recipe)


def test_scores_are_the_shortest_decimals():
    assert repr(PUBLISHED["000-01"].miou) == "0.7225"
    assert repr(PUBLISHED["002-02"].miou_avg) == "0.7091"


def test_every_column_of_the_first_row():
    row = PUBLISHED["000-01"]
    assert (row.source, row.dataset, row.train_set, row.eval_set) == (
        "mmsegmentation",
        "Cityscapes",
        "train",
        "val",
    )
    assert (row.method, row.backbone, row.neck, row.output_stride) == ("FCN", "R-50-D8", "", 8)
    assert (row.schedule, row.batch, row.precision) == ("40000 iterations", "4x2", "fp32")
    assert (row.mem_gb, row.fps, row.hardware) == (5.7, 4.17, "V100")
    assert (row.miou_avg, row.train_hours, row.flops_g, row.params_m) == (None, None, None, None)
    assert row.model_url.endswith("_20200604_192608-efe53f0d.pth") and row.sha256_prefix == "efe53f0d"
    assert row.config_url.endswith("fcn_r50-d8_512x1024_40k_cityscapes.py")
    assert row.log_url.endswith("20200604_192608.log.json")
    assert row.note == ""


def test_71_rows_can_be_trained_and_no_two_share_a_recipe():
    names = [row.recipe for row in PUBLISHED.values() if row.recipe is not None]
    assert len(names) == len(set(names)) == 71
    assert [key for key, row in PUBLISHED.items() if row.recipe is None] == ["002-04", "002-05", "002-06"]


@pytest.mark.parametrize("row", [row for row in PUBLISHED.values() if row.recipe], ids=lambda row: row.key)
def test_the_recipe_of_a_row_renders_to_its_column(row):
    assert recipe_name(RECIPES[row.recipe]) == row.recipe


def test_recipe_names_are_the_linked_configuration_files():
    """All mmsegmentation rows but the FastFCN ones, whose draft files were renamed before they were released."""
    linked = [row for row in PUBLISHED.values() if row.source == "mmsegmentation" and row.neck == ""]
    assert len(linked) == 44
    assert all(row.recipe == PurePosixPath(row.config_url).stem for row in linked)


def test_aliases_are_the_names_of_version_1():
    tables_and_names = [line.split() for line in NAMES_1X.split("\n") if line]
    rows = [row for row in PUBLISHED.values() if row.source == "mmsegmentation"]
    assert {new: row.recipe for (_, new), row in zip(tables_and_names, rows, strict=True)} == ALIASES
    assert [table for table, _ in tables_and_names] == [row.table for row in rows]


def test_every_row_says_how_it_was_scored():
    assert PUBLISHED["000-03"].protocol.startswith("fit to 1025x2049, slide 769x769 stride 513x513")
    assert PUBLISHED["000-40"].protocol.startswith("fit to 520x520, slide 480x480 stride 320x320")
    assert "512x1024 and scored there" in PUBLISHED["002-03"].protocol
    assert "transposed" in PUBLISHED["001-05"].protocol and "transposed" not in PUBLISHED["004-01"].protocol
    assert len({PUBLISHED[key].protocol for key in ("002-04", "002-05", "002-06")}) == 1
    assert "10 warm-up and 300 timed forwards" in PUBLISHED["002-04"].protocol


OF_MMSEGMENTATION = (
    ", scored at label size, one run, presumably its last checkpoint; ms+flip: test size x 0.5 0.75 1 1.25 1.5 1.75, "
    "each with and without flip"
)
KNOWN_PROTOCOLS = [row for row in PUBLISHED.values() if row.source in ("mmsegmentation", "sssegmentation")]


@pytest.mark.parametrize("row", KNOWN_PROTOCOLS, ids=lambda row: row.key)
def test_the_protocol_of_a_row_is_its_recipe_s(row):
    """Size and windows are those of the recipe, which tests/recipes checks against the documents."""
    measured = RECIPES[row.recipe].evaluation.protocol()
    if row.source == "sssegmentation":
        assert row.protocol.replace(" (aspect transposed, see note)", "") == measured + ", one run"
        assert ("transposed" in row.protocol) is (row.table == "001")
    else:
        native = measured.replace("fit to 1024x2048", "native size 1024x2048")
        assert row.protocol == native.partition(", scale 1")[0] + OF_MMSEGMENTATION


def test_a_table_has_one_revision_and_a_source_one_hardware_but_for_fcn_d6():
    revisions = {row.table: row.revision for row in PUBLISHED.values()}
    assert all(row.revision == revisions[row.table] for row in PUBLISHED.values())
    assert all(source in revisions[table] for table, source in SOURCES.items())
    hardware = {"mmsegmentation": "V100", "sssegmentation": "", "pytorch-auto-drive": "RTX 2080 Ti"}
    for row in PUBLISHED.values():
        expected = "V100 or TITAN Xp" if row.method == "FCN-D6" else hardware[row.source]
        assert (row.source, row.hardware) == (SOURCES[row.table], expected)


@pytest.mark.parametrize(
    ("keys", "fact"),
    [
        (["000-08"], "static loss scale of 512"),
        (["000-39"], "inherits the 40k schedule"),
        ([f"001-{n:02d}" for n in range(1, 13)], "transposed aspect ratio"),
        ([f"001-{n:02d}" for n in range(1, 9)], "375x500 became 682x512, its sides truncated"),
        ([f"001-{n:02d}" for n in range(9, 13)], "1024x2048 became 2048x1024"),
        (
            [*(f"001-{n:02d}" for n in range(1, 13)), *(f"004-{n:02d}" for n in range(1, 7))],
            "On how many GPUs",
        ),
        (["002-01", "002-02", "002-03"], "after 999, 1,999, … steps; the last weights are not among them"),
        (["002-01", "002-02", "002-03"], "resnet101-5d3b4d8f.pth"),
        (["001-01"], "prints mIoU 67.80"),
        (["001-04"], "prints mIoU 69.39"),
        (["001-08"], "prints mIoU 40.15"),
        (["001-09"], "prints mIoU 75.16"),
        (["002-03"], "256x512"),
        (["003-02"], "5.67 GB, 2.64 fps, 79.12 / 80.58"),
        (["003-06"], "Labelled 4x2"),
        (["003-03"], "72220849"),
        (["003-06"], "77e87b0a"),
        (["003-09"], "e1eb6dbb"),
        (["003-02", "003-03", "003-05", "003-06", "003-08", "003-09"], "dilated stages"),
    ],
)
def test_doubtful_rows_carry_a_note(keys, fact):
    assert [key for key, row in PUBLISHED.items() if fact in row.note] == keys


def test_the_readme_and_the_changelog_count_the_rows():
    """71 rows are recipes; the three others name a network that was only timed, with random weights."""
    counts = Counter(row.recipe is not None for row in PUBLISHED.values())
    assert (len(PUBLISHED), counts[True], counts[False]) == (74, 71, 3)
    root = Path(__file__).parents[2]
    readme = " ".join((root / "README.md").read_text().split())
    assert re.search(r"Of the 74 rows of .*? 71 are recipes, and three were only timed;", readme)
    changelog = " ".join((root / "CHANGELOG.md").read_text().split())
    assert "71 of the 74 published rows as recipes, three were only timed" in changelog


def test_the_placeholder_keeps_its_figures_but_offers_none():
    row = PUBLISHED["003-02"]
    assert (row.mem_gb, row.fps, row.miou, row.miou_ms_flip) == (999, 999, 0, 0)
    assert row.is_placeholder
    assert {row.figure(column) for column in ("mem_gb", "fps", "miou", "miou_ms_flip")} == {None}
    assert [key for key, other in PUBLISHED.items() if other.is_placeholder] == ["003-02"]


def test_what_a_note_says_of_today_is_a_number():
    today = {key: row.miou_today for key, row in PUBLISHED.items() if row.miou_today is not None}
    assert set(today) == {key for key, row in PUBLISHED.items() if row.table == "001" and row.method == "FCN"}
    assert len(today) == 12 and (today["001-01"], today["001-02"]) == (0.678, 0.6658)
    assert PUBLISHED["000-01"].miou_today is None


def test_importing_loads_neither_torch_nor_numpy():
    code = "import sys, fcnbook.published; print('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_rows_of():
    assert [row.key for row in rows_of("fcn_r50-d8_512x1024_40k_cityscapes")] == ["000-01"]
    assert [row.key for row in rows_of("fastfcn_r50-d32_jpu_psp_4xb4-80k_cityscapes-512x1024")] == ["003-06"]
    assert rows_of("no such recipe") == []


def test_a_recipe_changed_by_hand_or_on_own_data_is_no_rows():
    name = "fcn_r50-d8_512x1024_40k_cityscapes"
    assert [row.key for row in rows_of(name, overrides=(), data="cityscapes")] == ["000-01"]
    assert rows_of(name, overrides=("optim.lr=0.003",), data="cityscapes") == []
    assert rows_of(name, data="own") == []
