"""Recipe -> speed and memory on this machine, by the procedure of the source that published its row.

mmsegmentation times whole test images one by one, pytorch-auto-drive a tensor of ones; both take random weights, as
here. Speed and memory are the hardware's as much as the network's, so they are shown beside the published figures and
never judged; parameters and FLOPs are. `fcnbook bench ROW` calls `bench` and prints the report.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from fcnbook.build import build_dataset, build_optimizer, build_segmenter, find_device
from fcnbook.cost import cost_size, count_cost, images_per_gpu
from fcnbook.datasets.readers import find_dataset
from fcnbook.files import InputError, write_error
from fcnbook.inference import argmax_classes, evaluation_mode, segment_together
from fcnbook.models.layers import resize
from fcnbook.models.segmenter import Segmenter
from fcnbook.published import Measured, PublishedRow, row_verdicts
from fcnbook.recipe import EvalSpec, Recipe, Size, fitted_size, recipe_hash
from fcnbook.recipes import find_network
from fcnbook.runs.report import Provenance, find_provenance, hardware_name
from fcnbook.training import train
from fcnbook.types import Batch, SegLogits

Say = Callable[[str], None]
"""Takes a line for the reader."""
print_now = functools.partial(print, flush=True)
Clock = Callable[[], float]
"""Seconds since some moment."""
Procedure = Literal["images", "ones"]

IMAGES, DROPPED = 200, 5
"""mmsegmentation: images that go through the network, and how many of the first ones are not counted."""
REPEATS, WARM_UPS, TRIALS = 300, 10, 3
"""pytorch-auto-drive: timed forwards a trial, forwards before them, and trials, of which the fastest counts."""
TRAINING_STEPS = 3
"""The optimiser makes its state in the first step, so the second is the fullest."""


class Timing(NamedTuple):
    """What was timed, and how fast it was."""

    fps: float
    """Images a second at batch 1."""
    procedure: str
    """What one timed call holds, and how many there were."""


@dataclass(frozen=True, kw_only=True)
class BenchReport(Provenance):
    """Speed, memory and size of one network on this machine, beside the published figures."""

    row: str | None
    """Key of the published row; None for a recipe without one."""
    recipe: str
    recipe_hash: str
    fps: float
    milliseconds: float
    """For one image."""
    procedure: str
    """What was timed, and how often."""
    memory_gib: float | None
    """Peak of allocated GPU memory in training steps; None: not measured."""
    memory_procedure: str
    """What was measured, or why nothing was."""
    size: Size
    """(height, width) of the image that the FLOPs are counted for."""
    parameters: int
    flops: int
    """2 per multiply-add of one forward pass."""
    published_flops: int
    """By the rule of pytorch-auto-drive's table, see `fcnbook.cost.Cost`."""
    remarks: list[str]
    """What else keeps these figures from being those of the table."""
    note: str
    """What is doubtful about the row."""
    verdicts: list[dict[str, Any]]
    """One a column with a published figure, as `fcnbook.published.Verdict`."""
    verdict: list[str]
    """The same as sentences."""

    def text(self) -> str:
        """The report for a terminal, one fact a line."""
        memory = "not measured" if self.memory_gib is None else f"{self.memory_gib:.2f} GiB"
        size = "{}x{}".format(*self.size)
        lines = [
            ("row", f"{self.row or 'none'}, {self.recipe}"),
            ("hardware", self.hardware),
            ("speed", f"{self.fps:.2f} img/s, {self.milliseconds:.1f} ms an image"),
            ("", self.procedure),
            ("memory", f"{memory}: {self.memory_procedure}"),
            ("cost", f"{self.parameters / 1e6:.2f} M parameters, {self.flops / 1e9:.2f} GFLOPs at {size}"),
            ("", f"{self.published_flops / 1e9:.2f} GFLOPs by the rule of the published profiling rows"),
            *(("remark", line) for line in self.remarks),
            *(("verdict", line) for line in self.verdict),
            ("note", self.note),
        ]
        return "\n".join(f"{name:<10}{line}" for name, line in lines if line)


