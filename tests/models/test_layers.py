"""fcnbook.models.layers: kernels against hand-worked values, crops, grids. (The import layers are test_layers.py.)"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fcnbook.models.layers import (
    BilinearUpsample,
    ConvBNReLU,
    Grid,
    PyramidAverage,
    SeparableConv,
    add_cropped,
    averaging_matrix,
    bilinear_kernel,
    crop,
    init_convolutions,
    resize,
)


def test_bilinear_kernel_of_stride_2_by_hand():
    row = torch.tensor([0.25, 0.75, 0.75, 0.25])
    torch.testing.assert_close(bilinear_kernel(4), torch.outer(row, row), rtol=0, atol=0)


def test_bilinear_kernel_of_odd_size_by_hand():
    row = torch.tensor([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    torch.testing.assert_close(bilinear_kernel(5), torch.outer(row, row))


@pytest.mark.parametrize(("size", "stride"), [(4, 2), (16, 8), (32, 16), (64, 32), (63, 32)])
def test_bilinear_kernel_spreads_each_cell_evenly(size, stride):
    # Each output pixel inside the map receives weights that sum to 1, so a constant stays what it is.
    ones = F.conv_transpose2d(torch.ones(1, 1, 5, 5), bilinear_kernel(size)[None, None], stride=stride)
    inside = ones[..., size : -size or None, size : -size or None]
    torch.testing.assert_close(inside, torch.ones_like(inside))


@pytest.mark.parametrize("stride", [2, 8, 16, 32])
def test_bilinear_upsample_is_ordinary_bilinear_interpolation_inside(stride):
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    got = BilinearUpsample(3, 2 * stride, stride)(x)
    assert got.shape == (2, 3, 6 * stride, 7 * stride)
    # The transposed convolution begins half a cell early; a cell at the border has no neighbour to mix with.
    wanted = resize(x, (5 * stride, 6 * stride), align_corners=False)
    edge = stride // 2
    got = got[..., edge:-edge, edge:-edge]
    torch.testing.assert_close(got[..., edge:-edge, edge:-edge], wanted[..., edge:-edge, edge:-edge])


def test_bilinear_upsample_is_the_dense_kernel_of_the_paper():
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    dense = torch.zeros(3, 3, 4, 4)
    for channel in range(3):
        dense[channel, channel] = bilinear_kernel(4)
    wanted = F.conv_transpose2d(x, dense, stride=2)
    torch.testing.assert_close(BilinearUpsample(3, 4, 2)(x), wanted)


def test_bilinear_upsample_is_not_trained_but_stored_like_a_transposed_convolution():
    layer = BilinearUpsample(3, 4, 2)
    assert list(layer.parameters()) == []
    twin = torch.nn.ConvTranspose2d(3, 3, 4, stride=2, groups=3, bias=False)
    twin.load_state_dict(layer.state_dict(), strict=True)
    x = torch.randn(1, 3, 4, 5)
    torch.testing.assert_close(layer(x), twin(x))


@pytest.mark.parametrize(
    ("align_corners", "row"), [(False, [0.0, 0.25, 0.75, 1.0]), (True, [0.0, 1 / 3, 2 / 3, 1.0])]
)
def test_resize_by_hand(align_corners, row):
    x = torch.tensor([[0.0, 1.0], [0.0, 1.0]])[None, None]
    got = resize(x, (2, 4), align_corners)
    torch.testing.assert_close(got[0, 0], torch.tensor([row, row]))


@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (3, 1), (3, 6), (5, 2)])
def test_conv_bn_relu_is_the_three_operations_and_keeps_the_size(kernel_size, dilation):
    torch.manual_seed(0)
    layer = ConvBNReLU(3, 4, kernel_size, dilation)
    x = torch.randn(2, 3, 9, 11)
    padding = dilation * (kernel_size - 1) // 2
    y = F.conv2d(x, layer.conv.weight, padding=padding, dilation=dilation)
    mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), unbiased=False, keepdim=True)
    wanted = ((y - mean) / (var + 1e-5).sqrt()).clamp(min=0)
    torch.testing.assert_close(layer(x), wanted)
    assert wanted.shape == (2, 4, 9, 11)
    names = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert list(layer.state_dict()) == ["conv.weight", *[f"bn.{name}" for name in names]]


def test_initial_weights_keep_the_size_of_gradients():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(64, 256, 3)
    init_convolutions(conv)
    # 147,456 weights: their standard deviation is known to 0.2 %
    assert conv.weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert not conv.bias.any()


def test_grid_of_the_first_layers_by_hand():
    """b = 99 after conv1_1; 11.9375 at pool3, 5.71875 at pool4, 2.609375 at pool5 (architectures.md §1.2)."""
    grid = Grid().conv(3, padding=100)
    assert grid == Grid(1.0, 99.0)
    shifts = []
    for _ in range(5):
        grid = grid.conv(3, padding=1).conv(2, stride=2)
        shifts.append(grid.shift)
    assert shifts[2:] == [11.9375, 5.71875, 2.609375]
    fc6 = grid.conv(7)
    assert fc6 == Grid(1 / 32, -0.390625)
    assert fc6.transposed_conv(64, stride=32).crop_offset(Grid()) == 19
    # FCN-AlexNet's: conv1 11/4 padding 100, three pools 3/2, fc6 6x6, upscore 63/32 -> crop 18 (§1.3)
    alexnet = Grid().conv(11, 4, 100).conv(3, 2).conv(5, padding=2).conv(3, 2).conv(3, 2).conv(6)
    assert alexnet.transposed_conv(63, stride=32).crop_offset(Grid()) == 18


def test_grid_crop_moves_the_origin():
    assert Grid().crop_offset(Grid().crop(5)) == 5
    assert Grid().crop(5).crop_offset(Grid()) == -5


@pytest.mark.parametrize("other", [Grid(0.5, 0.0), Grid(1.0, 0.25)])
def test_grids_that_do_not_lie_on_each_other_have_no_offset(other):
    with pytest.raises(ValueError, match="no crop aligns them"):
        other.crop_offset(Grid())


def test_crop_by_hand():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert crop(x, (2, 2), 1).tolist() == [[[[5.0, 6.0], [9.0, 10.0]]]]


@pytest.mark.parametrize(("size", "offset"), [((3, 2), 1), ((2, 4), 1), ((1, 1), -1)])
def test_crop_refuses_what_lies_outside(size, offset):
    with pytest.raises(ValueError, match="A map of 3x4 cells has no"):
        crop(torch.zeros(1, 1, 3, 4), size, offset)


def test_add_cropped_by_hand():
    x, skip = torch.tensor([[10.0, 20.0, 30.0]]), torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    x, skip = x.expand(3, 3)[None, None], skip.expand(4, 4)[None, None]
    assert add_cropped(x, skip, 1)[0, 0, 0].tolist() == [11.0, 22.0, 33.0]
    # cell -1 of skip would lie on cell 0 of x: cell 1 of x meets cell 0 of skip
    assert add_cropped(x, skip, -1)[0, 0, 0].tolist() == [20.0, 31.0]
    # skip ends first
    assert add_cropped(x, skip, 2)[0, 0, 0].tolist() == [12.0, 23.0]


def test_separable_convolution_is_a_convolution_whose_kernel_is_a_product():
    """Without batch norm, the kernel of both steps is weight[o, i] * kernel[i, y, x]."""
    torch.manual_seed(0)
    layer, x = SeparableConv(3, 4, dilation=2).eval(), torch.randn(2, 3, 9, 11)
    depthwise, pointwise = layer.depthwise_conv.conv.weight, layer.pointwise_conv.conv.weight
    # in evaluation mode batch norm starts as a division by sqrt(1 + 1e-5)
    wanted = F.conv2d(x, pointwise * depthwise[:, 0], padding=2, dilation=2).clamp(min=0) / (1 + 1e-5)
    torch.testing.assert_close(layer(x), wanted)
    assert (depthwise.numel(), pointwise.numel()) == (3 * 9, 3 * 4)


def test_averaging_matrix_by_hand():
    like = torch.zeros((), dtype=torch.float64)
    third, half = 1 / 3, 1 / 2
    assert averaging_matrix(5, 2, like).tolist() == [[third, third, third, 0, 0], [0, 0, third, third, third]]
    assert averaging_matrix(2, 3, like).tolist() == [[1, 0], [half, half], [0, 1]]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_pyramid_average_is_adaptive_pooling_at_every_size(memory_format):
    generator = torch.Generator().manual_seed(0)
    sizes = [(1, 1), (3, 2), (5, 6), (6, 6), (7, 13), (13, 17), (24, 36), (97, 129)]
    for height, width in sizes:
        x = torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)
        x = x.to(memory_format=memory_format).requires_grad_()
        grids = PyramidAverage((1, 2, 3, 6))(x)
        for cells, got in zip((1, 2, 3, 6), grids, strict=True):
            wanted = F.adaptive_avg_pool2d(x, cells)
            direction = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
            # 1e-12: float64, sums in another order
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
            got_grad = torch.autograd.grad(got, x, direction, retain_graph=True)
            torch.testing.assert_close(
                got_grad, torch.autograd.grad(wanted, x, direction), rtol=0, atol=1e-12
            )


def test_pyramid_average_of_a_part_of_a_map_is_that_of_its_copy():
    x = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    part = x[:, :, 1:8, 2:9]
    for got, wanted in zip(PyramidAverage((1, 4))(part), PyramidAverage((1, 4))(part.clone()), strict=True):
        torch.testing.assert_close(got, wanted)


def test_pyramid_average_keeps_channels_last():
    x = torch.randn(2, 8, 9, 11).contiguous(memory_format=torch.channels_last)
    assert all(y.is_contiguous(memory_format=torch.channels_last) for y in PyramidAverage((2, 3))(x))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2**-10), (torch.bfloat16, 2**-7)], ids=str)
def test_pyramid_average_in_half_precision_stays_within_its_digits(dtype, tolerance):
    """Values near 200, whose sum over a row would not fit in float16."""
    x = 200 + torch.rand(1, 4, 300, 400, generator=torch.Generator().manual_seed(0))
    for cells, got in zip((1, 2, 3, 6), PyramidAverage((1, 2, 3, 6))(x.to(dtype)), strict=True):
        wanted = F.adaptive_avg_pool2d(x.to(dtype).double(), cells)
        assert got.dtype == dtype
        assert ((got.double() - wanted).abs() <= tolerance * wanted).all()


def test_pyramid_average_has_no_state_and_works_without_data():
    layer = PyramidAverage((1, 2, 3, 6))
    assert layer.state_dict() == {}
    grids = layer(torch.empty(2, 3, 9, 11, device="meta"))
    assert [grid.shape for grid in grids] == [(2, 3, k, k) for k in (1, 2, 3, 6)]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_pyramid_average_is_exported_for_maps_of_every_size(memory_format):
    layer = PyramidAverage((1, 2, 3, 6))
    x = torch.randn(2, 3, 14, 18).to(memory_format=memory_format)
    auto = torch.export.Dim.AUTO
    program = torch.export.export(layer, (x,), dynamic_shapes=({2: auto, 3: auto},)).module()
    other = torch.randn(2, 3, 31, 5).to(memory_format=memory_format)
    for got, wanted in zip(program(other), layer(other), strict=True):
        torch.testing.assert_close(got, wanted)
