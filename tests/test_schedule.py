"""The learning rate against values worked by hand."""

import dataclasses

import pytest

from fcnbook.recipe import ScheduleSpec
from fcnbook.schedule import learning_rate

POLY = ScheduleSpec(num_steps=40_000)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.01),
        (20_000, 0.0099 * 0.5358867 + 1e-4),  # 0.5^0.9
        (30_000, 0.0099 * 0.2871746 + 1e-4),  # 0.25^0.9
        (39_999, 0.0099 * 7.2136e-5 + 1e-4),  # 40,000^-0.9: the last step
        (40_000, 1e-4),  # the end of the curve, which no step uses
    ],
)
def test_poly(step, rate):
    assert learning_rate(step, 0.01, POLY) == pytest.approx(rate, rel=1e-6)


def test_poly_down_to_zero():
    spec = ScheduleSpec(num_steps=4, min_lr=0.0, power=1.0)
    assert [learning_rate(step, 8.0, spec) for step in range(4)] == [8, 6, 4, 2]


def test_fixed():
    spec = ScheduleSpec(num_steps=100, policy="fixed")
    assert {learning_rate(step, 1e-10, spec) for step in (0, 50, 99)} == {1e-10}


def test_warm_up_rises_to_the_curve_and_then_follows_it():
    spec = ScheduleSpec(num_steps=10, policy="poly", power=1.0, min_lr=0.0, warmup_steps=4)
    rates = [learning_rate(step, 1.0, spec) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.45, 0.6, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_warm_up_of_a_fixed_rate_is_a_straight_line():
    spec = ScheduleSpec(num_steps=8, policy="fixed", warmup_steps=4)
    assert [learning_rate(step, 2.0, spec) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_another_length_is_the_same_curve_squeezed():
    short = dataclasses.replace(POLY, num_steps=400)
    for step in (0, 1, 200, 399):
        assert learning_rate(step, 0.01, short) == learning_rate(100 * step, 0.01, POLY)


@pytest.mark.parametrize("step", [-1, 40_001])
def test_step_outside_the_run(step):
    with pytest.raises(ValueError, match="0 to 40000"):
        learning_rate(step, 0.01, POLY)


def test_min_lr_above_the_rate_is_refused():
    """A poly curve from 1e-5 to the default min_lr of 1e-4 would rise."""
    with pytest.raises(ValueError, match=r"min_lr 0\.0001 is above the learning rate 1e-05"):
        learning_rate(0, 1e-5, POLY)
