"""Milliseconds a training sample: mmsegmentation's pipeline and ours, with and without the decoded cache, in one run.

    .venv-peers/bin/python tests/peers/throughput.py

1024x2048 PNG to a crop of 512x1024, one core, the four ways in turn for as many rounds as asked; medians.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import mmseg_networks  # noqa: F401  # imports mmsegmentation with a stand-in for the compiled part of mmcv
import numpy as np
import torch
from mmcv.transforms import Compose
from mmseg.utils import register_all_modules
from PIL import Image

from fcnbook.datasets._common import Pair
from fcnbook.files import read_image, read_labels
from fcnbook.pipeline.augment import TrainTransform
from fcnbook.pipeline.cache import CachedDataset, write_cache
from fcnbook.pipeline.loader import collate
from fcnbook.recipes import RECIPES
from fcnbook.runs.report import hardware_name
from fcnbook.types import Sample

RECIPE = RECIPES["fcn_r50-d8_512x1024_40k_cityscapes"]
PIPELINE = [
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations"},
    {"type": "RandomResize", "scale": (2048, 1024), "ratio_range": (0.5, 2.0), "keep_ratio": True},
    {"type": "RandomCrop", "crop_size": (512, 1024), "cat_max_ratio": 0.75},
    {"type": "RandomFlip", "prob": 0.5},
    {"type": "PhotoMetricDistortion"},
    {"type": "PackSegInputs"},
]
"""Of mmsegmentation's configurations for Cityscapes at 512x1024."""
CAMVID = Path(__file__).parents[3] / "shared" / "data" / "camvid" / "val"


class Pictures:
    """Photographs enlarged to 1024x2048 with a little noise, so that they compress like photographs of that size."""

    def __init__(self, folder, count):
        rng = np.random.default_rng(0)
        photographs = sorted(CAMVID.glob("*"))[:: max(1, len(list(CAMVID.glob("*"))) // count)][:count]
        self.pairs = []
        for number in range(count):
            if photographs:
                small = np.asarray(Image.open(photographs[number]).convert("RGB"))
            else:
                small = rng.integers(0, 256, (64, 128, 3), dtype=np.uint8)
            image = cv2.resize(small, (2048, 1024), interpolation=cv2.INTER_CUBIC).astype(int)
            image = np.clip(image + rng.integers(-4, 5, image.shape), 0, 255).astype(np.uint8)
            patches = rng.integers(0, 19, (32, 64), dtype=np.uint8)
            labels = cv2.resize(patches, (2048, 1024), interpolation=cv2.INTER_NEAREST)
            pair = Pair(folder / f"{number}.png", folder / f"{number}_labels.png")
            Image.fromarray(image).save(pair.image)
            Image.fromarray(labels).save(pair.labels)
            self.pairs.append(pair)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        image, labels, _ = self.pairs[index]
        return Sample(read_image(image), read_labels(labels), self.name(index))

    def name(self, index):
        return self.pairs[index].image.name

    def files(self, index):
        return list(self.pairs[index][:2])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    register_all_modules()
    theirs, ours = Compose(PIPELINE), TrainTransform(RECIPE.augment, RECIPE.data.mean)
    with tempfile.TemporaryDirectory() as folder:
        pictures = Pictures(Path(folder), arguments.pictures)
        cached = CachedDataset(pictures, write_cache(pictures, Path(folder) / "cache" / "train"))
        megabytes = sum(pair.image.stat().st_size for pair in pictures.pairs) / len(pictures) / 2**20

        def of_mmsegmentation(index, key):
            pair = pictures.pairs[index]
            fields = {
                "img_path": str(pair.image),
                "seg_map_path": str(pair.labels),
                "reduce_zero_label": False,
            }
            found = theirs({**fields, "seg_fields": []})
            assert found["inputs"].shape == (3, 512, 1024) or min(found["inputs"].shape[1:]) > 0

        def of_ours(data):
            def make(index, key):
                assert collate([ours(data[index], (0, 0, key))]).images.shape == (1, 3, 512, 1024)

            return make

        ways = {
            "mmsegmentation": of_mmsegmentation,
            "fcnbook": of_ours(pictures),
            "fcnbook, decoded cache": of_ours(cached),
        }
        times = {way: [] for way in ways}
        for number in range(arguments.rounds * len(pictures)):
            for way, make in ways.items():
                started = time.perf_counter()
                make(number % len(pictures), number)
                times[way].append(1e3 * (time.perf_counter() - started))
    count = len(times["fcnbook"])
    print(f"{hardware_name()}, one core, {len(pictures)} PNG of {megabytes:.1f} MiB, {count} samples a way")
    base = statistics.median(times["mmsegmentation"])
    for way, found in times.items():
        median, mean = statistics.median(found), statistics.fmean(found)
        print(
            f"{way:<24} median {median:6.1f} ms  mean {mean:6.1f} ms  ratio of medians {base / median:5.2f}"
        )


if __name__ == "__main__":
    main()
