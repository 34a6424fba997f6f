"""A run's curves in TensorBoard: the worked example of a monitor of one's own.

    with TensorBoardMonitor("runs/my-run/tensorboard", recipe) as monitor:
        run(recipe, "runs/my-run", monitor=monitor)

Then `tensorboard --logdir runs` shows the run while it goes on. Needs `pip install "fcnbook[tensorboard]"`.
"""

from __future__ import annotations

import os
from types import TracebackType

from torch import Tensor

from fcnbook.files import InputError
from fcnbook.metrics import Scores
from fcnbook.recipe import Recipe


class TensorBoardMonitor:
    """Writes loss, parts of the loss and learning rate of every so many steps, and the scores of all validations.

    Args:
        folder: for the event files; made if it is not there. A resumed run goes on in the same folder.
        recipe: of the run; names the classes in the curves of their IoU.
        every: steps between two points of the curves of the loss. Reading a loss waits for the device.

    Raises:
        InputError: the package tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], recipe: Recipe, *, every: int = 10) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError(
                'The package tensorboard is not installed. Install it with `pip install "fcnbook[tensorboard]"`, or '
                "run without this monitor."
            ) from error
        self._writer = SummaryWriter(os.fspath(folder))  # type: ignore[no-untyped-call]
        self._classes, self._every = recipe.data.classes, every

    def __enter__(self) -> TensorBoardMonitor:
        """The monitor itself; the end of the block closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def after_step(self, step: int, loss: Tensor, parts: dict[str, Tensor], lr: float) -> bool:
        """Write the curves of the training; training always goes on."""
        if step % self._every == 0:
            self._write("train/loss", float(loss), step)
            for name, part in parts.items():
                self._write(f"train/loss_{name}", float(part), step)
            self._write("train/lr", lr, step)
        return True

    def after_validation(self, step: int, scores: Scores) -> None:
        """Write the scores, in [0, 1]."""
        for name in ("miou", "macc", "aacc", "fwiou"):
            self._write(f"validation/{name}", getattr(scores, name), step)
        for name, iou in zip(self._classes, scores.iou_per_class, strict=True):
            self._write(f"iou/{name}", float(iou), step)
        self._writer.flush()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()  # type: ignore[no-untyped-call]

    def _write(self, curve: str, value: float, step: int) -> None:
        self._writer.add_scalar(curve, value, step)  # type: ignore[no-untyped-call]
