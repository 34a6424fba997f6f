"""A trained network -> one file that other software runs: ONNX, or a program of `torch.export`.

Both hold one function: normalised images (N, C, H, W) float32 -> logits (N, K, H, W) float32 at the size of the
images, by the resize of the recipe. Colours, classes and the name of the recipe travel in the file.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from fcnbook.files import InputError
from fcnbook.inference import evaluation_mode
from fcnbook.models.layers import resize
from fcnbook.models.segmenter import Segmenter
from fcnbook.recipe import Recipe, Size

Format = Literal["onnx", "torch"]
ENDINGS: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
CHECKED_SIZES: tuple[Size, ...] = ((97, 129), (128, 96), (65, 193))
"""Sizes at which a file with free sizes is compared with the network: odd, even, small enough for big networks."""
TOLERANCE = 1e-3
"""Largest difference that passes, as a share of the largest logit.

Float32 sums in another order differ by about 1e-6 of it; a resize with the other align_corners by a quarter.
"""

Axes = dict[int, str]
_FREE: tuple[Axes, ...] = ({0: "batch", 2: "height", 3: "width"}, {0: "batch"}, {})
"""Which axes of the images a file leaves free, the best first."""


class ExportError(InputError):
    """The network could not be exported, or the file does not compute what the network does."""


class Check(NamedTuple):
    """The file beside the network on one batch of random images."""

    shape: tuple[int, ...]
    """(N, C, H, W) of the images."""
    difference: float
    """Largest absolute difference of two logits."""
    largest: float
    """Largest absolute logit of the network."""


class Exported(NamedTuple):
    """A file that was written and checked."""

    path: Path
    free: tuple[str, ...]
    """Names of the free axes; the others have the size of the example."""
    example: tuple[int, ...]
    """(N, C, H, W) that the network was traced with."""
    checks: list[Check]
    hindrance: str
    """Why not all axes are free, "" where they are."""


class LogitsAtInputSize(nn.Module):
    """The exported function: a segmenter without its auxiliary head, then the resize to the size of the images."""

    def __init__(self, model: Segmenter, align_corners: bool) -> None:
        super().__init__()
        self.segmenter = Segmenter(model.backbone, model.neck, model.decode_head)
        self.align_corners = align_corners

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) normalised images -> (N, K, H, W) logits; of networks with two outputs the classes."""
        logits: Tensor = self.segmenter(images).main
        return resize(logits, (images.shape[-2], images.shape[-1]), self.align_corners)


def export(model: Segmenter, path: Path, format: Format, size: Size | None = None) -> Exported:
    """Write the file and compare what it computes with the network.

    Batch, height and width are free where the network allows it; else they are fixed at `size`, as the result says.

    Args:
        model: on the CPU, with its recipe; used in evaluation mode, and left in its own.
        path: must end in .onnx or .pt2.
        format: "onnx", checked by onnxruntime, or "torch", a program of torch.export.
        size: (height, width) of the example, checked too; by default the crop of the recipe or 512x512, which is
            checked only where the sizes are fixed.

    Raises:
        InputError: the ending is another one, packages are missing, or the model carries no recipe.
        ExportError: no way of exporting worked, or the file computes something else. No file is left.
    """
    recipe = model.recipe
    if recipe is None:
        raise InputError("Only a network with its recipe can be exported: set model.recipe.")
    if path.suffix != ENDINGS[format]:
        raise InputError(f"{path}: files of the format {format} end in {ENDINGS[format]}.")
    if format == "onnx":
        _require_packages()
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(f".{os.getpid()}-{path.name}")
    network = LogitsAtInputSize(model, recipe.model.align_corners)
    example = torch.zeros(2, len(recipe.data.mean), *(size or recipe.augment.crop_size or (512, 512)))
    hindrances = []
    with evaluation_mode(network), torch.no_grad():
        for free in _FREE:
            try:
                _write(network, example, free, format, writing, _description(recipe))
                checks = _compare(network, _open(writing, format), example, free, own_size=size is not None)
            except (
                Exception
            ) as error:  # the exporters raise dozens of types, of which some pass on the next try
                writing.unlink(missing_ok=True)
                hindrances.append(_in_words(error))
                continue
            os.replace(writing, path)
            hindrance = hindrances[0] if hindrances else ""
            return Exported(path, tuple(free.values()), tuple(example.shape), checks, hindrance)
    raise ExportError(f"{recipe.name} could not be exported as {format}. {hindrances[-1]}")


def _in_words(error: Exception) -> str:
    """The first line of an exporter's error; of onnxruntime's without its own codes and places in its source."""
    first = str(error).strip().partition("\n")[0]
    if "[ONNXRuntimeError]" in first:
        said = re.sub(r".*Status Message: (\S+:\d+ \w+ )?", "", first)
        return f"onnxruntime: {said}"
    return f"{type(error).__name__}: {first}"


def _require_packages() -> None:
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"ONNX files need {', '.join(missing)}, not installed here. `pip install 'fcnbook[export]'` brings them; "
            "--format torch needs none."
        )


def _description(recipe: Recipe) -> dict[str, str]:
    data = recipe.data
    described = {
        "recipe": recipe.name,
        "images": "(pixel - mean) / std of each channel, RGB first; padding, if any, is 0",
        "mean": data.mean,
        "std": data.std,
        "logits": "argmax over axis 1 is the class",
        "classes": data.classes,
    }
    return {key: text if isinstance(text, str) else json.dumps(text) for key, text in described.items()}


def _write(
    network: nn.Module, example: Tensor, free: Axes, format: Format, path: Path, description: dict[str, str]
) -> None:
    axes = {axis: torch.export.Dim.DYNAMIC for axis in free}
    with _quiet():
        program = torch.export.export(network, (example,), dynamic_shapes={"images": axes})
        if format == "torch":
            torch.export.save(program, path, extra_files={"fcnbook.json": json.dumps(description)})
            return
        onnx_program = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": dict(free)},
            verbose=False,
        )
    assert onnx_program is not None
    onnx_program.model.metadata_props.update(description)
    onnx_program.save(path, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of the exporters, which speak of their own insides. What goes wrong is an exception."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)


def _open(path: Path, format: Format) -> Callable[[Tensor], Tensor]:
    """The function that a file holds."""
    if format == "torch":
        with _quiet():
            run: Callable[[Tensor], Tensor] = torch.export.load(path).module()
        return run
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised too; printed, they would stand between our own lines
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def _compare(
    network: nn.Module, run: Callable[[Tensor], Tensor], example: Tensor, free: Axes, *, own_size: bool
) -> list[Check]:
    """One check a size; raises `ExportError` where the two disagree."""
    batch, channels, *size = example.shape
    shapes = [(batch, *size)] if own_size or 2 not in free else []
    if 2 in free:
        shapes += [(n, *checked) for n, checked in enumerate(CHECKED_SIZES, start=1)]
    if 0 in free and 2 not in free:
        shapes.append((1, *size))
    generator = torch.Generator().manual_seed(0)
    checks = []
    for n, *checked in shapes:
        images = torch.randn(n, channels, *checked, generator=generator)
        expected = network(images)
        difference, largest = (run(images) - expected).abs().max().item(), expected.abs().max().item()
        if not difference <= TOLERANCE * largest:
            raise ExportError(
                f"The file disagrees with the network: by {difference:.1e} at {tuple(images.shape)}, where the largest "
                f"logit is {largest:.1e}."
            )
        checks.append(Check(tuple(images.shape), difference, largest))
    return checks
