"""The classifier that the heads of mmsegmentation share."""

from __future__ import annotations

from torch import nn


def classifier(channels: int, num_classes: int, std: float | None) -> nn.Conv2d:
    """A 1x1 convolution from features to logits (N, K, h, w).

    Args:
        channels: of the features.
        num_classes: K.
        std: of its normal start weights, with a bias of 0; None takes PyTorch's own start, larger and with a
            bias.
    """
    conv = nn.Conv2d(channels, num_classes, 1)
    if std is not None:
        nn.init.normal_(conv.weight, std=std)  # small, so the first loss is near log(K)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    return conv
