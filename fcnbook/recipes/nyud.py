"""The FCN paper's recipes on NYUDv2: 795 images with depth to train on, 654 to test on, 40 classes.

Mean IU of FCN-32s in the text of 2015: colour 29.2, colour and depth 30.5, HHA 24.2, colour and HHA 32.8. HHA is
three images made from the depth: horizontal disparity, height above ground, angle with gravity. The released late
fusion averages the scores of its two networks, where the text sums the predictions. One GPU. The start weights,
Caffe's VGG16, have no public source that loads here; late fusion starts from the trained colour and HHA networks. Those
of the paper were snapshots after 28,000 and 60,000 steps, as the names of their files say; ours are the last weights,
after 100,000. The rate is fixed, so such snapshots are runs with `--set schedule.num_steps=28000` and `=60000`, and
`--init` takes them.

    fcnbook run fcn32s_vgg16_nyud --data-root data/nyud
"""

from typing import Literal

from fcnbook.recipe import DataSpec, FCNSkipHeadSpec, ModelSpec, Recipe, TwoStreamSpec, VGGSpec
from fcnbook.recipes._parts import VGG16, fcn_skip, heavy

_COLOR = (92.318, 97.203, 116.190)
_HHA = (132.431, 94.076, 118.477)
_LOG_DEPTH = 7.844
"""Means of the released networks, that of the depth of its logarithm in millimetres."""


def _nyud(
    model: ModelSpec,
    inputs: Literal["color", "hha", "color_depth", "color_hha"],
    mean: tuple[float, ...],
    *,
    lr: float = 1e-10,
    init: tuple[str, ...] = ("caffe:vgg16",),
) -> Recipe:
    data = DataSpec(
        name="nyud",
        train_split="trainval",
        val_split="test",
        inputs=inputs,
        order="with_replacement",
        mean=mean,
        std=(1.0,) * len(mean),
    )
    return heavy(model, data, lr=lr, steps=100_000, validate_every=2000, init=init)


_EARLY = fcn_skip(32, backbone=VGGSpec(in_channels=4))
_LATE = ModelSpec(backbone=TwoStreamSpec(stream=VGG16), head=FCNSkipHeadSpec(stride=32))

RECIPES: dict[str, Recipe] = {
    "fcn32s_vgg16_nyud": _nyud(fcn_skip(32), "color", _COLOR),
    "fcn32s_vgg16_hha_nyud": _nyud(fcn_skip(32), "hha", _HHA),
    "fcn32s_vgg16_early_nyud": _nyud(_EARLY, "color_depth", (*_COLOR, _LOG_DEPTH)),
    "fcn32s_vgg16_late_nyud": _nyud(
        _LATE, "color_hha", (*_COLOR, *_HHA), lr=1e-12, init=("fcn32s_vgg16_nyud", "fcn32s_vgg16_hha_nyud")
    ),
}
