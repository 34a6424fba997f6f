"""The training loop, written out. Taught in notebook 02, which proves its own copy equal to this one.

Steps are the unit, as in the published tables. Timing, logging, validation and checkpoints are one object, the
monitor, so that the loop shows nothing but the mathematics. `run(recipe, out, monitor=...)` takes further monitors of
the reader's own; `fcnbook/runs/tensorboard.py` is an example.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fcnbook.inference import normalize
from fcnbook.losses import segmentation_loss
from fcnbook.metrics import Scores
from fcnbook.recipe import Recipe
from fcnbook.schedule import learning_rate
from fcnbook.types import Batch

AUTOCAST_DTYPE = {"fp16": torch.float16, "bf16": torch.bfloat16}


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; carries the batch that did it."""

    def __init__(self, step: int, parts: dict[str, float], batch: Batch) -> None:
        shown = ", ".join(f"{name} {value}" for name, value in parts.items())
        super().__init__(f"the loss is not finite at step {step} ({shown})")
        self.step, self.batch = step, batch


@runtime_checkable
class Monitor(Protocol):
    """Sees every completed step, and may ask the loop to stop. The loop needs nothing else."""

    def after_step(self, step: int, loss: Tensor, parts: dict[str, Tensor], lr: float) -> bool:
        """Whether the loop goes on: True, or False to stop after this step.

        Called in every step, so what takes long here makes training slow: on a GPU already the reading of a number,
        `float(loss)`, which waits for all the work that is queued. Draw no numbers from torch's global generator:
        dropout uses it, and the run would be another one.

        Args:
            step: number of completed steps, so 1 after the first.
            loss: scalar, on the device.
            parts: scalars by name, on the device, such as "main" and "aux"; before their weights.
            lr: the rate of this step.
        """


@runtime_checkable
class ValidationMonitor(Monitor, Protocol):
    """A monitor of a whole run, which sees the validations too."""

    def after_validation(self, step: int, scores: Scores) -> None:
        """Called after each validation of a run, the last one included.

        Args:
            step: number of completed steps.
            scores: on the evaluation split, in [0, 1]; nan where nothing could be scored.
        """


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    monitor: Monitor,
    *,
    start_step: int = 0,
    class_weights: Tensor | None = None,
    device: torch.device | str = "cpu",
    precision: Literal["fp32", "fp16", "bf16"] | None = None,
) -> int:
    """Train in place; the number of completed steps.

    Args:
        model: returns `SegLogits`; on `device`.
        batches: `recipe.accumulation` batches for each step from `start_step` on; the loop ends with them.
        recipe: loss, schedule and normalisation.
        optimizer: over the parameters of `model`.
        scaler: disabled, except for fp16.
        monitor: sees every step.
        start_step: steps completed before, after a resume.
        class_weights: (K,) weights of the cross-entropy, or None.
        device: where the model is.
        precision: overrides the recipe's.

    Raises:
        NonFiniteLossError: before the weights are touched by it.
    """
    dtype = AUTOCAST_DTYPE.get(precision or recipe.precision)
    device_type = torch.device(device).type
    step, passes = start_step, 0
    model.train()
    optimizer.zero_grad()
    for batch in batches:
        lr = learning_rate(step, recipe.optim.lr, recipe.schedule)
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("lr_mult", 1.0)

        images = normalize(batch.images.to(device), recipe.data.mean, recipe.data.std, batch.windows)
        labels = batch.labels.to(device)
        with torch.autocast(device_type, dtype, enabled=dtype is not None):
            logits = model(images)
        loss, parts = segmentation_loss(
            logits,
            labels,
            recipe.loss,
            align_corners=recipe.model.align_corners,
            class_weights=class_weights,
            geometry=None if batch.geometry is None else batch.geometry.to(device),
            shares=recipe.shares_per_pass,
            half_resize=recipe.model.half_resize,
        )
        if not torch.isfinite(loss):
            raise NonFiniteLossError(step + 1, {name: float(part) for name, part in parts.items()}, batch)

        scaler.scale(loss / recipe.accumulation).backward()
        passes += 1
        if passes % recipe.accumulation:
            continue
        if recipe.optim.clip_norm is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), recipe.optim.clip_norm)
        scaler.step(optimizer)
        scaler.update(recipe.loss_scale)
        optimizer.zero_grad()

        step += 1
        if not monitor.after_step(step, loss.detach(), parts, lr):
            break
    return step
