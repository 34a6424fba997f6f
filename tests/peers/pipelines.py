"""The pipelines of mmsegmentation 1.2.2 as the other side: its transforms, fed with the random numbers that ours drew.

Two pipelines that ask for random numbers of the same ranges in the same order are equal in distribution; and with the
same numbers they must make the same images.
"""

from __future__ import annotations

import os
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mmseg_networks import CONFIGS, MODELS, init_default_scope, mmseg_side, settings_of

# isort: split
# From here on mmsegmentation can be imported.
import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmseg.datasets import BaseSegDataset
from mmseg.evaluation import IoUMetric

from fcnbook.book.agree import randomize
from fcnbook.build import build_model
from fcnbook.datasets.camvid import CamVid
from fcnbook.models.segmenter import Segmenter
from fcnbook.pipeline.augment import TrainTransform
from fcnbook.recipe import AugmentSpec, DataSpec, FCNHeadSpec, ResNetSpec
from fcnbook.recipes import RECIPES
from fcnbook.types import Sample, Window

__all__ = ["CONFIGS", "MODELS", "BaseSegDataset", "Config", "ConfigDict", "IoUMetric", "init_default_scope"]

CAMVID = Path(os.environ.get("FCNBOOK_DATA", Path(__file__).parents[3] / "shared" / "data")) / "camvid"


# ------------------------------------------------------------------------------------------------ their pipeline