def bench(
    row_or_recipe: str,
    *,
    data_root: str | os.PathLike[str] | None = None,
    images: int = IMAGES,
    repeats: int = REPEATS,
    memory: bool = True,
    device: str | None = None,
    out: str | os.PathLike[str] | None = None,
    every: float = 5.0,
    say: Say = print_now,
) -> BenchReport:
    """Measure a network by the procedure of its source; the report, which also lies in `out` as result.json.

    Args:
        row_or_recipe: a row such as "000-01" or "002-04", or the name of a recipe.
        data_root: folder of the data set itself, for timing on its images; by default on generated ones.
        images: images to time by mmsegmentation's procedure.
        repeats: timed forwards by pytorch-auto-drive's.
        memory: train a few steps too, to see their peak of GPU memory.
        device: a torch device; by default CUDA where there is one.
        out: folder of result.json; by default `runs/bench-<row>`.
        every: seconds between two lines of progress.
        say: takes these lines.

    Raises:
        InputError: there is no such row, recipe or device, or the data is missing or damaged.

    Source: `tools/benchmark.py` of mmsegmentation 0.x; the profiling table of pytorch-auto-drive.
    """
    if min(images, repeats) < 1:
        raise InputError("There is nothing to time in 0 images; give at least 1.")
    row, recipe = find_network(row_or_recipe)
    place = find_device(device)
    size = row.crop if row is not None and row.recipe is None else cost_size(recipe)
    pictures = find_images(recipe, data_root, images) if procedure_of(recipe) == "images" else None
    folder = Path(out) if out is not None else Path("runs") / f"bench-{row.key if row else recipe.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)  # before minutes of work whose result could not be stored
    except OSError as error:
        raise write_error(folder, error) from error
    model, progress = _network(recipe).to(place), _Progress(every, say)
    with _no_search_for_algorithms():
        if pictures is None:
            timing = time_ones(model, size, repeats, progress=progress)
        else:
            timing = time_images(model, *pictures, recipe, progress=progress)
        say(f"{timing.fps:.2f} img/s")
        del model
        peak, how = measure_memory(row, recipe, place) if memory else (None, "left out")
    report = _report(row, recipe, size, timing, (peak, how), place)
    report.save(folder / "result.json")
    say(f"result in {folder / 'result.json'}")
    return report


def procedure_of(recipe: Recipe) -> Procedure:
    """How the source of a recipe times networks; sources that never did are timed as mmsegmentation's."""
    return "ones" if recipe.source == "pytorch-auto-drive" else "images"


# Speed


def find_images(
    recipe: Recipe, data_root: str | os.PathLike[str] | None, count: int
) -> tuple[Iterator[np.ndarray], str]:
    """The first images of the evaluation split, read one by one, and where they come from in words.

    Without a data root they are noise of the data set's native size: what is in an image takes no time.
    """
    data = recipe.data
    facts = find_dataset(data.name)
    if data_root is None and not facts.generated and facts.image_size is not None:
        size, channels = facts.image_size, len(data.mean)
        dtype = np.float32 if data.inputs == "color_depth" else np.uint8
        noise = (
            np.random.default_rng(i).integers(0, 256, (*size, channels), np.uint8).astype(dtype)
            for i in range(count)
        )
        return noise, "{} of {} generated images of {}x{}".format(count, IMAGES, *size)
    dataset = build_dataset(recipe, data.val_split, None if data_root is None else Path(data_root))
    count = min(count, len(dataset))
    return (dataset[i].image for i in range(count)), f"{count} of {IMAGES} images of {data.name}"


