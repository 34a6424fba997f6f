"""Two networks, ours and another project's: same weights in, and how far apart logits, loss and gradients are.

In float64, so that what is left is the order of sums. Dropout is off: both would draw other numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fcnbook.book.agree import randomize
from fcnbook.labels import IGNORE_INDEX

Size = tuple[int, int]
SIZES = ((32, 64), (65, 33))
"""Of the images: one even and wide, one odd and high; strided layers round the odd one up."""
LOGITS, GRADIENTS = 1e-9, 1e-7
"""Largest relative differences allowed; the second one of the loss, of gradients and of running statistics."""
ZERO = 1e-12
"""A gradient this small beside the largest of the network is 0, and what is left of it rounding: 1e-19 for the bias of
a batch norm whose output goes through a 1x1 convolution into the next one, against 4e-5 for the smallest real one."""


class Side(NamedTuple):
    """One of the two networks, and how to use it."""

    module: nn.Module
    outputs: Callable[[Tensor], Mapping[str, Tensor]]
    """Images (N, 3, H, W) -> what is compared in evaluation mode, by name: logits or feature maps."""
    loss: Callable[[Tensor, Tensor], Tensor]
    """Images and labels (N, H, W) int64 -> the scalar that is minimised, in training mode."""


class Differences(NamedTuple):
    """The largest found, each relative to the largest value of its own tensor: a map, or one parameter's gradient."""

    logits: float
    loss: float
    gradients: float
    statistics: float
    """Of batch norm, after one step of training."""
    entries: int
    """Of the state dict."""

    def __str__(self) -> str:
        shown = zip(("logits", "loss", "gradients", "statistics"), self[:4], strict=True)
        numbers = [f"{name} {f'{value:.0e}' if value else '0':<5}" for name, value in shown]
        return "  ".join([*numbers, f"{self.entries} entries"])


class ClassDifferences:
    """How far apart the logits of two whole tests are, and how many pixels get another class; image by image."""

    def __init__(self) -> None:
        self.worst = self.different = self.pixels = 0.0

    def add(self, found: Tensor, wanted: Tensor) -> None:
        """Counts an image, by ours and by theirs: (K, H, W)."""
        self.worst = max(self.worst, ((found - wanted).abs().max() / wanted.abs().max()).item())
        self.different += (found.argmax(0) != wanted.argmax(0)).sum().item()
        self.pixels += wanted[0].numel()

    def check(self, bound: float) -> str:
        """How many pixels differ, in words, once logits differ by less than `bound` and at most 1 pixel in 10,000."""
        assert self.worst < bound and self.different <= 1e-4 * self.pixels
        return f"{self.different:.0f} of {self.pixels:.0f} pixels differ"


def compare(
    ours: Side,
    theirs: Side,
    num_classes: int = 19,
    *,
    our_name: Callable[[str], str] = lambda name: name,
    sizes: tuple[Size, ...] = SIZES,
    channels: int = 3,
) -> Differences:
    """The differences between two networks after the weights of `theirs` were copied into `ours`, and back.

    Args:
        ours: of fcnbook.
        theirs: of the other project. Its weights and statistics are replaced by random ones.
        num_classes: labels are drawn below it, and a fifth of them void.
        our_name: from an entry of their state dict to ours, where the names differ.
        sizes: (height, width) of the images.
        channels: of the images.

    Raises:
        AssertionError: names or shapes of the weights differ, or the functions do; the message says where. Or the
            maps are too small for a dilated convolution, so that its outer weights were never used.
    """
    sides = {"ours": ours, "theirs": theirs}
    for side in sides.values():
        side.module.to(torch.float64)
        for layer in side.module.modules():
            if isinstance(layer, nn.modules.dropout._DropoutNd):
                layer.p = 0.0
    torch.manual_seed(0)
    randomize(theirs.module)
    state = {our_name(name): value.clone() for name, value in theirs.module.state_dict().items()}
    found, used = [], dict[str, Tensor]()
    for size in sizes:
        _load(ours.module, state)
        _load(
            theirs.module,
            {name: ours.module.state_dict()[our_name(name)] for name in theirs.module.state_dict()},
        )
        images = torch.randn(2, channels, *size, dtype=torch.float64)
        labels = torch.randint(num_classes, (2, *size))
        labels[0] -= labels[0] % 2  # some classes only in the one image, or in the other, or in none
        labels[1] //= 2
        labels[torch.rand(labels.shape) < 0.2] = IGNORE_INDEX

        for side in sides.values():
            side.module.eval()
        with torch.no_grad():
            maps = {name: side.outputs(images) for name, side in sides.items()}
        logits = _largest(maps["ours"], maps["theirs"], LOGITS, f"At {size}, output")
        losses, gradients, statistics = {}, {}, {}
        for name, side in sides.items():
            rename = our_name if name == "theirs" else str
            side.module.train().zero_grad()
            losses[name] = {"loss": side.loss(images, labels)}
            losses[name]["loss"].backward()
            gradients[name] = _gradients(side.module, rename)
            statistics[name] = {rename(key): t.double() for key, t in side.module.state_dict().items()}
        for name, gradient in gradients["theirs"].items():
            if gradient is not None and gradient.dim() == 4:
                reached = gradient.abs().amax((0, 1)) > 0
                used[name] = reached | used.get(name, reached)
        found.append(
            (
                logits,
                _largest(losses["ours"], losses["theirs"], GRADIENTS, f"At {size},"),
                _largest(gradients["ours"], gradients["theirs"], GRADIENTS, f"At {size}, gradient of"),
                _largest(statistics["ours"], statistics["theirs"], GRADIENTS, f"At {size}, statistic"),
            )
        )
    unused = [name for name, taps in used.items() if not (taps.any(0).all() and taps.any(1).all())]
    assert not unused, f"Images of {sizes} are too small for the dilation of {unused}"
    return Differences(*map(max, zip(*found, strict=True)), entries=len(state))


def _load(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise AssertionError(f"The weights do not fit: {error}") from error


def _gradients(module: nn.Module, rename: Callable[[str], str]) -> dict[str, Tensor | None]:
    """The gradient of each parameter; those that are 0 but for rounding as exactly 0."""
    found = {rename(name): parameter.grad for name, parameter in module.named_parameters()}
    sizes = {name: g.abs().max().item() for name, g in found.items() if g is not None}
    rounding = ZERO * max(sizes.values())
    return {
        name: g if g is None or sizes[name] > rounding else torch.zeros_like(g) for name, g in found.items()
    }


def _largest(
    ours: Mapping[str, Tensor | None], theirs: Mapping[str, Tensor | None], limit: float, where: str
) -> float:
    """The largest relative difference of tensors of the same name; refuses one above the limit."""
    alone = sorted(ours.keys() ^ theirs.keys())
    assert not alone, f"{where}: only one of the two networks has {alone}"
    largest = 0.0
    for name, wanted in theirs.items():
        got = ours[name]
        if got is None or wanted is None:  # no gradient: the loss does not depend on it
            assert got is wanted, f"{where} {name}: only one of the two networks has it."
            continue
        assert got.shape == wanted.shape, f"{where} {name}: {tuple(got.shape)} against {tuple(wanted.shape)}"
        difference, scale = (got - wanted).abs().max().item(), wanted.abs().max().item()
        relative = difference / scale if difference > 0 and scale > 0 else difference
        assert relative <= limit, f"{where} {name}: relative difference {relative:.1e}, allowed {limit:.0e}"
        largest = max(largest, relative)
    return largest
