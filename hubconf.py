"""Trained networks of this checkout by `torch.hub`.

The only entry point is `load`, which is `fcnbook.hub.load`; its docstring says what it takes: a row of the published
tables, a recipe, a run folder, or a file of weights with its recipe.

    model = torch.hub.load("path/to/checkout", "load", "runs/my-run", source="local")
"""

dependencies = ["torch", "numpy", "scipy", "PIL", "cv2", "albumentations", "safetensors"]
"""What must be installed; the package itself is found in the checkout."""

from fcnbook.hub import load  # noqa: E402

__all__ = ["load"]
