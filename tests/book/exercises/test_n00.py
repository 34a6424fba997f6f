"""The checks of notebook 00 name the usual slips, and accept answers that solve the exercise in another way."""

import hashlib

import numpy as np
import pytest

from fcnbook.book.exercises import n00
from fcnbook.labels import STREETS

ID = {name: index for index, name in enumerate(STREETS.classes)}


def cityscapes_table() -> np.ndarray:
    # Written from the label definitions of Cityscapes, not from the check.
    table = np.full(256, 255, np.uint8)
    table[[7, 8, 11, 17, 20]] = ID["road"], ID["sidewalk"], ID["building"], ID["pole"], ID["sign"]
    table[[21, 23, 24, 25, 26]] = ID["vegetation"], ID["sky"], ID["person"], ID["person"], ID["car"]
    return table


def altered(value: int, class_id: int) -> np.ndarray:
    table = cityscapes_table()
    table[value] = class_id
    return table


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (None, "Not answered yet"),
        (np.zeros(34, np.uint8), "256"),
        (cityscapes_table().astype(np.int64), "uint8"),
        (altered(25, 255), "25 in a file means class 9 (person)"),
        (altered(0, 0), "The value 0 is none of ours"),
        (altered(255, 0), "The value 255 is none of ours"),
    ],
)
def test_table_hints(answer, hint, capsys):
    assert n00.check_label_table(answer) is False
    assert hint in capsys.readouterr().out


def test_table_right(capsys):
    assert n00.check_label_table(cityscapes_table().tolist()) is False  # a list of Python ints is no uint8
    assert n00.check_label_table(cityscapes_table()) is True
    assert capsys.readouterr().out.endswith("Right.\n")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda labels, k: np.unique(labels[labels >= k]), "255; it is void"),
        (lambda labels, k: np.unique(labels[(labels > k) & (labels < 255)]), "you miss 3"),
        (lambda labels, k: [], "you miss 3"),
        (
            lambda labels, k: [labels.max()] if k < labels.max() < 254 else [3] if 3 in labels else [],
            "[12, 254]",
        ),
        (lambda labels, k: (labels >= k) & (labels != 255), "a mask of True and False"),
        (lambda labels: [], "TypeError"),
    ],
)
def test_bad_values_hints(answer, hint, capsys):
    assert n00.check_bad_values(answer) is False
    assert hint in capsys.readouterr().out


def values_by_numpy(labels, k):
    values = np.unique(labels)
    return values[(values >= k) & (values != 255)]


@pytest.mark.parametrize(
    "answer",
    [lambda labels, k: set(labels.flat) - set(range(k)) - {255}, values_by_numpy],
)
def test_bad_values_right(answer):
    assert n00.check_bad_values(answer) is True


def one_of_the_block(labels: np.ndarray, *favoured: str) -> np.ndarray:
    """The first pixel of each block that is not void, and over it the favoured classes, the last one on top."""
    quarters = [labels[dy::2, dx::2] for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1))]
    half = quarters[0].copy()
    for other in quarters[1:]:
        half[half == 255] = other[half == 255]
    for name in favoured:
        for other in quarters:
            half[other == ID[name]] = ID[name]
    return half


def largest_of_block(labels: np.ndarray) -> np.ndarray:
    return labels.reshape(48, 2, 96, 2).max((1, 3))


def largest_class_of_block(labels: np.ndarray) -> np.ndarray:
    rank = np.roll(np.arange(256), -1).astype(np.uint8)  # 255 -> 0, 0 -> 1, ...
    return (rank[labels].reshape(48, 2, 96, 2).max((1, 3)).astype(int) - 1).astype(np.uint8)


def sign_on_pole(labels: np.ndarray) -> np.ndarray:
    return one_of_the_block(labels, "pole", "sign")


def void_becomes_sky(labels: np.ndarray) -> np.ndarray:
    half = sign_on_pole(labels)
    return np.where(half == 255, ID["sky"], half).astype(np.uint8)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda labels: labels[::2, ::2], "void won over a class"),
        (lambda labels: labels[::2], "is expected; got uint8 (48, 192)"),
        (lambda labels: sign_on_pole(labels).astype(int), "got int64"),
        (
            lambda labels: labels.reshape(48, 2, 96, 2).mean((1, 3)).astype(np.uint8),
            "a class was invented",
        ),
        (void_becomes_sky, "where all four are void"),
        (largest_of_block, "void won over a class"),
        (largest_class_of_block, "with pole in them, 94.6%"),
        (lambda labels: labels.reshape(48, 2, 96, 2).min((1, 3)), "at least 96 %"),
        (lambda labels: one_of_the_block(labels, "sign", "pole"), "Most of the others became pole"),
        (lambda labels: one_of_the_block(labels, "pole"), "with sign in them"),
    ],
)
def test_half_size_hints(answer, hint, capsys):
    assert n00.check_half_size(answer) is False
    assert hint in capsys.readouterr().out


def test_half_size_right():
    assert n00.check_half_size(sign_on_pole) is True


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda seed, epoch, index: seed + epoch + index, "(0, 0, 1) and (0, 1, 0) get the same number"),
        (lambda seed, epoch, index: 10_000 * seed + 100 * epoch + index, "(0, 0, 100) and (0, 1, 0)"),
        (lambda *key: np.random.default_rng().integers(2**32), "differ"),
        (lambda seed, epoch, index: seed * 10**12 + epoch * 10**6 + index, "0 to 2**32 - 1"),
        (lambda *key: 0.5, "a whole number"),
    ],
)
def test_seed_hints(answer, hint, capsys):
    assert n00.check_key_to_seed(answer) is False
    assert hint in capsys.readouterr().out


def test_seed_right():
    digest = lambda *key: int(hashlib.sha256(repr(key).encode()).hexdigest()[:8], 16)  # noqa: E731
    assert n00.check_key_to_seed(digest) is True
