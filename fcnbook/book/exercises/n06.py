"""Checks of the exercises of notebook 06: functions on grids, dilation and strides in, hints out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from fcnbook.book.exercises._common import exercise
from fcnbook.models import necks
from fcnbook.recipe import JPUSpec
from fcnbook.types import StageInfo


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
            with _OnlyPlainConvolutions():
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


class _OnlyPlainConvolutions(TorchFunctionMode):
    """While it lasts, every function of torch that could dilate a kernel is refused, whatever name it is called by."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("unfold", "im2col", "conv_transpose2d", "convolution", "_convolution", "conv3d"):
            raise ValueError(f"{name} is not asked for; take F.conv2d with dilation 1")
        if name == "conv2d":
            dilation = kwargs.get("dilation", args[5] if len(args) > 5 else 1)
            weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
            if dilation not in (1, (1, 1), [1, 1]):
                raise ValueError("only convolutions with dilation 1 are allowed here")
            if weight is not None and max(weight.shape[2:]) > 3:
                raise ValueError(
                    "only 3 x 3 convolutions are allowed here; a kernel with zeros in it is a dilated one"
                )
        return func(*args, **kwargs)


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
def check_cost_of_parts(
    answer: Callable[[dict[str, StageInfo], int, int, tuple[int, int]], Mapping[str, float]],
) -> str | None:
    """Exercise 4: multiply-adds by kind of convolution in JPU. Answer: (stages, width, branches, size) -> by kind.

    The expected numbers are counted by PyTorch while the package's neck runs without memory.
    """
    cases = [
        (
            {"c3": StageInfo(512, 8), "c4": StageInfo(1024, 16), "c5": StageInfo(2048, 32)},
            512,
            4,
            (512, 1024),
        ),
        ({"c3": StageInfo(24, 8), "c4": StageInfo(40, 16), "c5": StageInfo(72, 32)}, 16, 3, (96, 192)),
        ({"c3": StageInfo(40, 8), "c4": StageInfo(24, 16), "c5": StageInfo(16, 32)}, 8, 1, (64, 32)),
    ]
    for stages, width, branches, size in cases:
        expected = _counted_parts(stages, width, branches, size)
        got = {kind: float(value) for kind, value in answer(dict(stages), width, branches, size).items()}
        channels = ", ".join(str(info.channels) for info in stages.values())
        where = (
            f"For channels {channels}, width {width}, {branches} branches and {size[0]} x {size[1]} pixels"
        )
        if got.keys() != expected.keys():
            return f"{where}: the kinds are {', '.join(expected)}; yours are {', '.join(got) or 'none'}."
        for kind, wanted in expected.items():
            ratio = got[kind] / wanted
            if abs(ratio - 1) < 1e-6:
                continue
            said = f"{where}, {kind} takes {wanted:,} multiply-adds, and you say {got[kind]:,.0f}"
            if kind in stages and any(
                abs(ratio - (stages[kind].stride / 8) ** power) < 1e-6 for power in (1, 2)
            ):
                return f"{said}. Is this convolution before the resize or after it?"
            if kind == "depthwise" and abs(ratio - 3 * width) < 1e-6:
                return f"{said}. A depthwise filter reads one channel."
            if kind in ("depthwise", "pointwise") and abs(ratio - 1 / 3) < 1e-6:
                return f"{said}. Three maps are joined before the branches read them."
            if kind in ("depthwise", "pointwise") and abs(ratio * branches - 1) < 1e-6:
                return f"{said}. That is one branch."
            if abs(ratio - 2) < 1e-6:
                return f"{said}. A multiplication with its addition counts once."
            return f"{said}."
    return None


def _counted_parts(
    stages: Mapping[str, StageInfo], width: int, branches: int, size: tuple[int, int]
) -> dict[str, int]:
    """Multiply-adds of the package's neck by kind of convolution, as PyTorch counts them."""
    counts = dict.fromkeys((*stages, "depthwise", "pointwise"), 0)
    with torch.device("meta"):
        neck = necks.JPU(JPUSpec(channels=width, dilations=tuple(range(1, branches + 1))), stages)
        maps = {
            name: torch.empty(1, channels, size[0] // stride, size[1] // stride)
            for name, (channels, stride) in stages.items()
        }
    with FlopCounterMode(display=False) as counter:
        neck(maps)
    for name, by_operation in counter.get_flop_counts().items():
        unit = re.search(r"conv_layers\.(\d)$|(depthwise|pointwise)_conv$", name)
        if unit:
            kind = unit[2] or list(stages)[int(unit[1])]
            counts[kind] += sum(by_operation.values()) // 2
    return counts
