"""Notebook 09's checks accept right answers, refuse wrong ones with a hint, and never raise."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from fcnbook.book.exercises import n09
from fcnbook.published import PUBLISHED


def one_change(rows, column):
    others = [name for name in n09.SETTINGS if name != column]
    groups = {}
    for row in rows:
        if row.figure("miou") is not None:
            groups.setdefault(tuple(getattr(row, name) for name in others), []).append(row)
    return [
        (a.key, b.key)
        for group in groups.values()
        for a, b in itertools.combinations(group, 2)
        if getattr(a, column) != getattr(b, column)
    ]


def seeds_needed(sd, gap):
    n = 2
    while stats.t.ppf(0.975, n - 1) * sd / n**0.5 >= gap:
        n += 1
    return n


def sign_share(differences):
    found = abs(sum(differences))
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in all_signs(differences)]
    return sum(abs(total) >= found - 1e-12 for total in sums) / len(sums)


def all_signs(differences):
    return list(itertools.product((1, -1), repeat=len(differences)))


def test_right_answers():
    assert n09.check_one_change(one_change) is True
    assert n09.check_one_change(lambda *a: [pair[::-1] for pair in one_change(*a)]) is True
    assert n09.check_one_change(lambda *a: set(one_change(*a))) is True
    assert n09.check_seeds_needed(seeds_needed) is True
    assert n09.check_sign_share(sign_share) is True


def test_by_hand():
    # sd 1: t is 4.303 with three seeds, so that the interval reaches 2.484; with two it is 12.706 and 8.985.
    assert [seeds_needed(1, gap) for gap in (9, 8.9, 2.49, 2.48)] == [2, 3, 3, 4]
    # 1, 2, 4: only + + + and - - - are as far from zero. 1, 1, -1, 2 sums to 3: so do or exceed it 5 (all plus) and
    # 3 (one 1 minus, three ways), and the same below zero.
    assert (sign_share([1, 2, 4]), sign_share([1, 1, -1, 2])) == (2 / 8, 8 / 16)
    # Two rows of 004 differ in the depth alone for each of three data sets.
    assert sorted(one_change([row for row in PUBLISHED.values() if row.table == "004"], "backbone")) == [
        ("004-01", "004-02"),
        ("004-03", "004-04"),
        ("004-05", "004-06"),
    ]


def with_blanks(rows, column):
    others = [name for name in n09.SETTINGS if name != column]
    return [
        (a.key, b.key)
        for a, b in itertools.combinations(rows, 2)
        if all(getattr(a, name) == getattr(b, name) for name in others)
        and getattr(a, column) != getattr(b, column)
    ]


def with_placeholders(rows, column):
    return with_blanks([row for row in rows if row.miou is not None], column)


def loose(rows, column):
    scored = [row for row in rows if row.figure("miou") is not None]
    return [
        (a.key, b.key)
        for a, b in itertools.combinations(scored, 2)
        if getattr(a, column) != getattr(b, column) and a.dataset == b.dataset
    ]


def equal_too(rows, column):
    others = [name for name in n09.SETTINGS if name != column]
    scored = [row for row in rows if row.figure("miou") is not None]
    return [
        (a.key, b.key)
        for a, b in itertools.combinations(scored, 2)
        if all(getattr(a, name) == getattr(b, name) for name in others)
    ]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (with_blanks, "has no score"),
        (with_placeholders, "holds placeholders"),
        (loose, "differ in more than"),
        (equal_too, "have the same"),
        (lambda *a: one_change(*a) * 2, "2 times"),
        (lambda *a: one_change(*a)[:-1], "are missing"),
        (lambda *a: [*one_change(*a), ("000-01", "000-01")], "with itself"),
        (lambda *a: [("1", "2")], "is no key"),
        (lambda *a: ["000-01"], "pairs of keys"),
    ],
)
def test_wrong_pairs(answer, hint, capsys):
    assert n09.check_one_change(answer) is False
    assert hint in capsys.readouterr().out


def by_whole_width(sd, gap):
    return next(n for n in itertools.count(2) if 2 * stats.t.ppf(0.975, n - 1) * sd / n**0.5 < gap)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda sd, gap: max(2, math.ceil((1.96 * sd / gap) ** 2)), "as if t were 1.96"),
        (lambda sd, gap: seeds_needed(sd, gap) - 1, "too few"),
        (lambda sd, gap: 3 * seeds_needed(sd, gap), "so are fewer"),
        (lambda sd, gap: 1, "two are the least"),
        (lambda sd, gap: seeds_needed(sd, gap) + 0.5, "whole number"),
        (by_whole_width, "half the interval"),
    ],
)
def test_wrong_numbers_of_seeds(answer, hint, capsys):
    assert n09.check_seeds_needed(answer) is False
    assert hint in capsys.readouterr().out


def sampled(differences):
    signs = np.random.default_rng(0).choice((-1, 1), (500, len(differences)))
    return (abs(signs @ np.array(differences)) >= abs(sum(differences)) - 1e-12).mean()


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda d: 100 * sign_share(d), "percent"),
        (
            lambda d: (
                sum(
                    sum(s * v for s, v in zip(signs, d, strict=True)) >= sum(d) - 1e-12
                    for signs in all_signs(d)
                )
                / 2 ** len(d)
            ),
            "one side only",
        ),
        (
            lambda d: (
                sum(
                    abs(sum(s * v for s, v in zip(signs, d, strict=True))) > abs(sum(d)) + 1e-12
                    for signs in all_signs(d)
                )
                / 2 ** len(d)
            ),
            "belong to the count",
        ),
        (sampled, "rather than draw some"),
        (lambda d: 0.0625 if len(d) == 5 else 2.0, "it is 0.2500"),
    ],
)
def test_wrong_shares(answer, hint, capsys):
    assert n09.check_sign_share(answer) is False
    assert hint in capsys.readouterr().out
