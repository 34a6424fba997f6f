"""The heads of the FCN paper: `Features` -> logits (N, K, H, W); strides 32, 16 and 8, one or two streams.

Taught in notebook 02.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from fcnbook.files import InputError
from fcnbook.models.layers import BilinearUpsample, Grid, add_cropped, crop, init_convolutions
from fcnbook.recipe import FCNSkipHeadSpec
from fcnbook.types import SegLogits, StageInfo

if TYPE_CHECKING:
    from fcnbook.types import Features

SKIPS = (("upscore2", "score_pool4", "c4", 0.01), ("upscore_pool4", "score_pool3", "c3", 0.0001))
"""Of each skip its upsampling layer, its score layer, its stage, and the scale of that stage in the at-once network:
earlier pools have larger values, and the scales bring them to a like size."""
NUM_SKIPS = {32: 0, 16: 1, 8: 2}
"""How many of them each stride has."""
LAST = {32: "upscore", 16: "upscore16", 8: "upscore8"}
"""Name of the last upsampling layer of each stride."""


class Classifier(nn.Module):
    """The classifier of an ImageNet network as convolutions: fc6 and fc7, or neither, and the score layer.

    The layers carry their Caffe names. Each of fc6 and fc7 is followed by ReLU and dropout of single values;
    without them the dropout is that of c5.

    Args:
        spec: width and kernel of fc6, dropout.
        in_channels: of c5.
        num_classes: K.
        batch_norm: whether fc6 and fc7 have batch norm, as the backbone's convolutions then do.
    """

    def __init__(self, spec: FCNSkipHeadSpec, in_channels: int, num_classes: int, batch_norm: bool) -> None:
        super().__init__()
        self.spec = spec
        if spec.channels is not None:
            self.fc6 = nn.Conv2d(in_channels, spec.channels, spec.kernel_size, bias=not batch_norm)
            self.bn6 = nn.BatchNorm2d(spec.channels) if batch_norm else nn.Identity()
            self.fc7 = nn.Conv2d(spec.channels, spec.channels, 1, bias=not batch_norm)
            self.bn7 = nn.BatchNorm2d(spec.channels) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(spec.dropout)
        init_convolutions(self)
        self.out_channels = spec.channels or in_channels
        self.score_fr = score_layer(self.out_channels, num_classes)

    def classify(self, pool5: Tensor) -> Tensor:
        """What the score layers read: c5 after fc6 and fc7, (N, channels, h - k + 1, w - k + 1).

        Raises:
            InputError: the images are too small for fc6.
        """
        if self.spec.channels is None:
            return self.dropout(pool5)
        (height, width), kernel = pool5.shape[-2:], self.spec.kernel_size
        missing = kernel - min(height, width)
        if missing > 0:
            raise InputError(
                f"The images are too small: pool5 has {height}x{width} cells, and the kernel of fc6 needs {kernel} "
                f"a side. Add {16 * missing} to first_padding, or take images {32 * missing} pixels larger."
            )
        x: Tensor = self.dropout(F.relu(self.bn6(self.fc6(pool5)), inplace=True))
        x = self.dropout(F.relu(self.bn7(self.fc7(x)), inplace=True))
        return x


class FCNSkipHead(Classifier):
    """The classifier as convolutions, scores of pool4 and pool3 added on the way up, then the crop.

    The layers carry their Caffe names. The score layers start at zero, as in the released networks; so in the
    first step only they receive a gradient, and the layers before them from the second step on.

    With `geometric_classes`, SIFT Flow, a second set of score and upsampling layers reads the same fc7; their
    names end in "_geo".

    A crop offset says which cell of one map lies on cell 0 of another. All are derived from the kernels,
    strides and paddings in force, and are the numbers of the released networks for a first padding of 100.

    The scores cover the image, whatever its size, if the first padding is large enough. From a second limit on
    there is no smallest image either; with less padding, fc6 needs a pool5 of at least k cells a side. With k
    the kernel of fc6, or 1 without it:

        backbone, stride    scores cover the image    images of every size
        VGG16, 32        16 k - 31 (81 for k = 7)    16 k - 15 (97)
        VGG16, 16        16 k - 39 (73)              16 k - 15 (97)
        VGG16, 8         16 k - 43 (69)              16 k - 15 (97)
        CaffeNet, 32     16 k - 11 (85 for k = 6)    16 k + 3 (99)
        GoogLeNet, 32    3 (k = 1)                   18

    Args:
        spec: stride, width and kernel of fc6, at once or in stages, geometric classes, dropout.
        stages: of the backbone; tells channels.
        num_classes: K.
        grids: of the backbone; where the cells of c0, c5, and of c4 and c3 for the skips lie.
        batch_norm: whether fc6 and fc7 have batch norm, as the backbone's convolutions then do.

    Raises:
        ValueError: the backbone's first padding is too small for the scores to begin outside the image, its cells
            cannot be brought onto the pixels, or it has no stages for the skips.

    Source: Long, Shelhamer, Darrell, arXiv:1411.4038, section 4, and the released networks.
    """

    def __init__(
        self,
        spec: FCNSkipHeadSpec,
        stages: Mapping[str, StageInfo],
        num_classes: int,
        *,
        grids: Mapping[str, Grid],
        batch_norm: bool = False,
    ) -> None:
        super().__init__(spec, stages["c5"].channels, num_classes, batch_norm)
        self.last = LAST[spec.stride]
        self.offsets = crop_offsets(spec, grids)
        self.add_scores(stages, num_classes)
        if spec.geometric_classes is not None:
            self.score_fr_geo = score_layer(self.out_channels, spec.geometric_classes)
            self.add_scores(stages, spec.geometric_classes, "_geo")

    def add_scores(self, stages: Mapping[str, StageInfo], num_classes: int, suffix: str = "") -> None:
        """The score layers of the skips and all upsampling layers, with `suffix` behind their names."""
        stride = self.spec.stride
        for upsample, score, stage, _ in SKIPS[: NUM_SKIPS[stride]]:
            self.add_module(upsample + suffix, BilinearUpsample(num_classes, 4, stride=2))
            self.add_module(score + suffix, score_layer(stages[stage].channels, num_classes))
        last = BilinearUpsample(num_classes, self.spec.upscore_kernel or 2 * stride, stride)
        self.add_module(self.last + suffix, last)

    def forward(self, features: Features) -> Tensor | SegLogits:
        """Logits (N, K, H, W) at the size of the images, `features["c0"]`; with `geometry` if there are two sets.

        Raises:
            InputError: the images are too small for fc6, or the scores end before the image does.
        """
        fc7 = self.classify(features["c5"])
        main = self.scores(fc7, features)
        if self.spec.geometric_classes is None:
            return main
        return SegLogits(main, geometry=self.scores(fc7, features, "_geo"))

    def scores(self, fc7: Tensor, features: Features, suffix: str = "") -> Tensor:
        """Logits (N, outputs, H, W) of the layers whose names end in `suffix`."""
        x = self.get_submodule("score_fr" + suffix)(fc7)
        for upsample, score, stage, scale in SKIPS[: NUM_SKIPS[self.spec.stride]]:
            skip = features[stage] * scale if self.spec.at_once else features[stage]
            skip = self.get_submodule(score + suffix)(skip)
            x = add_cropped(self.get_submodule(upsample + suffix)(x), skip, self.offsets[score])
        x = self.get_submodule(self.last + suffix)(x)
        return crop_to_image(x, features["c0"], self.offsets["score"])


class LateFusionHead(nn.Module):
    """Two classifiers, one a stream; the mean of their scores, upsampled 32 times and cropped.

    The paper speaks of a sum; the released network takes half of each. The predicted classes are the same, the
    probabilities are not.

    Args:
        spec: width and kernel of fc6, dropout; the stride must be 32.
        stages: of `TwoStreamVGG16`; tells channels.
        num_classes: K.
        grids: of `TwoStreamVGG16`; where the cells of c0 and of "color.c5", which are those of "hha.c5", lie.
        batch_norm: whether fc6 and fc7 have batch norm, as the backbone's convolutions then do.

    Raises:
        ValueError: skips or geometric classes are asked for, or the backbone's first padding is too small.

    Source: Long, Shelhamer, Darrell, arXiv:1411.4038, section 5, and the released network nyud-fcn32s-color-hha.
    """

    def __init__(
        self,
        spec: FCNSkipHeadSpec,
        stages: Mapping[str, StageInfo],
        num_classes: int,
        *,
        grids: Mapping[str, Grid],
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if spec.stride != 32 or spec.geometric_classes is not None:
            raise ValueError(
                "Late fusion exists for stride 32 with one set of classes; "
                f"got stride {spec.stride} and geometric_classes {spec.geometric_classes}."
            )
        self.color = Classifier(spec, stages["color.c5"].channels, num_classes, batch_norm)
        self.hha = Classifier(spec, stages["hha.c5"].channels, num_classes, batch_norm)
        self.upscore = BilinearUpsample(num_classes, spec.upscore_kernel or 64, stride=32)
        self.offset = crop_offsets(spec, {"c0": grids["c0"], "c5": grids["color.c5"]})["score"]

    def forward(self, features: Features) -> Tensor:
        """Logits (N, K, H, W) at the size of the images, `features["c0"]`.

        Raises:
            InputError: the images are too small for fc6, or the scores end before the image does.
        """
        color = self.color.score_fr(self.color.classify(features["color.c5"]))
        hha = self.hha.score_fr(self.hha.classify(features["hha.c5"]))
        return crop_to_image(self.upscore(0.5 * color + 0.5 * hha), features["c0"], self.offset)


def score_layer(in_channels: int, num_classes: int) -> nn.Conv2d:
    """A 1x1 convolution that starts at zero: Caffe's default, where a network declares no filler."""
    layer = nn.Conv2d(in_channels, num_classes, 1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def crop_to_image(scores: Tensor, images: Tensor, offset: int) -> Tensor:
    """The part of the upsampled scores that lies on the images, (N, K, H, W).

    Raises:
        InputError: the scores end before the image does, because a strided first convolution dropped its border.
    """
    missing = max(images.shape[d] - (scores.shape[d] - offset) for d in (-2, -1))
    if missing > 0:
        raise InputError(
            f"The upsampled scores end {missing} pixels before the images of {images.shape[-2]}x{images.shape[-1]} "
            "do. Add 16 to first_padding, or take the least padding that FCNSkipHead states for this backbone."
        )
    return crop(scores, images.shape[-2:], offset)


def crop_offsets(spec: FCNSkipHeadSpec, grids: Mapping[str, Grid]) -> dict[str, int]:
    """The crop offset of each skip and of the final scores, in cells of the map that is cropped.

    Args:
        spec: stride, kernels of fc6 and of the last upsampling.
        grids: where the cells of c0, c5, and of c4 and c3 for the skips lie.

    Returns:
        The offset before each sum, by the name of its score layer, and "score", that of the upsampled scores
        within which the image lies. Of the paper: 19 (stride 32), 5 and 27 (stride 16), 5, 9 and 31 (stride
        8); 18 for FCN-AlexNet.

    Raises:
        ValueError: the scores begin inside the image, their cells do not lie on its pixels, or a stage is missing.
    """
    kernel_size = 1 if spec.channels is None else spec.kernel_size
    offsets, grid = {}, grids["c5"].conv(kernel_size)
    for _, score, stage, _ in SKIPS[: NUM_SKIPS[spec.stride]]:
        if stage not in grids:
            raise ValueError(
                f"Stride {spec.stride} adds scores of {stage}, which this backbone lacks; take stride 32."
            )
        grid = grid.transposed_conv(4, stride=2)
        offsets[score] = offset = grids[stage].crop_offset(grid)
        grid = grid.crop(max(-offset, 0))  # see `add_cropped`
    upscore_kernel = spec.upscore_kernel or 2 * spec.stride
    grid = grid.transposed_conv(upscore_kernel, spec.stride)
    if not (grid.shift - grids["c0"].shift).is_integer():
        raise ValueError(
            f"With an upscore_kernel of {upscore_kernel} the scores lie half a pixel beside the pixels of the "
            f"image, so no crop aligns them; take {2 * spec.stride - 1 + upscore_kernel % 2}."
        )
    offsets["score"] = grid.crop_offset(grids["c0"])
    if offsets["score"] < 0:
        raise ValueError(
            f"The upsampled scores would begin {-offsets['score']} pixels inside the image: with fc6's "
            f"kernel_size of {kernel_size} and stride {spec.stride}, add at least that to first_padding."
        )
    return offsets
