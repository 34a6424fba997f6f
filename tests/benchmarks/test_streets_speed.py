"""Scenes a second on one core; run with `make bench`."""

from itertools import count

import pytest

from fcnbook.datasets.streets import draw_scene


@pytest.mark.parametrize("size", [(96, 192), (192, 384)], ids=["96x192", "192x384"])
def test_scenes_per_second(benchmark, size):
    draw_scene(0, 0, size)  # the noise is made once a process and size
    indices = count(1)
    benchmark(lambda: draw_scene(0, next(indices), size))
