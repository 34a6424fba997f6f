"""Larger images: four scenes in their places, and a head without the weights that small images never train."""

import numpy as np
import pytest
import torch

from fcnbook.book.agree import randomize
from fcnbook.build import build_dataset, build_segmenter
from fcnbook.probes import FourInOne, without_untrained_taps
from fcnbook.recipes import RECIPES, scaled

RECIPE = scaled(RECIPES["fcn_d6_r18-d16_192x384_10k_streets"], "smoke")


def test_four_scenes_stand_in_the_order_of_reading():
    streets = build_dataset(RECIPE, "test")
    fours = FourInOne(streets)
    height, width = streets[0].labels.shape
    assert len(fours) == len(streets) // 4
    four = fours[1]
    for k, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        place = slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)
        assert np.array_equal(four.image[place], streets[4 + k].image)
        assert np.array_equal(four.labels[place], streets[4 + k].labels)
        assert streets[4 + k].name in four.name
    assert four.image.shape == (2 * height, 2 * width, 3)
    with pytest.raises(IndexError, match="number"):
        fours[len(fours)]


@torch.no_grad()
def test_untrained_taps_read_nothing_until_the_map_is_larger():
    torch.manual_seed(0)
    model = build_segmenter(RECIPE).eval()
    randomize(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cleaned = without_untrained_taps(model, (6, 12))
    small, large = torch.randn(1, 3, 96, 192), torch.randn(1, 3, 192, 384)
    assert torch.equal(model(small).main, cleaned(small).main)
    assert not torch.allclose(model(large).main, cleaned(large).main)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name  # the model itself is as it was
        changed = not torch.equal(value, cleaned.state_dict()[name])
        assert changed == (name in {f"decode_head.convs.{k}.conv.weight" for k in (0, 1)}), name
    # Dilation 6 on 6 rows: only the row in the middle is ever inside.
    kept = cleaned.decode_head.convs[0].conv.weight.abs().sum((0, 1)) > 0
    assert kept.tolist() == [[False] * 3, [True] * 3, [False] * 3]
