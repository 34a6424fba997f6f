"""The backbone of the paper's FCN-AlexNet: images (N, 3, H, W) -> `Features` c0, c5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from fcnbook.models.backbones._parts import pool, require_size, response_norm
from fcnbook.models.layers import Grid, init_convolutions
from fcnbook.recipe import CaffeNetSpec
from fcnbook.types import StageInfo

if TYPE_CHECKING:
    from fcnbook.types import Features


class CaffeNet(nn.Module):
    """Five convolutions, three of them in two groups, and three 3x3 pools of stride 2 that round up.

    A variant of AlexNet that normalises after the pool and not before it; torchvision's AlexNet has other widths
    and no groups, so its weights do not fit. With batch norm, bn1 to bn5 stand between each convolution and its
    ReLU, and local response normalisation goes. The classifier is part of `FCNSkipHead`, with a kernel of 6 in
    fc6 and of 63 in the upsampling: the cells of 3x3 pools are centred on pixels, and those of 2x2 pools between
    them.

    Attributes:
        stages: channels and stride of each feature map.
        grids: where the cells of each feature map lie.

    Raises:
        ValueError: the width is no multiple of 6.

    Source: CaffeNet of the Caffe project; Krizhevsky, Sutskever, Hinton, NeurIPS 2012; the released network
    fcn-alexnet-pascal of Long, Shelhamer, Darrell, arXiv:1411.4038.
    """

    def __init__(self, spec: CaffeNetSpec) -> None:
        super().__init__()
        if spec.width < 6 or spec.width % 6:
            raise ValueError(
                f"The width of a CaffeNet must be a multiple of 6, such as 12 or 96, got {spec.width}."
            )
        channels = [spec.width * multiple // 6 for multiple in (6, 16, 24, 24, 16)]
        bias = not spec.batch_norm
        self.conv1 = nn.Conv2d(3, channels[0], 11, stride=4, padding=spec.first_padding, bias=bias)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 5, padding=2, groups=2, bias=bias)
        self.conv3 = nn.Conv2d(channels[1], channels[2], 3, padding=1, bias=bias)
        self.conv4 = nn.Conv2d(channels[2], channels[3], 3, padding=1, groups=2, bias=bias)
        self.conv5 = nn.Conv2d(channels[3], channels[4], 3, padding=1, groups=2, bias=bias)
        for i, width in enumerate(channels, start=1):
            self.add_module(f"bn{i}", nn.BatchNorm2d(width) if spec.batch_norm else nn.Identity())
        self.norm = nn.Identity() if spec.batch_norm else response_norm()
        init_convolutions(self)

        self.stages = {"c0": StageInfo(3, 1), "c5": StageInfo(channels[4], 32)}
        grid = Grid().conv(11, stride=4, padding=spec.first_padding)
        for _ in range(3):  # the other convolutions are centred and keep the size
            grid = grid.conv(3, stride=2)
        self.grids = {"c0": Grid(), "c5": grid}
        self.min_size = max(1, 39 - 2 * spec.first_padding)

    def forward(self, images: Tensor) -> Features:
        """Feature maps of normalised images.

        Args:
            images: (N, 3, H, W) float.

        Returns:
            c0, the images themselves, to whose size the scores are cropped, and c5, the output of pool5 at stride
            32.

        Raises:
            InputError: the images leave nothing of pool5.
        """
        require_size(images, self.min_size, "CaffeNet", padding_for_all=19)
        x = images
        for i in range(1, 6):
            x = self.get_submodule(f"conv{i}")(x)
            x = F.relu(self.get_submodule(f"bn{i}")(x), inplace=True)
            if i <= 2:
                x = self.norm(pool(x))
        return {"c0": images, "c5": pool(x)}
