"""The training loop, written out. taught in notebook 02, which proves its own copy equal to this one.

Steps are the unit, as in the published tables. Timing, logging, validation and checkpoints are one object, the
monitor, so that the loop shows nothing but the mathematics.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from fcnbook.inference import normalize
from fcnbook.losses import segmentation_loss
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


class Monitor(Protocol):
    """Sees every completed step; logs, validates, writes checkpoints, and may ask the loop to stop."""

    def after_step(self, step: int, loss: Tensor, parts: dict[str, Tensor], lr: float) -> bool:
        """Whether the loop goes on.

        Args:
            step: number of completed steps, so 1 after the first.
            loss: scalar, on the device.
            parts: scalars by name, on the device.
            lr: the rate of this step.
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
