"""fcnbook: semantic segmentation from the FCN paper to FastFCN, in notebooks that run.

Everything listed in `__all__` is imported when it is first used (PEP 562), so `import fcnbook` loads neither torch nor
numpy and takes milliseconds. (The function `run` is not here: `fcnbook.runs.trainer` is its module.)
"""

from typing import TYPE_CHECKING

from fcnbook._lazy import lazy_names

if TYPE_CHECKING:
    from fcnbook.build import build_segmenter
    from fcnbook.datasets.table import DATASETS
    from fcnbook.evaluation import score
    from fcnbook.hub import load
    from fcnbook.inference import Prediction, predict
    from fcnbook.published import PUBLISHED
    from fcnbook.recipe import Recipe
    from fcnbook.recipes import RECIPES, find_recipe, scaled
    from fcnbook.runs.trainer import run
    from fcnbook.weights.load import load_published

_HOME = {
    "DATASETS": "datasets.table",
    "PUBLISHED": "published",
    "RECIPES": "recipes",
    "Prediction": "inference",
    "Recipe": "recipe",
    "build_segmenter": "build",
    "find_recipe": "recipes",
    "load": "hub",
    "load_published": "weights.load",
    "predict": "inference",
    "run": "runs.trainer",
    "scaled": "recipes",
    "score": "evaluation",
}

__all__ = [
    "DATASETS",
    "PUBLISHED",
    "RECIPES",
    "Prediction",
    "Recipe",
    "build_segmenter",
    "find_recipe",
    "load",
    "load_published",
    "predict",
    "run",
    "scaled",
    "score",
]
__version__ = "0.1.0"

__getattr__, __dir__ = lazy_names(__name__, _HOME)
