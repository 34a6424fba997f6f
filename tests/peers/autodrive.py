"""pytorch-auto-drive as the other side: it is no package, so its network, transforms and loop are written here.

Facts of its repository at the end of 2020 (github.com/voldemortX/pytorch-auto-drive, revision baf7aaa): torchvision's
ResNet-101 with strides 8 and 16 replaced by dilation, a head of five layers, transforms of tensors, one step of its
training and of its test, and when it validates. Written from what they compute, with torch alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torchvision.models as tv
from comparison import Side
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models._utils import IntermediateLayerGetter

from fcnbook.labels import IGNORE_INDEX
from fcnbook.types import Sample
from fcnbook.weights.names import to_dialect, to_ours

IMAGES = {"voc12aug": 10_582, "cityscapes": 2_975}
EPOCHS = {"voc12aug": 30, "cityscapes": 60}
RATES = {"voc12aug": 0.002, "cityscapes": 0.004}
CROPS = {"voc12aug": (321, 321), "cityscapes": (256, 512)}
TEST_SIZES = {"voc12aug": (505, 505), "cityscapes": (512, 1024)}
"""VOC: padded to; Cityscapes: image and labels resized to, and in training too before anything else."""
BATCH, VALIDATE_EVERY, SCALES = 8, 1000, (0.5, 1.5)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network(num_classes: int) -> nn.Module:
    """Images (N, 3, H, W) -> logits at stride 8, under the names of its files."""
    resnet = tv.resnet101(weights=None, replace_stride_with_dilation=[False, True, True])
    head = nn.Sequential(
        nn.Conv2d(2048, 512, 3, padding=1, bias=False),
        nn.BatchNorm2d(512),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Conv2d(512, num_classes, 1),
    )
    backbone = IntermediateLayerGetter(resnet, {"layer4": "out"})
    return nn.ModuleDict({"backbone": backbone, "classifier": head})


def logits_of(parts: nn.Module, images: Tensor) -> Tensor:
    """(N, K, h, w)."""
    out: Tensor = parts["classifier"](parts["backbone"](images)["out"])  # type: ignore[index]
    return out


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over labelled pixels of logits that were resized to the crop, corners aligned, in their own precision.

    Under autocast the cross-entropy, not the resize, is in single precision.
    """
    resized = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=True)
    if resized.dtype == torch.float16:
        resized = resized.float()
    return F.cross_entropy(resized, labels, ignore_index=IGNORE_INDEX)


def autodrive_side(num_classes: int) -> Side:
    """The network with its loss."""
    parts = network(num_classes)
    return Side(
        parts,
        lambda images: {"main": logits_of(parts, images)},
        lambda images, labels: loss_of(logits_of(parts, images), labels),
    )


def our_names_of(theirs: nn.Module, ours: nn.Module) -> dict[str, str]:
    """Their names -> ours, by the translation that loads its files; and back by the one that exports ours."""
    state = theirs.state_dict()
    translated = to_ours(state, Path("a file of pytorch-auto-drive"))
    assert translated.source == "pytorch-auto-drive" and not translated.dropped
    assert to_dialect(ours.state_dict(), "pytorch-auto-drive").keys() == state.keys()
    return dict(zip(state, translated.entries, strict=True))


def rate(step: int, base: float, num_steps: int) -> float:
    """Of a step counted from 0."""
    return base * (1 - step / num_steps) ** 0.9


def validations(num_steps: int) -> Iterator[int]:
    """After how many steps it validates.

    Its number of the current step counts from 1 and is compared with the interval less one, so that the first time is
    after 999 steps. There is none at the end.
    """
    for current in range(1, num_steps + 1):
        if current % VALIDATE_EVERY == VALIDATE_EVERY - 1:
            yield current


# ------------------------------------------------------------------------------------------------ transforms


def as_tensors(sample: Sample) -> tuple[Tensor, Tensor]:
    """Image (3, H, W) in [0, 1] and labels (H, W) int64."""
    image = torch.from_numpy(np.ascontiguousarray(sample.image)).permute(2, 0, 1).float() / 255
    return image, torch.from_numpy(sample.labels.astype(np.int64))


def resize(image: Tensor, labels: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Bilinear between pixel centres, and nearest neighbour."""
    image = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
    return image, F.interpolate(labels[None, None].float(), size=size, mode="nearest")[0, 0].long()


def zero_pad(image: Tensor, labels: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Black and void at the right and bottom, as far as the image is smaller."""
    beyond = [0, max(size[1] - image.shape[2], 0), 0, max(size[0] - image.shape[1], 0)]
    return F.pad(image, beyond), F.pad(labels, beyond, value=IGNORE_INDEX)


def normalized(image: Tensor) -> Tensor:
    return (image - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def training_sample(
    sample: Sample,
    crop: tuple[int, int],
    first: tuple[int, int] | None,
    uniform: Callable[[float, float], float],
    randint: Callable[[int, int], int],
    flip: bool,
) -> tuple[Tensor, Tensor]:
    """Image and labels of a training sample.

    Args:
        sample: as read.
        crop: height and width.
        first: size that image and labels are brought to before anything else.
        uniform: a number in [low, high].
        randint: a whole number, both ends included.
        flip: mirrored or not.
    """
    image, labels = as_tensors(sample)
    if first is not None:
        image, labels = resize(image, labels, first)
    scale = uniform(*SCALES)
    image, labels = resize(image, labels, (int(scale * image.shape[1]), int(scale * image.shape[2])))
    height, width = image.shape[1:]
    image, labels = zero_pad(image, labels, (max(crop[0], height), max(crop[1], width)))
    if not (image.shape[1] <= crop[0] and image.shape[2] <= crop[1]):
        top, left = randint(0, image.shape[1] - crop[0]), randint(0, image.shape[2] - crop[1])
        image = image[:, top : top + crop[0], left : left + crop[1]]
        labels = labels[top : top + crop[0], left : left + crop[1]]
    if flip:
        image, labels = image.flip(-1), labels.flip(-1)
    return normalized(image), labels


def images_of_a_test(sample: Sample, dataset: str, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Image and labels of a test: VOC's are padded to `size`, those of Cityscapes resized."""
    image, labels = as_tensors(sample)
    image, labels = (zero_pad if dataset == "voc12aug" else resize)(image, labels, size)
    return normalized(image), labels


def confusion(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """(K, K): true class (row) against predicted class (column), labels outside the classes left out."""
    inside = (labels >= 0) & (labels < num_classes)
    pairs = num_classes * labels[inside] + predicted[inside]
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def miou(matrix: Tensor) -> float:
    """The plain mean over all classes."""
    counts = matrix.float()
    right = counts.diag()
    return (right / (counts.sum(1) + counts.sum(0) - right)).mean().item()
