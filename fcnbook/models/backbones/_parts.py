"""What CaffeNet and GoogLeNet share: the pool, the response normalisation, the refusal of small images."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fcnbook.files import InputError


def pool(x: Tensor) -> Tensor:
    """The largest of 3x3 cells at every other cell; a side of n cells becomes ceil((n - 1) / 2), as in Caffe."""
    return F.max_pool2d(x, 3, stride=2, ceil_mode=True)


def response_norm() -> nn.LocalResponseNorm:
    """Each value x divided by (1 + 1e-4 * the mean of x^2 over 5 neighbouring channels) ** 0.75, as in Caffe.

    Source: Krizhevsky, Sutskever, Hinton, NeurIPS 2012, section 3.3, with the constants of the Caffe networks.
    """
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1)


def require_size(images: Tensor, min_size: int, name: str, padding_for_all: int) -> None:
    """Refuse images of which the pools leave nothing.

    Raises:
        InputError: a side of the images is shorter than `min_size` pixels.
    """
    height, width = images.shape[-2:]
    if min(height, width) < min_size:
        raise InputError(
            f"The images have {height}x{width} pixels, and {name} with this first_padding needs {min_size} a "
            f"side. A first_padding of {padding_for_all} or more accepts images of every size."
        )