def time_images(
    model: Segmenter,
    images: Iterable[np.ndarray],
    origin: str,
    recipe: Recipe,
    *,
    clock: Clock = time.perf_counter,
    progress: Callable[[int, float], None] | None = None,
) -> Timing:
    """Speed as mmsegmentation's benchmark script measures it: whole images, one by one, the first five not counted.

    Reading an image and scaling it to the test size are not timed. Timed is, from the image in memory to the classes
    in memory: copy to the device, normalisation, forward, over all windows where the protocol slides one, resize to the
    image's own size, softmax, argmax, copy back. The source normalises before its clock starts, and copies floats.
    """
    half = recipe.precision == "fp16" or recipe.evaluation.precision == "fp16"
    spec = dataclasses.replace(
        recipe.evaluation, size=None, scales=(1.0,), flip=False, precision="fp16" if half else "fp32"
    )
    device, seconds = next(model.parameters()).device, list[float]()
    with evaluation_mode(model), torch.no_grad():
        for image in images:
            original = image.shape[:2]
            scaled = _scaled(image, recipe.evaluation)
            to_original = dataclasses.replace(spec, score_size=original)
            _wait_for(device)
            started = clock()
            logits = segment_together(
                model,
                [scaled],
                to_original,
                recipe.data,
                align_corners=recipe.model.align_corners,
                half_resize=recipe.model.half_resize,
            )
            argmax_classes(logits.softmax(1)).cpu()
            _wait_for(device)
            seconds.append(clock() - started)
            if progress is not None:
                progress(len(seconds), seconds[-1])
    dropped = min(DROPPED, len(seconds) - 1)
    timed = seconds[dropped:]
    what = f"{origin}, the first {dropped} not counted, one at a time, {_precision(device, half)}; timed: {_TIMED}"
    return Timing(len(timed) / sum(timed), what)


_TIMED = "copy to the device, normalisation, forward, resize to native size, softmax, argmax, copy back"


def time_ones(
    model: Segmenter,
    size: Size,
    repeats: int = REPEATS,
    *,
    clock: Clock = time.perf_counter,
    progress: Callable[[int, float], None] | None = None,
) -> Timing:
    """Speed as pytorch-auto-drive measures it: a tensor of ones that is on the device already, best of three trials.

    Timed are the forwards with the bilinear upsampling to the input size, in float32, together.
    """
    device = next(model.parameters()).device
    ones = torch.ones(1, 3, *size, device=device)

    def forward() -> None:
        output: SegLogits = model(ones)
        resize(output.main, size, align_corners=True)

    warm_ups, best = min(WARM_UPS, repeats), float("inf")
    with evaluation_mode(model), torch.no_grad():
        for trial in range(TRIALS):
            for _ in range(warm_ups):
                forward()
            _wait_for(device)
            started = clock()
            for _ in range(repeats):
                forward()
            _wait_for(device)
            seconds = clock() - started
            best = min(best, seconds)
            if progress is not None:
                progress((trial + 1) * repeats, seconds)
    height, width = size
    what = (
        f"a tensor of ones 1x3x{height}x{width}, best of {TRIALS} trials of {repeats} of {REPEATS} forwards after "
        f"{warm_ups} of {WARM_UPS} to warm up, {_precision(device, False)}; timed: forward, upsampling to input size"
    )
    return Timing(repeats / best, what)


def _network(recipe: Recipe) -> Segmenter:
    """The network with random weights whose activations stay in the range of float16."""
    model = build_segmenter(recipe)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Untrained, the sum of the residual branches grows to 1e5 in ResNet-101; a larger variance halves them.
            nn.init.constant_(module.running_var, 4.0)  # type: ignore[arg-type]
    return model


def _scaled(image: np.ndarray, spec: EvalSpec) -> np.ndarray:
    """The image at its test size."""
    original: Size = (image.shape[0], image.shape[1])
    size = original if spec.size is None else fitted_size(original, spec.size)
    return image if size == original else cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)


def _wait_for(device: torch.device) -> None:
    """Until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _precision(device: torch.device, half: bool) -> str:
    if device.type != "cuda":
        return "fp32, for fp16 needs a GPU" if half else "fp32"
    if half:
        return "fp16 by autocast"
    return "fp32, convolutions in TF32 where the GPU has it" if torch.backends.cudnn.allow_tf32 else "fp32"


@contextlib.contextmanager
def _no_search_for_algorithms() -> Iterator[None]:
    """Algorithms of cuDNN are taken by its guess and not by trial, as in the published measurements."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class _Progress:
    """A line every few seconds."""

    def __init__(self, every: float, say: Say) -> None:
        self.every, self.say, self.last = every, say, time.perf_counter()

    def __call__(self, done: int, seconds: float) -> None:
        if time.perf_counter() - self.last >= self.every:
            self.last = time.perf_counter()
            self.say(f"{done} done, the last took {seconds:.3f} s")


# Memory


