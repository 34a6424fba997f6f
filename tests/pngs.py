"""PNG files as other programs read them."""

import io

import numpy as np
from PIL import Image


def pixels(png):
    """(H, W, 3) RGB."""
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))
