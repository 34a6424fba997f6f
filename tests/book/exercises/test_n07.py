"""Notebook 07's checks accept right answers, refuse wrong ones with a hint, and never raise."""

import pytest

from fcnbook.book.exercises import n07


def level_macs(height, width, in_channels, channels):
    cells = {stride: height // stride * (width // stride) for stride in (4, 8, 16, 32)}
    first, later = 9 * in_channels * channels, 9 * channels * channels
    return {
        "p2": first * cells[4],
        "p3": first * cells[8],
        "p4": first * cells[16] + later * cells[8],
        "p5": first * cells[32] + later * (cells[16] + cells[8]),
    }


def double(row):
    last = len(row) - 1
    return [0.75 * x + 0.25 * row[min(max(i + side, 0), last)] for i, x in enumerate(row) for side in (-1, 1)]


def reaches(stage, missing):
    return {"p2", "p3", "p4", "p5"} & {f"p{i}" for i in range(2, int(stage[1]) + 1) if stage not in missing}


def test_right_answers():
    assert n07.check_level_macs(level_macs) is True
    assert n07.check_double(double) is True
    assert n07.check_reaches(reaches) is True


def with_level(level, factor):
    return lambda *sizes: (right := level_macs(*sizes)) | {level: right[level] * factor}


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda *sizes: {k: 2 * v for k, v in level_macs(*sizes).items()}, "counts once"),
        (with_level("p2", 1 / 9), "nine taps"),
        (with_level("p2", 3), "One convolution, at stride 4"),
        (with_level("p3", 4), "before its doubling"),
        (with_level("p3", 1.5), "first convolution works on"),
        (lambda h, w, i, c: level_macs(h, w, i, c) | {"p4": 9 * i * c * (h // 16 * (w // 16) + h // 8 * (w // 8))},
         "From the second convolution on"),
        (lambda *sizes: {"p2": 1}, "the keys p2, p3, p4, p5"),
    ],
)  # fmt: skip
def test_wrong_macs(answer, hint, capsys):
    assert n07.check_level_macs(answer) is False
    assert hint in capsys.readouterr().out


def with_corners(row):
    n = len(row)
    places = [k * (n - 1) / (2 * n - 1) for k in range(2 * n)]
    return [row[int(x)] * (1 - x % 1) + row[min(int(x) + 1, n - 1)] * (x % 1) for x in places]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda row: [x for x in row for _ in range(2)], "nearest neighbour"),
        (with_corners, "align_corners=True"),
        (lambda row: [0.75 * row[0], *double(row)[1:-1], 0.75 * row[-1]], "the two ends are not"),
        (lambda row: [x / 2 for x in double(row)], "yours is"),
        (lambda row: row, "has to become 4 numbers"),
    ],
)
def test_wrong_doubling(answer, hint, capsys):
    assert n07.check_double(answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda stage, missing: {f"p{stage[1]}"}, "to every finer level"),
        (lambda stage, missing: {f"p{i}" for i in range(int(stage[1]), 6)}, "from coarse to fine only"),
        (lambda stage, missing: reaches(stage, set()), "not read at all"),
        (lambda stage, missing: {p for p in reaches(stage, missing) if f"c{p[1]}" not in missing},
         "beside the lateral convolutions"),
        (lambda stage, missing: set(), "Follow the sum"),
    ],
)  # fmt: skip
def test_wrong_reach(answer, hint, capsys):
    assert n07.check_reaches(answer) is False
    assert hint in capsys.readouterr().out
