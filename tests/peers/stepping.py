"""Two optimisers side by side: the same start, the same gradients, the same steps; the weights after them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class TwoParts(nn.Module):
    """A convolution and a batch norm each under two names: of a backbone and of a head. Optimisers see no more."""

    def __init__(self, backbone: str = "backbone", head: str = "decode_head") -> None:
        super().__init__()
        for name in (backbone, head):
            self.add_module(name, nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)))
        self.double()


def values_after(
    optimizer: torch.optim.Optimizer, network: nn.Module, num_steps: int, set_rate: Callable[[int], None]
) -> Tensor:
    """All weights of a network, one after the other, after some steps from a fixed start with fixed gradients.

    Args:
        optimizer: over the parameters of `network`.
        network: its parameters are replaced.
        num_steps: how many.
        set_rate: called before each step with its number.
    """
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    for step in range(num_steps):
        set_rate(step)
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
