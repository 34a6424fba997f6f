"""`fcnbook predict` and `fcnbook export`: what to do with a trained network."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcnbook.cli._common import say
from fcnbook.files import InputError

if TYPE_CHECKING:
    from fcnbook.models.segmenter import Segmenter

# predict


def predict_images(options: argparse.Namespace) -> int:
    """Write NAME_mask.png (class ids, shown in class colours) and NAME_overlay.png for each image."""
    images = _images(options.images)
    names = _output_names(images)
    from fcnbook.draw import png_bytes
    from fcnbook.files import write_atomic
    from fcnbook.inference import predict

    model = _load(options, options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    for image, name in zip(images, names, strict=True):
        prediction = predict(model, image)
        mask = prediction.save(options.out / f"{name}_mask.png")
        write_atomic(options.out / f"{name}_overlay.png", png_bytes(prediction.overlay()))
        shares = _largest_shares(prediction.mask, prediction.classes)
        say(f"{image} -> {mask}  {shares}")
    return 0


_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def _images(paths: Sequence[Path]) -> list[Path]:
    images: list[Path] = []
    for path in paths:
        found = [path]
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in _IMAGE_ENDINGS)
            if not found:
                raise InputError(f"{path} holds no images ({', '.join(_IMAGE_ENDINGS)}).")
        elif not path.exists():
            raise InputError(f"{path}: there is no such image.")
        images += found
    return images


def _output_names(images: Sequence[Path]) -> list[str]:
    """File names without ending; a number is added where two images would share one."""
    names: list[str] = []
    for image in images:
        name, number = image.stem, 2
        while name in names:
            name, number = f"{image.stem}-{number}", number + 1
        names.append(name)
    return names


def _largest_shares(mask: Any, classes: Sequence[str], count: int = 3) -> str:
    import numpy as np

    shares = np.bincount(mask.reshape(-1), minlength=len(classes)) / mask.size
    largest = np.argsort(-shares, kind="stable")[:count]
    return ", ".join(f"{classes[k]} {100 * shares[k]:.0f} %" for k in largest if shares[k] > 0)


# export


def export_model(options: argparse.Namespace) -> int:
    """Write a network as a file for other software; print how far the two agree."""
    model = _load(options, "cpu")
    from fcnbook.weights.export import export

    done = export(model, options.out, options.format, options.size)
    say(f"{done.path}  {done.path.stat().st_size / 2**20:.1f} MiB, {options.format}")
    say("images (N, C, H, W) float32, normalised -> logits (N, K, H, W) at the size of the images")
    if done.hindrance:
        fixed = "x".join(map(str, done.example[2:]))
        say(
            f"The size is fixed at {fixed}, because a file for free sizes failed ({done.hindrance}). "
            "Another --size HxW may leave them free."
        )
    else:
        say(f"free: {', '.join(done.free)}")
    for check in done.checks:
        shape = "x".join(map(str, check.shape))
        say(f"images {shape}: largest difference {check.difference:.1e}, of logits up to {check.largest:.1e}")
    return 0


# Both


def _load(options: argparse.Namespace, device: str | None) -> Segmenter:
    """The network that was asked for; what is to be known about its file goes to standard error."""
    from fcnbook.hub import load

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = load(
            options.model,
            weights=options.weights,
            device=device,
            weights_folder=options.weights_folder,
            ignore_hash=options.ignore_hash,
        )
    for warning in said:
        say(f"warning: {warning.message}", error=True)
    return model
