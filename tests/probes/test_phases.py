"""Statistics by phase, worked by hand."""

import numpy as np
import pytest
import torch

from fcnbook.files import InputError
from fcnbook.probes import accuracy, phase_map, r_squared


def test_each_entry_is_of_its_own_rows_and_columns():
    rows, columns = np.mgrid[:6, :8]
    table = phase_map(lambda cells: cells.mean(), 2, 10 * (rows % 2) + columns % 2)
    assert table.tolist() == [[0.0, 1.0], [10.0, 11.0]]


def test_r_squared_by_phase_of_a_map_that_is_known_at_every_fourth_cell():
    target = np.random.default_rng(0).normal(size=(3, 5, 8, 12))
    predicted = np.zeros_like(target)
    predicted[..., ::4, ::4] = target[..., ::4, ::4]
    table = phase_map(r_squared, 4, torch.from_numpy(predicted), torch.from_numpy(target))
    assert table.shape == (4, 4) and table[0, 0] == 1.0
    phase = target[
        ..., 1::4, 2::4
    ]  # predicted 0: the squares about 0 against those about each channel's mean
    spread = sum(((phase[:, c] - phase[:, c].mean()) ** 2).sum() for c in range(5))
    assert table[1, 2] == pytest.approx(1 - (phase**2).sum() / spread)


def test_r_squared_worked_by_hand():
    target, predicted = np.array([[1.0, 2.0, 3.0, 6.0]]), np.array([[1.0, 2.0, 4.0, 4.0]])
    assert r_squared(predicted, target) == pytest.approx(1 - 5 / 14)  # errors 0 0 1 2; mean 3: 4 + 1 + 0 + 9
    assert r_squared(target, target) == 1.0
    assert r_squared(np.full((1, 4), 3.0), target) == 0.0


def test_accuracy_leaves_void_out():
    labels, predicted = np.array([[0, 255, 1, 1], [0, 255, 1, 1]]), np.array([[0, 0, 1, 0], [1, 0, 1, 0]])
    assert accuracy(predicted, labels) == pytest.approx(3 / 6)
    table = phase_map(accuracy, 2, predicted, labels)
    assert table[0].tolist() == [1.0, 0.0] and table[1].tolist() == [0.5, 0.0]
    assert np.isnan(accuracy(predicted, np.full((2, 4), 255)))


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="Maps of one size"):
        phase_map(r_squared, 2, np.zeros((4, 4)), np.zeros((4, 5)))
    with pytest.raises(InputError, match="stride is 5"):
        phase_map(accuracy, 5, np.zeros((4, 4)), np.zeros((4, 4)))
    with pytest.raises(InputError, match="takes two maps"):
        r_squared(np.zeros((2, 4)), np.ones((2, 5)))
    with pytest.raises(InputError, match="constant"):
        r_squared(np.zeros((2, 4)), np.ones((2, 4)))