def their_pipeline(*steps: dict[str, Any]) -> Any:
    """Steps of mmsegmentation by their settings, such as `{"type": "RandomCrop", "crop_size": (64, 64)}`."""
    init_default_scope("mmseg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Compose(list(steps))


def as_theirs(sample: Sample) -> dict[str, Any]:
    """A sample as it is after mmsegmentation has loaded it; its images are BGR."""
    return {
        "img": np.ascontiguousarray(sample.image[:, :, ::-1]),
        "img_shape": sample.labels.shape,
        "ori_shape": sample.labels.shape,
        "gt_seg_map": sample.labels.copy(),
        "seg_fields": ["gt_seg_map"],
    }


def their_sample(results: dict[str, Any], name: str = "") -> Sample:
    """What came out of their pipeline as a sample of ours, RGB."""
    return Sample(results["img"][:, :, ::-1], results["gt_seg_map"], name)


def normalisation_of(data: DataSpec) -> dict[str, Any]:
    """Their settings of what normalises and pads a batch on the device."""
    return {
        "mean": list(data.mean),
        "std": list(data.std),
        "bgr_to_rgb": True,
        "pad_val": 0,
        "seg_pad_val": 255,
    }


def their_preprocessor(data: DataSpec, size: tuple[int, int] | None) -> Any:
    """What normalises images and, in training, pads them to `size`."""
    init_default_scope("mmseg")
    return MODELS.build({"type": "SegDataPreProcessor", **normalisation_of(data), "size": size})


# ------------------------------------------------------------------------------------------------ random numbers


class Draw(NamedTuple):
    """One random number: "uniform" in [low, high) or one of the "integers" low to high - 1."""

    kind: str
    low: float
    high: float
    value: float


class Recorder(np.random.Generator):
    """A generator that keeps what it was asked for and what it gave."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))
        self.draws: list[Draw] = []

    def uniform(self, low: float, high: float) -> float:
        """As of the generator."""
        self.draws.append(Draw("uniform", low, high, super().uniform(low, high)))
        return self.draws[-1].value

    def integers(self, low: int, high: int | None = None) -> int:
        """As of the generator."""
        low, high = (0, low) if high is None else (low, high)
        self.draws.append(Draw("integers", low, high, int(super().integers(low, high))))
        return int(self.draws[-1].value)


@contextmanager
def replayed(draws: list[Draw]) -> Iterator[None]:
    """Inside, numpy's global random functions, which mmsegmentation calls, give these numbers in this order.

    Raises:
        AssertionError: a number of another kind or range is asked for, more numbers than there are, or fewer.
    """
    left = iter(draws)

    def next_of(kind: str, low: float, high: float) -> float:
        draw = next(left, None)
        assert draw is not None, f"they draw {kind} from {low} to {high}, and we do not draw any more"
        assert draw[:3] == (kind, low, high), f"they draw {kind} from {low} to {high}, we {draw}"
        return draw.value

    def random_sample() -> float:  # of the ratio; its range is a field of their transform
        draw = next(left)
        assert draw.kind == "uniform"
        return (draw.value - draw.low) / (draw.high - draw.low) if draw.low < draw.high else 0.0

    def randint(low: int, high: int | None = None) -> int:
        low, high = (0, low) if high is None else (low, high)
        return int(next_of("integers", low, high))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "random_sample", random_sample)
        patch.setattr(np.random, "randint", randint)
        patch.setattr(np.random, "uniform", lambda low, high: next_of("uniform", low, high))
        yield
    unused = list(left)
    assert not unused, f"we draw {len(unused)} numbers more than they: {unused[:3]}"


def our_training_sample(
    spec: AugmentSpec, mean: Sequence[float], sample: Sample, seed: int
) -> tuple[Sample, Window, list[Draw]]:
    """What `TrainTransform` makes of a sample, and the random numbers that it drew."""
    recorder = Recorder(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "default_rng", lambda *seeds: recorder)
        augmented, window = TrainTransform(spec, mean)(sample, (0, 0, seed))
    return augmented, window, recorder.draws


def their_training_steps(spec: AugmentSpec) -> list[dict[str, Any]]:
    """The steps of mmsegmentation that an `AugmentSpec` of a recipe of its describes."""
    assert spec.base_size is not None and spec.crop_size is not None
    resize = {"scale": spec.base_size[::-1], "ratio_range": spec.ratio_range, "keep_ratio": True}
    crop = {"crop_size": spec.crop_size, "cat_max_ratio": spec.max_class_share or 1.0}
    steps = [{"type": "RandomResize", **resize}, {"type": "RandomCrop", **crop}]
    steps += [{"type": "RandomFlip", "prob": float(spec.flip_prob)}]
    return steps + [{"type": "PhotoMetricDistortion"}] * (spec.photometric == "full")


def in_one_line(refusal: pytest.ExceptionInfo[AssertionError]) -> str:
    """What a comparison said when it refused a deliberate change."""
    return textwrap.shorten(f"refused: {refusal.value}", 110)


# ------------------------------------------------------------------------------------------------ images


def camvid_samples(num_samples: int) -> list[Sample]:
    """Real images, from all over the validation split."""
    if not CAMVID.is_dir():
        pytest.skip(f"no CamVid at {CAMVID}")
    dataset = CamVid(CAMVID, "val")
    return [dataset[index] for index in np.linspace(0, len(dataset) - 1, num_samples).astype(int)]


def fake_samples(num_samples: int) -> list[Sample]:
    """Noise, which has every colour, with labels in blocks: 7 classes and void, some images with few of them."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(num_samples):
        height, width = rng.integers(90, 140, 2)
        blocks = rng.choice([*range(7), 255], (9, 9)).astype(np.uint8)
        blocks[: 4 * (number % 3)] = 2
        labels = blocks.repeat(16, 0).repeat(16, 1)[:height, :width]
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        samples.append(Sample(image, np.ascontiguousarray(labels), f"fake {number}"))
    return samples


def narrow_networks(*, align_corners: bool = False) -> tuple[Segmenter, Any]:
    """FCN-R18-D8 an eighth as wide, ours and theirs, with the same random weights, in evaluation mode."""
    settings = settings_of("fcn_r18-d8_4xb2-80k_cityscapes-512x1024")
    settings["backbone"] |= {"stem_channels": 8, "base_channels": 8}
    for head, channels in (("decode_head", 64), ("auxiliary_head", 32)):
        settings[head] |= {"in_channels": channels, "channels": 16, "align_corners": align_corners}
    recipe = RECIPES["fcn_r18-d8_512x1024_80k_cityscapes"]
    backbone, head, aux_head = recipe.model.backbone, recipe.model.head, recipe.model.aux_head
    assert isinstance(backbone, ResNetSpec) and isinstance(head, FCNHeadSpec) and aux_head is not None
    model = replace(
        recipe.model,
        backbone=replace(backbone, width=8),
        head=replace(head, channels=16),
        aux_head=replace(aux_head, channels=16),
        align_corners=align_corners,
    )
    ours = build_model(model, 19).eval()
    torch.manual_seed(0)
    randomize(ours)
    classifier = ours.decode_head.conv_seg.weight
    classifier.data -= classifier.data.mean(1, keepdim=True)  # else one class wins nearly everywhere
    preprocessor = {"type": "SegDataPreProcessor", **normalisation_of(recipe.data)}
    theirs = mmseg_side({**settings, "data_preprocessor": preprocessor}).module.eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs
