"""The FCN paper's recipes on SIFT Flow: 2,486 images of 256x256 to train on, 200 to test on, 33 + 3 classes.

One backbone and two sets of scores: 33 classes of things, and horizontal, vertical or sky. FCN-16s in the text of 2015:
mean IU 39.5, pixel accuracy 85.2, geometric accuracy 94.3. Three classes (cow, desert, moon) are not in the test
split and are left out of the mean. One GPU. The start weights, Caffe's VGG16, have no public source that loads here.

    fcnbook run fcn16s_vgg16_siftflow --data-root data/siftflow
"""

from typing import Literal

from fcnbook.recipe import DataSpec, Recipe
from fcnbook.recipes._parts import fcn_skip, heavy

_DATA = DataSpec(
    name="siftflow",
    train_split="trainval",
    val_split="test",
    order="with_replacement",
    mean=(108.353, 115.294, 114.578),
    std=(1.0, 1.0, 1.0),
)


def _siftflow(stride: Literal[32, 16, 8], lr: float, init: str) -> Recipe:
    model = fcn_skip(stride, geometric_classes=3)
    return heavy(model, _DATA, lr=lr, steps=100_000, validate_every=2000, init=(init,))


RECIPES: dict[str, Recipe] = {
    "fcn32s_vgg16_siftflow": _siftflow(32, 1e-10, "caffe:vgg16"),
    "fcn16s_vgg16_siftflow": _siftflow(16, 1e-12, "fcn32s_vgg16_siftflow"),
    "fcn8s_vgg16_siftflow": _siftflow(8, 1e-12, "fcn16s_vgg16_siftflow"),
}
