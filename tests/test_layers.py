"""Imports point downwards only: the layers of design.md, read from the source with ast."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fcnbook"
LAYERS = {
    0: ["types", "labels", "recipe", "files", "rundir", "published"],
    1: ["download", "layers", "losses", "metrics", "schedule", "testing", "draw", "torchfile", "recipes"],
    2: ["data", "backbones", "necks", "heads"],
    3: ["segmenter"],
    4: ["inference", "checkpoint", "weights"],
    5: ["build"],
    6: ["evaluate", "cost", "doctor", "export", "check"],
    7: ["train", "report", "start"],
    8: ["run", "verify", "bench"],
    9: ["launch", "headless", "gallery", "viewers"],
    10: ["cli"],
}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}
FILES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def imported_modules(path: Path) -> set[tuple[str, ...]]:
    """Parts of every `fcnbook` module named in an import statement, without the leading package name."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the whole name instead of a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {tuple(name.split(".")[1:]) for name in names if name.split(".")[0] == "fcnbook"}
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_to_lower_layers(path):
    top = path.parts[0].removesuffix(".py")
    assert top in LAYER_OF, f"{path} has no layer; add it to the list above and to CONTRIBUTING.md"
    for parts in imported_modules(path):
        if (
            len(path.parts) > 1 and parts[0] == top
        ):  # a folder: __init__ re-exports, siblings share _parts only
            shared = len(parts) > 1 and (parts[1].startswith("_") or path.name == "__init__.py")
            assert shared, f"{path} imports its sibling {'.'.join(parts)}"
        elif parts and parts[0] in LAYER_OF:
            assert LAYER_OF[parts[0]] < LAYER_OF[top], (
                f"{path} (layer {LAYER_OF[top]}) imports {parts[0]} (layer {LAYER_OF[parts[0]]})"
            )


def test_every_layered_module_exists():
    """A module that was renamed or removed must leave the list too."""
    present = {path.parts[0].removesuffix(".py") for path in FILES}
    assert set(LAYER_OF) - present == set()
