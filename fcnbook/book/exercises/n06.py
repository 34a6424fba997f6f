"""Checks of the exercises of notebook 06: functions on grids, dilation and strides in, hints out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fcnbook.book.exercises._common import exercise
from fcnbook.models.backbones import ResNet
from fcnbook.recipe import ResNetSpec

Settings = list[tuple[int, int]]


@exercise
def check_exact_share(answer: Callable[[tuple[int, int], int], float]) -> str | None:
    """Exercise 1: share of a dense map's cells that the strided map holds. Answer: (height, width), s -> share."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(12, 24), *(tuple(torch.randint(3, 40, (2,), generator=generator).tolist()) for _ in range(20))]
    for size in sizes:
        for removed in (2, 4, 3):
            dense = torch.zeros(size)
            dense[::removed, ::removed] = 1
            expected, got = float(dense.mean()), float(answer(size, removed))
            if abs(got - expected) < 1e-6:
                continue
            where = f"Of a map of {size[0]} x {size[1]} cells at s = {removed}"
            if abs(got - 1 / removed) < 1e-6:
                return f"{where}, your share is 1 / {removed}. Rows are left out, and columns too."
            if (
                abs(got - 1 / removed**2) < 1e-6
                or abs(got - (size[0] // removed) * (size[1] // removed) / (size[0] * size[1])) < 1e-6
            ):
                return (
                    f"{where}, your share is {got:.4f}, and {int(dense.sum())} cells are exact. A row whose number is "
                    "no multiple of s may be the last one: how many cells do 0, s, 2s, ... give?"
                )
            return f"{where}, {int(dense.sum())} cells are exact, and your share is {got:.4f}."
    return None


@exercise
def check_split_and_merge(answer: Callable[[Tensor, Tensor, int], Tensor]) -> str | None:
    """Exercise 2: a dilated convolution out of undilated ones. Answer: (x, weight, dilation) -> map of x's size."""
    generator = torch.Generator().manual_seed(0)
    for size in ((8, 12), (9, 13), (5, 7)):
        for dilation in (1, 2, 4):
            x = torch.randn(2, 3, *size, generator=generator)
            weight = torch.randn(4, 3, 3, 3, generator=generator)
            expected = F.conv2d(x, weight, padding=dilation, dilation=dilation)
            with _refuse_dilation():
                got = answer(x.clone(), weight.clone(), dilation)
            where = f"For a map of {size[0]} x {size[1]} and dilation {dilation}"
            if not isinstance(got, Tensor):
                return f"{where} you return {type(got).__name__}; a tensor is asked for."
            if got.shape != expected.shape:
                return f"{where} you return {tuple(got.shape)}; {tuple(expected.shape)} is asked for."
            if torch.allclose(got, expected, atol=1e-4):
                continue
            right = [
                (i, j)
                for i in range(dilation)
                for j in range(dilation)
                if torch.allclose(
                    got[..., i::dilation, j::dilation], expected[..., i::dilation, j::dilation], atol=1e-4
                )
            ]
            if right:
                return (
                    f"{where} only the phases {right} are right. There are {dilation**2} of them, d per axis."
                )
            if torch.allclose(got, F.conv2d(x, weight, padding=1), atol=1e-4):
                return f"{where} you return the undilated convolution of the whole map. Split it first."
            return (
                f"{where} no phase is right. Each phase is a map of its own: which padding keeps *its* size?"
            )
    return None


class _refuse_dilation:
    """While it lasts, torch's own dilated convolution is not to be had."""

    def __enter__(self) -> None:
        self.original = F.conv2d

        def conv2d(*inputs: object, **named: object) -> Tensor:
            dilation = named.get("dilation", inputs[5] if len(inputs) > 5 else 1)
            if dilation not in (1, (1, 1), [1, 1]):
                raise ValueError("only convolutions with dilation 1 are allowed here")
            return self.original(*inputs, **named)  # type: ignore[call-overload, no-any-return]

        F.conv2d = conv2d

    def __exit__(self, *exception: object) -> None:
        F.conv2d = self.original


@exercise
def check_places(answer: Callable[[int, int, bool], Sequence[float]]) -> str | None:
    """Exercise 3: where a resize puts the cells. Answer: (cells, factor, align_corners) -> a place for each cell."""
    for align_corners in (False, True):
        for cells, factor in ((2, 2), (3, 4), (6, 4), (7, 3), (24, 2)):
            expected = _measured_places(cells, factor, align_corners)
            got = torch.as_tensor([float(place) for place in answer(cells, factor, align_corners)])
            if len(got) != cells:
                return f"{cells} cells have {cells} places, and you return {len(got)}."
            if torch.allclose(got, expected, atol=1e-3):
                continue
            where = f"With align_corners={align_corners}, {cells} cells enlarged {factor} times"
            if torch.allclose(got, factor * torch.arange(cells).float(), atol=1e-3):
                return f"{where}: you return the exact places of chapter 04's twin. A resize has other ones."
            if torch.allclose(got, _measured_places(cells, factor, not align_corners), atol=1e-3):
                return f"{where}: those are the places of align_corners={not align_corners}."
            if align_corners and abs(float(got[-1]) - cells * factor) < 1e-3:
                return f"{where}: the last of {cells * factor} cells has the number {cells * factor - 1}."
            rounded = [round(place, 2) for place in expected[:2].tolist()]
            return f"{where}: the first two lie at {rounded}, and you say {[round(g, 2) for g in got[:2].tolist()]}."
    return None


def _measured_places(cells: int, factor: int, align_corners: bool) -> Tensor:
    """Where a resized ramp would have the value of each cell: read off its slope between two inner cells."""
    ramp = torch.arange(cells, dtype=torch.float64).view(1, 1, 1, cells)
    large = F.interpolate(
        ramp, size=(1, cells * factor), mode="bilinear", align_corners=align_corners
    ).flatten()
    middle = (cells * factor) // 2
    slope = large[middle] - large[middle - 1]
    return (middle + (torch.arange(cells, dtype=torch.float64) - large[middle]) / slope).float()


@exercise
def check_layer4_settings(answer: Callable[[ResNet], Settings]) -> str | None:
    """Exercise 4: (stride, dilation) of layer4's 3 x 3 convolutions. Answer: a function of a backbone.

    The backbones differ in depth, strides and dilations; the last is the one of the published rows "R-50-D32" with JPU.
    """
    kinds = [
        ResNetSpec(depth=50, width=4),
        ResNetSpec(depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), width=4),
        ResNetSpec(depth=101, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), width=4),
        ResNetSpec(depth=50, strides=(1, 2, 2, 2), dilations=(1, 1, 2, 4), width=4),
    ]
    expected = [
        [(2, 1), (1, 1), (1, 1)],
        [(1, 2), (1, 4), (1, 4)],
        [(1, 1), (1, 2), (1, 2)],
        [(2, 2), (1, 4), (1, 4)],
    ]
    for spec, wanted in zip(kinds, expected, strict=True):
        got = [tuple(int(number) for number in pair) for pair in answer(ResNet(spec))]
        if got == wanted:
            continue
        where = f"For strides {spec.strides} and dilations {spec.dilations}"
        if len(got) != len(wanted):
            return f"{where}: layer4 has three blocks with one 3 x 3 convolution each, and you return {len(got)} pairs."
        if got == [(dilation, stride) for stride, dilation in wanted]:
            return f"{where}: the stride comes first in each pair."
        if all(pair == (1, 1) for pair in got):
            return f"{where}: every pair is (1, 1). Those are the 1 x 1 convolutions; stride and dilation sit on conv2."
        if len({dilation for _, dilation in got}) == 1:
            return f"{where}: the first block has another dilation than the others. Read it off the layers themselves."
        return f"{where}: {got} is not right. Read stride and dilation off conv2 of each block."
    return None
