"""A network with parts taken out, as it was trained: which level knows what. Used from notebook 06 on.

A part is something whose result is added to others, or joined with them. Taken out, it contributes zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fcnbook.files import InputError
from fcnbook.inference import evaluation_mode
from fcnbook.models.heads import ASPPHead, PSPHead, SemanticFPNHead
from fcnbook.models.necks import FPN, JPU
from fcnbook.models.segmenter import Segmenter
from fcnbook.types import SegLogits


def parts_of(model: Segmenter) -> dict[str, nn.Module]:
    """The parts that can be taken out: name -> the module whose output is the part's contribution.

    Semantic FPN has "p2" to "p5", the levels that its head sums, and "c2" to "c5", the stages that its pyramid reads.
    JPU has "c3" to "c5", the stages that it reads, and "dilation 1" and so on. PSP has "grid 1" and so on, ASPP
    "dilation 1" and so on and "image". A head of another kind has none.
    """
    parts: dict[str, nn.Module] = {}
    neck, head = model.neck, model.decode_head
    if isinstance(neck, FPN):
        parts |= {f"c{2 + i}": conv for i, conv in enumerate(neck.lateral_convs)}
    if isinstance(neck, JPU):
        parts |= {f"c{3 + i}": conv for i, conv in enumerate(neck.conv_layers)}
        parts |= {f"dilation {d}": conv for d, conv in zip(neck.dilations, neck.dilation_layers, strict=True)}
    if isinstance(head, SemanticFPNHead):
        parts |= dict(zip(head.levels, head.scale_heads, strict=True))
    if isinstance(head, PSPHead):
        parts |= {
            f"grid {size}": unit for size, unit in zip(head.averages.sizes, head.psp_modules, strict=True)
        }
    if isinstance(head, ASPPHead):
        kind = "ASPP dilation" if isinstance(neck, JPU) else "dilation"
        parts |= {f"{kind} {d}": unit for d, unit in zip(head.dilations, head.aspp_modules, strict=True)}
        parts["image"] = head.image_pool
    return parts


@contextmanager
def without_parts(model: Segmenter, *names: str) -> Iterator[Segmenter]:
    """The model, in which these parts contribute zeros until the block ends; its weights stay as they are.

    Whatever uses the model inside the block sees it so: `predict`, `score`, `score_twins`.

    Args:
        model: a network with parts.
        *names: of `parts_of`; none leaves the network whole.

    Raises:
        InputError: it has no part of that name.
    """
    parts = parts_of(model)
    if unknown := [name for name in names if name not in parts]:
        there = ", ".join(parts) or "none: its head reads one map"
        raise InputError(f"This network has no part {', '.join(map(repr, unknown))}. Its parts: {there}.")
    handles = [parts[name].register_forward_hook(_zeros) for name in dict.fromkeys(names)]
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()


def _zeros(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return torch.zeros_like(output)


@torch.no_grad()
def logits_without(model: Segmenter, images: Tensor, *names: str) -> SegLogits:
    """The logits of a network without these parts, in evaluation mode.

    Args:
        model: a network with parts.
        images: (N, 3, H, W) float, normalised.
        *names: of `parts_of`.

    Raises:
        InputError: it has no part of that name.
    """
    with without_parts(model, *names), evaluation_mode(model):
        logits: SegLogits = model(images)
    return logits
