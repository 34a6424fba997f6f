"""Our side of a comparison: a network of a `ModelSpec` with the loss of a recipe, and images for it."""

from __future__ import annotations

from comparison import SIZES, Side, Size
from torch import Tensor

from fcnbook.build import build_model
from fcnbook.losses import segmentation_loss
from fcnbook.recipe import ASPPHeadSpec, FCNHeadSpec, JPUSpec, LossSpec, ModelSpec, ResNetSpec


def our_side(spec: ModelSpec, num_classes: int, loss: LossSpec | None = None) -> Side:
    """A network of fcnbook; without a `LossSpec` with mmsegmentation's loss."""
    network = build_model(spec, num_classes)
    loss_spec = LossSpec() if loss is None else loss

    def outputs(images: Tensor) -> dict[str, Tensor]:
        return {name: value for name, value in network(images)._asdict().items() if value is not None}

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        total, _ = segmentation_loss(network(images), labels, loss_spec, align_corners=spec.align_corners)
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