def measure_memory(
    row: PublishedRow | None, recipe: Recipe, device: torch.device
) -> tuple[float | None, str]:
    """Peak of allocated GPU memory in training steps, in GiB, with what was measured; or None, and why not."""
    if row is not None and row.recipe is None:
        return None, "the row has no training"
    if device.type != "cuda":
        return None, "the memory of a CPU is shared with everything else, so only a GPU's is measured"
    images = row and images_per_gpu(row, recipe)
    images = images or recipe.batch_size // recipe.accumulation
    what = "{} training steps of {} crops of {}x{}".format(TRAINING_STEPS, images, *cost_size(recipe))
    what += ", one GPU alone, which exchanges no gradients"
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        train_steps(recipe, images, device)
    except torch.OutOfMemoryError:
        return None, f"{what}: more than this GPU has"
    return torch.cuda.max_memory_allocated(device) / 2**30, what


def train_steps(
    recipe: Recipe, pictures: int, device: torch.device, num_steps: int = TRAINING_STEPS
) -> Segmenter:
    """A network of the recipe after a few steps of training on noise, each with `images` crops at once."""
    model = build_segmenter(recipe).to(device)
    data, (height, width) = recipe.data, cost_size(recipe)
    recipe = dataclasses.replace(recipe, batch_size=pictures, accumulation=1, replicas=1)
    pixels, window = (pictures, height, width), torch.tensor([0, 0, height, width])
    images = torch.randint(256, (pictures, len(data.mean), height, width), dtype=torch.uint8)
    geometric = getattr(recipe.model.head, "geometric_classes", None)
    batch = Batch(
        images=images.float() if data.inputs == "color_depth" else images,
        labels=torch.randint(data.num_classes, pixels, dtype=torch.uint8),
        windows=window.expand(pictures, 4),
        names=["noise"] * pictures,
        geometry=torch.randint(geometric, pixels, dtype=torch.uint8) if geometric else None,
    )
    # PyTorch's start of 2^16 overflows in the first steps, which then leave the optimiser without its state.
    scale = recipe.loss_scale or 512.0
    scaler = torch.amp.GradScaler(device.type, scale, enabled=recipe.precision == "fp16")
    optimizer = build_optimizer(recipe, model)
    train(model, [batch] * num_steps, recipe, optimizer, scaler, _Unwatched(), device=device)
    return model


class _Unwatched:
    """A monitor that lets training go on."""

    def after_step(self, step: int, loss: Tensor, parts: dict[str, Tensor], lr: float) -> bool:
        return True


# Report


def _report(
    row: PublishedRow | None,
    recipe: Recipe,
    size: Size,
    timing: Timing,
    memory: tuple[float | None, str],
    device: torch.device,
) -> BenchReport:
    cost, hardware = count_cost(recipe, size), hardware_name(device)
    measured = Measured(
        parameters=cost.parameters,
        flops=cost.published_flops,
        fps=timing.fps,
        memory_gib=memory[0],
        hardware=hardware,
    )
    found = row_verdicts(row, measured)
    return BenchReport(
        row=row.key if row else None,
        recipe=recipe.name,
        recipe_hash=recipe_hash(recipe),
        fps=round(timing.fps, 4),
        milliseconds=round(1000 / timing.fps, 3),
        procedure=timing.procedure,
        memory_gib=None if memory[0] is None else round(memory[0], 3),
        memory_procedure=memory[1],
        size=size,
        parameters=cost.parameters,
        flops=cost.flops,
        published_flops=cost.published_flops,
        remarks=list(_remarks(row, recipe)),
        note=row.note if row else "",
        verdicts=[verdict.as_dict() for verdict in found],
        verdict=[verdict.text() for verdict in found],
        **vars(find_provenance(device, hardware)),
    )


def _remarks(row: PublishedRow | None, recipe: Recipe) -> Iterator[str]:
    """Why a published figure is missing."""
    if row is None:
        yield "No published row belongs to this recipe."
    elif recipe.source == "sssegmentation":
        yield "sssegmentation never measured speed or memory; this is mmsegmentation's procedure."
    elif recipe.source == "pytorch-auto-drive" and row.recipe is not None:
        yield "pytorch-auto-drive timed its network at other sizes only: rows 002-04 to 002-06."
    elif row.figure("fps") is None:
        yield "No speed was published for this row."
