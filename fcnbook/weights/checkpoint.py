"""Checkpoints: everything that an exact resume needs, written so that a kill at any moment loses nothing.

Weights are safetensors; optimiser, scaler and random state are plain tensors that load with
`weights_only=True`, so that reading a checkpoint never runs code. Both carry checksums, and the newest two checkpoints
are kept: where the newest is damaged, the one before takes its place.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from fcnbook.files import InputError, flush_folder, write_atomic, write_error
from fcnbook.weights.torch_files import (
    CHECKSUMS,
    DamagedError,
    read_header,
    read_safetensors,
    tensor_checksums,
)

WEIGHTS_FILE = "model.safetensors"
STATE_FILE = "state.pt"
STATE_CHECKSUM = "state_sha256"
"""Key in the header of the weights: SHA-256 of the file beside them."""
KEPT = 2
"""Checkpoints of a run that stay."""

Say = Callable[[str], object]
"""Takes a sentence for the reader."""
Taken = TypeVar("Taken")


def find_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first: its own folders `step-NNNNNNNN`, and never a link."""
    return sorted(path for path in folder.glob("step-*") if _is_own(path, "step"))


def _is_own(path: Path, kind: str) -> bool:
    return re.fullmatch(rf"{kind}-\d{{8}}", path.name) is not None and path.is_dir() and not path.is_symlink()


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    metadata: dict[str, str],
) -> Path:
    """The folder of the new checkpoint; all but the newest two are removed once it is complete.

    Both files are written and flushed to disk under a temporary folder name, then the folder is renamed. A process
    that is killed before the rename leaves the previous checkpoint as the newest one. Only folders that this function
    made are removed, by their names; links are not followed.

    Args:
        folder: `RunDir.checkpoint_folder`.
        step: completed steps.
        model: its `state_dict` is stored, without wrappers such as DDP.
        optimizer: its state is stored.
        scaler: gradient scaler; one that is disabled stores nothing.
        metadata: strings that go into the header of the weights file.

    Raises:
        InputError: the disk is full or cannot be written, or a link stands in the way. The previous checkpoint is
            intact.
    """
    final, writing = folder / f"step-{step:08d}", folder / f"writing-{step:08d}"
    for path in (folder, final, writing):
        if path.is_symlink():
            raise InputError(
                f"{path} is a link, and a run writes only into folders of its own. Remove the link, then run again."
            )
    if final.exists():  # the last step, saved by the clock a moment ago
        return final
    shutil.rmtree(writing, ignore_errors=True)
    try:
        writing.mkdir(parents=True)
        state = _to_bytes(_training_state(step, optimizer, scaler))
        write_atomic(writing / STATE_FILE, state)
        save_weights(writing, model, metadata | {STATE_CHECKSUM: hashlib.sha256(state).hexdigest()})
        os.rename(writing, final)
        flush_folder(folder)
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise
    unfinished = [
        path for path in folder.glob("writing-*") if _is_own(path, "writing")
    ]  # of writers that were killed
    for other in [*find_checkpoints(folder)[:-KEPT], *unfinished]:
        shutil.rmtree(other, ignore_errors=True)
    return final


