"""Our side of a comparison: a network of a `ModelSpec` with the loss of a recipe, and images for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from comparison import SIZES, Side, Size
from torch import Tensor, nn

from fcnbook.build import build_model
from fcnbook.losses import segmentation_loss
from fcnbook.recipe import ASPPHeadSpec, FCNHeadSpec, JPUSpec, LossSpec, ModelSpec, Recipe, ResNetSpec
from fcnbook.training import train
from fcnbook.types import Batch, SegLogits


def our_side(
    spec: ModelSpec,
    num_classes: int,
    loss: LossSpec | None = None,
    geometry: Callable[[Tensor], Tensor] = lambda labels: labels,
) -> Side:
    """A network of fcnbook; without a `LossSpec` with mmsegmentation's loss.

    `geometry` makes labels of the second kind from those of the first, where a network has two kinds.
    """
    network = build_model(spec, num_classes)
    loss_spec = LossSpec() if loss is None else loss

    def outputs(images: Tensor) -> dict[str, Tensor]:
        return {name: value for name, value in network(images)._asdict().items() if value is not None}

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        total, _ = segmentation_loss(
            network(images), labels, loss_spec, align_corners=spec.align_corners, geometry=geometry(labels)
        )
        return total

    return Side(network, outputs, loss_of)


def sizes_of(spec: ModelSpec) -> tuple[Size, ...]:
    """Sizes of images so long that the most dilated convolution reaches beyond its centre, each way once."""
    assert isinstance(spec.backbone, ResNetSpec)
    stride = spec.backbone.output_stride
    reaches = [stride * (1 + max(spec.backbone.dilations))]
    if isinstance(spec.neck, JPUSpec):
        stride = 8
        reaches.append(stride * (1 + max(spec.neck.dilations)))
    match spec.head:
        case FCNHeadSpec(dilation=dilation):
            reaches.append(stride * (1 + dilation))
        case ASPPHeadSpec(dilations=dilations):
            reaches.append(stride * (1 + max(dilations)))
    (short, _), (_, odd_short) = SIZES
    long = max(SIZES[0][1], *reaches)
    return (short, long), (long + 1, odd_short)


class _GivenLogits(nn.Module):
    """A network whose logits are its weights, so that its gradients are those of the loss."""

    def __init__(self, main: Tensor, aux: Tensor | None) -> None:
        super().__init__()
        self.main = nn.Parameter(main.double())
        self.aux = None if aux is None else nn.Parameter(aux.double())

    def forward(self, images: Tensor) -> SegLogits:
        return SegLogits(self.main, self.aux)


class _OneStep:
    def after_step(self, step: int, loss: Tensor, parts: dict[str, Tensor], lr: float) -> bool:
        return False


def gradients_of_a_step(
    recipe: Recipe, main: Tensor, labels: Tensor, aux: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the logits in one step of our training loop, as the optimiser sees them.

    Args:
        recipe: loss, replicas and all else that decides them; trained here in float64.
        main: (N, K, H, W) logits of a whole batch.
        labels: (N, H, W) int64.
        aux: auxiliary logits, if the recipe has any.
    """
    network = _GivenLogits(main, aux)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    images = torch.zeros(len(labels), 3, *labels.shape[1:], dtype=torch.uint8)
    windows = torch.tensor([[0, 0, *labels.shape[1:]]] * len(labels))
    at_one = replace(recipe.schedule, policy="fixed", warmup_steps=0, min_lr=0.0)
    plain = replace(recipe, schedule=at_one, optim=replace(recipe.optim, lr=1.0), precision="fp32")
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    train(network, [Batch(images, labels, windows, [""] * len(labels))], plain, optimizer, scaler, _OneStep())
    found = {name: before[name] - p.detach() for name, p in network.named_parameters()}
    return found["main"], found.get("aux")


def loss_of_half_logits(recipe: Recipe, main: Tensor, labels: Tensor) -> float:
    """Our loss of logits (N, K, h, w) as the network of a recipe returns them under autocast."""
    total, _ = segmentation_loss(
        SegLogits(main),
        labels,
        recipe.loss,
        align_corners=recipe.model.align_corners,
        shares=recipe.shares_per_pass,
        half_resize=recipe.model.half_resize,
    )
    return total.item()
