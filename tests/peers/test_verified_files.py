"""A checkpoint that mmsegmentation 1.2.2 wrote, published on localhost: `verify` scores it as mmsegmentation does."""

from __future__ import annotations

import functools
import hashlib
import sys
import threading
import warnings
from contextlib import contextmanager
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import ModuleSpec

import cv2
import fake_trees
import numpy as np
import pytest
import torch
from PIL import Image
from pipelines import CONFIGS, Config, IoUMetric, init_default_scope

# isort: split
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import METRICS

from fcnbook.book.agree import randomize
from fcnbook.published import ALIASES, PUBLISHED, rows_of
from fcnbook.reproduce.verify import verify

pytestmark = pytest.mark.peers


@METRICS.register_module()
class KeptAreas(IoUMetric):
    """Their metric, which also keeps pixels of each class: right, in either, predicted, labelled."""

    def compute_metrics(self, results):
        areas = zip(*results, strict=True)
        KeptAreas.areas = [torch.stack(each).double().sum(0) for each in areas]
        return super().compute_metrics(results)


class RandomNetwork(Hook):
    """Random weights with which a network sees all classes; the training itself begins with its own start weights."""

    def before_train(self, runner):
        torch.manual_seed(0)
        randomize(runner.model)
        classifier = runner.model.decode_head.conv_seg.weight
        classifier.data -= classifier.data.mean(1, keepdim=True)  # else one class wins nearly everywhere
        for layer in runner.model.modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.momentum = 1.0  # after the one step the statistics are those of its images


SIZE = (96, 96)
"""Of the images; both sides scale them to 1024x1024 or 1025x1025 for the network."""


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Two equal trees of fake Cityscapes; mmsegmentation needs the one whose labels are converted."""
    folder = tmp_path_factory.mktemp("cityscapes")
    for name in ("ours", "theirs"):
        fake_trees.cityscapes(folder / name, converted=name == "theirs")
        for number, path in enumerate(sorted((folder / name / "leftImg8bit").rglob("*.png"))):
            fake_trees.picture(path, *SIZE, seed=number)
        for path in (folder / name / "gtFine").rglob("*.png"):
            with Image.open(path) as labels:
                labels.resize(SIZE[::-1], Image.Resampling.NEAREST).save(path)
    return folder


@contextmanager
def room_for_their_runner():
    """Inside, their runner works without mmcv's compiled part and may warn; random numbers and threads stay ours."""
    numbers, threads = np.random.get_state(), cv2.getNumThreads()
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(sys.modules["mmcv._ext"], "__spec__", ModuleSpec("mmcv._ext", loader=None))
        patch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # it reads checkpoints as before PyTorch 2.6
        yield
    np.random.set_state(numbers)
    cv2.setNumThreads(threads)


def their_config(name, data_root, work_dir):
    """A configuration of theirs with these changes: one step of training, on small crops, without a GPU."""
    (path,) = CONFIGS.glob(f"*/{name}.py")
    config = Config.fromfile(path)
    crop = (128, 384)
    config.merge_from_dict(
        {
            "work_dir": str(work_dir),
            "launcher": "none",
            "experiment_name": work_dir.name,
            "log_level": "ERROR",
            "randomness": {"seed": 0},
            "model.pretrained": None,
            "model.data_preprocessor.size": crop,
            "train_cfg.max_iters": 1,
            "optim_wrapper.optimizer.lr": 1e-6,  # the weights stay random
            "train_cfg.val_interval": 10,
            "default_hooks.checkpoint.interval": 1,
        }
    )
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.num_workers, loader.persistent_workers = 0, False
        loader.dataset.data_root = str(data_root)
    for step in config.train_dataloader.dataset.pipeline:
        if step.type == "RandomCrop":
            step.crop_size = crop
        if step.type == "RandomResize":
            step.ratio_range = (1.0, 1.0)  # as in the test, for the statistics of batch norm
    config.test_evaluator.type = "KeptAreas"
    return config


def run_mmsegmentation(name, data_root, work_dir):
    """One step of their training from random weights, and their test of the checkpoint that it wrote.

    Returns:
        The checkpoint, what their test prints, and the pixels of each class that it counted.
    """
    init_default_scope("mmseg")
    checkpoint = work_dir / "training" / "iter_1.pth"
    with room_for_their_runner():
        training = Runner.from_cfg(their_config(name, data_root, work_dir / "training"))
        training.register_hook(RandomNetwork())
        training.train()
        config = their_config(name, data_root, work_dir / "test")
        config.load_from = str(checkpoint)
        printed = Runner.from_cfg(config).test()
    return checkpoint, printed, KeptAreas.areas


def publish(checkpoint, folder, recipe):
    """The checkpoint under a name as mmsegmentation 0.x gave it, which ends in digits of the SHA-256."""
    digits = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:8]
    folder.mkdir()
    return checkpoint.rename(folder / f"{recipe}_20201225_021327-{digits}.pth")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Keep the test output clean."""


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = functools.partial(Quiet, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "config", ["fcn_r18-d8_4xb2-80k_cityscapes-512x1024", "fcn_r18-d8_4xb2-80k_cityscapes-769x769"]
)
@pytest.mark.cell("mmsegmentation", "weights")
@pytest.mark.cell("mmsegmentation", "scoring")
@pytest.mark.cell("mmsegmentation", "test pipeline")
def test_a_checkpoint_of_mmsegmentation_gets_its_score_to_the_last_digit(
    config, trees, server, tmp_path, monkeypatch, show, largest
):
    recipe = ALIASES[config]
    checkpoint, printed, areas = run_mmsegmentation(config, trees / "theirs", tmp_path / "mmsegmentation")
    file = publish(checkpoint, tmp_path / "published", recipe)
    (row,) = rows_of(recipe)
    url = f"{server}/{file.parent.name}/{file.name}"
    monkeypatch.setitem(PUBLISHED, row.key, replace(row, model_url=url, sha256_prefix=file.stem[-8:]))

    report = verify(
        row.key,
        data_root=trees / "ours",
        weights_folder=tmp_path / "weights",
        out=tmp_path / "out",
        device="cpu",
        say=lambda line: None,
    )
    assert (tmp_path / "weights" / file.name).read_bytes() == file.read_bytes()
    assert [round(100 * score, 2) for score in (report.miou, report.macc, report.aacc)] == [
        printed["mIoU"],
        printed["mAcc"],
        printed["aAcc"],
    ]
    right, either, predicted, labelled = areas
    wanted = (right / either).numpy()
    np.testing.assert_array_equal(np.array(report.iou_per_class, float), wanted.round(6))
    assert report.miou == round(np.nanmean(wanted), 6)
    assert (predicted > 0).sum() > 12 and (right > 0).sum() > 6
    numbers = (
        f"mIoU {100 * report.miou:.2f}, theirs {printed['mIoU']:.2f}; IoU of each class equal to 6 digits"
    )
    show(f"verify {row.key} {recipe}", numbers)
    largest(0)
