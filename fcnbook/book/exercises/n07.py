"""Checks of the exercises of notebook 07: cost of the head, doublings, roads of the pyramid; answers in, hints out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fcnbook.book.exercises._common import exercise
from fcnbook.models.heads import SemanticFPNHead
from fcnbook.models.necks import FPN
from fcnbook.recipe import FPNSpec, SemanticFPNHeadSpec
from fcnbook.types import StageInfo

_STRIDES = (4, 8, 16, 32)
_STAGES = {f"c{i + 2}": StageInfo(2, stride) for i, stride in enumerate(_STRIDES)}
_LEVELS = tuple(f"p{i + 2}" for i in range(4))


@exercise
def check_level_macs(answer: Callable[[int, int, int, int], Mapping[str, float]]) -> str | None:
    """Exercise 1: multiply-adds of the head's 3x3 convolutions per level. Answer: a function of sizes and channels."""
    rng = random.Random(0)
    for _ in range(4):
        height, width = 32 * rng.randint(1, 4), 32 * rng.randint(1, 4)
        in_channels, channels = rng.sample(range(2, 12), 2)
        got = dict(answer(height, width, in_channels, channels))
        if set(got) != set(_LEVELS):
            return f"A dictionary with the keys {', '.join(_LEVELS)} is asked for, not {', '.join(map(str, got))}."
        expected = _counted_macs(height, width, in_channels, channels)
        wrong = [level for level in _LEVELS if got[level] != expected[level]]
        if wrong:
            case = f"For {height} x {width}, {in_channels} and {channels} channels, {wrong[0]}: "
            return case + _hint_on_macs(got, expected, wrong[0], in_channels, channels)
    return None


def _counted_macs(height: int, width: int, in_channels: int, channels: int) -> dict[str, int]:
    # Counted while a real head runs: weights of each convolution times the cells that it writes.
    levels = {level: StageInfo(in_channels, stride) for level, stride in zip(_LEVELS, _STRIDES, strict=True)}
    head = SemanticFPNHead(SemanticFPNHeadSpec(channels=channels), levels, num_classes=2)
    counts = dict.fromkeys(_LEVELS, 0)

    def counter(level: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(module, nn.Conv2d)
            counts[level] += module.weight.numel() * output.shape[-2] * output.shape[-1]

        return count

    for level, road in zip(_LEVELS, head.scale_heads, strict=True):
        for module in road.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(counter(level))
    with torch.no_grad():
        head.eval()(
            {level: torch.zeros(1, in_channels, height // s, width // s) for level, (_, s) in levels.items()}
        )
    return counts


def _hint_on_macs(
    got: Mapping[str, float], expected: Mapping[str, int], level: str, in_channels: int, channels: int
) -> str:
    ratio = got[level] / expected[level]
    if ratio == 2:
        return "twice too many. A multiply-add counts once here."
    if ratio == 1 / 9:
        return "a ninth of what is counted. A 3 x 3 kernel has nine taps."
    if level == "p2":
        return f"{got[level]:g} is not right. One convolution, at stride 4, from {in_channels} channels to {channels}."
    if ratio == 4:
        return "four times too many. Each convolution runs before its doubling, not after it."
    if level != "p3" and got["p3"] == expected["p3"]:
        return (
            f"{got[level]:g} is not right, though p3 is. From the second convolution on, the map has {channels} "
            "channels, and twice the height and width of the one before."
        )
    return f"{got[level]:g} is not right. How large is the map that its first convolution works on?"


@exercise
def check_double(answer: Callable[[list[float]], Sequence[float]]) -> str | None:
    """Exercise 2: a bilinear doubling of a row by hand. Answer: a function from a list to one twice as long."""
    rng = random.Random(0)
    for length in (2, 5, 1, 8):
        row = [float(rng.randint(-9, 9)) * 16 for _ in range(length)]
        got = [float(number) for number in answer(list(row))]
        if len(got) != 2 * length:
            return f"{row} has to become {2 * length} numbers; yours are {len(got)}."
        expected = _doubled(row, mode="bilinear", align_corners=False)
        if max(abs(a - b) for a, b in zip(got, expected, strict=True)) < 1e-4:
            continue
        for hint, other in (
            ("That is a doubling by nearest neighbour.", _doubled(row, mode="nearest")),
            (
                "That is a doubling with align_corners=True.",
                _doubled(row, mode="bilinear", align_corners=True),
            ),
        ):
            if max(abs(a - b) for a, b in zip(got, other, strict=True)) < 1e-4:
                return hint
        if length > 1 and max(abs(a - b) for a, b in zip(got[1:-1], expected[1:-1], strict=True)) < 1e-4:
            return f"The inside of {row} is right, the two ends are not: there the old cell is its own neighbour."
        return f"{row} becomes {expected}, yours is {got}."
    return None


def _doubled(row: Sequence[float], **how: object) -> list[float]:
    # Two equal rows, because a bilinear enlargement takes two sides.
    x = torch.tensor([row, row])[None, None]
    doubled: Tensor = F.interpolate(x, scale_factor=2, **how)  # type: ignore[arg-type]
    return [float(number) for number in doubled[0, 0, 0]]


@exercise
def check_reaches(answer: Callable[[str, set[str]], Iterable[str]]) -> str | None:
    """Exercise 3: levels that change with a stage. Answer: a function of the stage and of the laterals taken out."""
    cases: list[tuple[str, set[str]]] = [(stage, set()) for stage in _STAGES]
    cases += [("c5", {"c4"}), ("c4", {"c2", "c3"}), ("c5", {"c5"}), ("c3", {"c3", "c4"}), ("c2", {"c5"})]
    for stage, missing in cases:
        got = set(answer(stage, set(missing)))
        expected = _changed_levels(stage, missing)
        if got == expected:
            continue
        out = f" without the lateral convolution of {', '.join(sorted(missing))}" if missing else ""
        case = f"{stage}{out}: you name {', '.join(sorted(got)) or 'no level'}. "
        if stage in missing:
            return case + "A stage whose own lateral convolution is gone is not read at all."
        if missing and got < expected:
            return case + "The sum goes down beside the lateral convolutions: only what they add is missing."
        if not missing and got == {f"p{stage[1]}"}:
            return case + "The sum goes on downwards, to every finer level."
        if got & {f"p{i}" for i in range(int(stage[1]) + 1, 6)}:
            return (
                case + "The sum goes from coarse to fine only. A coarser level never hears of a finer stage."
            )
        return case + "Follow the sum from this stage down to p2."
    return None


def _changed_levels(stage: str, missing: set[str]) -> set[str]:
    torch.manual_seed(0)
    neck = FPN(FPNSpec(channels=2), _STAGES).eval()
    for name, lateral in zip(_STAGES, neck.lateral_convs, strict=True):
        if name in missing:
            lateral.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    features = {name: torch.randn(1, 2, 64 // s, 64 // s) for name, (_, s) in _STAGES.items()}
    with torch.no_grad():
        before = neck(features)
        after = neck(features | {stage: features[stage] + 1})
    return {level for level in before if not torch.equal(before[level], after[level])}