def save_weights(folder: Path, model: nn.Module, metadata: dict[str, str]) -> Path:
    """Write the state dict of `model` into `folder`, all of it or nothing; the path of the file.

    The header holds a checksum of each tensor, which `read_safetensors` compares.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = metadata | {CHECKSUMS: json.dumps(tensor_checksums(weights))}
    write_atomic(folder / WEIGHTS_FILE, safetensors.torch.save(weights, metadata))
    return folder / WEIGHTS_FILE


def _training_state(
    step: int, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> dict[str, Any]:
    return {
        "step": step,
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "random_cpu": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _to_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def resume(
    checkpoint: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    say: Say = warnings.warn,
) -> int:
    """Completed steps; loads weights, optimiser, scaler and random state in place.

    A damaged checkpoint is renamed to `damaged-NNNNNNNN`, and the one before it is taken.

    Args:
        checkpoint: the newest one.
        model: the network of the run.
        optimizer: its optimiser.
        scaler: its gradient scaler.
        say: takes a sentence for each checkpoint that is damaged.

    Raises:
        InputError: every checkpoint is damaged, or it belongs to another network.
    """

    def restore(candidate: Path) -> int:
        fill_network(model, read_checkpoint(candidate), candidate / WEIGHTS_FILE)
        state = read_state(candidate)
        _restore(state, candidate, optimizer, scaler)
        return int(state["step"])

    older = [path for path in find_checkpoints(checkpoint.parent) if path.name < checkpoint.name]
    taken, step, damaged = _take_newest([*older, checkpoint], restore)
    if taken is None or step is None:
        raise InputError(f"{' '.join(damaged.values())} Delete {checkpoint.parent} to start the run anew.")
    for path, why in damaged.items():
        say(f"{why} It is now in {_set_aside(path)}; the run goes on from {taken.name}.")
    return step


def read_newest(folder: Path, say: Say = warnings.warn) -> tuple[Path, dict[str, Tensor]] | None:
    """The newest weights in a folder of checkpoints, and their file; None where there is no checkpoint.

    Args:
        folder: `RunDir.checkpoint_folder`; nothing in it is changed.
        say: takes a sentence where the newest is damaged and an older one is taken.

    Raises:
        InputError: every checkpoint is damaged.
    """
    taken, weights, damaged = _take_newest(find_checkpoints(folder), read_checkpoint)
    if taken is not None and weights is not None:
        for why in damaged.values():
            say(f"{why} The weights of {taken.name} are taken instead.")
        return taken / WEIGHTS_FILE, weights
    if damaged:
        raise InputError(f"{' '.join(damaged.values())} There is no older checkpoint.")
    return None


def _take_newest(
    checkpoints: Sequence[Path], read: Callable[[Path], Taken]
) -> tuple[Path | None, Taken | None, dict[Path, str]]:
    """The newest checkpoint that is not damaged, what `read` makes of it, and what is wrong with newer ones.

    Args:
        checkpoints: oldest first.
        read: raises a DamagedError where one is damaged.
    """
    damaged: dict[Path, str] = {}
    for checkpoint in reversed(checkpoints):
        try:
            return checkpoint, read(checkpoint), damaged
        except DamagedError as error:
            damaged[checkpoint] = str(error)
    return None, None, damaged


def read_checkpoint(checkpoint: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint folder.

    Raises:
        DamagedError: they are missing, or not what was written.
    """
    if not (checkpoint / WEIGHTS_FILE).is_file():
        raise DamagedError(f"{checkpoint / WEIGHTS_FILE} is missing.")
    return read_safetensors(checkpoint / WEIGHTS_FILE)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What lies beside the weights of a checkpoint, which have been read.

    Raises:
        DamagedError: it is missing, or not what was written.
    """
    path = checkpoint / STATE_FILE
    if not path.is_file():
        raise DamagedError(f"{path} is missing.")
    try:
        data = path.read_bytes()
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types for a damaged file
        raise DamagedError(f"{path} is damaged ({error}).") from error
    expected = read_header(checkpoint / WEIGHTS_FILE).get(STATE_CHECKSUM)  # older versions wrote none
    if expected not in (None, hashlib.sha256(data).hexdigest()):
        raise DamagedError(f"{path} is damaged: it is not what was written.")
    return state


def _restore(
    state: dict[str, Any], checkpoint: Path, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> None:
    """Optimiser, scaler and random state from a state that may be of another kind than ours."""
    try:
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random_cpu"])
        if len(state["random_cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["random_cuda"])
        int(state["step"])
    except Exception as error:  # each part raises types of its own
        raise DamagedError(
            f"{checkpoint / STATE_FILE} is damaged: it is not the state of this training "
            f"({type(error).__name__}: {error})."
        ) from error


def _set_aside(checkpoint: Path) -> Path:
    """Rename a damaged checkpoint, so that nobody takes it for a good one; where it is now."""
    name = checkpoint.name.replace("step", "damaged")
    names = (name, *(f"{name}-{number}" for number in range(2, 1000)))
    aside = next(path for path in map(checkpoint.with_name, names) if not os.path.lexists(path))
    try:
        os.rename(checkpoint, aside)
    except OSError as error:
        raise write_error(aside, error) from error
    return aside


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load weights strictly, in place.

    Args:
        model: the network.
        path: a checkpoint folder, or a safetensors file.

    Raises:
        InputError: the file is missing, or its names and shapes are not those of the network.
        DamagedError: it is damaged.
    """
    path = Path(path)
    file = path / WEIGHTS_FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"There are no weights at {file}. Give a checkpoint folder or a .safetensors file.")
    fill_network(model, read_safetensors(file), file)


def fill_network(model: nn.Module, weights: Mapping[str, Tensor], file: Path) -> None:
    """Put weights into a network, in place: every one has its place, and none of the network's is left out.

    Args:
        model: the network.
        weights: by name.
        file: where they come from, for the sentence.

    Raises:
        InputError: names or shapes are not those of the network, which stays as it was.
    """
    expected = model.state_dict()
    problems = [f"missing {name}" for name in expected.keys() - weights.keys()]
    problems += [f"left over {name}" for name in weights.keys() - expected.keys()]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, the network has {tuple(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if weights[name].shape != expected[name].shape
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:8]) + (
            f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        )
        raise InputError(f"{file} does not fit this network: {shown}.")
    model.load_state_dict(weights)
