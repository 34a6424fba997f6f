"""The operations of a network written out from its state dict, as an independent computation to compare with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WrittenOut:
    """Functional forms of the layers of `module`, by name; in training mode batch norm takes the batch's moments."""

    def __init__(self, module: nn.Module) -> None:
        self.state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        self.training = module.training

    def conv(self, name: str, x: Tensor, dilation: int = 1, groups: int = 1) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        padding = dilation * (weight.shape[-1] - 1) // 2
        return F.conv2d(x, weight, bias, padding=padding, dilation=dilation, groups=groups)

    def norm(self, name: str, x: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (x.dim() - 2)
        if self.training:
            over = [d for d in range(x.dim()) if d != 1]
            mean, var = x.mean(over), x.var(over, unbiased=False)
        else:
            mean, var = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        x = (x - mean.reshape(shape)) / (var.reshape(shape) + 1e-5).sqrt()
        return x * self.state[f"{name}.weight"].reshape(shape) + self.state[f"{name}.bias"].reshape(shape)

    def unit(self, name: str, x: Tensor, dilation: int = 1) -> Tensor:
        """Convolution, batch norm, ReLU."""
        return self.norm(f"{name}.bn", self.conv(f"{name}.conv", x, dilation)).clamp(min=0)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]


def caffe_pool(x: Tensor) -> Tensor:
    """ceil((n - 3) / 2) + 1 cells a side, the last of which may look beyond the border."""
    missing = [(-(-(n - 3) // 2) * 2 + 3) - n for n in x.shape[-2:]]
    x = F.pad(x, (0, missing[1], 0, missing[0]), value=-torch.inf)
    return x.unfold(2, 3, 2).unfold(3, 3, 2).amax(dim=(-2, -1))


def response_norm(x: Tensor) -> Tensor:
    """x_c / (1 + alpha / 5 * sum of x^2 over channels c - 2 to c + 2) ^ 0.75, alpha = 1e-4."""
    total = torch.stack([x[:, max(c - 2, 0) : c + 3].square().sum(1) for c in range(x.shape[1])], dim=1)
    return x / (1 + 1e-4 / 5 * total) ** 0.75


def unit_entries(
    name: str, out_channels: int, in_channels: int, kernel_size: int
) -> dict[str, tuple[int, ...]]:
    """Entries of CM(name) of state_dict_names.md."""
    return {
        f"{name}.conv.weight": (out_channels, in_channels, kernel_size, kernel_size),
        **norm_entries(f"{name}.bn", out_channels),
    }


def norm_entries(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    """Entries of BN(name)."""
    kinds = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{kind}": (channels,) for kind in kinds}, f"{name}.num_batches_tracked": ()}


def classifier_entries(num_classes: int, channels: int) -> dict[str, tuple[int, ...]]:
    return {"conv_seg.weight": (num_classes, channels, 1, 1), "conv_seg.bias": (num_classes,)}


def entries(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def millions(module: nn.Module) -> float:
    """Parameters, rounded to the digits of architectures.md §11."""
    return round(sum(p.numel() for p in module.parameters()) / 1e6, 3)


def parameters_without_gradient(module: nn.Module, outputs: list[Tensor]) -> list[str]:
    """Names of parameters that a random weighing of the outputs does not reach."""
    module.zero_grad()
    # Random weights, since the sum of a batch-normalised map is a constant.
    torch.autograd.backward([(x * torch.randn_like(x)).sum() for x in outputs])
    return [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
