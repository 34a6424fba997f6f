"""What a network costs before it runs: parameters, operations and memory, counted without memory for weights.

`count_cost` runs a network on the meta device, `predict_training_memory` and `predict_inference_memory` follow the
sizes of its tensors through one step. The counts of every recipe are also package data, `costs.json`, which
`read_cost` reads without torch; after a change of a recipe or of a network

    python -m fcnbook.cost

writes it anew (about a minute, no GPU).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fcnbook.datasets.table import DATASETS
from fcnbook.files import InputError, write_atomic
from fcnbook.published import PUBLISHED, PublishedRow, rows_of
from fcnbook.recipe import Recipe, Size, recipe_to_dict
from fcnbook.recipes import PROFILED, RECIPES

if TYPE_CHECKING:  # torch is imported where something is counted, so that the table is read in milliseconds
    from torch import Tensor, nn

    from fcnbook.models.segmenter import Segmenter

AUXILIARY = "auxiliary_head"


class PartCost(NamedTuple):
    """Size of one part of a network, and its share of one forward pass."""

    parameters: int
    flops: int


class Cost(NamedTuple):
    """Size of a network and of one forward pass."""

    parameters: int
    flops: int
    """2 per multiply-add of the convolutions and matrix products, one image, all heads included."""
    parts: dict[str, PartCost]
    """The same of backbone, neck, decode head and auxiliary head, as far as the network has them."""
    published_flops: int
    """By the rule of the published profiling rows, see `_PublishedRule`."""

    @property
    def without_auxiliary(self) -> PartCost:
        """What is left for predictions: the auxiliary head serves training only."""
        kept = [part for name, part in self.parts.items() if name != AUXILIARY]
        return PartCost(sum(part.parameters for part in kept), sum(part.flops for part in kept))

    def as_dict(self) -> dict[str, Any]:
        """All counts under names, for JSON."""
        parts = {name: part._asdict() for name, part in self.parts.items()}
        return {**self._asdict(), "parts": parts, "without_auxiliary_head": self.without_auxiliary._asdict()}


def cost_size(recipe: Recipe) -> Size:
    """The image that a recipe's cost is counted for: its crop, or a whole image where it has none.

    Where images vary in size, that is one which all of them fit into.
    """
    if recipe.augment.crop_size is not None:
        return recipe.augment.crop_size
    facts = DATASETS[recipe.data.name]
    size = facts.largest_size or facts.image_size or recipe.augment.base_size
    if size is None:
        raise InputError(f"Nothing says how large the images of {recipe.data.name} are; give a size.")
    return size


def count_cost(recipe: Recipe, size: Size | None = None) -> Cost:
    """Parameters and FLOPs of a recipe's network, from tensors on the meta device.

    Args:
        recipe: the network and its number of classes.
        size: (height, width) of the image; `cost_size` by default.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode  # brings torch.export, a second to import

    with torch.device("meta"):
        model = _build(recipe).eval()
        images = torch.empty(1, len(recipe.data.mean), *(size or cost_size(recipe)))
    with FlopCounterMode(display=False) as counter, torch.no_grad(), _PublishedRule(model) as rule:
        model(images)
    flops = {name.partition(".")[2]: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    parts = {
        name: PartCost(_count_parameters(part), flops.get(name, 0)) for name, part in model.named_children()
    }
    return Cost(_count_parameters(model), counter.get_total_flops(), parts, rule.flops)


class _PublishedRule:
    """Counts FLOPs as the profiling rows do: 2 x (multiply-adds of layers + 2 x elements out of batch norm).

    Layers are convolutions and linear layers, without their biases; resizes of maps, the auxiliary head and the last
    upsampling are left out. What counts is what a segmenter computes inside the `with` block.

    Source: the table of pytorch-auto-drive, which doubles the multiply-adds of the counter thop. That counter takes
    a batch norm for two operations an element, though one multiply-add would do, and the doubling makes it four.
    """

    def __init__(self, model: Segmenter) -> None:
        self.flops, self.model, self.hooks = 0, model, list[Any]()

    def __enter__(self) -> _PublishedRule:
        for name, part in self.model.named_children():
            if name != AUXILIARY:
                self.hooks += [module.register_forward_hook(self._add) for module in part.modules()]
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _add(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        from torch import nn

        if isinstance(module, nn.Conv2d | nn.Linear):
            self.flops += 2 * output.numel() * module.weight[0].numel()  # multiply-adds an output element
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            self.flops += 4 * output.numel()


def published_beside(recipe: Recipe, size: Size) -> list[PublishedRow]:
    """The rows to show beside a cost: those of the recipe, and those that profile its network at this size."""
    rows = rows_of(recipe.name)
    profiled = RECIPES[PROFILED]
    if (recipe.model, recipe.data.num_classes) == (profiled.model, profiled.data.num_classes):
        rows += [row for row in PUBLISHED.values() if row.recipe is None and row.crop == size]
    return rows


def images_per_gpu(row: PublishedRow, recipe: Recipe) -> int | None:
    """Images that each GPU held when the row was trained; None where the source counts the whole batch only."""
    gpus, by, _ = row.batch.partition("x")
    return recipe.batch_size // int(gpus) if by else None


def _build(recipe: Recipe) -> Segmenter:
    from fcnbook.build import build_model

    return build_model(recipe.model, recipe.data.num_classes)


def _count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# Memory

TRAINING_FACTOR = 1.17
"""Published training memory over the bytes of `predict_training_memory`, with 1 GB = 2^30 bytes.

The median of 13 rows of table 000 (FCN on R-18 to R-101, D8 and D16, three data sets, one in fp16), which lie between
1.11 and 1.22. The rest is what a count of tensors cannot see: workspaces of the convolutions, a second copy of the
gradients for the exchange between four GPUs, and the batch norm and the losses of PyTorch 1.5. Four rows of DeepLabV3,
PSPNet and JPU lie between 1.18 and 1.37; two of EncNet at 1.8 and 2.0, for the source holds the difference of each
position to each codeword in memory and `fcnbook.models.heads.EncHead` does not.
"""


def predict_training_memory(recipe: Recipe, size: Size | None = None, batch: int | None = None) -> int:
    """Bytes of all tensors at the fullest moment of a training step on one device.

    Weights, gradients, optimiser state, kept activations, loss. A GPU needs about `TRAINING_FACTOR` times as much.

    Args:
        recipe: network, loss, optimiser and precision.
        size: (height, width) of the crop; `cost_size` by default.
        batch: on the device at once; the recipe's batch, divided by its accumulation, by default.

    Raises:
        InputError: this version of torch has no tracker.
    """
    import torch

    from fcnbook.build import build_optimizer
    from fcnbook.losses import segmentation_loss

    height, width = size or cost_size(recipe)
    batch = batch or recipe.batch_size // recipe.accumulation
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(recipe.precision)

    def prepare() -> tuple[Callable[[], object], tuple[Any, ...]]:
        model = _build(recipe).train()
        optimizer = build_optimizer(recipe, model)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()  # makes its state, which the first real step would make
        if recipe.accumulation == 1:  # else the gradients of the passes before are there during the next
            optimizer.zero_grad()
        images = torch.empty(batch, len(recipe.data.mean), height, width)
        labels = torch.empty(batch, height, width, dtype=torch.uint8)
        geometry = labels if getattr(recipe.model.head, "geometric_classes", None) else None

        def step() -> None:
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                logits = model(images)
            loss, _ = segmentation_loss(
                logits,
                labels,
                recipe.loss,
                align_corners=recipe.model.align_corners,
                half_resize=recipe.model.half_resize,
                geometry=geometry,
            )
            loss.backward()
            optimizer.step()

        return step, (model, optimizer, images, labels)

    return _peak_bytes(prepare)


def predict_inference_memory(recipe: Recipe, size: Size | None = None) -> int:
    """Bytes of all tensors at the fullest moment of the prediction of one image, taken whole, in float32.

    Args:
        recipe: the network.
        size: (height, width) of the image; `cost_size` by default.

    Raises:
        InputError: this version of torch has no tracker.
    """
    import torch

    from fcnbook.inference import argmax_classes
    from fcnbook.models.layers import resize

    height, width = size or cost_size(recipe)

    def prepare() -> tuple[Callable[[], object], tuple[Any, ...]]:
        model = _build(recipe).eval()
        images = torch.empty(1, len(recipe.data.mean), height, width)

        def step() -> Tensor:
            with torch.no_grad():
                logits = model(images).main
                return argmax_classes(resize(logits, (height, width), recipe.model.align_corners))

        return step, (model, images)

    return _peak_bytes(prepare)


def _peak_bytes(prepare: Callable[[], tuple[Callable[[], object], tuple[Any, ...]]]) -> int:
    """Peak of tensor memory while a step runs on tensors that have sizes, but no memory.

    Args:
        prepare: makes what the step needs; returns the step, and the models, optimisers and tensors that are there
            before it.
    """
    import torch

    try:  # not part of torch's public interface
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.distributed._tools.mem_tracker import MemTracker
    except ImportError as error:
        raise InputError(
            f"torch {torch.__version__} has no memory tracker ({error}), so memory cannot be predicted; "
            "`fcnbook cost --no-memory` counts the rest."
        ) from error
    with FakeTensorMode():
        step, present = prepare()
        tracker = MemTracker()
        tracker.track_external(*present)
        with tracker:
            step()
    return sum(snapshot["Total"] for snapshot in tracker.get_tracker_snapshot("peak").values())


# The table of all recipes


def read_cost(recipe: Recipe) -> Cost | None:
    """The cost of a recipe at its own size from the table; None where the table knows the recipe no longer or not yet.

    A function of milliseconds: it needs no torch.
    """
    entry = _table().get(recipe.name)
    if entry is None or entry["network"] != network_hash(recipe):
        return None
    parts = {name: PartCost(*numbers) for name, numbers in entry["parts"].items()}
    return Cost(entry["parameters"], entry["flops"], parts, entry["published_flops"])


@functools.cache
def _table() -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = json.loads(
        importlib.resources.files("fcnbook").joinpath("costs.json").read_text(encoding="utf-8")
    )
    return table


def network_hash(recipe: Recipe) -> str:
    """Sixteen hex digits that change with whatever changes the cost: network, classes, channels, size."""
    fields = recipe_to_dict(recipe)
    decides = (fields["model"], recipe.data.num_classes, len(recipe.data.mean), cost_size(recipe))
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def write_costs(path: Path, recipes: Mapping[str, Recipe] = RECIPES) -> None:
    """Count every recipe, equal networks once, and write the table: a line a recipe."""
    counted: dict[str, Cost] = {}
    lines = []
    for name, recipe in recipes.items():
        network = network_hash(recipe)
        if network not in counted:
            counted[network] = count_cost(recipe)
        lines.append(f"{json.dumps(name)}: {json.dumps({'network': network, **counted[network]._asdict()})}")
    write_atomic(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


if __name__ == "__main__":
    write_costs(Path(__file__).with_name("costs.json"))
