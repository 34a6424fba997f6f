"""Time of PSPNet's pyramid pooling alone, beside four adaptive pools: 1x2048x128x256, one core, both memory formats.

Run with `pytest tests/benchmarks --benchmark-enable`.
"""

import pytest
import torch
from torch import nn

from fcnbook.models.layers import PyramidAverage

pytestmark = pytest.mark.usefixtures("one_thread")

GRIDS = (1, 2, 3, 6)
SHAPE = (1, 2048, 128, 256)
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class AdaptivePools(nn.Module):
    def __init__(self):
        super().__init__()
        self.pools = nn.ModuleList([nn.AdaptiveAvgPool2d(cells) for cells in GRIDS])

    def forward(self, x):
        return [pool(x) for pool in self.pools]


@pytest.fixture(params=FORMATS)
def memory_format(request):
    return FORMATS[request.param]


@pytest.fixture(params=["ours", "adaptive"])
def pools(request):
    return PyramidAverage(GRIDS) if request.param == "ours" else AdaptivePools()


def features(memory_format, channels=SHAPE[1], dtype=torch.float32):
    shape = (SHAPE[0], channels, *SHAPE[2:])
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return x.to(memory_format=memory_format).requires_grad_()


def test_both_return_the_same(memory_format):
    x = features(memory_format, channels=8, dtype=torch.float64)
    outputs = [PyramidAverage(GRIDS)(x), AdaptivePools()(x)]
    directions = [torch.randn_like(y) for y in outputs[1]]
    gradients = [torch.autograd.grad(y, x, directions)[0] for y in outputs]
    # 1e-12: float64, sums of 32,768 values in another order
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


@pytest.mark.benchmark(group="forward")
def test_forward(benchmark, pools, memory_format):
    if benchmark.disabled:
        pytest.skip("a measurement, which takes seconds and 256 MiB")
    x = features(memory_format).detach()
    grids = benchmark.pedantic(pools, (x,), rounds=5, warmup_rounds=1)
    assert [grid.shape[2:] for grid in grids] == [(cells, cells) for cells in GRIDS]


@pytest.mark.benchmark(group="backward")
def test_backward(benchmark, pools, memory_format):
    if benchmark.disabled:
        pytest.skip("a measurement, which takes seconds and 256 MiB")
    x = features(memory_format)
    grids = pools(x)
    directions = [torch.randn_like(grid) for grid in grids]

    def backward():
        return torch.autograd.grad(grids, x, directions, retain_graph=True)[0]

    gradient = benchmark.pedantic(backward, rounds=3, warmup_rounds=1)
    assert gradient.shape == SHAPE
