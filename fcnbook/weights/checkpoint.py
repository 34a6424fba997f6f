"""Checkpoints: everything that an exact resume needs, written so that a kill at any moment loses nothing.

Weights are safetensors; optimiser, scaler and random state are plain tensors that load with
`weights_only=True`, so that reading a checkpoint never runs code.
"""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from fcnbook.files import InputError, flush_folder, write_atomic
from fcnbook.weights.torch_files import read_safetensors

WEIGHTS_FILE = "model.safetensors"
STATE_FILE = "state.pt"


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    metadata: dict[str, str],
) -> Path:
    """The folder of the new checkpoint; older ones are removed once it is complete.

    Both files are written and flushed to disk under a temporary folder name, then the folder is renamed. A process
    that is killed before the rename leaves the previous checkpoint as the newest one.

    Args:
        folder: `RunDir.checkpoint_folder`.
        step: completed steps.
        model: its `state_dict` is stored, without wrappers such as DDP.
        optimizer: its state is stored.
        scaler: gradient scaler; one that is disabled stores nothing.
        metadata: strings that go into the header of the weights file.

    Raises:
        InputError: the disk is full or cannot be written. The previous checkpoint is intact.
    """
    final, writing = folder / f"step-{step:08d}", folder / f"writing-{step:08d}"
    if final.exists():  # the last step, saved by the clock a moment ago
        return final
    shutil.rmtree(writing, ignore_errors=True)
    try:
        writing.mkdir(parents=True)
        save_weights(writing, model, metadata)
        write_atomic(writing / STATE_FILE, _to_bytes(_training_state(step, optimizer, scaler)))
        os.rename(writing, final)
        flush_folder(folder)
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise
    for other in folder.iterdir():
        if other != final:
            shutil.rmtree(other, ignore_errors=True)
    return final


def save_weights(folder: Path, model: nn.Module, metadata: dict[str, str]) -> Path:
    """Write the state dict of `model` into `folder`, all of it or nothing; the path of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
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
    checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> int:
    """Completed steps; loads weights, optimiser, scaler and random state in place.

    Raises:
        InputError: a file is damaged or belongs to another network.
    """
    load_weights(model, checkpoint)
    path = checkpoint / STATE_FILE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types for a damaged file
        raise InputError(
            f"{path} is damaged ({error}). Delete {checkpoint} to start the run anew."
        ) from error
    optimizer.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["random_cpu"])
    if len(state["random_cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["random_cuda"])
    return int(state["step"])


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load weights strictly, in place.

    Args:
        model: the network.
        path: a checkpoint folder, or a safetensors file.

    Raises:
        InputError: the file is missing or damaged, or its names and shapes are not those of the network.
    """
    path = Path(path)
    file = path / WEIGHTS_FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"There are no weights at {file}. Give a checkpoint folder or a .safetensors file.")
    weights = read_safetensors(file)
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
